"""Masked language modelling on the user's own text.

Continues the training of a checkpoint on a domain's text, or begins one from
scratch. A document's tokens are cut into sequences of `max_length`: full ones
and a shorter one at the end, each between [CLS] and [SEP]. No token is lost,
and no sequence goes across documents. What is masked: `masking.Masking`.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mobilebert_jax import losses
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import MaskedLmOptions
from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.data.examples.masking import MaskSequences, encode_documents
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.data.records.stored_features import (
  AnyFeatures,
  StoredFeatures,
)
from mobilebert_jax.models import MobileBertForMaskedLM, packing
from mobilebert_jax.reporting.outcomes import Outcome
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import summary
from mobilebert_jax.tasks.prediction_files import jsonl_writer
from mobilebert_jax.tasks.pretraining import load
from mobilebert_jax.tasks.task import Baseline, Predictions, Task, TaskSpec

# What `of_masked` keeps.
TOKEN_OUTPUTS = frozenset({'counts', 'target', 'guess', 'nll'})
# exp of more is no float.
_LARGEST_LOSS = 700.0
# Recorded sequences from which word frequencies are taken.
_STORED_ROWS = 2000


def make(options: MaskedLmOptions, data: DataConfig) -> Task:
  """Makes the task with these options."""
  del data
  return Task(
    name='masked_lm',
    head=MobileBertForMaskedLM,
    labels=(),
    primary_metric='validation/perplexity',
    load=functools.partial(load.load_documents, options),
    encode=functools.partial(
      encode_documents,
      probability=options.mask_probability,
      whole_word=options.whole_word,
      most=options.max_predictions_per_sequence,
    ),
    loss=loss,
    predict=predict,
    score=score,
    write_predictions=write_predictions,
    texts=texts,
    outcomes=outcomes,
    dummy_examples=dummy_examples,
    baseline=baseline,
    long_texts='joined',
    summarize=functools.partial(summary.of_rows, unit='documents'),
    splits=load.SPLITS,
  )


MASKED_LM = TaskSpec('masked_lm', make)


def loss(outputs: Any, batch: Mapping[str, Array]) -> losses.Terms:
  """Returns the cross-entropy of the masked tokens."""
  return losses.token_loss(
    outputs.logits, batch['labels'], packing.token_weights(batch)
  )


def predict(outputs: Any, batch: Mapping[str, Array]) -> dict[str, Array]:
  """Keeps what `of_masked` says."""
  return of_masked(outputs.logits, batch)


def of_masked(logits: Array, batch: Mapping[str, Array]) -> dict[str, Array]:
  """Keeps [B, S] for each position, instead of the logits.

  Args:
    logits: [B, P, V] of 'masked_positions', or [B, S, V] without them.
    batch: a batch as `Task.predict` gets it.

  Returns:
    'counts': whether the token is to be predicted; 'target': its id, 'guess':
    the most probable id, 'nll': minus the log-probability of the target; all
    three 0 elsewhere. `TOKEN_OUTPUTS` are their names.
  """
  labels = batch['labels']
  counts = labels != losses.IGNORE_INDEX
  target = jnp.where(counts, labels, 0)
  picked = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
  nll = jax.nn.logsumexp(logits, axis=-1) - picked
  guess = jnp.argmax(logits, axis=-1)
  kept = {
    'target': target,
    'guess': jnp.where(counts, guess, 0),
    'nll': jnp.where(counts, nll, 0),
    'counts': counts.astype(jnp.int32),
  }
  kept = {name: packing.at_tokens(x, batch) for name, x in kept.items()}
  return {**kept, 'counts': kept['counts'] > 0}


def score(
  predictions: Predictions, examples: Sequence[Any], features: Any
) -> dict[str, float]:
  """Returns accuracy and perplexity, exp(mean nll), of masked tokens.

  Raises:
    InputError: No token was masked.
  """
  del examples, features
  counts = predictions['counts']
  if not counts.any():
    raise InputError('there is no masked token to score; give more text.')
  right = predictions['guess'][counts] == predictions['target'][counts]
  mean = float(np.mean(predictions['nll'][counts], dtype=np.float64))
  return {
    'accuracy': float(np.mean(right)),
    'perplexity': math.exp(min(mean, _LARGEST_LOSS)),
  }


def baseline(
  train: Sequence[Any],
  train_features: AnyFeatures,
  predictions: Predictions,
  examples: Sequence[Any],
  features: AnyFeatures,
) -> Baseline:
  """Guesses each token by how often it is in the training text; see `Task`.

  p(v) = (n_v + 1) / (N + V), with the counts n of the tokens between special
  ones. V is one more than the largest id that is seen.
  """
  del examples, features
  counts = predictions['counts']
  target = predictions['target'][counts]
  seen = _text_tokens(train_features)
  size = 1 + int(max(seen.max(initial=0), target.max(initial=0)))
  times = np.bincount(seen, minlength=size)
  nll = np.log(len(seen) + size) - np.log(times + 1.0)
  return Baseline(
    'by word frequency',
    {
      'accuracy': float(np.mean(target == np.argmax(times))),
      'perplexity': math.exp(float(np.mean(nll[target]))),
    },
  )


def _text_tokens(features: AnyFeatures) -> Int[np.ndarray, 'tokens']:
  """Returns the tokens between the special ones at the ends of sequences."""
  if isinstance(features, StoredFeatures):
    rows = np.arange(min(len(features), _STORED_ROWS))
    return np.concatenate([text[1:-1] for text in features.texts(rows)])
  ids = features.sequences['input_ids']
  is_text = np.ones(len(ids.values), bool)
  is_text[ids.offsets[:-1]] = False
  is_text[ids.offsets[1:] - 1] = False
  return ids.values[is_text]


def _rows(
  predictions: Predictions, examples: Sequence[Document], features: Features
) -> Iterator[dict[str, Any]]:
  """Yields a row per sequence: document, tokens and `sequence_scores`.

  There is no official format.
  """
  lengths = features.sequences['input_ids'].lengths()
  owners = features.scalars['document']
  for row, (owner, length) in enumerate(zip(owners, lengths, strict=True)):
    yield {
      'document': examples[owner].id,
      'tokens': int(length),
      **sequence_scores(predictions, row),
    }


write_predictions = jsonl_writer(_rows)


def sequence_scores(predictions: Predictions, row: int) -> dict[str, Any]:
  """Scores one sequence, for JSON.

  Returns:
    'masked': the number of tokens to predict; 'accuracy' and 'nll', a mean,
    which are None where that is 0.
  """
  counts = predictions['counts'][row]
  guess, target, nll = (
    predictions[name][row][counts] for name in ('guess', 'target', 'nll')
  )
  return {
    'masked': int(counts.sum()),
    'accuracy': float(np.mean(guess == target)) if counts.any() else None,
    'nll': float(np.mean(nll)) if counts.any() else None,
  }


def texts(example: Document) -> Sequence[str]:
  """Returns the document's lines."""
  return example.lines()


