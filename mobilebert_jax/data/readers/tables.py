"""Tables with named columns: GLUE's TSV, and the user's CSV, TSV, JSON Lines.

The suffix of the user's own tables decides the format:
  .csv     the csv module's rules: commas, quotes around cells with commas,
           quotes or line ends, a doubled quote for a quote; blank lines do
           not count;
  .tsv     GLUE's rules (`read_tsv`): tabs, quotes mean nothing, so that a
           sentence may begin with one;
  .jsonl   one object on each line; cells may be any JSON value.
CSV and TSV have a header line. Each may be gzipped, with '.gz' behind the
suffix.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mobilebert_jax.data.readers.lines import (
  is_unicode,
  read_lines,
  read_objects,
)
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError

FORMATS = ('.csv', '.tsv', '.jsonl')
SUFFIXES = (*FORMATS, *(f'{suffix}.gz' for suffix in FORMATS))
# The csv module refuses longer cells by default.
_LONGEST_CELL = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class TableRow:
  """One row of a table.

  Attributes:
    place: 'file:line' of the row's first line, for messages.
    cells: Its values by column: strings, or JSON values in JSON Lines.
  """

  place: str
  cells: Mapping[str, Any]

  def text(self, column: str) -> str:
    """Returns a cell that must be a text.

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
    """Returns a name: a text, a whole number or a truth value as text.

    Raises:
      InputError: It is another JSON value.
    """
    return name_of(self.cells[column]) or self.text(column)

  def number(self, column: str) -> float:
    """Returns a cell that must be a finite number.

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
    """Makes the error that names the row, the column, its value, and `what`."""
    shown = repr(self.cells[column])
    shown = shown if len(shown) <= 60 else f'{shown[:60]}...'
    return InputError(f'{self.place}: column {column!r} is {shown}; {what}.')


def name_of(value: Any) -> str | None:
  """Writes a JSON whole number or truth value as text; else None."""
  if isinstance(value, bool):
    return 'true' if value else 'false'
  return str(value) if isinstance(value, int) else None


def read_table(
  path: pathlib.Path, columns: Sequence[str]
) -> Iterator[TableRow]:
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
      TableRow(f'{path}:{number}', cells)
      for number, cells in read_tsv(path, columns)
    )
  elif suffix.endswith('.jsonl'):
    rows = _json_rows(path, columns)
  else:
    raise InputError(f'{path}: tables must end in {", ".join(SUFFIXES)}.')
  is_empty = True
  for row in rows:
    is_empty = False
    yield row
  if is_empty:
    raise InputError(f'{path}: the file has no row.')


def _csv_rows(path: pathlib.Path, columns: Sequence[str]) -> Iterator[TableRow]:
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
        f'has {len(header)}; put cells with commas or line ends in quotes.'
      )
    named = dict(zip(header, cells))
    yield TableRow(f'{path}:{number}', {name: named[name] for name in columns})
  if header is None:
    raise InputError(f'{path}: the file is empty; expected a header line.')


def _records(
  path: pathlib.Path, reader: Any
) -> Iterator[tuple[int, list[str]]]:
  """Yields each record with the number of its first line."""
  while True:
    first = reader.line_num + 1
    try:
      cells = next(reader, None)
    except csv.Error as error:
      raise InputError(
        f'{path}:{first}: not CSV ({error}); a cell with quotes needs quotes '
        'around it and each of its own doubled.'
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
        f'{path}:{number}: the header has no column {name!r}; {shown}.'
      )
    if header.count(name) > 1:
      raise InputError(
        f'{path}:{number}: the header has the column {name!r} twice; {shown}.'
      )


def _json_rows(
  path: pathlib.Path, columns: Sequence[str]
) -> Iterator[TableRow]:
  for number, cells in read_objects(path):
    for name in columns:
      if name not in cells:
        raise InputError(
          f'{path}:{number}: the object has no {name!r}; it has '
          f'{", ".join(map(repr, cells)) or "nothing"}.'
        )
    yield TableRow(f'{path}:{number}', {name: cells[name] for name in columns})


def find_folder(
  path: str | pathlib.Path, folder: str, names: Sequence[str]
) -> pathlib.Path:
  """Finds the directory that holds `names`: `path` or its `folder`.

  Raises:
    InputError: Neither has all of the files; the message names them.
  """
  root = files.path(path)
  for candidate in (root, root / folder):
    if all((candidate / name).is_file() for name in names):
      return candidate
  raise InputError(
    f'config.data.path={str(path)!r}: expected the files {", ".join(names)} '
    'there or '
    f'in {str(root / folder)!r}.'
  )


def read_tsv(
  path: pathlib.Path,
  columns: Sequence[str],
  header: Sequence[str] | None = None,
  broken: list[int] | None = None,
) -> Iterator[tuple[int, Mapping[str, str]]]:
  """Reads the named columns of every row.

  Args:
    path: A UTF-8 file.
    columns: Names that the header must have.
    header: The names of all columns, for a file that has no header line.
    broken: If given, a row with too few columns is no error: it is left out,
      and its line number is added here.

  Yields:
    The row's line number, counted from 1, and its values by column name.

  Raises:
    InputError: The file is missing, is empty or has no row; its header lacks
      a column or has one twice; a row has another number of columns or is not
      UTF-8.
  """
  lines = _tsv_lines(path)
  named = header is None
  if header is None:
    header = _tsv_header(path, lines, columns)
  indices = [(name, header.index(name)) for name in columns]
  number = None
  for number, line in lines:
    cells = line.split('\t')
    if broken is not None and len(cells) < len(header):
      broken.append(number)
      continue
    if len(cells) != len(header):
      raise InputError(
        f'{path}:{number}: {len(cells)} tab-separated columns where the header '
        f'has {len(header)}.'
        if named
        else f'{path}:{number}: {len(cells)} tab-separated columns; expected '
        f'{len(header)}: {", ".join(header)}.'
      )
    yield number, {name: cells[i] for name, i in indices}
  if number is None:
    raise InputError(
      f'{path}: there is no row below the header.'
      if named
      else f'{path}: the file is empty; expected rows of {", ".join(header)}.'
    )


def _tsv_header(
  path: pathlib.Path,
  lines: Iterator[tuple[int, str]],
  columns: Sequence[str],
) -> Sequence[str]:
  """Takes the first line and checks that it names the columns."""
  first = next(lines, None)
  if first is None:
    raise InputError(f'{path}: the file is empty; expected a header line.')
  header = first[1].split('\t')
  shown = ', '.join(map(repr, header))
  missing = [name for name in columns if name not in header]
  if missing:
    raise InputError(
      f'{path}:1: the header has no column {", ".join(map(repr, missing))}; '
      f'its columns are {shown}.'
    )
  twice = [name for name in columns if header.count(name) > 1]
  if twice:
    raise InputError(
      f'{path}:1: the header has the column {twice[0]!r} twice; its columns '
      f'are {shown}.'
    )
  return header


def _tsv_lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
  return ((number, line.rstrip('\r\n')) for number, line in read_lines(path))
