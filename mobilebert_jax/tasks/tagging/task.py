"""Token classification: a tag for each word of a sentence.

The model learns tags in IOB2, whatever the scheme of the data: in IOB1 the
B- that separates neighbours is too rare to be learnt. Predictions are brought
back to the scheme of the data before they are scored and written, so that the
score is that of the file.

A word without tokens (a lone variation selector, say) is predicted to be O.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from mobilebert_jax import losses
from mobilebert_jax.config.task_options import TaggingOptions
from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.data.readers import conll
from mobilebert_jax.data.readers.conll import Sentence
from mobilebert_jax.metrics import tagging as metrics
from mobilebert_jax.metrics.probabilities import softmax
from mobilebert_jax.models import MobileBertForTokenClassification, packing
from mobilebert_jax.reporting.outcomes import Breakdown, Outcome
from mobilebert_jax.runtime.files import write_lines
from mobilebert_jax.tasks import summary
from mobilebert_jax.tasks.tagging import iob
from mobilebert_jax.tasks.tagging.windows import WORDS, encode
from mobilebert_jax.tasks.task import (
  SPLITS,
  Baseline,
  Examples,
  Predictions,
  Splits,
  Task,
  keep_logits,
)


def tagging_task(
  name: str,
  *,
  labels: tuple[str, ...],
  options: TaggingOptions,
  load: Callable[[Any, str], Examples],
  splits: Splits = SPLITS,
) -> Task:
  """Makes the task of tagging words.

  Args:
    name: The task's name.
    labels: The tags in IOB2, in the order of the logits; see
      `iob.check_labels`.
    options: The options; their `labels` are not read, and any scheme but IOB1
      is IOB2.
    load: `Task.load`, giving `Sentence`s that `iob.Tagging` has read.
    splits: Names of the splits.
  """
  scheme: iob.Scheme = 'IOB1' if options.scheme == 'IOB1' else 'IOB2'
  return Task(
    name=name,
    head=MobileBertForTokenClassification,
    labels=labels,
    primary_metric=f'{splits.evaluation[0]}/f1',
    load=load,
    encode=functools.partial(
      encode,
      labels,
      label_all_subtokens=options.label_all_subtokens,
      stride=options.stride,
    ),
    loss=loss,
    predict=keep_logits,
    score=functools.partial(score, labels, scheme),
    write_predictions=functools.partial(write_predictions, labels, scheme),
    texts=texts,
    outcomes=functools.partial(outcomes, labels, scheme),
    dummy_examples=dummy_examples,
    baseline=functools.partial(baseline, scheme),
    breakdown=functools.partial(breakdown, labels, scheme),
    error_name='wrong or missing entities',
    long_texts='windows',
    summarize=summary.of_sentences,
    splits=splits,
  )


def dummy_examples(words: int) -> tuple[Sentence, ...]:
  """Makes one sentence without an entity; see `Task`."""
  some, tags = ('word',) * words, ('O',) * words
  return (Sentence(some, tags, lines=('word O',) * words),)


def loss(outputs: Any, batch: Mapping[str, Array]) -> tuple[losses.Term, ...]:
  """Returns the cross-entropy over the tokens that are labelled."""
  weights = packing.token_weights(batch)
  return losses.token_loss(outputs.logits, batch['labels'], weights)


def score(
  labels: Sequence[str],
  scheme: iob.Scheme,
  predictions: Predictions,
  examples: Sequence[Sentence],
  features: Features,
) -> dict[str, float]:
  """Scores entities, in the scheme of the data.

  Returns:
    'precision', 'recall' and 'f1' of entities (strict: `tagging_metrics`),
    'conlleval_f1' (as the official scripts of CoNLL-2003 and WNUT-17 count),
    and 'accuracy': the share of words with the right tag.
  """
  predicted = predicted_tags(labels, scheme, predictions, examples, features)
  return score_tags(scheme, [sentence.tags for sentence in examples], predicted)


def score_tags(
  scheme: iob.Scheme, gold: metrics.Tags, predicted: metrics.Tags
) -> dict[str, float]:
  """Scores tags; see `score`."""
  exact = metrics.strict(gold, predicted, scheme)
  right = [
    a == b for tags in zip(gold, predicted) for a, b in zip(*tags, strict=True)
  ]
  return {
    'precision': exact.precision,
    'recall': exact.recall,
    'f1': exact.f1,
    'conlleval_f1': metrics.lenient(gold, predicted).f1,
    'accuracy': float(np.mean(right)),
  }


def predicted_tags(
  labels: Sequence[str],
  scheme: iob.Scheme,
  predictions: Predictions,
  examples: Sequence[Sentence],
  features: Features,
) -> list[list[str]]:
  """Returns the tags of each sentence, put together from its windows."""
  logits, words = _of_words(predictions, features)
  ends = np.cumsum([len(sentence.words) for sentence in examples])
  tags = np.full(ends[-1], labels.index(iob.OUTSIDE))
  tags[words] = logits.argmax(-1)
  named = [[labels[i] for i in part] for part in np.split(tags, ends[:-1])]
  return named if scheme == 'IOB2' else [iob.to_iob1(part) for part in named]


def _of_words(
  predictions: Predictions, features: Features
) -> tuple[Float[np.ndarray, 'W C'], Int[np.ndarray, 'W']]:
  """Returns the logits that decide words, and the words' numbers."""
  column = features.sequences[WORDS]
  lengths = column.lengths()
  decides = column.values >= 0
  row = np.repeat(np.arange(len(column)), lengths)
  position = np.arange(len(column.values)) - np.repeat(
    column.offsets[:-1], lengths
  )
  logits = predictions['logits'][row[decides], position[decides]]
  return logits, column.values[decides]


