"""How a text file of cells is written: separator, quotes, header, comments.

What the suffix says holds wherever it fits: commas and quotes in *.csv, tabs
and no quotes in *.tsv. Only where the columns that are wanted are not in the
first line, other separators are tried; and in tables with tabs quotes count if
the whole file shows that they were put there by a program. So a file that can
be read as its suffix says is read so, and what is found otherwise is said.
"""

import csv
import dataclasses
import itertools
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from mobilebert_jax.data.readers import remarks
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.data.readers.lines import plain_name, read_lines
from mobilebert_jax.runtime.errors import InputError

# In the order in which they are tried.
_DELIMITERS = (',', '\t', ';', '|')
NAMES = {',': 'comma', '\t': 'tab', ';': 'semicolon', '|': 'bar'}
_WORDS = {name: sign for sign, name in NAMES.items()} | {'\\t': '\t'}
# Excel's own line above a table.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')
# Lines above the header that may be comments.
_MOST_COMMENTS = 100
# Cells with commas in quotes that show a spreadsheet at work.
_ENOUGH = 2
# The csv module refuses longer cells by default.
_LONGEST_CELL = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class TableFormat:
  """What the user says of a table; None and () are found.

  Attributes:
    delimiter: What stands between cells: a sign or its name ('tab').
    quotes: Whether quotes enclose cells.
    header: The names of the columns of a file without a header line.
    comment: What begins lines that are no rows.
  """

  delimiter: str | None = None
  quotes: bool | None = None
  header: tuple[str, ...] = ()
  comment: str | None = None


AUTO = TableFormat()


@dataclasses.dataclass(frozen=True)
class Layout:
  """How a file is read.

  Attributes:
    delimiter: The sign between cells.
    quotes: Whether quotes enclose cells.
    header: The names of all columns.
    first: The number of the line in which the header, or the first row, is.
    has_header: Whether that is a header.
    comment: What begins lines that are no rows, or None.
  """

  delimiter: str
  quotes: bool
  header: tuple[str, ...]
  first: int
  has_header: bool
  comment: str | None = None

  @property
  def kind(self) -> str:
    """What messages call the cells."""
    return f'{NAMES.get(self.delimiter, repr(self.delimiter))}-separated'

  def indices(
    self, columns: Sequence[str], path: pathlib.Path
  ) -> list[tuple[str, int]]:
    """Returns each column and where it is.

    Raises:
      InputError: The header lacks it, or has it twice.
    """
    place = f'{path}:{self.first}' if self.has_header else str(path)
    shown = f'its columns are {", ".join(map(repr, self.header))}'
    missing = [name for name in columns if not matches(self.header, name)]
    if missing:
      hint = ''
      if self.has_header and len(missing) == len(set(columns)):
        names = ', '.join(
          repr(columns[i]) if i < len(columns) else repr(f'column_{i + 1}')
          for i in range(len(self.header))
        )
        hint = (
          '; if this line is a row already, name the columns in their order, '
          f'such as config.options.header="({names})"'
        )
      raise InputError(
        f'{place}: the header has no column {", ".join(map(repr, missing))}; '
        f'{shown}{hint}.'
      )
    for name in columns:
      if len(matches(self.header, name)) > 1:
        raise InputError(
          f'{place}: the header has the column {name!r} twice; {shown}.'
        )
    return [(name, matches(self.header, name)[0]) for name in columns]


def matches(header: Sequence[str], name: str) -> list[int]:
  """Returns where a column is: by its name, else but for spaces around it."""
  exact = [i for i, other in enumerate(header) if other == name]
  return exact or [
    i for i, other in enumerate(header) if _bare(other) == _bare(name)
  ]


def check(given: TableFormat):
  """Checks what the user says.

  Raises:
    InputError: A delimiter that is none, or names that are there twice.
  """
  _sign(given.delimiter)
  twice = [name for name in given.header if given.header.count(name) > 1]
  if twice:
    raise InputError(
      f'config.options.header has {twice[0]!r} twice; give every column a name '
      'of its own.'
    )


