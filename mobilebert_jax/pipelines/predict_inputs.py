"""What is predicted: texts from arguments, standard input or a file."""

import csv
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mobilebert_jax.data.readers import tables
from mobilebert_jax.data.readers.lines import (
  STANDARD_INPUT,
  is_unicode,
  read_lines,
  read_objects,
)
from mobilebert_jax.runtime.errors import InputError

FORMATS = ('text', 'jsonl')
_SUFFIXES = ('.txt', *tables.FORMATS)
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
  """

  place: str
  fields: Mapping[str, Any]


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
  return [
    _checked(form, Item(f'argument {i}', fields))
    for i, fields in enumerate(named, start=1)
  ]


def from_stream(form: Form, format_: str | None) -> Iterator[Item]:
  """Returns inputs from standard input, one on each line.

  Args:
    form: the fields.
    format_: 'text' or 'jsonl'; None: text where an input is one text.

  Raises:
    InputError: a line is empty, not UTF-8 or not what it should be.
  """
  format_ = format_ or ('text' if form.is_text else 'jsonl')
  if format_ == 'text':
    return _lines(form, STANDARD_INPUT)
  return _objects(form, STANDARD_INPUT, {})


def from_file(
  form: Form, path: pathlib.Path, columns: Sequence[tuple[str, str]]
) -> Iterator[Item]:
  """Returns inputs from a file; its suffix decides how it is read.

  Args:
    form: the fields.
    path: .txt (an input on each line), .jsonl, .csv or .tsv, or one of them
      with .gz behind it.
    columns: pairs of a field and the column that holds it, where they are not
      the same; a list of texts has several columns.

  Raises:
    InputError: no such file or column, another suffix, or a wrong line.
  """
  name = path.name.removesuffix('.gz')
  named = _named(form, columns)
  if name.endswith('.txt'):
    if columns:
      raise InputError(f'{path}: a text file has no columns to name.')
    return _lines(form, path)
  if name.endswith('.jsonl'):
    return _objects(form, path, named)
  if name.endswith(('.csv', '.tsv')):
    return _table(form, path, named)
  raise InputError(f'{path}: its name must end in {", ".join(_SUFFIXES)}.')


def _lines(form: Form, path: pathlib.Path) -> Iterator[Item]:
  if not form.is_text:
    raise InputError(
      f'{path}: a line of text cannot hold {" and ".join(form.required)}; '
      'give JSON lines.'
    )
  for number, line in read_lines(path):
    fields = {form.required[0]: line.rstrip('\r\n')}
    yield _checked(form, Item(f'{path}:{number}', fields))


def _objects(
  form: Form, path: pathlib.Path, named: Mapping[str, list[str]]
) -> Iterator[Item]:
  for number, value in read_objects(path):
    place = f'{path}:{number}'
    fields = {_ID: value[_ID]} if _ID in value else {}
    for field in form.fields:
      names = named.get(field, [field])
      if field in form.optional and field not in named and field not in value:
        continue
      for name in names:
        if name not in value:
          raise InputError(
            f'{place}: the object has no {name!r}; it has '
            f'{", ".join(map(repr, value)) or "nothing"}.'
          )
      # A list in one place, or texts in several.
      is_joined = field in form.lists and field in named and len(names) > 1
      values = [value[name] for name in names]
      fields[field] = values if is_joined else values[0]
    yield _checked(form, Item(place, fields))


def _table(
  form: Form, path: pathlib.Path, named: Mapping[str, list[str]]
) -> Iterator[Item]:
  header = _header(path)
  for field in form.lists:
    if field not in named:
      raise InputError(
        f'{path}: say which columns hold the {field}, for instance '
        f'--column {field}=A --column {field}=B.'
      )
  wanted = {
    field: named.get(field, [field])
    for field in (*form.fields, _ID)
    if field in form.required or field in named or field in header
  }
  columns = [name for names in wanted.values() for name in names]
  for row in tables.read_table(path, columns):
    fields = {
      # A question with fewer choices than others leaves cells empty.
      field: [text for text in map(row.text, names) if text.strip()]
      if field in form.lists
      else row.text(names[0])
      for field, names in wanted.items()
    }
    yield _checked(form, Item(row.place, fields))


def _header(path: pathlib.Path) -> list[str]:
  """Returns the names in the first line of a table that is not blank."""
  separator = ',' if '.csv' in path.suffixes else '\t'
  for _, line in read_lines(path):
    if line.strip():
      return next(csv.reader([line], delimiter=separator), [])
  return []


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
  """Refuses what is no text, is empty or cannot be written as UTF-8.

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
  return item


def is_terminal() -> bool:
  """Returns whether a person types the standard input."""
  return sys.stdin.isatty()
