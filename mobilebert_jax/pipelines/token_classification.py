"""Token classification: entities of texts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mobilebert_jax.metrics.probabilities import softmax
from mobilebert_jax.models import MobileBertForTokenClassification
from mobilebert_jax.pipelines.base import (
  Pipeline,
  as_texts,
  encoded_rows,
)
from mobilebert_jax.runtime.errors import InputError

STRATEGIES = ('none', 'simple', 'first', 'average', 'max')
Entity = dict[str, Any]


class TokenClassification(Pipeline):
  """Finds entities (transformers' `TokenClassificationPipeline`)."""

  model_class = MobileBertForTokenClassification

  def __call__(
    self,
    inputs: str | Sequence[str],
    aggregation_strategy: str = 'none',
    ignore_labels: Sequence[str] = ('O',),
    truncation: bool = True,
  ) -> list:
    """Labels tokens, or entities made of them.

    Args:
      inputs: a text or a list of texts.
      aggregation_strategy: 'none' (one result per token), 'simple' (join
        neighbours with the same label by their B- and I-), or join tokens to
        words first, which get the label of their 'first' token, of the
        'average' of their scores or of the 'max'imum.
      ignore_labels: labels to leave out.
      truncation: cut texts that are too long.

    Returns:
      Per text a list of mappings with `entity`, `score`, `index`, `word`,
      `start` and `end`; with a strategy `entity_group` instead of `entity`,
      and no `index`. For a list of texts a list of those.

    Raises:
      InputError: an input that is no text or too long, or an unknown
        strategy.
    """
    if aggregation_strategy not in STRATEGIES:
      raise InputError(
        f'aggregation_strategy must be one of {", ".join(STRATEGIES)}, '
        f'got {aggregation_strategy!r}.'
      )
    texts = as_texts(inputs)
    encoded = self.tokenize(
      texts,
      truncation=truncation,
      return_offsets_mapping=True,
      return_special_tokens_mask=True,
    )
    results = []
    for i, picked in enumerate(self.run(encoded_rows(encoded))):
      tokens = self._tokens(texts[i], encoded, i, softmax(picked['logits']))
      entities = self._aggregate(tokens, aggregation_strategy)
      name = 'entity' if aggregation_strategy == 'none' else 'entity_group'
      results.append([e for e in entities if e[name] not in ignore_labels])
    return results[0] if isinstance(inputs, str) else results

  def select(self, outputs: Any, batch: Mapping[str, jax.Array]) -> Any:
    """Returns the logits."""
    return {'logits': outputs.logits}

  def _tokens(
    self, text: str, encoded: Any, row: int, scores: np.ndarray
  ) -> list[Entity]:
    """Returns one mapping per token, without special tokens."""
    tokens = []
    special = encoded['special_tokens_mask'][row]
    # Not lengths of strings: accents are dropped, and soft hyphens.
    words, last = encoded.word_ids(row), None
    for index, token_id in enumerate(encoded['input_ids'][row]):
      if special[index]:
        continue
      start, end = encoded['offset_mapping'][row][index]
      word = self.tokenizer.convert_ids_to_tokens(token_id)
      continues = words[index] is not None and words[index] == last
      last = words[index]
      if token_id == self.tokenizer.unk_token_id:
        word = text[start:end]
      tokens.append(
        {
          'word': word,
          'scores': scores[index],
          'start': start,
          'end': end,
          'index': index,
          'continues': continues,
        }
      )
    return tokens

  def _aggregate(self, tokens: list[Entity], strategy: str) -> list[Entity]:
    if strategy in ('none', 'simple'):
      entities = [
        {
          **self._best(token['scores']),
          **{k: token[k] for k in ('index', 'word', 'start', 'end')},
        }
        for token in tokens
      ]
      if strategy == 'none':
        return entities
    else:
      words = _grouped(tokens, lambda last, token: token['continues'])
      entities = [self._word(word, strategy) for word in words]
    return [self._group(group) for group in _grouped(entities, _same_entity)]

  def _best(self, scores: np.ndarray) -> Entity:
    best = int(scores.argmax())
    return {'entity': self.config.id2label[best], 'score': float(scores[best])}

  def _word(self, tokens: list[Entity], strategy: str) -> Entity:
    """Joins the tokens of a word to one entity."""
    rows = np.stack([token['scores'] for token in tokens])
    if strategy == 'first':
      scores = rows[0]
    elif strategy == 'average':
      scores = rows.mean(axis=0)
    else:
      scores = rows[rows.max(axis=-1).argmax()]
    return {**self._best(scores), **self._span(tokens)}

  def _group(self, entities: list[Entity]) -> Entity:
    """Joins neighbours with one label as one entity."""
    return {
      'entity_group': entities[0]['entity'].split('-', 1)[-1],
      'score': float(np.mean([entity['score'] for entity in entities])),
      **self._span(entities),
    }

  def _span(self, parts: list[Entity]) -> Entity:
    return {
      'word': self.tokenizer.convert_tokens_to_string(
        [part['word'] for part in parts]
      ),
      'start': parts[0]['start'],
      'end': parts[-1]['end'],
    }


def _grouped(
  items: list[Entity], joins: Callable[[Entity, Entity], bool]
) -> list[list[Entity]]:
  """Splits a list into runs; `joins(last, item)` continues one."""
  groups: list[list[Entity]] = []
  for item in items:
    if groups and joins(groups[-1][-1], item):
      groups[-1].append(item)
    else:
      groups.append([item])
  return groups


def _same_entity(last: Entity, entity: Entity) -> bool:
  """Returns whether an entity continues the last: its tag, and no new B-."""
  prefix, tag = _tag(entity['entity'])
  return tag == _tag(last['entity'])[1] and prefix != 'B'


def _tag(label: str) -> tuple[str, str]:
  if label.startswith(('B-', 'I-')):
    return label[0], label[2:]
  return 'I', label