def find(
  path: pathlib.Path, columns: Sequence[str], given: TableFormat = AUTO
) -> Layout:
  """Finds how a file of cells is written.

  Args:
    path: The file.
    columns: The columns that are wanted; () leaves it to the suffix.
    given: What the user says.

  Raises:
    InputError: The file is empty, or cannot be read.
  """
  stated = _sign(given.delimiter)
  usual = _usual(path)
  head = _head(path, given.comment)
  if head and (line := _SEPARATOR_LINE.fullmatch(head[0][1])):
    head = head[1:]
    stated = stated or line[1]
  if not head:
    raise InputError(f'{path}: the file is empty; expected a header line.')
  order = (
    [stated]
    if stated
    else list(dict.fromkeys((usual or _DELIMITERS[0], *_DELIMITERS)))
  )
  comments = 0
  while (
    head[comments][1].startswith('#')
    and comments + 1 < len(head)
    and not _fitting(head[comments:], order, columns, given)
  ):
    comments += 1
  if comments and not _fitting(head[comments:], order, columns, given):
    comments = 0
  head = head[comments:]
  delimiter = _fitting(head, order, columns, given) or order[0]
  quotes = given.quotes
  if quotes is None:
    quotes = delimiter != '\t' or _is_quoted(path, head[0][0], given.comment)
  try:
    names = _cells((line for _, line in head), delimiter, quotes)
  except csv.Error as error:
    raise _not_csv(path, head[0][0], error) from None
  layout = Layout(
    delimiter, quotes, given.header or tuple(names), head[0][0],
    not given.header, given.comment,
  )  # fmt: skip
  _say(path, layout, given, usual, comments)
  return layout


def records(
  path: pathlib.Path, layout: Layout, bad: BadRows | None = None
) -> Iterator[tuple[int, list[str]]]:
  """Reads the rows, each with the number of its first line; no blank lines.

  Args:
    path: The file.
    layout: How it is written.
    bad: Counts what is no row; None: it is refused.

  Raises:
    InputError: A quote is not closed, or where none may be.
  """
  lines = read_lines(path, bad=bad)
  rows = _records(path, lines, layout, bad)
  if layout.has_header:
    next(rows, None)
  yield from rows


def _records(
  path: pathlib.Path,
  lines: Iterable[tuple[int, str]],
  layout: Layout,
  bad: BadRows | None,
) -> Iterator[tuple[int, list[str]]]:
  kept = (
    (number, line)
    for number, line in lines
    if number >= layout.first
    and not (layout.comment and line.startswith(layout.comment))
  )
  if not layout.quotes:
    for number, line in kept:
      if line.strip('\r\n '):
        yield number, line.rstrip('\r\n').split(layout.delimiter)
    return
  numbers: list[int] = []

  def feed() -> Iterator[str]:
    for number, line in kept:
      numbers.append(number)
      yield line

  csv.field_size_limit(_LONGEST_CELL)
  # strict: a quote in the wrong place is an error, not part of the text.
  reader = csv.reader(feed(), delimiter=layout.delimiter, strict=True)
  while True:
    numbers.clear()
    try:
      cells = next(reader, None)
    except csv.Error as error:
      wrong = _not_csv(path, numbers[0], error)
      # What follows a quote that is never closed is no row: it is all lost.
      if bad is None or 'end of data' in str(error):
        raise wrong from None
      bad.add(wrong)
      continue
    if cells is None:
      return
    if cells:
      yield numbers[0], cells


def _not_csv(path: pathlib.Path, number: int, error: csv.Error) -> InputError:
  return InputError(
    f'{path}:{number}: not CSV ({error}); a cell with quotes needs quotes '
    'around it and each of its own doubled; or set config.options.quotes=False '
    'if quotes mean nothing.'
  )


def _usual(path: pathlib.Path) -> str | None:
  """Returns the separator that the suffix stands for."""
  name = plain_name(path.name).lower()
  if name.endswith('.csv'):
    return ','
  return '\t' if name.endswith(('.tsv', '.tab')) else None


def _sign(delimiter: str | None) -> str | None:
  if delimiter is None:
    return None
  sign = _WORDS.get(delimiter, delimiter)
  if len(sign) != 1 or sign in '"\r\n':
    raise InputError(
      f'config.options.delimiter={delimiter!r}: expected one sign, or one of '
      f'{", ".join(_WORDS)}.'
    )
  return sign


def _head(path: pathlib.Path, comment: str | None) -> list[tuple[int, str]]:
  """Returns the first lines that are neither blank nor comments."""
  lines = (
    (number, line)
    for number, line in read_lines(path, bad=BadRows())
    if line.strip() and not (comment and line.startswith(comment))
  )
  return list(itertools.islice(lines, _MOST_COMMENTS))


