"""Labels or numbers for the user's own texts, or pairs of texts."""

import functools
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import (
  CustomClassificationOptions,
  CustomRegressionOptions,
  TextColumns,
)
from mobilebert_jax.data.readers import tables
from mobilebert_jax.data.readers.tables import TableRow
from mobilebert_jax.metrics import classification
from mobilebert_jax.metrics.probabilities import sigmoid
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.classification import (
  Score,
  TextExample,
  classification_task,
)
from mobilebert_jax.tasks.custom import files as custom_files
from mobilebert_jax.tasks.prediction_files import (
  class_writer,
  csv_writer,
  jsonl_writer,
  rounded,
)
from mobilebert_jax.tasks.targets import MultiLabel, Regression, SingleLabel
from mobilebert_jax.tasks.task import Predictions, Task, TaskSpec

# What a row is labelled with.
ReadLabel = Callable[[TableRow], Any]


def read_texts(
  options: TextColumns, path: pathlib.Path, read_label: ReadLabel | None
) -> list[TextExample]:
  """Reads a table of texts or pairs.

  Args:
    options: Names of the columns.
    path: See `tables.read_table`.
    read_label: Gives a row's label; None: there is no label column.

  Raises:
    InputError: As `read_table`; or a row has no text, a cell of a wrong type,
      or the id of another row; or `read_label` finds a mistake.
  """
  texts = [options.text_column]
  if options.pair_column is not None:
    texts.append(options.pair_column)
  labels = [] if read_label is None else [options.label_column]
  examples = []
  rows = custom_files.read_rows(path, [*texts, *labels], options.id_column)
  for id_, row in rows:
    text, *pair = (row.text(column) for column in texts)
    # As in GLUE, one of the two may be empty.
    if not any(part.strip() for part in (text, *pair)):
      raise row.wrong(options.text_column, 'expected a text')
    label = None if read_label is None else read_label(row)
    examples.append(TextExample(id_, text, pair[0] if pair else None, label))
  return examples


_INTEGER = re.compile(r'-?\d+')
# Label names that a message shows.
_SHOWN = 20


def make(options: CustomClassificationOptions, data: DataConfig) -> Task:
  """Makes the task; without `options.labels` it reads the training file.

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
    write_predictions=jsonl_writer(functools.partial(_multi_rows, labels))
    if options.multi_label
    else class_writer(lambda example: labels),
    splits=files.splits,
    scores=None if options.multi_label else scores,
  )


CUSTOM_CLASSIFICATION = TaskSpec('custom_classification', make)


def found_labels(
  options: CustomClassificationOptions, path: pathlib.Path
) -> tuple[str, ...]:
  """Reads the label names of a file, sorted."""
  names = {
    name
    for row in tables.read_table(path, (options.label_column,))
    for name in names_in(options, row)
  }
  if all(_INTEGER.fullmatch(name) for name in names):
    return tuple(sorted(names, key=lambda name: (int(name), name)))
  return tuple(sorted(names))


def names_in(options: CustomClassificationOptions, row: TableRow) -> list[str]:
  """Returns the names of a row's labels, each once.

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
  """Returns the mean F1 of the classes that are predicted or there."""
  present = np.union1d(predicted, labels)
  each = np.eye(classes, dtype=np.int64)[:, present]
  return classification.macro_f1(each[predicted], each[labels])


def _multi_rows(
  labels: Sequence[str],
  predictions: Predictions,
  examples: Sequence[TextExample],
  features: Any,
) -> Iterator[dict[str, Any]]:
  """Yields id, a list of labels, and all labels' probabilities."""
  del features
  chosen = MultiLabel(tuple(labels)).decide(predictions['logits'])
  probabilities = sigmoid(predictions['logits'])
  for example, picked, row in zip(examples, chosen, probabilities, strict=True):
    yield {
      'id': example.id,
      'prediction': [labels[int(i)] for i in np.flatnonzero(picked)],
      'probability': dict(zip(labels, map(rounded, row))),
    }


def _read(
  options: CustomClassificationOptions,
  labels: Sequence[str],
  path: pathlib.Path,
  labelled: bool,
) -> list[TextExample]:
  index = {name: i for i, name in enumerate(labels)}

  def label(row: TableRow) -> Any:
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
    classes = tuple(sorted(index[name] for name in names))
    return classes if options.multi_label else classes[0]

  return read_texts(options, path, label if labelled else None)


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
      f' in column {options.label_column!r}; expected at least {least}.'
    )


def make_regression(options: CustomRegressionOptions, data: DataConfig) -> Task:
  """Makes the task.

  Raises:
    InputError: A file is missing.
  """
  files = custom_files.find(options, data)
  return classification_task(
    'custom_regression',
    Regression(),
    load=functools.partial(
      files.load, functools.partial(_read_numbers, options)
    ),
    write_predictions=csv_writer(_number_rows, ('id', 'prediction')),
    splits=files.splits,
    scores={
      'pearson': classification.pearson,
      'spearman': classification.spearman,
      'mse': classification.mean_squared_error,
    },
  )


CUSTOM_REGRESSION = TaskSpec('custom_regression', make_regression)


def _number_rows(
  predictions: Predictions, examples: Sequence[TextExample], features: Any
) -> Iterator[tuple[str, float]]:
  """Yields id and number."""
  del features
  numbers = Regression().decide(predictions['logits'])
  for example, number in zip(examples, numbers, strict=True):
    yield example.id, float(number)


def _read_numbers(
  options: CustomRegressionOptions, path: pathlib.Path, labelled: bool
) -> list[TextExample]:
  return read_texts(
    options,
    path,
    (lambda row: row.number(options.label_column)) if labelled else None,
  )
