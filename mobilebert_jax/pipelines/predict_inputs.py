"""What is predicted: texts from arguments, standard input or a file."""

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from mobilebert_jax.data.readers import parquet, tables
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.data.readers.conll import read_sentences
from mobilebert_jax.data.readers.lines import (
  STANDARD_INPUT,
  is_unicode,
  plain_name,
  read_lines,
  read_objects,
)
from mobilebert_jax.data.readers.squad import is_squad
from mobilebert_jax.data.readers.squad import read_file as read_squad
from mobilebert_jax.runtime.errors import InputError

FORMATS = ('text', 'jsonl')
_SUFFIXES = ('.txt', *tables.FORMATS, '.json', '.parquet', '.conll')
# The column that is passed on if it is there.
_ID = 'id'


@dataclasses.dataclass(frozen=True)
class Form:
  """The fields of an input.

  Attributes:
    required: fields that each input has; text, or a list of texts.
    optional: fields that it may have beside 'id'.
    lists: which of them are lists of texts.
  """

  required: tuple[str, ...]
  optional: tuple[str, ...] = ()
  lists: tuple[str, ...] = ()

  @property
  def is_text(self) -> bool:
    """Whether a line of text can be an input."""
    return len(self.required) == 1

  @property
  def fields(self) -> tuple[str, ...]:
    """All fields but 'id'."""
    return (*self.required, *self.optional)


@dataclasses.dataclass(frozen=True)
class Item:
  """One input.

  Attributes:
    place: where it is, for messages.
    fields: its texts, and 'id' if it has one.
    problem: what is wrong with it, with the place; None: nothing is.
  """

  place: str
  fields: Mapping[str, Any]
  problem: str | None = None


def from_arguments(
  form: Form, texts: Sequence[str], is_pair: bool
) -> list[Item]:
  """Returns inputs from the command line.

  Args:
    form: the fields; with one required field each text is an input, else all
      texts together are one: question and context, or question and choices.
    texts: the arguments.
    is_pair: the two texts are one input with a text_pair.

  Raises:
    InputError: too few or too many, or an empty one.
  """
  named: list[dict[str, Any]]
  if form.is_text and not is_pair:
    named = [{form.required[0]: text} for text in texts]
  elif form.lists:
    named = [{form.required[0]: texts[0], form.required[1]: list(texts[1:])}]
  else:
    names = form.required if not is_pair else ('text', 'text_pair')
    if len(texts) != len(names):
      raise InputError(
        f'{len(texts)} texts where {" and ".join(names)} are expected; put '
        'each in quotes.'
      )
    named = [dict(zip(names, texts))]
  items = [
    _checked(form, Item(f'argument {i}', fields))
    for i, fields in enumerate(named, start=1)
  ]
  for item in items:
    if item.problem is not None:
      raise InputError(item.problem)
  return items


def from_stream(form: Form, format_: str | None) -> Iterator[Item]:
  """Returns inputs from standard input, one on each line.

  Args:
    form: the fields.
    format_: 'text' or 'jsonl'; None: text where an input is one text.

  Yields:
    The inputs; a line that is empty or not what it should be is one with a
    problem.

  Raises:
    InputError: a line is not UTF-8.
  """
  format_ = format_ or ('text' if form.is_text else 'jsonl')
  if format_ == 'text':
    return _lines(form, STANDARD_INPUT)
  return _objects(form, STANDARD_INPUT, _Columns({}, {}))


def from_file(
  form: Form,
  path: pathlib.Path,
  columns: Sequence[tuple[str, str]],
  usual: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Item]:
  """Returns inputs from a file; its suffix decides how it is read.

  Args:
    form: the fields.
    path: .txt (an input on each line), .jsonl, .csv or .tsv; .json (an array
      of objects, or SQuAD's form) or .conll (sentences, a word on each line);
      or one of them compressed; or .parquet.
    columns: pairs of a field and the column that holds it, where they are not
      the same; a list of texts has several columns.
    usual: the columns that hold a field where none is given and the file has
      them: those that the model learnt from.

  Returns:
    The inputs; one with a problem has no fields but its id.

  Raises:
    InputError: no such file or column, another suffix, or a file that cannot
      be read any further.
  """
  name = plain_name(path.name)
  named = _Columns(_named(form, columns), usual or {})
  if name.endswith('.json') and is_squad(path):
    return _questions(form, path)
  if name.endswith('.conll'):
    return _sentences(form, path)
  if name.endswith('.txt'):
    if columns:
      raise InputError(f'{path}: a text file has no columns to name.')
    return _lines(form, path)
  if name.endswith(tables.OBJECTS):
    return _objects(form, path, named)
  if name.endswith('.parquet'):
    return _parquet(form, path, named)
  if name.endswith(('.csv', '.tsv')):
    return _table(form, path, named)
  raise InputError(f'{path}: its name must end in {", ".join(_SUFFIXES)}.')


