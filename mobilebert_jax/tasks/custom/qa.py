"""The user's own questions about texts that answer them."""

import dataclasses
import functools
import pathlib
from typing import Any

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import (
  CustomQaOptions,
  NullSpanOptions,
  SpanOptions,
)
from mobilebert_jax.data.readers import squad
from mobilebert_jax.data.readers.squad import Answer, Question
from mobilebert_jax.data.readers.tables import SUFFIXES, TableRow
from mobilebert_jax.tasks.custom import files as custom_files
from mobilebert_jax.tasks.squad.task import span_task
from mobilebert_jax.tasks.task import Task, TaskSpec

_SQUAD = ('.json', '.json.gz')


def make(options: CustomQaOptions, data: DataConfig) -> Task:
  """Makes the task.

  Raises:
    InputError: A file is missing.
  """
  files = custom_files.find(options, data, (*SUFFIXES, *_SQUAD))
  kind = NullSpanOptions if options.allow_no_answer else SpanOptions
  names = [field.name for field in dataclasses.fields(kind)]
  return span_task(
    'custom_qa',
    kind(**{name: getattr(options, name) for name in names}),
    load=functools.partial(files.load, functools.partial(_read, options)),
    splits=files.splits,
  )


CUSTOM_QA = TaskSpec('custom_qa', make)


def _read(
  options: CustomQaOptions, path: pathlib.Path, labelled: bool
) -> list[Question]:
  if path.name.endswith(_SQUAD):
    result = squad.read_file(path, with_null=options.allow_no_answer)
    return list(result)
  texts = [options.question_column, options.context_column]
  columns = [*texts, *([options.answers_column] * labelled)]
  questions = []
  for id_, row in custom_files.read_rows(path, columns, options.id_column):
    for column in texts:
      if not row.text(column).strip():
        raise row.wrong(column, 'expected a text')
    question, context = (row.text(column) for column in texts)
    answers = _answers(options, row, context) if labelled else None
    questions.append(Question(id_, question, context, answers))
  return questions


def _answers(
  options: CustomQaOptions, row: TableRow, context: str
) -> tuple[Answer, ...]:
  column = options.answers_column
  value = row.cells[column]
  given = value if isinstance(value, list) else [value]
  given = [] if given in ([''], [None]) else given
  if not given and not options.allow_no_answer:
    raise row.wrong(
      column,
      'expected an answer; set config.options.allow_no_answer=True if a text '
      'may not '
      'answer its question',
    )
  return tuple(_aligned(row, column, entry, context) for entry in given)


def _aligned(row: TableRow, column: str, entry: Any, context: str) -> Answer:
  if isinstance(entry, dict):
    text, start = entry.get('text'), entry.get('answer_start')
  else:
    text = entry
    start = context.find(entry) if isinstance(entry, str) else None
  if not isinstance(text, str) or not text.strip() or type(start) is not int:
    raise row.wrong(
      column,
      "expected a text, or an object with 'text' and 'answer_start' (a whole "
      'number), or a list of them',
    )
  answer = Answer(text, start)
  inside = 0 <= start < len(context)
  if not inside or Question('', '', context, (answer,)).span() is None:
    where = f'at character {start}' if isinstance(entry, dict) else 'anywhere'
    raise row.wrong(
      column, f'the answer {text!r} does not stand in the context {where}'
    )
  return answer
