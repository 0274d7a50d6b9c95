"""Pre-training examples on disk, each found by its number.

Either a prepared data set (`mobilebert_jax.pretraining_data`) or TFRecord files
as BERT's create_pretraining_data.py makes them. Nothing but the places of the
records is kept in memory.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from mobilebert_jax.data.random_streams import hash_rank
from mobilebert_jax.data.records import prepared
from mobilebert_jax.data.records.record_files import (
  ArrayRecordFile,
  RecordFile,
  TfRecordFile,
  is_tfrecord,
)
from mobilebert_jax.runtime import files, local_copies
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.progress import Work

# 'x.tfrecord', 'x.tfrecord-00000-of-00002', 'x.tf_record_000', 'x.tfrec'.
_TFRECORD = re.compile(r'\.tf_?rec(ords?)?(?![a-z])', re.IGNORECASE)
# 'part-00000-of-00002' may be anything, and is looked into.
_SHARD = re.compile(r'[-_]\d{3,}(-of-\d+)?(\.gz)?\Z')
# Systems allow a process about a thousand open files.
_OPEN_FILES = 512


@dataclasses.dataclass(frozen=True)
class Source:
  """A file that has not been opened yet.

  Attributes:
    path: Where it is; on gs://, not where its copy is.
    count: Its number of records.
    open: Opens it.
  """

  path: pathlib.Path
  count: int
  open: Callable[[], RecordFile]

  @property
  def name(self) -> str:
    """Its name, from which it is decided whether it is held out."""
    return self.path.name


class Records:
  """Records of several files, numbered through.

  Attributes:
    origin: The directory or file, for messages.
    sources: The files, in their order.
    manifest: The content of dataset.json; None for TFRecords.
  """

  def __init__(
    self,
    origin: pathlib.Path,
    sources: Sequence[Source],
    manifest: dict[str, Any] | None,
    limit: int | None = None,
  ):
    """Numbers the records of `sources` through; `limit`: only so many."""
    self.origin, self.sources = origin, tuple(sources)
    self.manifest = manifest
    self._ends = np.cumsum([source.count for source in sources])
    total = int(self._ends[-1]) if len(self._ends) else 0
    self._count = total if limit is None else min(total, limit)
    # A file that falls out is closed when the last thread has read it.
    self._opened = functools.lru_cache(_OPEN_FILES)(
      lambda number: self.sources[number].open()
    )

  def __len__(self) -> int:
    return self._count

  def first(self, limit: int | None) -> 'Records':
    """Returns the first so many records; None: all."""
    return Records(self.origin, self.sources, self.manifest, limit)

  def read(self, rows: Int[np.ndarray, 'B']) -> list[bytes]:
    """Reads the payloads of these records, in this order.

    Raises:
      InputError: A file is damaged.
    """
    owners, numbers = self._find(rows)
    results: list[bytes] = [b''] * len(rows)
    for file in np.unique(owners):
      at = np.flatnonzero(owners == file)
      payloads = self._opened(int(file)).read(numbers[at].tolist())
      for index, payload in zip(at, payloads, strict=True):
        results[index] = payload
    return results

  def place(self, row: int) -> str:
    """Returns how messages name a record."""
    owners, numbers = self._find(np.array([row]))
    return self._opened(int(owners[0])).place(int(numbers[0]))

  def starts(self) -> Int[np.ndarray, 'F']:
    """Returns the indices of the files' first records."""
    firsts = np.concatenate([[0], self._ends[:-1]])
    return firsts[firsts < self._count]

  def without(self, others: 'Records') -> 'Records':
    """Returns the records of files that `others` has not."""
    theirs = {files.absolute(source.path) for source in others.sources}
    return Records(
      self.origin,
      [s for s in self.sources if files.absolute(s.path) not in theirs],
      self.manifest,
    )

  def hold_out(self, fraction: float) -> tuple['Records', 'Records']:
    """Divides the files into those to learn from and those to test with.

    Whole files are held out, since records of one file may be of the same
    sentences: the share `fraction` of the files, rounded but at least one,
    that comes first in the order of the hashes of their names.

    Raises:
      InputError: There is one file alone.
    """
    if len(self.sources) < 2:
      raise InputError(
        f'{self.origin}: there is one file of records alone, and no part of a '
        f'file is held out; {self.more_files()}.'
      )
    count = held_out(fraction, len(self.sources))
    ranked = sorted(self.sources, key=lambda source: hash_rank(source.name))
    held = {source.name for source in ranked[:count]}
    return tuple(
      Records(
        self.origin,
        [s for s in self.sources if (s.name in held) == is_held],
        self.manifest,
      )
      for is_held in (False, True)
    )  # type: ignore[return-value]

  def more_files(self) -> str:
    """Returns advice for too few files to hold some out, for messages."""
    other = 'set config.options.validation_file to other records'
    if self.manifest is None:
      return other
    return f'prepare the data with a smaller --block_size, or {other}'

  def _find(
    self, rows: Int[np.ndarray, 'B']
  ) -> tuple[Int[np.ndarray, 'B'], Int[np.ndarray, 'B']]:
    """Returns the file of each row, and its number there."""
    owners = np.searchsorted(self._ends, rows, side='right')
    starts = np.concatenate([[0], self._ends])[owners]
    return owners, rows - starts