def _fitting(
  head: Sequence[tuple[int, str]],
  order: Sequence[str],
  columns: Sequence[str],
  given: TableFormat,
) -> str | None:
  """Returns the first separator by which the columns are in the first line.

  For a file without header: that by which most lines have as many cells as
  there are names.
  """
  lines = [line for _, line in head]
  fits: dict[str, int] = {}
  for delimiter in order:
    quoted = [True] if delimiter != '\t' else [False, True]
    if given.quotes is not None:
      quoted = [given.quotes]
    for quotes in quoted:
      try:
        if given.header:
          rows = _all_cells(lines, delimiter, quotes)
          count = sum(len(row) == len(given.header) for row in rows)
          fits[delimiter] = max(count, fits.get(delimiter, 0))
          continue
        names = _cells(iter(lines), delimiter, quotes)
      except csv.Error:
        continue
      if columns and all(matches(names, name) for name in columns):
        return delimiter
  best = max(fits.values(), default=0)
  return next((sign for sign in fits if best and fits[sign] == best), None)


def _all_cells(
  lines: Sequence[str], delimiter: str, quotes: bool
) -> list[list[str]]:
  if not quotes:
    return [line.rstrip('\r\n').split(delimiter) for line in lines]
  csv.field_size_limit(_LONGEST_CELL)
  return list(csv.reader(lines, delimiter=delimiter))


def _cells(lines: Iterator[str], delimiter: str, quotes: bool) -> list[str]:
  """Returns the cells of the first row of some lines."""
  if not quotes:
    return next(lines).rstrip('\r\n').split(delimiter)
  csv.field_size_limit(_LONGEST_CELL)
  return next(csv.reader(lines, delimiter=delimiter), [])


def _is_quoted(path: pathlib.Path, first: int, comment: str | None) -> bool:
  """Returns whether a program has put cells of a table with tabs into quotes.

  Every cell with a quote in it must be enclosed as CSV encloses it, all rows
  must have the same number of cells, and something must show that it is no
  accident: a doubled quote within such a cell, a tab or line end without which
  the rows would not fit, a header in quotes, or commas that stand in quoted
  cells alone.
  """
  if not any('"' in line for _, line in read_lines(path, bad=BadRows())):
    return False
  layout = Layout('\t', True, (), first, False, comment)
  raw: list[str] = []

  def lines() -> Iterator[tuple[int, str]]:
    for number, line in read_lines(path, bad=BadRows()):
      if number >= first:
        raw.append(line)
      yield number, line

  width = None
  is_shown, quoted_commas, bare_commas = False, 0, 0
  try:
    for _, cells in _records(path, lines(), layout, None):
      text = ''.join(raw)
      plain = {line.count('\t') + 1 for line in raw}
      raw.clear()
      if width is None:
        width = len(cells)
        is_shown = width > 1 and all(_enclosed(c) in text for c in cells)
      if len(cells) != width:
        return False
      for cell in cells:
        has_quote = '"' in cell
        is_enclosed = has_quote or ',' in cell or '\t' in cell or '\n' in cell
        is_enclosed = is_enclosed and _enclosed(cell) in text
        if has_quote and not is_enclosed:
          return False
        # A quote that begins a row and one in a later row enclose as much.
        is_split = ('\t' in cell or '\n' in cell) and plain != {width}
        is_shown |= has_quote or is_split
        if ',' in cell:
          quoted_commas += is_enclosed
          bare_commas += not is_enclosed
  except InputError:
    return False
  return is_shown or (quoted_commas >= _ENOUGH and not bare_commas)


def _enclosed(cell: str) -> str:
  doubled = cell.replace('"', '""')
  return f'"{doubled}"'


def _say(
  path: pathlib.Path,
  layout: Layout,
  given: TableFormat,
  usual: str | None,
  comments: int,
):
  """Says what is not as the suffix has it, and was not asked for."""
  parts = []
  if not given.delimiter and usual and layout.delimiter != usual:
    parts.append(f'{layout.kind} cells')
  if given.quotes is None and layout.quotes and layout.delimiter == '\t':
    parts.append('cells in quotes (config.options.quotes=False keeps them)')
  if comments:
    parts.append(f'{comments} lines of comments above the header')
  if parts:
    remarks.say(f'{path}: read with {", ".join(parts)}.')


def _bare(name: str) -> str:
  return unicodedata.normalize('NFC', name.strip())
