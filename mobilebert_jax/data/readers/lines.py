"""Lines of UTF-8 files, plain or compressed, with the place of every mistake.

Only a line feed ends a line: other line separators of Unicode occur inside of
sentences. Byte-order marks are left out wherever a line begins, for files are
put together. Whether a file is compressed is seen by its first bytes, whatever
its name. Also where a data set's official files are.
"""

import bz2
import contextlib
import gzip
import json
import lzma
import pathlib
import re
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from mobilebert_jax.data.readers import bad_rows
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.runtime import files, local_copies
from mobilebert_jax.runtime.errors import InputError

# Stands for standard input; messages call it by this name.
STANDARD_INPUT = pathlib.Path('standard input')
# How much of a wrong line a message shows.
_SHOWN = 40
_MARK = '\ufeff'
# How files are compressed, by the suffix and by the first bytes.
COMPRESSED: Mapping[str, re.Pattern[bytes]] = {
  '.gz': re.compile(rb'\x1f\x8b'),
  # The size of blocks, and the digits of pi before each of them.
  '.bz2': re.compile(rb'BZh[1-9]1AY&SY'),
  '.xz': re.compile(rb'\xfd7zXZ\x00'),
}
_OPEN: Mapping[str, Any] = {
  '.gz': gzip.open,
  '.bz2': bz2.open,
  '.xz': lzma.open,
}
# What is no text, by its first bytes, and what to do about it.
_FOREIGN: Sequence[tuple[bytes, str]] = (
  (b'PK\x03\x04', 'a workbook or a zip archive; save the sheet as CSV in '
   'UTF-8, or unpack it'),
  (b'\xd0\xcf\x11\xe0', 'an old Office document; save it as CSV in UTF-8'),
  (b'ARROW1', 'an Arrow file; save it as Parquet'),
  (b'SQLite format 3', 'a SQLite database; write the table as CSV'),
  (b'\x89HDF', 'an HDF5 file; write the table as CSV'),
  (b'Obj\x01', 'an Avro file; write it as JSON Lines'),
  (b'%PDF', 'a PDF document; give its text'),
  (b'\x28\xb5\x2f\xfd', 'compressed by zstd; unpack it, or use gzip'),
  (b'version https://git-lfs', 'a pointer of Git LFS, not the file itself; '
   'run `git lfs pull` where it comes from'),
)  # fmt: skip
_UTF16 = (b'\xff\xfe', b'\xfe\xff')
_HEAD = 64


def is_unicode(text: str) -> bool:
  """Returns whether a text has no half of a surrogate pair.

  JSON can spell one; UTF-8, and so the tokenizer, cannot.
  """
  try:
    text.encode('utf-8')
  except UnicodeEncodeError:
    return False
  return True


def plain_name(name: str) -> str:
  """Returns a file's name without the suffix of its compression."""
  for suffix in COMPRESSED:
    if name.endswith(suffix):
      return name.removesuffix(suffix)
  return name


def with_compressed(suffixes: Sequence[str]) -> tuple[str, ...]:
  """Returns suffixes, plain and with each kind of compression behind them."""
  return tuple(
    f'{suffix}{packed}' for packed in ('', *COMPRESSED) for suffix in suffixes
  )


def first_bytes(path: pathlib.Path, count: int = _HEAD) -> bytes:
  """Returns the beginning of what a file holds, unpacked.

  Raises:
    InputError: As `read_lines`.
  """
  with _translated(path, [0]), _opened(path) as file:
    return file.read(count)


def read_lines(
  path: pathlib.Path,
  within: range | None = None,
  bad: BadRows | None = None,
) -> Iterator[tuple[int, str]]:
  """Reads a text file line by line; byte-order marks are left out.

  Args:
    path: A UTF-8 file, plain or compressed (gzip, bzip2, xz), also on gs://,
      or `STANDARD_INPUT`.
    within: The numbers of the lines to read; None: all.
    bad: Counts the lines that are not UTF-8; None: they are refused.

  Yields:
    The line's number, counted from 1, and the line with its line end.

  Raises:
    InputError: The file cannot be read, is not UTF-8, a broken archive, or of
      a format that is no text.
  """
  for number, line in _raw_lines(path):
    if within is not None and number not in within:
      if number < within.start:
        continue
      return
    try:
      text = line.decode('utf-8')
    except UnicodeDecodeError as error:
      is_wide = number == 1 and line.startswith(_UTF16)
      wrong = InputError(
        f'{path}:{number}: byte {error.start + 1} of the line is not valid '
        f'UTF-8{" (it is UTF-16)" if is_wide else ""}; save the file as UTF-8.'
      )
      if is_wide:
        raise wrong from None
      bad_rows.refuse(wrong, bad)
      continue
    yield number, text.lstrip(_MARK) if text.startswith(_MARK) else text


