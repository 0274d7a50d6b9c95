"""Classification of the user's own texts or pairs, with one or more labels."""

import functools
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import CustomClassificationOptions
from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.data.readers import tables
from mobilebert_jax.data.readers.tables import Row
from mobilebert_jax.metrics import classification
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.classification import (
  Score,
  TextExample,
  classification_task,
)
from mobilebert_jax.tasks.custom import files as custom_files
from mobilebert_jax.tasks.custom import output, texts
from mobilebert_jax.tasks.targets import MultiLabel, SingleLabel
from mobilebert_jax.tasks.task import Predictions, Task, TaskSpec

_INTEGER = re.compile(r'-?\d+')
# Label names that a message shows.
_SHOWN = 20


def make(options: CustomClassificationOptions, data: DataConfig) -> Task:
  """The task; without `options.labels` it reads the training file for them.

  Raises:
    InputError: A file is missing or has a mistake, or there are too few
      labels.
  """
  if options.multi_label and not options.label_separator:
    raise InputError(
      'config.options.label_separator is empty; set it to a sign.'
    )
  files = custom_files.find(options, data)
  labels = options.labels or found_labels(options, files.paths['train'])
  _check_labels(options, labels, files.paths['train'])
  single, multi = SingleLabel(labels), MultiLabel(labels)
  read = functools.partial(_read, options, labels)
  scores: dict[str, Score] = {
    'accuracy': classification.accuracy,
    'macro_f1': functools.partial(macro_f1, len(labels)),
  }
  return classification_task(
    'custom_classification',
    multi if options.multi_label else single,
    load=functools.partial(files.load, read),
    write_predictions=functools.partial(
      write_multi if options.multi_label else write_single, labels
    ),
    splits=files.splits,
    scores=None if options.multi_label else scores,
  )


CUSTOM_CLASSIFICATION = TaskSpec('custom_classification', make)


def found_labels(
  options: CustomClassificationOptions, path: pathlib.Path
) -> tuple[str, ...]:
  """The label names of a file, sorted."""
  names = {
    name
    for row in tables.read_table(path, (options.label_column,))
    for name in names_in(options, row)
  }
  if all(_INTEGER.fullmatch(name) for name in names):
    return tuple(sorted(names, key=lambda name: (int(name), name)))
  return tuple(sorted(names))


def names_in(options: CustomClassificationOptions, row: Row) -> list[str]:
  """The names of a row's labels, each once.

  Raises:
    InputError: The cell is of a wrong type, or one label is needed and
      there is none.
  """
  column = options.label_column
  if not options.multi_label:
    name = row.name(column)
    if not name.strip():
      raise row.wrong(column, 'expected a label')
    return [name]
  value = row.cells[column]
  if isinstance(value, list):
    names = [
      x if isinstance(x, str) else tables.name_of(x) or '' for x in value
    ]
  else:
    names = [x.strip() for x in row.name(column).split(options.label_separator)]
    names = [] if names == [''] else names
  if not all(names):
    raise row.wrong(
      column,
      f'expected labels with {options.label_separator!r} between them, or a '
      'list of labels',
    )
  return list(dict.fromkeys(names))


def macro_f1(
  classes: int,
  predicted: Int[np.ndarray, 'N'],
  labels: Int[np.ndarray, 'N'],
) -> float:
  """The mean F1 of the classes that are predicted or there (scikit-learn's)."""
  present = np.union1d(predicted, labels)
  each = np.eye(classes, dtype=np.int64)[:, present]
  return classification.macro_f1(each[predicted], each[labels])


def write_single(
  labels: Sequence[str],
  directory: pathlib.Path,
  split: str,
  predictions: Predictions,
  examples: Sequence[TextExample],
  features: Features,
) -> pathlib.Path:
  """Writes '<split>.csv': id, prediction, and the prediction's probability."""
  del features
  return output.write_classes(
    directory / f'{split}.csv',
    labels,
    predictions['logits'],
    [example.id for example in examples],
  )


def write_multi(
  labels: Sequence[str],
  directory: pathlib.Path,
  split: str,
  predictions: Predictions,
  examples: Sequence[TextExample],
  features: Features,
) -> pathlib.Path:
  """Writes '<split>.jsonl': id, a list of labels, all labels' probabilities."""
  del features
  chosen = MultiLabel(tuple(labels)).decide(predictions['logits'])
  chances = output.sigmoid(predictions['logits'])
  return output.write_jsonl(
    directory / f'{split}.jsonl',
    (
      {
        'id': example.id,
        'prediction': [labels[int(i)] for i in np.flatnonzero(picked)],
        'probability': dict(zip(labels, map(output.told, row))),
      }
      for example, picked, row in zip(examples, chosen, chances, strict=True)
    ),
  )


def _read(
  options: CustomClassificationOptions,
  labels: Sequence[str],
  path: pathlib.Path,
  labelled: bool,
) -> list[TextExample]:
  index = {name: i for i, name in enumerate(labels)}

  def label(row: Row) -> Any:
    names = names_in(options, row)
    for name in names:
      if name not in index:
        shown = ', '.join(map(repr, labels[:_SHOWN]))
        more = ', ...' if len(labels) > _SHOWN else ''
        raise row.wrong(
          options.label_column,
          f'the label {name!r} is unknown; the labels of the training file (or '
          f'config.options.labels) are {shown}{more}',
        )
    found = tuple(sorted(index[name] for name in names))
    return found if options.multi_label else found[0]

  return texts.read(options, path, label if labelled else None)


def _check_labels(
  options: CustomClassificationOptions,
  labels: Sequence[str],
  path: pathlib.Path,
):
  where = 'config.options.labels' if options.labels else str(path)
  twice = [name for name in labels if labels.count(name) > 1]
  if twice:
    raise InputError(f'{where} has {twice[0]!r} twice; give every label once.')
  least = 1 if options.multi_label else 2
  if len(labels) < least:
    raise InputError(
      f'{where}: there is no label but {", ".join(map(repr, labels)) or "none"}'
      f' in column {options.label_column!r}; expected at least {least}'
    )
