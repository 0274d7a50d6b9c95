"""Files of records, each found by its number: ArrayRecord and TFRecord.

The one module that knows array_record and google_crc32c. A TFRecord is the
length of its payload (uint64, little-endian), the masked CRC-32C of those
eight bytes (uint32), the payload, and the payload's masked CRC-32C:
TensorFlow's lib/io/record_writer.h. The files have no index, so one is made
by going through the headers once: for random access, eight bytes of memory
for each record.
"""

import contextlib
import errno
import mmap
import pathlib
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from mobilebert_jax.data.readers.lines import first_bytes
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError

# Every record by itself, so that a random one costs no neighbours; measured on
# records of 128 tokens, snappy reads 1.5 times as fast as zstd and takes 3%
# more room.
_WRITE_OPTIONS = 'group_size:1,snappy'
# Nothing is read ahead: the order is random.
_READ_OPTIONS = 'readahead_buffer_size:0,max_parallelism:0'


class RecordFile(Protocol):
  """A file whose records are found by their numbers."""

  def __len__(self) -> int: ...

  def read(self, numbers: Sequence[int]) -> list[bytes]:
    """Reads the payloads of some records."""

  def place(self, number: int) -> str:
    """Returns how messages name a record."""


class ArrayRecordFile:
  """An ArrayRecord file."""

  def __init__(self, path: pathlib.Path, count: int | None = None):
    """Opens a file.

    Args:
      path: A local file.
      count: How many records it must have; None: any number.

    Raises:
      InputError: It cannot be read, or has another number of records.
    """
    from array_record.python import array_record_module

    self._path = path
    # A reader has one position, and threads share it.
    self._lock = threading.Lock()
    if not path.is_file():
      raise InputError(f'{path}: there is no such file.')
    try:
      self._reader = array_record_module.ArrayRecordReader(
        str(path), _READ_OPTIONS
      )
      self._count = self._reader.num_records()
    except (RuntimeError, ValueError, IndexError) as error:
      raise self._damaged(str(error)) from None
    if count is not None and count != self._count:
      raise self._damaged(f'{self._count} records instead of {count}')

  def __len__(self) -> int:
    return self._count

  def read(self, numbers: Sequence[int]) -> list[bytes]:
    """Reads the payloads of some records; threads may read at once.

    Raises:
      InputError: The file is damaged there.
    """
    try:
      with self._lock:
        return [self._at(number) for number in numbers]
    except (RuntimeError, ValueError, IndexError) as error:
      raise self._damaged(str(error)) from None

  def place(self, number: int) -> str:
    """Returns how messages name a record."""
    return f'{self._path}: record {number}'

  def _at(self, number: int) -> bytes:
    # Reading a list of records costs half a millisecond more each time, and a
    # batch has few records of each file: measured 10 us for this.
    self._reader.seek(number)
    return self._reader.read()

  def _damaged(self, what: str) -> InputError:
    what = ' '.join(what.split())
    return InputError(
      f'{self._path}: the ArrayRecord file is damaged ({what}); make it again.'
    )


def write_array_record(target: pathlib.Path, records: Iterable[bytes]):
  """Writes a file of records; it appears when it is complete.

  Equal records give equal bytes. Several processes may write one file.

  Args:
    target: The file, also on gs://.
    records: The payloads, in their order.

  Raises:
    OSError: The disk is full, or cannot be written.
  """
  from array_record.python import array_record_module

  with files.replacing(target, unique=True) as partial:
    writer: Any = array_record_module.ArrayRecordWriter(
      str(partial), _WRITE_OPTIONS
    )
    try:
      for record in records:
        with _as_os_error(target):
          writer.write(record)
    except BaseException:
      # The first error counts; the file is dropped.
      with contextlib.suppress(RuntimeError):
        writer.close()
      raise
    with _as_os_error(target):
      writer.close()


