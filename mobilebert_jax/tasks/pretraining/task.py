"""Pre-training: masked language modelling, and next-sentence prediction.

Devlin et al. 2019, section 3.1; the loss is the sum of the two, as in BERT's
and MobileBERT's run_pretraining.py. Where the examples come from, and how they
are made: `pretraining_load`.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array

from mobilebert_jax import losses
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import PretrainingOptions
from mobilebert_jax.data.examples.masking import Masking, MaskSequences
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.data.records.stored_features import (
  AnyFeatures,
  StoredFeatures,
)
from mobilebert_jax.models import (
  MobileBertForMaskedLM,
  MobileBertForPreTraining,
  packing,
)
from mobilebert_jax.reporting.outcomes import Outcome
from mobilebert_jax.tasks import summary
from mobilebert_jax.tasks.prediction_files import jsonl_writer
from mobilebert_jax.tasks.pretraining import load, masked_lm
from mobilebert_jax.tasks.pretraining import load as pretraining_load
from mobilebert_jax.tasks.task import Baseline, Predictions, Task, TaskSpec

_NAME = 'pretraining'


def make(options: PretrainingOptions, data: DataConfig) -> Task:
  """Makes the task with these options.

  With `options.next_sentence` the model is a `MobileBertForPreTraining`, else
  a `MobileBertForMaskedLM`, which has no pooler.
  """
  del data
  pairs = options.next_sentence
  return Task(
    name=_NAME,
    head=MobileBertForPreTraining if pairs else MobileBertForMaskedLM,
    labels=(),
    primary_metric='validation/perplexity',
    load=functools.partial(load.load, options),
    encode=functools.partial(load.encode, options),
    loss=loss if pairs else masked_lm.loss,
    predict=predict if pairs else masked_lm.predict,
    score=score,
    write_predictions=jsonl_writer(_rows),
    texts=texts,
    outcomes=outcomes,
    dummy_examples=dummy_examples,
    baseline=baseline,
    long_texts='joined',
    summarize=functools.partial(summary.of_rows, unit='documents'),
    token_outputs=masked_lm.TOKEN_OUTPUTS if pairs else frozenset(),
    splits=pretraining_load.SPLITS,
  )


PRETRAINING = TaskSpec(_NAME, make)


def loss(outputs: Any, batch: Mapping[str, Array]) -> losses.Terms:
  """Returns the cross-entropies of masked tokens and of the next sentence."""
  return losses.pretraining_loss(
    outputs.prediction_logits,
    outputs.seq_relationship_logits,
    batch['labels'],
    batch['next_sentence_label'],
    batch['weights'],
    packing.token_weights(batch),
  )


def predict(outputs: Any, batch: Mapping[str, Array]) -> dict[str, Array]:
  """Keeps what `masked_lm.of_masked` says, and two arrays of examples.

  Returns:
    Those, and 'next_sentence_logits' [B, 2] with 'next_sentence_label' [B]: 0
    follows, 1 is random.
  """
  return {
    **masked_lm.of_masked(outputs.prediction_logits, batch),
    'next_sentence_logits': outputs.seq_relationship_logits,
    'next_sentence_label': batch['next_sentence_label'],
  }


def score(
  predictions: Predictions, examples: Sequence[Any], features: AnyFeatures
) -> dict[str, float]:
  """Scores both objectives.

  Returns:
    'accuracy' and 'perplexity' of the masked tokens; 'next_sentence_accuracy'
    if that is learnt.

  Raises:
    InputError: No token was masked.
  """
  scores = masked_lm.score(predictions, examples, features)
  if 'next_sentence_logits' in predictions:
    guess = predictions['next_sentence_logits'].argmax(axis=-1)
    right = guess == predictions['next_sentence_label']
    scores['next_sentence_accuracy'] = float(np.mean(right))
  return scores


def baseline(
  train: Sequence[Any],
  train_features: AnyFeatures,
  predictions: Predictions,
  examples: Sequence[Any],
  features: AnyFeatures,
) -> Baseline:
  """Guesses tokens by frequency, and that the larger class of pairs is all."""
  tokens = masked_lm.baseline(
    train, train_features, predictions, examples, features
  )
  if 'next_sentence_label' not in predictions:
    return tokens
  share = float(np.mean(predictions['next_sentence_label']))
  larger = {'next_sentence_accuracy': max(share, 1 - share)}
  return Baseline(tokens.answer, {**tokens.scores, **larger})


def _rows(
  predictions: Predictions, examples: Sequence[Any], features: AnyFeatures
) -> Iterator[dict[str, Any]]:
  """Yields a row per sequence: `masked_lm.sequence_scores` and more.

  There is no official format. With next-sentence prediction each row also has
  'is_random', whether B is a random text, and 'random_logit', the difference of
  the two logits: above 0, the model takes it for one.
  """
  del examples, features
  for number in range(len(predictions['counts'])):
    row = {'sequence': number}
    row |= masked_lm.sequence_scores(predictions, number)
    if 'next_sentence_logits' in predictions:
      follows, random = predictions['next_sentence_logits'][number].tolist()
      row['is_random'] = bool(predictions['next_sentence_label'][number])
      row['random_logit'] = random - follows
    yield row


def texts(example: Document) -> Sequence[str]:
  """Returns the document's lines."""
  return example.lines()


def outcomes(
  predictions: Predictions, examples: Sequence[Any], features: AnyFeatures
) -> list[Outcome]:
  """Shows the worst predicted token of each sequence, [bracketed]."""
  del examples
  names = _vocabulary(features)
  return [
    masked_lm.worst_token(
      predictions, row, load.tokens_of(features, row), names
    )
    for row, counts in enumerate(predictions['counts'])
    if counts.any()
  ]


def dummy_examples(words: int) -> tuple[Document, ...]:
  """Makes two documents of two sentences with all words; see `Task`."""
  sentence = ' '.join(['word'] * words) + ' .'
  return tuple(Document(str(i), f'{sentence}\n{sentence}') for i in range(2))


def _vocabulary(features: AnyFeatures) -> Sequence[str]:
  if isinstance(features, StoredFeatures):
    masking = features.mask
  else:
    assert isinstance(features.transform, MaskSequences)
    masking = features.transform.masking
  assert isinstance(masking, Masking)
  return masking.tokens