def _lines(form: Form, path: pathlib.Path) -> Iterator[Item]:
  if not form.is_text:
    raise InputError(
      f'{path}: a line of text cannot hold {" and ".join(form.required)}; '
      'give JSON lines.'
    )

  def read(bad: BadRows) -> Iterator[Item]:
    for number, line in read_lines(path, bad=bad):
      fields = {form.required[0]: line.rstrip('\r\n')}
      yield _checked(form, Item(f'{path}:{number}', fields))

  return _in_place(read)


@dataclasses.dataclass(frozen=True)
class _Columns:
  """Where the fields are.

  Attributes:
    given: the columns of fields, as the user says.
    usual: those that hold them otherwise, where the file has them.
  """

  given: Mapping[str, Sequence[str]]
  usual: Mapping[str, Sequence[str]]

  def of(self, field: str, there: Collection[str]) -> Sequence[str]:
    """Returns the columns of a field in a file or an object.

    Args:
      field: which one.
      there: the columns that there are.
    """
    usual = self.usual.get(field, ())
    if field in self.given:
      return self.given[field]
    return usual if usual and set(usual) <= set(there) else [field]

  def has(self, field: str, there: Collection[str]) -> bool:
    """Returns whether a field is wanted, or there to be read."""
    return field in self.given or set(self.of(field, there)) <= set(there)


def _in_place(read: Callable[[BadRows], Iterator[Item]]) -> Iterator[Item]:
  """Yields inputs, with those that cannot be read where they stand."""
  bad, passed = BadRows(), 0
  for item in read(bad):
    yield from (Item('', {}, text) for text in bad.messages[passed:])
    passed = len(bad.messages)
    yield item
  yield from (Item('', {}, text) for text in bad.messages[passed:])


def _objects(
  form: Form, path: pathlib.Path, columns: _Columns
) -> Iterator[Item]:
  def read(bad: BadRows) -> Iterator[Item]:
    for number, value in read_objects(path, bad=bad):
      place = f'{path}:{number}'
      with bad.row():
        yield _checked(
          form, Item(place, _fields_of(form, place, value, columns))
        )

  return _in_place(read)


def _parquet(
  form: Form, path: pathlib.Path, columns: _Columns
) -> Iterator[Item]:
  """Returns the rows of a Parquet file; those columns alone are read."""
  names = parquet.column_names(path)
  wanted = [
    name
    for field in (*form.fields, _ID)
    if field in form.required or columns.has(field, names)
    for name in columns.of(field, names)
  ]

  def read(bad: BadRows) -> Iterator[Item]:
    for row in tables.read_table(path, wanted, bad=bad):
      with bad.row():
        fields = _fields_of(form, row.place, row.cells, columns)
        yield _checked(form, Item(row.place, fields))

  return _in_place(read)


def _fields_of(
  form: Form, place: str, value: Mapping[str, Any], columns: _Columns
) -> dict[str, Any]:
  """Takes the fields from an object.

  Raises:
    InputError: one is missing.
  """
  has_id = columns.has(_ID, value)
  fields = {_ID: value[columns.of(_ID, value)[0]]} if has_id else {}
  for field in form.fields:
    names = columns.of(field, value)
    if field in form.optional and not columns.has(field, value):
      continue
    for name in names:
      if name not in value:
        raise InputError(
          f'{place}: the object has no {name!r}; it has '
          f'{", ".join(map(repr, value)) or "nothing"}.'
        )
    # A list in one place, or texts in several, of which the last may be empty.
    values = [value[name] for name in names]
    is_joined = field in form.lists and len(names) > 1
    fields[field] = (
      [text for text in values if text not in (None, '')]
      if is_joined
      else values[0]
    )
  return fields


