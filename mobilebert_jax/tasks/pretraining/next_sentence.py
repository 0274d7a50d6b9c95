"""Next-sentence prediction on the user's own text."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Array

from mobilebert_jax import losses
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import NextSentenceOptions
from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.data.examples import sentence_pairs
from mobilebert_jax.metrics import classification as classification_metrics
from mobilebert_jax.models import MobileBertForNextSentencePrediction
from mobilebert_jax.tasks import classification
from mobilebert_jax.tasks.classification import TextExample
from mobilebert_jax.tasks.custom import output
from mobilebert_jax.tasks.pretraining import text_files
from mobilebert_jax.tasks.targets import SingleLabel
from mobilebert_jax.tasks.task import Predictions, Task, TaskSpec

_TARGET = SingleLabel(('follows', 'random'))


def make(options: NextSentenceOptions, data: DataConfig) -> Task:
  """The task with these options."""
  del data
  return Task(
    name='next_sentence',
    head=MobileBertForNextSentencePrediction,
    labels=_TARGET.labels,
    primary_metric='validation/accuracy',
    load=functools.partial(load, options),
    encode=functools.partial(classification.encode, _TARGET),
    loss=loss,
    predict=classification.predict,
    score=functools.partial(
      classification.score,
      _TARGET,
      {'accuracy': classification_metrics.accuracy},
    ),
    write_predictions=write_predictions,
    texts=classification.texts,
    outcomes=functools.partial(classification.outcomes, _TARGET),
    specimens=functools.partial(classification.specimens, _TARGET),
    splits=text_files.SPLITS,
  )


NEXT_SENTENCE = TaskSpec('next_sentence', make)


def load(
  options: NextSentenceOptions, data: DataConfig, split: str
) -> tuple[TextExample, ...]:
  """`Task.load`: the pairs of a split; the limits count pairs.

  Raises:
    InputError: Missing or wrong text, or too little of it.
  """
  unlimited = dataclasses.replace(data, train_examples=None, eval_examples=None)
  documents = text_files.load(options, unlimited, split)
  segmented = [
    sentence_pairs.segments(
      document,
      lines=options.sentences == 'lines',
      sentences=options.sentences_per_segment,
    )
    for document in documents
  ]
  pairs = sentence_pairs.make_pairs(documents, segmented, options.seed)
  is_train = split == text_files.SPLITS.train
  return pairs[: data.limit(is_train=is_train)]


def loss(outputs: Any, batch: Mapping[str, Array]) -> losses.Terms:
  """Cross-entropy over the pairs of weight 1."""
  return losses.next_sentence_loss(
    outputs.logits, batch['labels'], batch['weights']
  )


def write_predictions(
  directory: pathlib.Path,
  split: str,
  predictions: Predictions,
  examples: Sequence[TextExample],
  features: Features,
) -> pathlib.Path:
  """Writes '<split>.csv': id (document#segment), prediction, probability."""
  del features
  return output.write_classes(
    directory / f'{split}.csv',
    _TARGET.labels,
    predictions['logits'],
    [example.id for example in examples],
  )