def held_out(fraction: float, count: int) -> int:
  """Returns how many of `count` files are held out: 1 to `count` - 1."""
  return min(max(1, round(fraction * count)), count - 1)


def holds_records(path: pathlib.Path) -> bool:
  """Returns whether a path is, or directly holds, records."""
  if not path.is_dir():
    return _is_record_file(path)
  return prepared.is_prepared(path) or any(
    _is_record_file(item) for item in path.iterdir()
  )


def find(path: pathlib.Path) -> Records:
  """Finds the records of a prepared data set, or of TFRecord files.

  Args:
    path: A directory or one TFRecord file, also on gs://, from where it is
      copied once for each host.

  Raises:
    InputError: No records there, a data set that is not complete, or files
      that are damaged.
  """
  if not path.exists() or not holds_records(path):
    raise InputError(
      f'{path}: there are no records; expected a prepared data set '
      f'({prepared.DATASET}) or TFRecord files (*.tfrecord*)'
      f'{files.shown_entries(path)}.'
    )
  if not path.is_dir():
    return _tfrecords(path, [(path, local_copies.file(path))])
  local = local_copies.directory(path, keep=lambda name: True)
  if prepared.is_prepared(local):
    return _prepared(path, local)
  record_paths = sorted(
    item for item in local.iterdir() if _is_record_file(item)
  )
  return _tfrecords(path, [(path / item.name, item) for item in record_paths])


def _is_record_file(path: pathlib.Path) -> bool:
  """Returns whether a file holds records, by its name or its first bytes."""
  name = path.name
  if files.is_hidden(name):
    return False
  if _TFRECORD.search(name) or name.endswith(prepared.SUFFIX):
    return True
  # Looking into an object of a store would copy all of it.
  if files.is_remote(path) or not _SHARD.search(name) or not path.is_file():
    return False
  return is_tfrecord(path)


def _prepared(origin: pathlib.Path, local: pathlib.Path) -> Records:
  manifest = prepared.read(local)

  def source(number: int, count: int) -> Source:
    name = prepared.records_name(number, manifest['blocks'])
    opener = functools.partial(ArrayRecordFile, local / name, count)
    return Source(origin / name, count, opener)

  counts = manifest['examples_per_block']
  sources = [source(*item) for item in enumerate(counts)]
  # A file that was not copied is missed now, not in the middle of a run.
  for item in sources:
    if not (local / item.name).is_file():
      raise InputError(
        f'{item.path}: there is no such file, but {prepared.DATASET} counts '
        'it; copy the whole data set.'
      )
  return Records(origin, [s for s in sources if s.count], manifest)


def _tfrecords(
  origin: pathlib.Path, paths: Sequence[tuple[pathlib.Path, pathlib.Path]]
) -> Records:
  """Indexes TFRecord files, each given with its local copy."""
  sources = []
  with Work(f'finding the records of {origin}', 'files') as work:
    for number, (path, local) in enumerate(paths):
      if path.name.endswith(prepared.SUFFIX):
        raise InputError(
          f'{path}: there is no {prepared.DATASET} beside it; name the whole '
          'directory that python -m mobilebert_jax.pretraining_data made.'
        )
      offsets = _offsets(local, *_version(local))
      opener = functools.partial(TfRecordFile, local, offsets)
      sources.append(Source(path, len(offsets), opener))
      work.is_at(number + 1, len(paths))
  sources = [source for source in sources if source.count]
  if not sources:
    raise InputError(f'{origin}: the TFRecord files have no record.')
  return Records(origin, sources, None)


@functools.cache
def _offsets(
  path: pathlib.Path, size: int, changed: int
) -> Int[np.ndarray, 'N']:
  """Indexes a file, once for all splits unless it has changed."""
  del size, changed
  return TfRecordFile(path).offsets


def _version(path: pathlib.Path) -> tuple[int, int]:
  try:
    status = path.stat()
  except OSError as error:
    raise InputError(f'{path}: cannot be read ({error.strerror}).') from None
  return status.st_size, status.st_mtime_ns