def _questions(form: Form, path: pathlib.Path) -> Iterator[Item]:
  """Returns the questions of a file in SQuAD's form; answers are not read."""
  if 'context' not in form.fields:
    raise InputError(
      f"{path}: this is SQuAD's JSON, with questions and texts; give "
      f'{" and ".join(form.required)} as .jsonl.'
    )

  def read(bad: BadRows) -> Iterator[Item]:
    for one in read_squad(path, with_null=True, has_answers=False, bad=bad):
      fields = {_ID: one.id, 'question': one.question, 'context': one.context}
      yield _checked(form, Item(f'{path}: question {one.id!r}', fields))

  return _in_place(read)


def _sentences(form: Form, path: pathlib.Path) -> Iterator[Item]:
  """Returns the sentences of a file in columns, their words as a text."""
  if form.required != ('text',):
    raise InputError(
      f'{path}: a .conll file has sentences, not {" and ".join(form.required)}.'
    )

  def read(bad: BadRows) -> Iterator[Item]:
    for sentence in read_sentences(path, bad):
      fields = {'text': ' '.join(sentence.words)}
      yield _checked(form, Item(sentence.place(0), fields))

  return _in_place(read)


def _table(form: Form, path: pathlib.Path, named: _Columns) -> Iterator[Item]:
  header = _header(form, path, named)
  for field in form.lists:
    if not named.has(field, header):
      raise InputError(
        f'{path}: say which columns hold the {field}, for instance '
        f'--column {field}=A --column {field}=B.'
      )
  wanted = {
    field: named.of(field, header)
    for field in (*form.fields, _ID)
    if field in form.required or named.has(field, header)
  }
  columns = [name for names in wanted.values() for name in names]

  def read(bad: BadRows) -> Iterator[Item]:
    for row in tables.read_table(path, columns, bad=bad):
      with bad.row():
        fields = {
          # A question with fewer choices than others leaves cells empty.
          field: [text for text in map(row.text, names) if text.strip()]
          if field in form.lists
          else row.text(names[0])
          for field, names in wanted.items()
        }
        yield _checked(form, Item(row.place, fields))

  return _in_place(read)


def _header(form: Form, path: pathlib.Path, named: _Columns) -> tuple[str, ...]:
  """Returns the names of a table's columns."""
  # They tell how the file is written, where it does not say.
  usual = [name for names in named.usual.values() for name in names]
  given = [name for names in named.given.values() for name in names]
  return tables.column_names(path, [*given, *usual, *form.required])


def _named(
  form: Form, columns: Sequence[tuple[str, str]]
) -> dict[str, list[str]]:
  """Returns the columns of each field that has been given some."""
  named: dict[str, list[str]] = {}
  for field, column in columns:
    if field not in (*form.fields, _ID):
      raise InputError(
        f'--column {field}={column}: there is no field {field!r}; there are '
        f'{", ".join((*form.fields, _ID))}.'
      )
    if field in named and field not in form.lists:
      raise InputError(f'--column {field}: it has one column, not several.')
    named.setdefault(field, []).append(column)
  return named


def _checked(form: Form, item: Item) -> Item:
  """Returns the input, with its problem if it has one.

  That is what is no text, is empty or cannot be written as UTF-8.
  """
  try:
    _check(form, item)
  except InputError as error:
    kept = {k: v for k, v in item.fields.items() if k == _ID}
    return Item(item.place, kept, str(error))
  return item


def _check(form: Form, item: Item):
  """Refuses a wrong input.

  Raises:
    InputError: with the place.
  """
  for field, value in item.fields.items():
    if field == _ID:
      continue
    if field in form.lists:
      if not isinstance(value, list) or len(value) < 2:
        raise InputError(
          f'{item.place}: {field} must be at least two texts, got {value!r}.'
        )
    texts = value if field in form.lists else [value]
    for text in texts:
      if not isinstance(text, str) or not text.strip():
        raise InputError(
          f'{item.place}: {field} has {text!r} where a text that is not empty '
          'is expected.'
        )
      if not is_unicode(text):
        raise InputError(
          f'{item.place}: {field} holds half of a surrogate pair, which is no '
          'valid Unicode.'
        )


def is_terminal() -> bool:
  """Returns whether a person types the standard input."""
  return sys.stdin.isatty()
