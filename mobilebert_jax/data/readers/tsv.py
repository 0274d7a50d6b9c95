"""Strict reading of tab-separated files, as GLUE uses them.

Quotes mean nothing in these files, so that a sentence may begin with one, and
only a line feed ends a row: other line separators of Unicode occur inside of
sentences.
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence

from mobilebert_jax.data.readers.lines import read_lines
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError


def find_folder(
  path: str | pathlib.Path, folder: str, names: Sequence[str]
) -> pathlib.Path:
  """The directory that holds `names`: `path` itself or its `folder`.

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
    f'in {str(root / folder)!r}'
  )


def read_rows(
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
  lines = _lines(path)
  named = header is None
  if header is None:
    header = _header(path, lines, columns)
  places = [(name, header.index(name)) for name in columns]
  number = None
  for number, line in lines:
    cells = line.split('\t')
    if broken is not None and len(cells) < len(header):
      broken.append(number)
      continue
    if len(cells) != len(header):
      raise InputError(
        f'{path}:{number}: {len(cells)} tab-separated columns where the header '
        f'has {len(header)}'
        if named
        else f'{path}:{number}: {len(cells)} tab-separated columns; expected '
        f'{len(header)}: {", ".join(header)}'
      )
    yield number, {name: cells[place] for name, place in places}
  if number is None:
    raise InputError(
      f'{path}: there is no row below the header'
      if named
      else f'{path}: the file is empty; expected rows of {", ".join(header)}'
    )


def _header(
  path: pathlib.Path,
  lines: Iterator[tuple[int, str]],
  columns: Sequence[str],
) -> Sequence[str]:
  """Takes the first line and checks that it names the columns."""
  first = next(lines, None)
  if first is None:
    raise InputError(f'{path}: the file is empty; expected a header line')
  header = first[1].split('\t')
  shown = ', '.join(map(repr, header))
  missing = [name for name in columns if name not in header]
  if missing:
    raise InputError(
      f'{path}:1: the header has no column {", ".join(map(repr, missing))}; '
      f'its columns are {shown}'
    )
  twice = [name for name in columns if header.count(name) > 1]
  if twice:
    raise InputError(
      f'{path}:1: the header has the column {twice[0]!r} twice; its columns '
      f'are {shown}'
    )
  return header


def _lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
  return ((number, line.rstrip('\r\n')) for number, line in read_lines(path))