def dummy_examples(words: int) -> tuple[Document, ...]:
  """Makes one document; see `Task`."""
  return (Document('0', ' '.join(['word'] * words)),)


def outcomes(
  predictions: Predictions, examples: Sequence[Document], features: Features
) -> list[Outcome]:
  """Shows the worst predicted token of each sequence, [bracketed]."""
  del examples
  transform = features.transform
  assert isinstance(transform, MaskSequences)
  names = transform.masking.tokens
  ids = features.sequences['input_ids']
  return [
    worst_token(
      predictions, row, ids.values[slice(*ids.offsets[row : row + 2])], names
    )
    for row, counts in enumerate(predictions['counts'])
    if counts.any()
  ]


def worst_token(
  predictions: Predictions,
  row: int,
  ids: Sequence[int] | Int[np.ndarray, 'S'],
  names: Sequence[str],
) -> Outcome:
  """Shows the worst predicted token of a sequence.

  Args:
    predictions: what `of_masked` gives, with a token to predict in this row.
    row: the sequence's row in them.
    ids: its tokens before any masking, with [CLS] and the last [SEP].
    names: the vocabulary, by id.
  """
  counts = predictions['counts'][row]
  nll = np.where(counts, predictions['nll'][row], -np.inf)
  place = int(np.argmax(nll))
  tokens = [names[i] for i in ids]
  tokens[place] = f'[{tokens[place]}]'
  target, guess = (predictions[k][row, place] for k in ('target', 'guess'))
  return Outcome(
    text=' '.join(tokens[1:-1]).replace(' ##', ''),
    expected=names[target],
    predicted=names[guess],
    error=max(0.0, float(nll[place])),
    is_right=bool(target == guess),
  )