def read_objects(
  path: pathlib.Path,
  within: range | None = None,
  bad: BadRows | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Reads JSON Lines, or one JSON array of objects.

  In JSON Lines there is one object on each line; blank lines do not count. A
  file whose first sign is '[', with an object behind it, is an array.

  Args:
    path: As `read_lines`.
    within: As `read_lines`; of JSON Lines alone.
    bad: Counts the lines that are wrong; None: they are refused.

  Yields:
    The line's number, counted from 1, and the object.

  Raises:
    InputError: As `read_lines`; or a line is not JSON, is no object, or has a
      name twice; or an array is not JSON.
  """
  if within is None and path is not STANDARD_INPUT and _is_array(path):
    yield from _array(path, bad)
    return
  for number, line in read_lines(path, within, bad):
    if not line.strip():
      continue
    try:
      value = _object(line, f'{path}:{number}')
    except InputError as error:
      bad_rows.refuse(error, bad)
    else:
      yield number, value


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
  except ValueError as error:
    # A number of thousands of digits.
    raise InputError(
      f'{path}: this is not JSON ({error}); expected {expected}.'
    ) from None


def _object(line: str, place: str) -> dict[str, Any]:
  try:
    value = json.loads(line, object_pairs_hook=_unique)
  except (ValueError, RecursionError) as error:
    what = error.msg if isinstance(error, json.JSONDecodeError) else error
    raise InputError(
      f'{place}: {_short(line)} is not JSON ({what}); expected one JSON '
      'object on each line.'
    ) from None
  return _checked(value, line, place)


def _checked(value: Any, text: str, place: str) -> dict[str, Any]:
  if not isinstance(value, dict):
    raise InputError(
      f'{place}: {_short(text)} is no JSON object; expected '
      '{"column": value, ...}.'
    )
  return value


def _is_array(path: pathlib.Path) -> bool:
  """Returns whether a file begins with '[' and an object."""
  signs = ''
  for _, line in read_lines(path, bad=BadRows()):
    signs += ''.join(line[: 4 * _HEAD].split())
    if len(signs) > 1:
      break
  return signs.startswith('[{')


def _array(
  path: pathlib.Path, bad: BadRows | None
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Reads the objects of an array, each with the number of its first line."""
  text = ''.join(line for _, line in read_lines(path))
  decode = json.JSONDecoder(object_pairs_hook=_unique).raw_decode
  at = _after_space(text, text.index('[') + 1)
  number, counted = 1, 0
  while True:
    number += text.count('\n', counted, at)
    counted = at
    place = f'{path}:{number}'
    try:
      value, end = decode(text, at)
    except (ValueError, RecursionError) as error:
      what = error.msg if isinstance(error, json.JSONDecodeError) else error
      raise InputError(
        f'{place}: {_short(text[at : at + 2 * _SHOWN])} is not JSON ({what}); '
        'expected an array of objects.'
      ) from None
    try:
      yield number, _checked(value, text[at:end][: 2 * _SHOWN], place)
    except InputError as error:
      bad_rows.refuse(error, bad)
    at = _after_space(text, end)
    if text[at : at + 1] == ']':
      break
    if text[at : at + 1] != ',':
      raise InputError(
        f'{path}:{number + text.count(chr(10), counted, at)}: '
        f'{_short(text[at : at + 2 * _SHOWN])} is where a comma or the end of '
        'the array is expected.'
      )
    at = _after_space(text, at + 1)
  if text[at + 1 :].strip():
    raise InputError(
      f'{path}: there is something behind the end of the array; expected one '
      'array of objects.'
    )


def _after_space(text: str, at: int) -> int:
  while at < len(text) and text[at] in ' \t\r\n':
    at += 1
  return at


def _raw_lines(path: pathlib.Path) -> Iterator[tuple[int, bytes]]:
  if path is STANDARD_INPUT:
    yield from enumerate(sys.stdin.buffer, start=1)
    return
  number = [0]
  with _translated(path, number), _opened(path) as file:
    for number[0], line in enumerate(file, start=1):
      yield number[0], line


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[IO[bytes]]:
  """Opens a file, and unpacks it if its first bytes say so."""
  local = local_copies.file(path)
  with open(local, 'rb') as file:
    head = file.read(_HEAD)
    for magic, what in _FOREIGN:
      if head.startswith(magic):
        raise InputError(f'{path}: this is {what}.')
    file.seek(0)
    for suffix, pattern in COMPRESSED.items():
      if pattern.match(head) or path.name.endswith(suffix):
        with _OPEN[suffix](file, 'rb') as unpacked:
          yield unpacked
        return
    yield file


@contextlib.contextmanager
def _translated(path: pathlib.Path, number: list[int]) -> Iterator[None]:
  """Translates errors of reading; `number` is the last line that was read."""
  try:
    yield
  except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
    raise _broken(path, number[0] + 1, error) from None
  except OSError as error:
    if error.strerror is None:
      # So the bz2 module says it.
      raise _broken(path, number[0] + 1, error) from None
    raise InputError(f'{path}: cannot be read ({error.strerror}).') from None


def _broken(path: pathlib.Path, number: int, error: Exception) -> InputError:
  return InputError(
    f'{path}:{number}: the archive is broken ({error}); expected a whole '
    'compressed file.'
  )


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
