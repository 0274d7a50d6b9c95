"""Regression: a number for each of the user's own texts or pairs."""

import functools
import pathlib
from collections.abc import Sequence

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import CustomRegressionOptions
from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.metrics import classification
from mobilebert_jax.tasks.classification import (
  TextExample,
  classification_task,
)
from mobilebert_jax.tasks.custom import files as custom_files
from mobilebert_jax.tasks.custom import output, texts
from mobilebert_jax.tasks.targets import Regression
from mobilebert_jax.tasks.task import Predictions, Task, TaskSpec


def make(options: CustomRegressionOptions, data: DataConfig) -> Task:
  """The task.

  Raises:
    InputError: A file is missing.
  """
  files = custom_files.find(options, data)
  return classification_task(
    'custom_regression',
    Regression(),
    load=functools.partial(files.load, functools.partial(_read, options)),
    write_predictions=write_predictions,
    splits=files.splits,
    scores={
      'pearson': classification.pearson,
      'spearman': classification.spearman,
      'mse': classification.mean_squared_error,
    },
  )


CUSTOM_REGRESSION = TaskSpec('custom_regression', make)


def write_predictions(
  directory: pathlib.Path,
  split: str,
  predictions: Predictions,
  examples: Sequence[TextExample],
  features: Features,
) -> pathlib.Path:
  """Writes '<split>.csv': id, prediction."""
  del features
  numbers = Regression().decide(predictions['logits'])
  return output.write_csv(
    directory / f'{split}.csv',
    ('id', 'prediction'),
    zip((example.id for example in examples), map(float, numbers), strict=True),
  )


def _read(
  options: CustomRegressionOptions, path: pathlib.Path, labelled: bool
) -> list[TextExample]:
  return texts.read(
    options,
    path,
    (lambda row: row.number(options.label_column)) if labelled else None,
  )
