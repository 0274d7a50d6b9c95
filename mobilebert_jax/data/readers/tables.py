"""Tables with named columns: GLUE's TSV, and the user's own files.

The user's own tables (`read_table`), by the suffix, and where that does not
tell by the content:
  .csv, .tsv, .txt   cells with something between them; `table_formats` finds
                     what, and whether quotes enclose cells;
  .jsonl, .json      one object on each line, or an array of objects; cells may
                     be any JSON value;
  .parquet           with pyarrow, an extra.
The text files may be compressed. Official files (`read_tsv`) keep the reading
that their benchmarks have: tabs, and quotes mean nothing, so that a sentence
may begin with one.
"""

import dataclasses
import pathlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mobilebert_jax.data.readers import bad_rows, parquet, table_formats
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.data.readers.lines import (
  first_bytes,
  is_unicode,
  plain_name,
  read_lines,
  read_objects,
  with_compressed,
)
from mobilebert_jax.data.readers.table_formats import AUTO, TableFormat
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError

DELIMITED = ('.csv', '.tsv')
OBJECTS = ('.jsonl', '.json')
FORMATS = ('.csv', '.tsv', '.jsonl')
_PARQUET = b'PAR1'
_WEB = ('<!doctype', '<html')
# What a directory is searched for.
SUFFIXES = (*with_compressed((*DELIMITED, *OBJECTS)), '.parquet')


@dataclasses.dataclass(frozen=True)
class TableRow:
  """One row of a table.

  Attributes:
    place: 'file:line' of the row's first line, for messages.
    cells: Its values by column: strings, or JSON values in JSON Lines.
    index: Its number in the file, from 0; rows with too few cells count, what
      is no row at all (not UTF-8, not JSON) does not.
  """

  place: str
  cells: Mapping[str, Any]
  index: int = 0

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

  def label(self, column: str) -> str:
    """Returns a name, without spaces around it and in one Unicode form (NFC).

    Raises:
      InputError: It is no name, or half of a surrogate pair.
    """
    value = self.cells[column]
    if isinstance(value, float) and value.is_integer():
      # So pandas writes a column of numbers with gaps.
      return str(int(value))
    return label_name(self.name(column))

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


def label_name(text: str) -> str:
  """Returns how a label is compared: without spaces around it, in NFC."""
  return unicodedata.normalize('NFC', text.strip())


def read_table(
  path: pathlib.Path,
  columns: Sequence[str],
  given: TableFormat = AUTO,
  bad: BadRows | None = None,
) -> Iterator[TableRow]:
  """Reads the named columns of every row.

  Args:
    path: The file; see this module.
    columns: The columns that are wanted.
    given: How a file of cells is written, as far as it is not to be found.
    bad: Counts the rows that are wrong; None: they are refused.

  Raises:
    InputError: The file cannot be read, is not UTF-8, is no table or has no
      row; a column is missing or there twice; a row is malformed.
  """
  kind = content(path)
  if kind == 'parquet':
    rows = _parquet_rows(path, columns)
  elif kind == 'objects':
    rows = _json_rows(path, columns, bad)
  else:
    rows = _delimited_rows(path, columns, given, bad)
  is_empty = True
  for row in rows:
    is_empty = False
    yield row
  if is_empty and not (bad and bad.messages):
    raise InputError(f'{path}: the file has no row.')


def column_names(
  path: pathlib.Path, columns: Sequence[str], given: TableFormat = AUTO
) -> tuple[str, ...]:
  """Returns the names of the columns of a file of cells.

  Args:
    path: The file.
    columns: Those of them that are wanted, by which the separator is found.
    given: As `read_table`.
  """
  return table_formats.find(path, columns, given).header


