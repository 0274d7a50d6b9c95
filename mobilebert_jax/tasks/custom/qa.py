"""The user's own questions about texts that answer them."""

import dataclasses
import functools
import pathlib
from typing import TYPE_CHECKING, Any

from mobilebert_jax.data.readers import squad
from mobilebert_jax.data.readers.squad import Answer, Question
from mobilebert_jax.data.readers.tables import SUFFIXES, Row
from mobilebert_jax.tasks.custom import files as custom_files
from mobilebert_jax.tasks.squad.options import NullSpanOptions, SpanOptions
from mobilebert_jax.tasks.squad.task import span_task
from mobilebert_jax.tasks.task import Task, TaskSpec

if TYPE_CHECKING:
  from mobilebert_jax.config.run import DataConfig

_SQUAD = ('.json', '.json.gz')


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnQaOptions(custom_files.FileOptions, NullSpanOptions):
  """`config.options` of own_qa.

  A file is a table or SQuAD's JSON (*.json). In a table an answer is a text
  of the context, and where it begins is where it first stands there; JSON
  Lines may also have a list of answers, and objects with 'text' and
  'answer_start', as SQuAD has them.

  Attributes:
    question_column: The question.
    context_column: The text that answers it.
    answers_column: The answer or the answers; the test file needs none.
    id_column: What a question is called in the files of predictions; None:
      its row's number, from 0.
    allow_no_answer: A text may not answer its question: an empty cell or
      list. Scores then are those of SQuAD 2.0.
  """

  question_column: str = 'question'
  context_column: str = 'context'
  answers_column: str = 'answers'
  id_column: str | None = None
  allow_no_answer: bool = False


def make(options: OwnQaOptions, data: 'DataConfig') -> Task:
  """The task.

  Raises:
    InputError: A file is missing.
  """
  files = custom_files.find(options, data, (*SUFFIXES, *_SQUAD))
  kind = NullSpanOptions if options.allow_no_answer else SpanOptions
  names = [field.name for field in dataclasses.fields(kind)]
  return span_task(
    'own_qa',
    kind(**{name: getattr(options, name) for name in names}),
    load=functools.partial(files.load, functools.partial(_read, options)),
    splits=files.splits,
  )


OWN_QA = TaskSpec('own_qa', make, OwnQaOptions)


def _read(
  options: OwnQaOptions, path: pathlib.Path, labelled: bool
) -> list[Question]:
  if path.name.endswith(_SQUAD):
    found = squad.read_file(path, with_null=options.allow_no_answer)
    return list(found)
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
  options: OwnQaOptions, row: Row, context: str
) -> tuple[Answer, ...]:
  column = options.answers_column
  value = row.cells[column]
  given = value if isinstance(value, list) else [value]
  given = [] if given in ([''], [None]) else given
  if not given and not options.allow_no_answer:
    raise row.wrong(
      column,
      'expected an answer; set options.allow_no_answer=True if a text may not '
      'answer its question',
    )
  return tuple(_aligned(row, column, entry, context) for entry in given)


def _aligned(row: Row, column: str, entry: Any, context: str) -> Answer:
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