@contextlib.contextmanager
def _as_os_error(target: pathlib.Path) -> Iterator[None]:
  """Translates the library's RuntimeError, which it raises for anything."""
  try:
    yield
  except RuntimeError as error:
    what = ' '.join(str(error).split())
    raise OSError(errno.EIO, what, str(target)) from None


_HEADER = struct.Struct('<QI')
_CRC = struct.Struct('<I')
# crc32c.h: a CRC that is stored beside its data is rotated and shifted.
_MASK_DELTA = 0xA282EAD8
_COMPRESSED = {b'\x1f\x8b': 'gzip', b'x\x01': 'zlib', b'x\x9c': 'zlib',
               b'x\xda': 'zlib', b'x^': 'zlib'}  # fmt: skip


class TfRecordFile:
  """A TFRecord file.

  Attributes:
    offsets: Where each record begins, int64.
  """

  def __init__(
    self, path: pathlib.Path, offsets: Int[np.ndarray, 'N'] | None = None
  ):
    """Opens a file.

    Args:
      path: A local file.
      offsets: The `offsets` of an earlier instance; None: all headers are read.

    Raises:
      InputError: It cannot be read, is compressed, or the header of a record
        is damaged or cut off; the message names the byte.
    """
    self._path = path
    self._data: mmap.mmap | bytes = b''
    try:
      with path.open('rb') as file:
        if file.seek(0, 2):
          self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
      raise InputError(f'{path}: cannot be read ({error.strerror}).') from None
    self.offsets = self._index() if offsets is None else offsets

  def __len__(self) -> int:
    return len(self.offsets)

  def read(self, numbers: Sequence[int]) -> list[bytes]:
    """Reads the payloads of some records.

    Raises:
      InputError: A payload does not have the checksum that stands behind it.
    """
    return [self._read(number) for number in numbers]

  def place(self, number: int) -> str:
    """Returns how messages name a record."""
    return f'{self._path}: the record at byte {self.offsets[number]}'

  def _index(self) -> Int[np.ndarray, 'N']:
    """Finds where each record begins."""
    offsets = []
    data, at, size = self._data, 0, len(self._data)
    while at < size:
      if at + _HEADER.size > size:
        raise self._wrong(at, 'is cut off in its header')
      length, crc = _HEADER.unpack_from(data, at)
      if _masked_crc(data[at : at + 8]) != crc:
        raise self._not_a_header(at)
      end = at + _HEADER.size + length + _CRC.size
      if end > size:
        raise self._wrong(at, f'is cut off: it ends at byte {end} of {size}')
      offsets.append(at)
      at = end
    return np.array(offsets, np.int64)

  def _read(self, number: int) -> bytes:
    at = int(self.offsets[number])
    length, _ = _HEADER.unpack_from(self._data, at)
    begin = at + _HEADER.size
    payload = self._data[begin : begin + length]
    (crc,) = _CRC.unpack_from(self._data, begin + length)
    if _masked_crc(payload) != crc:
      raise self._wrong(at, 'is damaged: its data has another checksum')
    return payload

  def _wrong(self, at: int, what: str) -> InputError:
    return InputError(
      f'{self._path}: the record at byte {at} {what}; expected a whole '
      'TFRecord file.'
    )

  def _not_a_header(self, at: int) -> InputError:
    kind = _COMPRESSED.get(self._data[:2]) if at == 0 else None
    if kind is None:
      return self._wrong(at, 'is damaged: its length has another checksum')
    how = 'gunzip' if kind == 'gzip' else 'with zlib'
    return InputError(
      f'{self._path}: the file is compressed ({kind}), so that its records '
      f'cannot be read in any order; decompress it ({how}).'
    )


def is_tfrecord(path: pathlib.Path) -> bool:
  """Returns whether a file begins as a TFRecord does, perhaps compressed."""
  try:
    head = first_bytes(path, _HEADER.size)
  except InputError:
    return False
  if len(head) < _HEADER.size:
    return False
  return _masked_crc(head[:8]) == _HEADER.unpack(head)[1]


def _masked_crc(data: bytes) -> int:
  import google_crc32c

  crc = google_crc32c.value(data)
  return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
