"""The user's own questions with choices."""

import dataclasses
import functools
import string
from collections.abc import Sequence

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import CustomChoiceOptions
from mobilebert_jax.data.readers import bad_rows, tables
from mobilebert_jax.data.readers.choice_files import ChoiceExample
from mobilebert_jax.data.readers.tables import TableRow
from mobilebert_jax.tasks import multiple_choice
from mobilebert_jax.tasks.custom import files as custom_files
from mobilebert_jax.tasks.custom.files import Source
from mobilebert_jax.tasks.prediction_files import class_writer
from mobilebert_jax.tasks.task import Task, TaskSpec


def make(options: CustomChoiceOptions, data: DataConfig) -> Task:
  """Makes the task.

  Raises:
    InputError: A file is missing.
  """
  files = custom_files.find(options, data)
  read = functools.partial(_read, options)
  task = multiple_choice.choice_task(
    'custom_choice',
    load=functools.partial(files.load, read),
    splits=files.splits,
  )
  return dataclasses.replace(
    task, write_predictions=class_writer(lambda example: example.keys)
  )


CUSTOM_CHOICE = TaskSpec('custom_choice', make)


def _read(options: CustomChoiceOptions, source: Source) -> list[ChoiceExample]:
  columns = [
    options.question_column,
    *(options.choice_columns or (options.choices_column,)),
    *([options.answer_column] * source.has_labels),
  ]
  examples = []
  with bad_rows.collect(source.path, source.policy) as bad:
    for id_, row in source.rows(columns, options.id_column, bad):
      with bad.row():
        text = row.text(options.question_column)
        if not text.strip():
          raise row.wrong(options.question_column, 'expected a text')
        choices = _choices(options, row)
        keys = _keys(options, choices)
        answer = _answer(options, row, keys) if source.has_labels else None
        examples.append(ChoiceExample(id_, text, choices, keys, answer))
  return examples


def _choices(options: CustomChoiceOptions, row: TableRow) -> tuple[str, ...]:
  if options.choice_columns:
    column = options.choice_columns[-1]
    values = [row.text(name) for name in options.choice_columns]
    while values and not values[-1].strip():
      values.pop()
  else:
    column = options.choices_column
    values = row.cells[column]
  if not isinstance(values, list) or not all(
    isinstance(value, str) and value.strip() for value in values
  ):
    raise row.wrong(
      column,
      'expected a list of texts, none of them empty (or name a column for each '
      'choice in config.options.choice_columns)',
    )
  if len(values) < 2:
    raise row.wrong(column, 'expected at least two choices')
  if len(set(values)) < len(values):
    raise row.wrong(column, 'expected choices that differ')
  return tuple(values)


def _keys(
  options: CustomChoiceOptions, choices: Sequence[str]
) -> tuple[str, ...]:
  """Returns how the choices are called in the data."""
  if options.answer == 'text':
    return tuple(choices)
  if options.answer == 'letter':
    return tuple(string.ascii_uppercase[: len(choices)])
  return tuple(str(i) for i in range(len(choices)))


def _answer(
  options: CustomChoiceOptions, row: TableRow, keys: Sequence[str]
) -> int:
  name = row.label(options.answer_column)
  known = [tables.label_name(key) for key in keys]
  if name not in known:
    raise row.wrong(
      options.answer_column,
      f'expected one of {", ".join(map(repr, keys))} (config.options.answer is '
      f'{options.answer!r})',
    )
  return known.index(name)
