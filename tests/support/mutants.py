"""Damaged copies of files, and what a reader makes of them.

    counts = mutants.fuzz(read, path.read_bytes(), tmp_path / 'damaged.csv')

A reader may succeed or raise `InputError`; anything else fails the test, and
the copy that did it stays where it was written.
"""

import collections
import contextlib
import pathlib
import random
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

from mobilebert_jax.runtime.errors import InputError

# What the suite tries; what the tests marked 'long' try.
FEW, ALL = 40, 500
# Of the thread's own time, so that a loaded machine breaks no test.
SECONDS = 2.0
MIB = 256
# What stands in files by accident, or is read in another way than it looks.
_FRAGMENTS = (
  b'\xef\xbb\xbf', b'\xff\xfe', b'\x00', b'\xff', b'\r', b'\n', b'\r\n', b'\t',
  b'"', b"'", b',', b';', b'\\', b'[', b']', b'{', b'}', b':', b'-', b'#',
  b'\\ud800', b'\xed\xa0\x80', b'\xe2\x80\xa8', b'\xcc\x81', b'\xc2\xa0',
  b'NaN', b'-Infinity', b'1e999', b'-1', b'null', b'true', b'""', b'[]', b'{}',
  b'9' * 400, b'9' * 5000, b'[' * 100_000, b'\x7f' * 8,
)  # fmt: skip
_LONG_LINE = 1_000_000


def mutants(original: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
  """Yields damaged copies: the same ones for the same arguments.

  Each has one to three faults: flipped bytes, an end cut off, something put
  in or left out, a part or a line twice, lines swapped, a very long line.
  """
  for number in range(count):
    rng = random.Random(f'{seed}/{number}')
    data = original
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
      data = rng.choice(_FAULTS)(data, rng)
    yield data


def fuzz(
  read: Callable[[pathlib.Path], Any],
  original: bytes,
  target: pathlib.Path,
  count: int = FEW,
  seed: int = 0,
) -> collections.Counter:
  """Lets a reader read damaged copies, each written to `target`.

  Args:
    read: Reads a file to its end; it may return an iterator.
    original: A whole file.
    target: Where the copies are written, with the name that the reader wants.
    count: How many copies.
    seed: Of the damage.

  Returns:
    How many copies were 'read' and how many 'refused' by an `InputError`.

  Raises:
    AssertionError: A copy raised something else, took over two seconds of this
      thread's time, or 256 MiB more than the whole file.
  """
  target.write_bytes(original)
  with _measured() as own:
    _consume(read, target)
  counts: collections.Counter = collections.Counter(read=0, refused=0)
  for number, data in enumerate(mutants(original, count, seed)):
    target.write_bytes(data)
    where = f'{target}: mutant {number} of seed {seed}'
    try:
      with _measured() as used:
        _consume(read, target)
      counts['read'] += 1
    except InputError as error:
      assert str(error), where
      counts['refused'] += 1
    except BaseException as error:
      raise AssertionError(f'{where}: {type(error).__name__}') from error
    seconds = used['seconds']
    assert seconds < SECONDS, f'{where} took {seconds:.1f} s'
    more = (used['KiB'] - own['KiB']) / 1024
    assert more < MIB, f'{where} took {more:.0f} MiB more than the whole file'
  return counts


def _consume(read: Callable[[pathlib.Path], Any], path: pathlib.Path):
  result = read(path)
  if isinstance(result, Iterator):
    collections.deque(result, maxlen=0)


@contextlib.contextmanager
def _measured() -> Iterator[dict[str, float]]:
  """Says at the end how long it took, and how far the process's memory grew."""
  used = {'KiB': 0.0, 'seconds': 0.0}
  before, start = _peak(reset=True), time.thread_time()
  try:
    yield used
  finally:
    used['seconds'] = time.thread_time() - start
    used['KiB'] = max(0, _peak() - before)


def _peak(reset: bool = False) -> int:
  """Returns the most memory that the process has had, in KiB."""
  try:
    if reset:
      pathlib.Path('/proc/self/clear_refs').write_text('5')
    status = pathlib.Path('/proc/self/status').read_text()
    return int(status.partition('VmHWM:')[2].split()[0])
  except (OSError, IndexError):
    # Not Linux: of the whole life, so that less is noticed.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _place(data: bytes, rng: random.Random) -> int:
  return rng.randrange(len(data) + 1)


def _part(data: bytes, rng: random.Random) -> tuple[int, int]:
  start = _place(data, rng)
  return start, min(len(data), start + rng.choice((1, 2, 10, 100, 1000)))


def _flip(data: bytes, rng: random.Random) -> bytes:
  changed = bytearray(data)
  for _ in range(min(len(data), rng.choice((1, 1, 4, 16)))):
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  return bytes(changed)


def _truncate(data: bytes, rng: random.Random) -> bytes:
  return data[: _place(data, rng)]


def _insert(data: bytes, rng: random.Random) -> bytes:
  at = _place(data, rng)
  return data[:at] + rng.choice(_FRAGMENTS) + data[at:]


def _replace(data: bytes, rng: random.Random) -> bytes:
  start, end = _part(data, rng)
  return data[:start] + rng.choice(_FRAGMENTS) + data[end:]


def _remove(data: bytes, rng: random.Random) -> bytes:
  start, end = _part(data, rng)
  return data[:start] + data[end:]


def _duplicate(data: bytes, rng: random.Random) -> bytes:
  start, end = _part(data, rng)
  return data[:end] + data[start:end] + data[end:]


def _lines(data: bytes, rng: random.Random) -> bytes:
  """Swaps two lines, or has one of them twice."""
  lines = data.splitlines(keepends=True) or [b'']
  i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
  if rng.random() < 0.5:
    lines[i], lines[j] = lines[j], lines[i]
  else:
    lines.insert(i, lines[j])
  return b''.join(lines)


def _lengthen(data: bytes, rng: random.Random) -> bytes:
  """Puts a very long line, or a very long word, into the file."""
  at = _place(data, rng)
  return (
    data[:at]
    + rng.choice((b'a', b'a ', b',', b'"')) * (_LONG_LINE // 2)
    + data[at:]
  )


_FAULTS = (
  _flip, _flip, _truncate, _insert, _insert, _replace, _replace, _remove,
  _duplicate, _lines, _lines, _lengthen,
)  # fmt: skip
