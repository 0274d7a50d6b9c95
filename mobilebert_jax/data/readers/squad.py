"""SQuAD's questions, from the official files or from TFDS."""

import dataclasses
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mobilebert_jax.data.readers import bad_rows, lines, tfds
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.runtime.errors import InputError

_SUFFIXES = lines.with_compressed(('.json',))
# How much of a file tells its format, and how the first name in it is found.
_HEAD = 1 << 16
_FIRST_NAME = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"(?:data|version)"\s*:')
_OFFICIAL = (
  "but each question of SQuAD 1.1 has one; use config.task='squad_v2' for "
  'questions without'
)


class Answer(NamedTuple):
  """An answer as the file gives it.

  Attributes:
    text: the words of the context.
    start: the character of the context where they are said to begin.
  """

  text: str
  start: int


@dataclasses.dataclass(frozen=True)
class Question:
  """A question about a text.

  Attributes:
    id: what files of predictions call it.
    question: the question.
    context: the text that answers it.
    answers: the right answers, none if the text does not answer it; None
      where they are not known.
  """

  id: str
  question: str
  context: str
  answers: tuple[Answer, ...] | None = None

  def span(self) -> tuple[int, int] | None:
    """Returns characters [start, end) of the first answer that fits.

    The rule is run_squad's: the answer must stand, whatever its spaces, within
    the words of the context that it is said to cover. None if no answer does.
    """
    for answer in self.answers or ():
      result = _find(self.context, answer)
      if result:
        return result
    return None


def find_file(path: str | pathlib.Path, stem: str) -> pathlib.Path:
  """Finds the official file `stem`.json, in `path` or `path`/squad.

  Raises:
    InputError: it is in neither.
  """
  return lines.find_official_file(path, 'squad', [stem + s for s in _SUFFIXES])


def read_file(
  path: pathlib.Path,
  *,
  with_null: bool,
  has_answers: bool = True,
  advice: str = _OFFICIAL,
  bad: BadRows | None = None,
) -> Iterator[Question]:
  """Reads a file in SQuAD's format, in its order.

  Answers are a list of objects, or an object of two lists, as the datasets
  library writes them; where `is_impossible` is missing, a question without
  answers has none. An article may be a question with its context.

  Args:
    path: a JSON file of SQuAD, plain or compressed.
    with_null: whether it has questions without an answer: SQuAD 2.0.
    has_answers: whether answers are read; else they may be missing.
    advice: what to do about a question without an answer, if none may be.
    bad: counts the questions that are wrong; None: they are refused.

  Yields:
    The questions.

  Raises:
    InputError: the file cannot be read or is not of this format and version;
      the message names the question's id.
  """
  seen: set[str] = set()
  document = lines.read_json(path, "SQuAD's JSON")
  for paragraph, place in _paragraphs(document, str(path)):
    context = _text(paragraph, 'context', place)
    for number, record in enumerate(_list(paragraph, 'qas', place), start=1):
      try:
        id_ = _text(record, 'id', f'{place}, question {number}')
        where = f'{path}: question {id_!r}'
        if id_ in seen:
          raise InputError(f'{where} is there twice; ids must differ.')
        seen.add(id_)
        answers = None
        if has_answers:
          answers = _answers(record, context, where)
          _check_impossible(record, answers, where)
        result = _question(
          record, context, answers, where, None if with_null else advice
        )
      except InputError as error:
        bad_rows.refuse(error, bad)
      else:
        yield result
  if not seen and not (bad and bad.messages):
    raise InputError(f'{path}: there is no question in it.')


def is_squad(path: pathlib.Path) -> bool:
  """Returns whether a JSON file is in SQuAD's format, by its beginning.

  Raises:
    InputError: it cannot be read.
  """
  head = lines.first_bytes(path, _HEAD)
  return b'"paragraphs"' in head or _FIRST_NAME.match(head) is not None


def misplaced(question: Question) -> Answer | None:
  """Returns the first answer that does not stand in the text, if any."""
  for answer in question.answers or ():
    if dataclasses.replace(question, answers=(answer,)).span() is None:
      return answer
  return None


def read_tfds(
  name: str, split: str, data_dir: str | None, *, with_null: bool
) -> Iterator[Question]:
  """Reads a split of `squad/v1.1` or `squad/v2.0`, in the stored order.

  TFDS shuffles the official order once, when it prepares the data.

  Raises:
    InputError: the data set is not prepared, or has a wrong row.
  """
  columns = ('id', 'question', 'context', 'answers')
  for row in tfds.read_split(name, split, columns, data_dir):
    where = f'TFDS data set {name}: question {row["id"]!r}'
    stored = row['answers']
    answers = tuple(
      _answer(
        {'text': _decoded(text), 'answer_start': int(start)},
        row['context'],
        f'{where}, answer {i}',
      )
      for i, (text, start) in enumerate(
        zip(stored['text'], stored['answer_start']), start=1
      )
    )
    yield _question(
      row, row['context'], answers, where, None if with_null else _OFFICIAL
    )


