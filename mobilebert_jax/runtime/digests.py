"""Digests of the files of a directory, to find the ones that have changed.

Array files (zarr, as Orbax writes them without OCDBT) have no checksums: of
120 flipped bits in arrays and facts, 55 were read as other values.
CRC-32 finds every burst of up to 32 bits, and all but one in 4e9 of other
changes; a file that is too short, missing or new is found by its name and
size. It reads gigabytes a second, from the page cache when it runs right
behind the writing.
"""

import json
import pathlib
import zlib
from typing import Any

from mobilebert_jax.runtime import files, object_store

NAME = 'digests.json'
_BLOCK = 1 << 24


def write(directory: pathlib.Path):
  """Writes `digests.json` for all files below a directory."""
  # Orbax gives paths of its own, which lack some of pathlib's methods.
  directory = files.path(directory)
  files.write_text(directory / NAME, json.dumps(_digests(directory)))


def problem(directory: pathlib.Path) -> str | None:
  """Returns what is wrong with the files that `write` saw; None: nothing."""
  try:
    known = json.loads((directory / NAME).read_text()).items()
  except (OSError, ValueError, AttributeError):
    return f'{directory / NAME} is missing or damaged'
  there = _digests(directory)
  for name, digest in known:
    if there.get(name) is None:
      return f'{directory / name} is missing or cannot be read'
    if there[name] != digest:
      return f'{directory / name} is not as it was written'
  return None


def _digests(directory: pathlib.Path) -> dict[str, list[Any] | None]:
  """Returns size in bytes and checksum of each file, None if unreadable.

  On gs:// these are the checksums that the store computes of what arrives and
  keeps with it: one request tells them all.
  """
  if files.is_remote(directory):
    prefix = f'{object_store.name(directory)}/'
    return {
      result.name.removeprefix(prefix): [result.size, result.md5]
      for result in object_store.find(directory)
      if result.name != prefix + NAME
    }
  return {
    path.relative_to(directory).as_posix(): _digest(path)
    for path in sorted(directory.rglob('*'))
    if path.is_file() and path.name != NAME
  }


def _digest(path: pathlib.Path) -> list[Any] | None:
  size = crc = 0
  try:
    with path.open('rb') as file:
      while block := file.read(_BLOCK):
        size += len(block)
        crc = zlib.crc32(block, crc)
  except OSError:
    return None
  return [size, crc]
