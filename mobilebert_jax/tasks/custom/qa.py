"""The user's own questions about texts that answer them."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import (
  CustomQaOptions,
  NullSpanOptions,
  SpanOptions,
)
from mobilebert_jax.data.readers import bad_rows, squad
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.data.readers.squad import Answer, Question
from mobilebert_jax.data.readers.tables import TableRow
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.custom import files as custom_files
from mobilebert_jax.tasks.custom.files import Source
from mobilebert_jax.tasks.squad.task import span_task
from mobilebert_jax.tasks.task import Task, TaskSpec

_ADVICE = (
  'expected an answer; set config.options.allow_no_answer=True if a text may '
  'not answer its question'
)


def make(options: CustomQaOptions, data: DataConfig) -> Task:
  """Makes the task.

  Raises:
    InputError: A file is missing.
  """
  files = custom_files.find(options, data)
  kind = NullSpanOptions if options.allow_no_answer else SpanOptions
  names = [field.name for field in dataclasses.fields(kind)]
  return span_task(
    'custom_qa',
    kind(**{name: getattr(options, name) for name in names}),
    load=functools.partial(files.load, functools.partial(_read, options)),
    splits=files.splits,
  )


CUSTOM_QA = TaskSpec('custom_qa', make)


def _read(options: CustomQaOptions, source: Source) -> list[Question]:
  with bad_rows.collect(source.path, source.policy) as bad:
    if source.ends_with('.json') and squad.is_squad(source.path):
      return list(_from_squad(options, source, bad))
    return list(_from_table(options, source, bad))


def _from_squad(
  options: CustomQaOptions, source: Source, bad: BadRows
) -> Iterator[Question]:
  questions = squad.read_file(
    source.path,
    with_null=options.allow_no_answer,
    has_answers=source.has_labels,
    advice=_ADVICE,
    bad=bad,
  )
  for question in questions:
    with bad.row():
      answer = squad.misplaced(question)
      if answer is not None:
        raise InputError(
          f'{source.path}: question {question.id!r}: '
          f'{_misplaced(answer, f"at character {answer.start}")}.'
        )
      yield question


def _from_table(
  options: CustomQaOptions, source: Source, bad: BadRows
) -> Iterator[Question]:
  texts = [options.question_column, options.context_column]
  columns = [*texts, *([options.answers_column] * source.has_labels)]
  for id_, row in source.rows(columns, options.id_column, bad):
    with bad.row():
      for column in texts:
        if not row.text(column).strip():
          raise row.wrong(column, 'expected a text')
      question, context = (row.text(column) for column in texts)
      answers = _answers(options, row, context) if source.has_labels else None
      yield Question(id_, question, context, answers)


def _answers(
  options: CustomQaOptions, row: TableRow, context: str
) -> tuple[Answer, ...]:
  column = options.answers_column
  value = row.cells[column]
  given = squad.answer_entries(value, row.place)
  given = [] if given in ([''], [None]) else given
  if not given and not options.allow_no_answer:
    raise row.wrong(column, _ADVICE)
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
  if not inside or squad.misplaced(Question('', '', context, (answer,))):
    where = f'at character {start}' if isinstance(entry, dict) else 'anywhere'
    raise row.wrong(column, _misplaced(answer, where))
  return answer


def _misplaced(answer: Answer, where: str) -> str:
  return f'the answer {answer.text!r} does not stand in the context {where}'
