"""The user's own tables: named columns in CSV, TSV and JSON Lines.

The suffix decides the format:
  .csv     the csv module's rules: commas, quotes around cells with commas,
           quotes or line ends, a doubled quote for a quote; blank lines do
           not count;
  .tsv     GLUE's rules (`data.tsv`): tabs, quotes mean nothing;
  .jsonl   one object on each line; cells may be any JSON value.
CSV and TSV have a header line. Each may be gzipped, with '.gz' behind the
suffix.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mobilebert_jax.data.readers import tsv
from mobilebert_jax.data.readers.lines import (
  is_unicode,
  read_lines,
  read_objects,
)
from mobilebert_jax.runtime.errors import InputError

FORMATS = ('.csv', '.tsv', '.jsonl')
SUFFIXES = (*FORMATS, *(f'{suffix}.gz' for suffix in FORMATS))
# The csv module refuses longer cells unless told otherwise.
_LONGEST_CELL = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Row:
  """One row of a table.

  Attributes:
    place: 'file:line' of the row's first line, for messages.
    cells: Its values by column: strings, or JSON values in JSON Lines.
  """

  place: str
  cells: Mapping[str, Any]

  def text(self, column: str) -> str:
    """A cell that must be a text.

    Raises:
      InputError: It is another JSON value, or half of a surrogate pair.
    """
    value = self.cells[column]
    if not isinstance(value, str):
      raise self.wrong(column, 'expected a text')
    if not is_unicode(value):
      raise self.wrong(column, 'half of a surrogate pair is no valid Unicode')
    return value

  def name(self, column: str) -> str:
    """A cell that names something: a text, a whole number or a truth value.

    Raises:
      InputError: It is another JSON value.
    """
    return name_of(self.cells[column]) or self.text(column)

  def number(self, column: str) -> float:
    """A cell that must be a finite number.

    Raises:
      InputError: It is none.
    """
    value = self.cells[column]
    try:
      if isinstance(value, bool):
        raise TypeError
      number = float(value)
    except (TypeError, ValueError, OverflowError):
      raise self.wrong(column, 'expected a number') from None
    if number - number != 0:
      raise self.wrong(column, 'expected a finite number')
    return number

  def wrong(self, column: str, what: str) -> InputError:
    """The error that names the row, the column, its value, and `what`."""
    shown = repr(self.cells[column])
    shown = shown if len(shown) <= 60 else f'{shown[:60]}...'
    return InputError(f'{self.place}: column {column!r} is {shown}; {what}')


def name_of(value: Any) -> str | None:
  """How a JSON whole number or truth value is written; else None."""
  if isinstance(value, bool):
    return 'true' if value else 'false'
  return str(value) if isinstance(value, int) else None


def read_table(path: pathlib.Path, columns: Sequence[str]) -> Iterator[Row]:
  """Reads the named columns of every row.

  Raises:
    InputError: The file cannot be read, is not UTF-8, has another suffix or
      no row; a column is missing or there twice; a row is malformed.
  """
  suffix = path.name.removesuffix('.gz')
  if suffix.endswith('.csv'):
    rows = _csv_rows(path, columns)
  elif suffix.endswith('.tsv'):
    rows = (
      Row(f'{path}:{number}', cells)
      for number, cells in tsv.read_rows(path, columns)
    )
  elif suffix.endswith('.jsonl'):
    rows = _json_rows(path, columns)
  else:
    raise InputError(f'{path}: tables must end in {", ".join(SUFFIXES)}')
  is_empty = True
  for row in rows:
    is_empty = False
    yield row
  if is_empty:
    raise InputError(f'{path}: the file has no row')


def _csv_rows(path: pathlib.Path, columns: Sequence[str]) -> Iterator[Row]:
  csv.field_size_limit(_LONGEST_CELL)
  # strict: a quote in the wrong place is an error, not part of the text.
  reader = csv.reader((line for _, line in read_lines(path)), strict=True)
  header: list[str] | None = None
  for number, cells in _records(path, reader):
    if not cells:
      continue
    if header is None:
      header = cells
      _check_header(path, number, header, columns)
      continue
    if len(cells) != len(header):
      raise InputError(
        f'{path}:{number}: {len(cells)} comma-separated cells where the header '
        f'has {len(header)}; put cells with commas or line ends in quotes'
      )
    named = dict(zip(header, cells))
    yield Row(f'{path}:{number}', {name: named[name] for name in columns})
  if header is None:
    raise InputError(f'{path}: the file is empty; expected a header line')


def _records(
  path: pathlib.Path, reader: Any
) -> Iterator[tuple[int, list[str]]]:
  """Each record with the number of its first line."""
  while True:
    first = reader.line_num + 1
    try:
      cells = next(reader, None)
    except csv.Error as error:
      raise InputError(
        f'{path}:{first}: not CSV ({error}); a cell with quotes needs quotes '
        'around it and each of its own doubled'
      ) from None
    if cells is None:
      return
    yield first, cells


def _check_header(
  path: pathlib.Path, number: int, header: list[str], columns: Sequence[str]
):
  shown = f'its columns are {", ".join(map(repr, header))}'
  for name in columns:
    if name not in header:
      raise InputError(
        f'{path}:{number}: the header has no column {name!r}; {shown}'
      )
    if header.count(name) > 1:
      raise InputError(
        f'{path}:{number}: the header has the column {name!r} twice; {shown}'
      )


def _json_rows(path: pathlib.Path, columns: Sequence[str]) -> Iterator[Row]:
  for number, cells in read_objects(path):
    for name in columns:
      if name not in cells:
        raise InputError(
          f'{path}:{number}: the object has no {name!r}; it has '
          f'{", ".join(map(repr, cells)) or "nothing"}'
        )
    yield Row(f'{path}:{number}', {name: cells[name] for name in columns})
