"""Questions with choices as SWAG, RACE and CommonsenseQA publish them."""

import dataclasses
import pathlib
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mobilebert_jax.data.readers import bad_rows, lines, tables
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.runtime import files, local_copies
from mobilebert_jax.runtime.errors import InputError

# RACE's two parts: middle school and high school.
RACE_GROUPS = ('middle', 'high')
_SWAG_ENDINGS = ('ending0', 'ending1', 'ending2', 'ending3')
# What RACE writes in a question where the answer belongs.
_GAP = '_'
# How messages call the kinds of JSON values.
_KINDS: dict[Any, str] = {str: 'string', list: 'list', dict: 'object'}


@dataclasses.dataclass(frozen=True)
class ChoiceExample:
  """One question with its choices, as pairs of texts.

  Attributes:
    id: What the question is called in a file of predictions.
    text: The first text of every pair.
    choices: The second text of each pair.
    keys: What each choice is called in a file of predictions.
    answer: Index of the right choice; None where it is not public.
    group: A part of the data that is also scored by itself, or None.
  """

  id: str
  text: str
  choices: tuple[str, ...]
  keys: tuple[str, ...]
  answer: int | None
  group: str | None = None


def read_swag(
  path: pathlib.Path, labelled: bool, bad: BadRows | None = None
) -> Iterator[ChoiceExample]:
  """Reads SWAG's comma-separated file.

  The pairs are (sent1, sent2 with an ending): the second sentence begins with
  sent2. The id of a question is the number of its row, from 0.

  Args:
    path: The file.
    labelled: Whether it has answers.
    bad: Counts the rows that are wrong; None: they are refused.

  Raises:
    InputError: The file is missing, or a row is wrong.
  """
  columns = ('sent1', 'sent2', *_SWAG_ENDINGS, *(('label',) * labelled))
  keys = tuple(str(i) for i in range(len(_SWAG_ENDINGS)))
  for row in tables.read_table(path, columns, bad=bad):
    try:
      start = row.text('sent2')
      example = ChoiceExample(
        str(row.index),
        row.text('sent1'),
        tuple(f'{start} {row.text(name)}' for name in _SWAG_ENDINGS),
        keys,
        _index(row.text('label'), keys, "'label'", row.place)
        if labelled
        else None,
      )
      _check(example, row.place)
    except InputError as error:
      bad_rows.refuse(error, bad)
    else:
      yield example


def read_commonsenseqa(
  path: pathlib.Path, labelled: bool, bad: BadRows | None = None
) -> Iterator[ChoiceExample]:
  """Reads CommonsenseQA's JSON Lines; pairs are (question, choice).

  Args:
    path: The file.
    labelled: Whether it has answers.
    bad: Counts the lines that are wrong; None: they are refused.

  Raises:
    InputError: The file is missing or empty, or a line is wrong.
  """
  ids = _Ids()
  is_empty = True
  for line, row in lines.read_objects(path, bad=bad):
    is_empty = False
    place = f'{path}:{line}'
    try:
      example = _commonsense_question(row, place, labelled, ids)
      _check(example, place)
    except InputError as error:
      bad_rows.refuse(error, bad)
    else:
      yield example
  if is_empty:
    raise InputError(
      f'{path}: the file is empty; expected one question on each line.'
    )


def _commonsense_question(
  row: Mapping[str, Any], place: str, labelled: bool, ids: '_Ids'
) -> ChoiceExample:
  question = _value(row, 'question', dict, place)
  choices = _value(question, 'choices', list, place)
  pairs = [
    (_value(choice, 'label', str, place), _value(choice, 'text', str, place))
    for choice in choices
  ]
  keys = tuple(key for key, _ in pairs)
  if len(set(keys)) < len(keys):
    raise InputError(f'{place}: two choices have the same label.')
  answer = None
  if labelled:
    key = _value(row, 'answerKey', str, place)
    answer = _index(key, keys, "'answerKey'", place)
  return ChoiceExample(
    ids.new(_value(row, 'id', str, place), place),
    _value(question, 'stem', str, place),
    tuple(text for _, text in pairs),
    keys,
    answer,
  )


def read_race(
  folder: pathlib.Path, bad: BadRows | None = None
) -> Iterator[ChoiceExample]:
  """Reads a split of RACE: the directories middle and high with JSON files.

  The pairs are (article, question with an option).

  Args:
    folder: The split's directory.
    bad: Counts the articles and questions that are wrong; None: they are
      refused.

  Raises:
    InputError: A directory is missing or has no file, or a file is wrong.
  """
  ids = _Ids()
  for group in RACE_GROUPS:
    result = [
      file
      for file in sorted((folder / group).glob('*.txt'), key=race_order)
      if _is_race_file(file.name)
    ]
    if not result:
      raise InputError(
        f'{folder / group}: there are no files *.txt; expected RACE as it is '
        'published, with the directories middle and high in each split.'
      )
    # All at once: there are thousands.
    copies = local_copies.directory(folder / group, _is_race_file)
    for file in result:
      try:
        row = lines.read_json(copies / file.name, 'one article with questions')
      except InputError as error:
        bad_rows.refuse(error, bad)
      else:
        yield from race_questions(row, group, str(file), ids, bad)


