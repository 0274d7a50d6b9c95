"""Digests of the files of a directory, to find the ones that have changed.

Array files (zarr, as Orbax writes them without OCDBT) have no checksums: of
their flipped bits three in four were read as other numbers without an error.
CRC-32 finds every burst of up to 32 bits, and all but one in 4e9 of other
changes; a file that is too short, missing or new is found by its name and
size. It reads gigabytes a second, from the page cache when it runs right
behind the writing.
"""

import json
import pathlib
import zlib
from collections.abc import Iterator

NAME = 'digests.json'
_BLOCK = 1 << 24


def write(directory: pathlib.Path):
  """Writes `digests.json` for all files below a directory."""
  text = json.dumps(
    {name: list(_digest(path)) for name, path in _files(directory)}
  )
  (directory / NAME).write_text(text)


def problem(directory: pathlib.Path) -> str | None:
  """What is wrong with the files that `write` has seen; None: nothing."""
  try:
    known = json.loads((directory / NAME).read_text())
    known = {name: tuple(digest) for name, digest in known.items()}
  except (OSError, ValueError, AttributeError, TypeError):
    return f'{directory / NAME} is missing or damaged'
  for name, digest in known.items():
    path = directory / name
    try:
      if _digest(path) != digest:
        return f'{path} is not as it was written'
    except OSError:
      return f'{path} is missing or cannot be read'
  return None


def _files(
  directory: pathlib.Path, above: str = ''
) -> Iterator[tuple[str, pathlib.Path]]:
  """All files below a directory, which may be on gs://: no rglob there."""
  for path in sorted(directory.iterdir()):
    if path.is_dir():
      yield from _files(path, f'{above}{path.name}/')
    elif path.name != NAME:
      yield above + path.name, path


def _digest(path: pathlib.Path) -> tuple[int, int]:
  """Size in bytes and CRC-32."""
  size = crc = 0
  with path.open('rb') as file:
    while block := file.read(_BLOCK):
      size += len(block)
      crc = zlib.crc32(block, crc)
  return size, crc
