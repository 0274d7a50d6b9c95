"""Classification of a text or of a pair of texts."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from mobilebert_jax import losses, metrics
from mobilebert_jax.data.features import Features, Ragged
from mobilebert_jax.errors import InputError
from mobilebert_jax.models import MobileBertForSequenceClassification
from mobilebert_jax.outcome import Outcome
from mobilebert_jax.tasks.task import (
  SPLITS,
  Examples,
  Predictions,
  Progress,
  Splits,
  Task,
)

# Texts given to the tokenizer at once.
_CHUNK = 1000
_SINGLE_LABEL = 'single_label_classification'

Score = Callable[[np.ndarray, np.ndarray], float]


@dataclasses.dataclass(frozen=True)
class TextExample:
  """One or two texts to classify.

  Attributes:
    id: What the example is called in a file of predictions.
    text: The first text.
    pair: The second text, if the task is about pairs.
    label: Index of the class; None where it is not public.
  """

  id: str
  text: str
  pair: str | None = None
  label: int | None = None


@dataclasses.dataclass(frozen=True)
class Submission:
  """How predictions are written for a benchmark's server.

  Attributes:
    files: File name for each split.
    labels: What is written for each class.
  """

  files: Mapping[str, str]
  labels: tuple[str, ...]


def classification_task(
  name: str,
  *,
  labels: tuple[str, ...],
  load: Callable[[Any, str], Examples],
  submission: Submission,
  splits: Splits = SPLITS,
  primary_metric: str = 'validation/accuracy',
  scores: Mapping[str, Score] | None = None,
) -> Task:
  """Makes the task of choosing one label for a text or a pair of texts.

  Args:
    name: The task's name.
    labels: Names of the classes, in the order of the logits.
    load: `Task.load`, giving `TextExample`s.
    submission: How predictions are written.
    splits: Names of the splits.
    primary_metric: See `Task`.
    scores: Functions of (predicted, labels), by name; accuracy by default.
  """
  scores = scores or {'accuracy': metrics.accuracy}
  return Task(
    name=name,
    head=MobileBertForSequenceClassification,
    labels=labels,
    primary_metric=primary_metric,
    load=load,
    encode=encode,
    loss=loss,
    predict=predict,
    score=functools.partial(score, scores),
    write_predictions=functools.partial(write_predictions, submission),
    texts=texts,
    outcomes=functools.partial(outcomes, labels),
    splits=splits,
    problem_type=_SINGLE_LABEL,
  )


def encode(
  examples: Sequence[TextExample],
  tokenizer: Any,
  max_length: int,
  progress: Progress | None = None,
) -> Features:
  """Tokenises the texts, the longer one cut first where both are too long.

  Args:
    examples: What to encode; either all have a pair or none has.
    tokenizer: Called as transformers' tokenizers are.
    max_length: Longest sequence, special tokens included.
    progress: Called with the examples done and all of them.

  Returns:
    Columns input_ids and token_type_ids, and labels (int32) if every example
    has one.

  Raises:
    InputError: `max_length` leaves no room for text.
  """
  ids: list[list[int]] = []
  types: list[list[int]] = []
  paired = bool(examples) and examples[0].pair is not None
  special = 3 if paired else 2
  if max_length <= special:
    raise InputError(
      f'data.max_length is {max_length}, but {special} places go to special '
      f'tokens; use at least {special + 1}'
    )
  for chunk in _chunks(examples):
    encoded = tokenizer(
      [example.text for example in chunk],
      [example.pair for example in chunk] if paired else None,
      truncation='longest_first',
      max_length=max_length,
      padding=False,
    )
    ids += encoded['input_ids']
    types += encoded['token_type_ids']
    if progress:
      progress(len(ids), len(examples))
  labels = [example.label for example in examples]
  return Features(
    sequences={
      'input_ids': Ragged.from_rows(ids),
      'token_type_ids': Ragged.from_rows(types),
    },
    scalars={} if None in labels else {'labels': np.array(labels, np.int32)},
    pad={'input_ids': tokenizer.pad_token_id, 'token_type_ids': 0},
  )


def loss(outputs: Any, batch: Mapping[str, Array]) -> tuple[losses.Term, ...]:
  """Cross-entropy of the logits, over the rows of weight 1."""
  return losses.classification_loss(
    outputs.logits, batch['labels'], _SINGLE_LABEL, batch['weights']
  )


def predict(
  outputs: Any, batch: Mapping[str, Array]
) -> dict[str, Float[Array, 'B C']]:
  """Keeps the logits."""
  del batch
  return {'logits': outputs.logits}


def score(
  scores: Mapping[str, Score],
  predictions: Predictions,
  examples: Sequence[TextExample],
  features: Features,
) -> dict[str, float]:
  """Scores the classes with the largest logits.

  Raises:
    InputError: An example has no label.
  """
  del examples
  if 'labels' not in features.scalars:
    raise InputError('a split without labels cannot be scored')
  predicted, labels = _classes(predictions), features.scalars['labels']
  return {
    name: function(predicted, labels) for name, function in scores.items()
  }


def write_predictions(
  submission: Submission,
  directory: pathlib.Path,
  split: str,
  predictions: Predictions,
  examples: Sequence[TextExample],
  features: Features,
) -> pathlib.Path:
  """Writes a header and one line per example: its id and the class."""
  del features
  names = [submission.labels[i] for i in _classes(predictions)]
  rows = zip((example.id for example in examples), names, strict=True)
  lines = ['index\tprediction', *(f'{id_}\t{name}' for id_, name in rows)]
  path = pathlib.Path(directory) / submission.files[split]
  partial = path.with_name(f'{path.name}.partial')
  partial.write_text('\n'.join(lines) + '\n', encoding='utf-8')
  os.replace(partial, path)
  return path


def texts(example: TextExample) -> tuple[str, ...]:
  """The one or two texts."""
  return tuple(t for t in (example.text, example.pair) if t is not None)


def outcomes(
  labels: Sequence[str],
  predictions: Predictions,
  examples: Sequence[TextExample],
  features: Features,
) -> list[Outcome]:
  """What became of each example; it must have a label."""
  logits = predictions['logits'].astype(np.float64)
  expected, predicted = features.scalars['labels'], _classes(predictions)
  rows = np.arange(len(expected))
  badness = np.logaddexp.reduce(logits, axis=-1) - logits[rows, expected]
  return [
    Outcome(
      text=' | '.join(texts(example)),
      expected=labels[right],
      predicted=labels[guess],
      badness=max(0.0, float(cost)),
      is_right=bool(right == guess),
    )
    for example, right, guess, cost in zip(
      examples, expected, predicted, badness, strict=True
    )
  ]


def _classes(predictions: Predictions) -> Int[np.ndarray, 'N']:
  return np.argmax(predictions['logits'], axis=-1)


def _chunks(
  examples: Sequence[TextExample],
) -> Iterator[Sequence[TextExample]]:
  for start in range(0, len(examples), _CHUNK):
    yield examples[start : start + _CHUNK]