def _is_race_file(name: str) -> bool:
  return name.endswith('.txt') and not files.is_hidden(name)


def race_order(file: pathlib.PurePath) -> tuple[int, int, str]:
  """Sorts RACE's files, such as 12.txt or middle12.txt, by their numbers."""
  digits = file.stem.lstrip(string.ascii_letters)
  return (0, int(digits), '') if digits.isdecimal() else (1, 0, file.name)


def race_questions(
  row: Any,
  group: str,
  place: str,
  ids: '_Ids | None' = None,
  bad: BadRows | None = None,
) -> Iterator[ChoiceExample]:
  """Yields the questions on one article of RACE.

  Args:
    row: 'id', 'article', 'questions', 'options' and 'answers'.
    group: 'middle' or 'high'.
    place: What messages call it.
    ids: The ids that occurred before.
    bad: Counts an article without its parts, and questions that are wrong;
      None: they are refused.

  Raises:
    InputError: Something of it is missing or wrong.
  """
  try:
    article, name, columns = _race_article(row, place)
  except InputError as error:
    bad_rows.refuse(error, bad)
    return
  for number, (question, options, answer) in enumerate(zip(*columns)):
    where = f'{place}: question {number}'
    try:
      texts, keys, right = _race_question(question, options, answer, where)
      id_ = f'{name}-{number}'
      example = ChoiceExample(
        id_ if ids is None else ids.new(id_, place),
        article,
        texts,
        keys,
        right,
        group,
      )
      _check(example, where)
    except InputError as error:
      bad_rows.refuse(error, bad)
    else:
      yield example


def _race_article(row: Any, place: str) -> tuple[str, str, list[list]]:
  """Returns an article, its name, and its questions, options and answers."""
  if not isinstance(row, dict):
    raise InputError(f'{place}: expected a JSON object with an article.')
  article = _value(row, 'article', str, place)
  name = _value(row, 'id', str, place)
  columns = [
    _value(row, key, list, place) for key in ('questions', 'options', 'answers')
  ]
  if len({len(column) for column in columns}) > 1:
    counts = ', '.join(str(len(column)) for column in columns)
    raise InputError(
      f'{place}: questions, options and answers are {counts} in number; '
      'expected one of each for every question.'
    )
  return article, name, columns


def _race_question(
  question: Any, options: Any, answer: Any, where: str
) -> tuple[tuple[str, ...], tuple[str, ...], int]:
  """Returns the second text of each pair, their keys, and the right one."""
  if not isinstance(options, list) or not all(
    isinstance(text, str) for text in (question, answer, *options)
  ):
    raise InputError(
      f'{where}: expected strings for the question, the answer and each '
      'option in the list of options.'
    )
  keys = tuple(string.ascii_uppercase[: len(options)])
  texts = tuple(fill_gap(question, option) for option in options)
  return texts, keys, _index(answer, keys, 'the answer', where)


def fill_gap(question: str, option: str) -> str:
  """Puts an option into the gap of a question, or behind it without one."""
  if _GAP in question:
    return question.replace(_GAP, option)
  return f'{question} {option}'


class _Ids:
  """The ids of a file, each of them once."""

  def __init__(self):
    self._seen: dict[str, str] = {}

  def new(self, id_: str, place: str) -> str:
    if id_ in self._seen:
      raise InputError(
        f'{place}: the id {id_!r} occurs in {self._seen[id_]} too; expected '
        'another id for every question.'
      )
    self._seen[id_] = place
    return id_


def _check(example: ChoiceExample, place: str):
  if not example.text.strip():
    raise InputError(f'{place}: the text of the question is empty.')
  if len(example.choices) < 2:
    raise InputError(
      f'{place}: there are {len(example.choices)} choices; expected at least 2.'
    )
  if not any(choice.strip() for choice in example.choices):
    raise InputError(f'{place}: all choices are empty.')


def _index(key: str, keys: Sequence[str], what: str, place: str) -> int:
  if key not in keys:
    raise InputError(
      f'{place}: {what} is {key!r}; expected one of '
      f'{", ".join(map(repr, keys))}.'
    )
  return list(keys).index(key)


def _value(row: Any, key: str, kind: type, place: str) -> Any:
  expected = f'expected a JSON {_KINDS[kind]}'
  if not isinstance(row, Mapping) or key not in row:
    raise InputError(f'{place}: there is no {key!r}; {expected}.')
  if not isinstance(row[key], kind):
    raise InputError(
      f'{place}: {key!r} is {_KINDS.get(type(row[key]), row[key])}; {expected}.'
    )
  return row[key]