def write_predictions(
  labels: Sequence[str],
  scheme: iob.Scheme,
  directory: pathlib.Path,
  split: str,
  predictions: Predictions,
  examples: Sequence[Sentence],
  features: Features,
) -> pathlib.Path:
  """Writes '<split>.conll' and '<split>_types.txt'.

  The first has the lines of the data with the predicted tag as a further
  column: what conlleval and wnuteval read. The second has the scores of each
  type of entity.
  """
  predicted = predicted_tags(labels, scheme, predictions, examples, features)
  gold = [sentence.tags for sentence in examples]
  write_lines(
    directory / f'{split}_types.txt', _type_table(gold, predicted, scheme)
  )
  lines = (
    line
    for sentence, tags in zip(examples, predicted, strict=True)
    for line in conll.tagged_lines(sentence, tags)
  )
  return write_lines(directory / f'{split}.conll', [*lines, ''])


def _type_table(
  gold: metrics.Tags, predicted: metrics.Tags, scheme: str
) -> Iterator[str]:
  scores = metrics.by_type(gold, predicted, scheme)
  scores['all'] = metrics.strict(gold, predicted, scheme)
  width = max(map(len, scores))
  yield f'{"type":{width}}  precision  recall      f1  entities'
  for name, (precision, recall, f1, support) in scores.items():
    yield (
      f'{name:{width}}  {precision:9.4f}  {recall:6.4f}  {f1:6.4f}  '
      f'{support:8d}'
    )


def texts(example: Sentence) -> tuple[str, ...]:
  """Returns the words, joined by spaces."""
  return (' '.join(example.words),)


def outcomes(
  labels: Sequence[str],
  scheme: iob.Scheme,
  predictions: Predictions,
  examples: Sequence[Sentence],
  features: Features,
) -> list[Outcome]:
  """Compares the gold and the predicted entities of each sentence.

  The error is the number of entities that are missing or wrong; the confidence
  is that in the word that the model is least sure of, or, of a wrong sentence,
  that in the surest of its wrong words.
  """
  predicted = predicted_tags(labels, scheme, predictions, examples, features)
  logits, words = _of_words(predictions, features)
  ends = np.cumsum([0, *(len(sentence.words) for sentence in examples)])
  sure = np.ones(ends[-1])
  sure[words] = softmax(logits.astype(np.float64)).max(axis=-1)
  compared = []
  for number, (sentence, tags) in enumerate(
    zip(examples, predicted, strict=True)
  ):
    expected = metrics.entities(sentence.tags, scheme)
    answer = metrics.entities(tags, scheme)
    wrong = len(set(expected) ^ set(answer))
    surest = sure[ends[number] : ends[number + 1]]
    differ = [a != b for a, b in zip(sentence.tags, tags)]
    compared.append(
      Outcome(
        text=' '.join(sentence.words),
        expected=_shown(sentence, expected),
        predicted=_shown(sentence, answer),
        error=float(wrong),
        is_right=not wrong,
        confidence=float(surest[differ].max() if any(differ) else surest.min()),
      )
    )
  return compared


def breakdown(
  labels: Sequence[str],
  scheme: iob.Scheme,
  predictions: Predictions,
  examples: Sequence[Sentence],
  features: Features,
) -> Breakdown:
  """Scores each type of entity; see `Task`."""
  predicted = predicted_tags(labels, scheme, predictions, examples, features)
  gold = [sentence.tags for sentence in examples]
  scores = metrics.by_type(gold, predicted, scheme)
  rows = sorted(scores.items(), key=lambda item: -item[1].support)
  return Breakdown(
    'Types of entities',
    ('type', 'entities', 'precision', 'recall', 'F1'),
    tuple(
      (name, score.support, score.precision, score.recall, score.f1)
      for name, score in rows
    ),
  )


def baseline(
  scheme: iob.Scheme,
  train: Sequence[Sentence],
  train_features: Features,
  predictions: Predictions,
  examples: Sequence[Sentence],
  features: Features,
) -> Baseline:
  """Scores no entity at all; see `Task`."""
  del train, train_features, predictions, features
  gold = [sentence.tags for sentence in examples]
  nothing = [(iob.OUTSIDE,) * len(tags) for tags in gold]
  return Baseline('all O', score_tags(scheme, gold, nothing))


def _shown(sentence: Sentence, entities: Sequence[tuple[str, int, int]]) -> str:
  parts = [
    f'{" ".join(sentence.words[start:end])} ({kind})'
    for kind, start, end in entities
  ]
  return ', '.join(parts) or 'no entity'