def content(path: pathlib.Path) -> str:
  """Tells what a table is: 'cells', 'objects' or 'parquet'.

  Raises:
    InputError: The file cannot be read, or is a page of the web.
  """
  name = plain_name(path.name).lower()
  head = first_bytes(path)
  if head.startswith(_PARQUET):
    return 'parquet'
  start = head.decode('utf-8', errors='replace').lstrip('\ufeff \t\r\n')
  if start.lower().startswith(_WEB):
    raise InputError(
      f'{path}: this is a page of the web, not the file; download what it '
      'shows ("raw" on GitHub).'
    )
  if name.endswith(DELIMITED):
    return 'cells'
  if name.endswith(OBJECTS) or ''.join(start.split()).startswith(('{', '[{')):
    return 'objects'
  return 'cells'


def _delimited_rows(
  path: pathlib.Path,
  columns: Sequence[str],
  given: TableFormat,
  bad: BadRows | None,
) -> Iterator[TableRow]:
  layout = table_formats.find(path, columns, given)
  indices = layout.indices(columns, path)
  width = len(layout.header)
  for index, (number, cells) in enumerate(
    table_formats.records(path, layout, bad)
  ):
    if len(cells) != width:
      expected = (
        f'where the header has {width}'
        if layout.has_header
        else f'where config.options.header has {width}'
      )
      hint = '; put cells with commas or line ends in quotes'
      bad_rows.refuse(
        InputError(
          f'{path}:{number}: {len(cells)} {layout.kind} cells {expected}'
          f'{hint if layout.quotes else ""}.'
        ),
        bad,
      )
      continue
    yield TableRow(
      f'{path}:{number}', {name: cells[i] for name, i in indices}, index
    )


def _json_rows(
  path: pathlib.Path, columns: Sequence[str], bad: BadRows | None
) -> Iterator[TableRow]:
  for index, (number, cells) in enumerate(read_objects(path, bad=bad)):
    missing = [name for name in columns if name not in cells]
    if missing:
      bad_rows.refuse(
        InputError(
          f'{path}:{number}: the object has no {missing[0]!r}; it has '
          f'{", ".join(map(repr, cells)) or "nothing"}.'
        ),
        bad,
      )
      continue
    row = {name: cells[name] for name in columns}
    yield TableRow(f'{path}:{number}', row, index)


def _parquet_rows(
  path: pathlib.Path, columns: Sequence[str]
) -> Iterator[TableRow]:
  for number, row in parquet.read_rows(path, columns):
    yield TableRow(f'{path}: row {number}', row, number)


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
    f'there or in {str(root / folder)!r}{files.shown_entries(root)}.'
  )


def read_tsv(
  path: pathlib.Path,
  columns: Sequence[str],
  header: Sequence[str] | None = None,
  broken: list[int] | None = None,
  bad: BadRows | None = None,
) -> Iterator[tuple[int, Mapping[str, str]]]:
  """Reads the named columns of every row; blank lines at the end do not count.

  Args:
    path: A UTF-8 file.
    columns: Names that the header must have.
    header: The names of all columns, for a file that has no header line.
    broken: If given, a row with too few columns is no error: it is left out,
      and its line number is added here.
    bad: Counts the rows that are wrong otherwise; None: they are refused.

  Yields:
    The row's line number, counted from 1, and its values by column name.

  Raises:
    InputError: The file is missing, is empty or has no row; its header lacks
      a column or has one twice; a row has another number of columns or is not
      UTF-8.
  """
  lines = _tsv_lines(path, bad)
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
      wrong = InputError(
        f'{path}:{number}: {len(cells)} tab-separated columns where the header '
        f'has {len(header)}.'
        if named
        else f'{path}:{number}: {len(cells)} tab-separated columns; expected '
        f'{len(header)}: {", ".join(header)}.'
      )
      bad_rows.refuse(wrong, bad)
      continue
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


def _tsv_lines(
  path: pathlib.Path, bad: BadRows | None
) -> Iterator[tuple[int, str]]:
  """Yields the lines without their ends, and without blank ones at the end."""
  blank: list[tuple[int, str]] = []
  for number, raw in read_lines(path, bad=bad):
    line = raw.rstrip('\r\n')
    if not line:
      blank.append((number, line))
      continue
    yield from blank
    blank.clear()
    yield number, line
