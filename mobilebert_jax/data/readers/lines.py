"""Lines of UTF-8 files, plain or gzipped, with the place of every mistake.

Only a line feed ends a line: other line separators of Unicode occur inside of
sentences. Also where a data set's official files are.
"""

import gzip
import json
import pathlib
import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from mobilebert_jax.runtime import files, local_copies
from mobilebert_jax.runtime.errors import InputError

# Stands for standard input; messages call it by this name.
STANDARD_INPUT = pathlib.Path('standard input')
# How much of a wrong line a message shows.
_SHOWN = 40


def is_unicode(text: str) -> bool:
  """Returns whether a text has no half of a surrogate pair.

  JSON can spell one; UTF-8, and so the tokenizer, cannot.
  """
  try:
    text.encode('utf-8')
  except UnicodeEncodeError:
    return False
  return True


def read_lines(
  path: pathlib.Path, within: range | None = None
) -> Iterator[tuple[int, str]]:
  """Reads a text file line by line; a byte-order mark is left out.

  Args:
    path: A UTF-8 file, gzipped if its name ends in '.gz', also on gs://, or
      `STANDARD_INPUT`.
    within: The numbers of the lines to read; None: all.

  Yields:
    The line's number, counted from 1, and the line with its line end.

  Raises:
    InputError: The file cannot be read, is not UTF-8 or a broken archive.
  """
  for number, line in _raw_lines(path):
    if within is not None and number not in within:
      if number < within.start:
        continue
      return
    try:
      text = line.decode('utf-8')
    except UnicodeDecodeError as error:
      raise InputError(
        f'{path}:{number}: byte {error.start + 1} of the line is not valid '
        'UTF-8; save the file as UTF-8.'
      ) from None
    yield number, text.removeprefix('\ufeff') if number == 1 else text


def read_objects(
  path: pathlib.Path, within: range | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Reads JSON Lines: one object on each line; blank lines do not count.

  Args:
    path: As `read_lines`.
    within: As `read_lines`.

  Yields:
    The line's number, counted from 1, and the object.

  Raises:
    InputError: As `read_lines`; or a line is not JSON, is no object, or has a
      name twice.
  """
  for number, line in read_lines(path, within):
    if not line.strip():
      continue
    yield number, parse_object(f'{path}:{number}', line)


def parse_object(place: str, line: str) -> dict[str, Any]:
  """Reads a line with a JSON object.

  Args:
    place: what messages call the line.
    line: the line.

  Raises:
    InputError: it is not JSON, is no object, or has a name twice.
  """
  try:
    value = json.loads(line, object_pairs_hook=_unique)
  except (ValueError, RecursionError) as error:
    what = error.msg if isinstance(error, json.JSONDecodeError) else error
    raise InputError(
      f'{place}: {_short(line)} is not JSON ({what}); expected one JSON '
      'object on each line.'
    ) from None
  if not isinstance(value, dict):
    raise InputError(
      f'{place}: {_short(line)} is no JSON object; expected '
      '{"column": value, ...}.'
    )
  return value


def read_json(path: pathlib.Path, expected: str) -> Any:
  """Reads a file that is one JSON value.

  Args:
    path: As `read_lines`.
    expected: What the file should hold, for messages.

  Raises:
    InputError: As `read_lines`; or the file is empty, or not JSON.
  """
  text = ''.join(line for _, line in read_lines(path))
  if not text.strip():
    raise InputError(f'{path}: the file is empty; expected {expected}.')
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    raise InputError(
      f'{path}:{error.lineno}: this is not JSON ({error.msg}, column '
      f'{error.colno}); expected {expected}.'
    ) from None
  except RecursionError:
    raise InputError(
      f'{path}: JSON that is nested too deep; expected {expected}.'
    ) from None


def _raw_lines(path: pathlib.Path) -> Iterator[tuple[int, bytes]]:
  if path is STANDARD_INPUT:
    yield from enumerate(sys.stdin.buffer, start=1)
    return
  opened: Any = gzip.open if path.name.endswith('.gz') else open
  number = 0
  try:
    with opened(local_copies.file(path), 'rb') as file:
      for number, line in enumerate(file, start=1):
        yield number, line
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise InputError(
      f'{path}:{number + 1}: the archive is broken ({error}); expected a '
      'whole gzip file.'
    ) from None
  except OSError as error:
    raise InputError(f'{path}: cannot be read ({error.strerror}).') from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  values = dict(pairs)
  if len(values) < len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'the name {twice!r} occurs twice')
  return values


def _short(line: str) -> str:
  text = line.strip()
  return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + '...')


def find_official_file(
  path: str | pathlib.Path, folder: str, names: Sequence[str]
) -> pathlib.Path:
  """Finds the first file there is, in `path` itself or in its `folder`.

  Args:
    path: What `data.path` says.
    folder: The name of the data set's directory.
    names: What the file may be called.

  Raises:
    InputError: No such file is in either; the message names all.
  """
  root = files.path(path)
  for directory in (root, root / folder):
    for name in names:
      if (directory / name).is_file():
        return directory / name
  raise InputError(
    f'config.data.path={str(path)!r}: expected the file {" or ".join(names)} '
    'there or '
    f'in {str(root / folder)!r}.'
  )