def _question(
  record: Mapping[str, Any],
  context: str,
  answers: tuple[Answer, ...] | None,
  where: str,
  advice: str | None,
) -> Question:
  if answers == () and advice is not None:
    raise InputError(f'{where} has no answer, {advice}.')
  question = _text(record, 'question', where)
  return Question(record['id'], question, context, answers)


def _check_impossible(
  record: Mapping[str, Any], answers: tuple[Answer, ...], where: str
) -> None:
  if record.get('is_impossible') is None:
    return
  if record['is_impossible'] is not (not answers):
    raise InputError(
      f'{where}: is_impossible is {record["is_impossible"]!r}, but there are '
      f'{len(answers)} answers; expected true without answers, else false.'
    )


def _paragraphs(
  document: Any, place: str
) -> Iterator[tuple[Mapping[str, Any], str]]:
  """Yields the paragraphs of all articles, and how messages name them."""
  for i, article in enumerate(_list(document, 'data', place), start=1):
    where = f'{place}: article {i}'
    if isinstance(article, Mapping) and 'paragraphs' not in article:
      if 'context' in article and 'question' in article:
        yield {'context': article['context'], 'qas': [article]}, where
        continue
    for j, paragraph in enumerate(_list(article, 'paragraphs', where), start=1):
      yield paragraph, f'{where}, paragraph {j}'


def answer_entries(value: Any, where: str) -> list[Any]:
  """Returns answers as a list, from each of the forms in which files have them.

  Args:
    value: a list; one answer; or an object of two lists, 'text' and
      'answer_start'.
    where: what messages call them.

  Raises:
    InputError: the two lists differ in length.
  """
  if not isinstance(value, Mapping):
    return value if isinstance(value, list) else [value]
  texts, starts = value.get('text'), value.get('answer_start')
  if not isinstance(texts, list) or not isinstance(starts, list):
    return [value]
  if len(texts) != len(starts):
    raise InputError(
      f'{where}: the answers have {len(texts)} texts, but {len(starts)} '
      'answer_start; expected one for each text.'
    )
  return [
    {'text': text, 'answer_start': start} for text, start in zip(texts, starts)
  ]


def _answers(
  record: Mapping[str, Any], context: str, where: str
) -> tuple[Answer, ...]:
  value = record.get('answers')
  if not isinstance(value, Mapping):
    value = _list(record, 'answers', where)
  return tuple(
    _answer(entry, context, f'{where}, answer {i}')
    for i, entry in enumerate(answer_entries(value, where), start=1)
  )


def _answer(entry: Any, context: str, where: str) -> Answer:
  text = _text(entry, 'text', where)
  if not text.strip():
    raise InputError(f'{where}: the text is empty; expected words of the text.')
  start = _field(entry, 'answer_start', int, where)
  if not 0 <= start < len(context):
    raise InputError(
      f'{where}: answer_start is {start}; expected a character of the context, '
      f'from 0 to {len(context) - 1}.'
    )
  return Answer(text, start)


_KINDS = {str: 'a string', int: 'a whole number', list: 'a list'}


def _field(record: Any, name: str, kind: type, where: str) -> Any:
  if not isinstance(record, Mapping) or name not in record:
    raise InputError(f'{where}: there is no field {name!r}.')
  value = record[name]
  if not isinstance(value, kind) or isinstance(value, bool):
    raise InputError(f'{where}: {name!r} must be {_KINDS[kind]}.')
  return value


def _list(record: Any, name: str, where: str) -> list[Any]:
  return _field(record, name, list, where)


def _text(record: Any, name: str, where: str) -> str:
  text = _field(record, name, str, where)
  if not lines.is_unicode(text):
    raise InputError(
      f'{where}: {name!r} has half of a surrogate pair; expected valid Unicode.'
    )
  return text


def _find(context: str, answer: Answer) -> tuple[int, int] | None:
  """Finds an answer in the words that it is said to cover."""
  text, start = answer
  if context.startswith(text, start):
    return start, start + len(text)
  # From the beginning of the first word to the end of the last; a space
  # belongs to the word before it.
  begin, stop = start, min(start + len(text), len(context))
  while begin > 0 and context[begin].isspace():
    begin -= 1
  while begin > 0 and not context[begin - 1].isspace():
    begin -= 1
  while stop < len(context) and not re.search(
    r'\s', context[stop - 1 : stop + 1]
  ):
    stop += 1
  words = r'\s+'.join(re.escape(word) for word in text.split())
  result = re.compile(words).search(context, begin, stop)
  return result.span() if result else None


def _decoded(text: Any) -> str:
  return text.decode('utf-8') if isinstance(text, bytes) else str(text)
