"""Labels or numbers for the user's own texts, or pairs of texts."""

import contextlib
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
from mobilebert_jax.data.readers import bad_rows, remarks, tables
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
from mobilebert_jax.tasks.custom.files import Source
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
  options: TextColumns, source: Source, read_label: ReadLabel
) -> list[TextExample]:
  """Reads a table of texts or pairs.

  Args:
    options: Names of the columns.
    source: Where the table is.
    read_label: Gives a row's label, where the source has labels; None: the row
      is left out.

  Raises:
    InputError: As `Source.rows`; or a row has no text or a cell of a wrong
      type; or `read_label` finds a mistake.
  """
  texts = [options.text_column]
  if options.pair_column is not None:
    texts.append(options.pair_column)
  labels = [options.label_column] if source.has_labels else []
  examples = []
  ignored = 0
  with bad_rows.collect(source.path, source.policy) as bad:
    for id_, row in source.rows([*texts, *labels], options.id_column, bad):
      with bad.row():
        label = read_label(row) if labels else None
        if labels and label is None:
          ignored += 1
          continue
        text, *pair = (row.text(column) for column in texts)
        # As in GLUE, one of the two may be empty.
        if not any(part.strip() for part in (text, *pair)):
          raise row.wrong(options.text_column, 'expected a text')
        second = pair[0] if pair else None
        examples.append(TextExample(id_, text, second, label))
  if ignored:
    remarks.say(
      f'{source.path}: {ignored:,} rows are left out for their labels '
      '(config.options.ignore_labels).'
    )
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
  given = tuple(tables.label_name(name) for name in options.labels)
  labels = given or found_labels(options, files.train)
  _check_labels(options, labels, files.train.path)
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
  options: CustomClassificationOptions, source: Source
) -> tuple[str, ...]:
  """Reads the label names of a source, sorted."""
  names: set[str] = set()
  with bad_rows.collect(source.path, source.policy) as bad:
    for row in source.table((options.label_column,), bad):
      with bad.row():
        names.update(names_in(options, row) or ())
  if all(_INTEGER.fullmatch(name) for name in names):
    return tuple(sorted(names, key=lambda name: (int(name), name)))
  return tuple(sorted(names))


def names_in(
  options: CustomClassificationOptions, row: TableRow
) -> list[str] | None:
  """Returns the names of a row's labels, each once; None: it is ignored.

  Raises:
    InputError: The cell is of a wrong type, or one label is needed and
      there is none.
  """
  column = options.label_column
  if not options.multi_label:
    if _is_null(options, row):
      return None
    name = row.label(column)
    if name in _ignored(options):
      return None
    if not name:
      raise row.wrong(column, 'expected a label')
    return [name]
  value = row.cells[column]
  if isinstance(value, list):
    names = [
      tables.label_name(x) if isinstance(x, str) else tables.name_of(x) or ''
      for x in value
    ]
  else:
    names = [
      tables.label_name(x)
      for x in row.label(column).split(options.label_separator)
    ]
    names = [] if names == [''] else names
  if _ignored(options).intersection(names or ['']):
    return None
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


def _ignored(options: TextColumns) -> set[str]:
  return {tables.label_name(name) for name in options.ignore_labels}


def _is_null(options: TextColumns, row: TableRow) -> bool:
  """Returns whether a label is null, and rows without one are ignored."""
  return row.cells[options.label_column] is None and '' in options.ignore_labels


def _read(
  options: CustomClassificationOptions, labels: Sequence[str], source: Source
) -> list[TextExample]:
  index = {name: i for i, name in enumerate(labels)}

  def label(row: TableRow) -> Any:
    names = names_in(options, row)
    if names is None:
      return None
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

  return read_texts(options, source, label)


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
  options: CustomRegressionOptions, source: Source
) -> list[TextExample]:
  numbers, names = _ignored_numbers(options), _ignored(options)
  column = options.label_column

  def number(row: TableRow) -> float | None:
    value = row.cells[column]
    if _is_null(options, row) or (
      isinstance(value, str) and tables.label_name(value) in names
    ):
      return None
    result = row.number(column)
    return None if result in numbers else result

  return read_texts(options, source, number)


def _ignored_numbers(options: CustomRegressionOptions) -> set[float]:
  """Returns those of `ignore_labels` that are numbers; others are texts."""
  numbers = set()
  for name in options.ignore_labels:
    with contextlib.suppress(ValueError):
      numbers.add(float(name))
  return numbers
