"""TFRecord files and tf.Examples, by their definition."""

import gzip

import numpy as np
import pytest

from mobilebert_jax.data.records.record_files import TfRecordFile
from mobilebert_jax.data.records.tf_example import (
  ExampleError,
  Examples,
  encode,
)
from mobilebert_jax.runtime.errors import InputError
from tests.support.tfrecords import crc32c, record

# Two records, 'abc' and '' (TensorFlow's lib/io/record_writer.h): the length,
# the masked CRC-32C of its bytes, the payload, the masked CRC-32C of that.
GOLDEN = bytes.fromhex(
  '0300000000000000' 'b099490e' '616263' '6e57f121'
  '0000000000000000' '29039807' 'd8ea82a2'
)  # fmt: skip


@pytest.fixture
def write(tmp_path):
  def write(content):
    path = tmp_path / 'a.tfrecord'
    path.write_bytes(content)
    return path

  return write


def test_the_definition_gives_the_golden_bytes():
  # The check value of CRC-32C, as catalogues of CRCs state it.
  assert crc32c(b'123456789') == 0xE3069283
  assert record(b'abc') + record(b'') == GOLDEN


def test_golden_records_are_read_in_any_order(write):
  file = TfRecordFile(write(GOLDEN))
  assert len(file) == 2
  assert file.read([1, 0, 1]) == [b'', b'abc', b'']
  assert file.place(1).endswith('a.tfrecord: the record at byte 19')


def test_an_empty_file_has_no_records(write):
  assert len(TfRecordFile(write(b''))) == 0


@pytest.mark.parametrize('at', range(len(GOLDEN)))
def test_no_flipped_byte_goes_unseen(write, at):
  damaged = bytearray(GOLDEN)
  damaged[at] ^= 1
  start = 0 if at < 19 else 19
  with pytest.raises(InputError, match=rf'a\.tfrecord: the record at byte '
                     rf'{start} is (damaged|cut off)'):  # fmt: skip
    TfRecordFile(write(bytes(damaged))).read([0, 1])


@pytest.mark.parametrize('size', sorted({*range(1, len(GOLDEN))} - {19}))
def test_no_cut_goes_unseen(write, size):
  start = 0 if size < 19 else 19
  with pytest.raises(InputError, match=f'record at byte {start} is cut off'):
    TfRecordFile(write(GOLDEN[:size]))


def test_what_was_damaged_is_told(write):
  damaged = bytearray(GOLDEN)
  damaged[0] ^= 1
  with pytest.raises(InputError, match='its length has another checksum'):
    TfRecordFile(write(bytes(damaged)))
  damaged = bytearray(GOLDEN)
  damaged[12] ^= 1
  file = TfRecordFile(write(bytes(damaged)))
  with pytest.raises(InputError, match='its data has another checksum'):
    file.read([0])
  assert file.read([1]) == [b'']


def test_compressed_files_are_refused_by_name(write, tmp_path):
  import zlib

  for content, kind in ((gzip.compress(GOLDEN), 'gzip'),
                        (zlib.compress(GOLDEN), 'zlib')):  # fmt: skip
    with pytest.raises(InputError, match=rf'compressed \({kind}\).*decompress'):
      TfRecordFile(write(content))
  with pytest.raises(InputError, match='cannot be read'):
    TfRecordFile(tmp_path / 'absent.tfrecord')


# features { map entry { key 'a', value { int64_list [1, 300, -1] } } }
GOLDEN_EXAMPLE = bytes.fromhex(
  '0a18' '0a16' '0a0161' '1211' '1a0f' '0a0d' '01' 'ac02'
  'ffffffffffffffffff01'
)  # fmt: skip


def test_an_example_has_the_bytes_of_the_wire_format():
  values = {'a': np.array([1, 300, -1])}
  assert encode(values) == GOLDEN_EXAMPLE
  found = Examples([GOLDEN_EXAMPLE])
  assert found.names() == ['a']
  assert found.integers('a').tolist() == [[1, 300, -1]]


def test_examples_come_back_as_they_were():
  rng = np.random.default_rng(0)
  borders = [0, 1, 127, 128, 16383, 16384, 2**31, 2**63 - 1, -1, -(2**63)]
  rows = [
    {
      'ids': np.concatenate([borders, rng.integers(0, 30522, 50)]),
      'flags': rng.integers(0, 2, 7),
      'weights': rng.normal(size=3).astype(np.float32),
      'none': np.zeros(0, np.int64),
    }
    for _ in range(4)
  ]
  found = Examples([encode(row) for row in rows])
  for name in ('ids', 'flags'):
    np.testing.assert_array_equal(
      found.integers(name), [row[name] for row in rows]
    )
  np.testing.assert_array_equal(
    found.floats('weights'), [row['weights'] for row in rows]
  )
  # The order in which features are given does not matter.
  assert encode(rows[0]) == encode(dict(reversed(rows[0].items())))


WRONG = {
  'no example': (b'\xff\xff', 1, 'is no tf.Example'),
  'no feature': (encode({'b': np.ones(2, int)}), 1, "no feature 'a'; it has b"),
  'floats': (
    encode({'a': np.ones(3, np.float32)}), 1, "'a' that is no int64_list but",
  ),
  'fewer values': (
    encode({'a': np.ones(2, int)}), 1, "has 2 values of 'a' instead of 3",
  ),
  'no values': (
    encode({'a': np.ones(0, int)}), 1, "has 0 values of 'a' instead of 3",
  ),
}  # fmt: skip


@pytest.mark.parametrize('case', WRONG)
def test_wrong_examples_are_told(case):
  record, index, message = WRONG[case]
  with pytest.raises(ExampleError, match=message) as found:
    Examples([GOLDEN_EXAMPLE, record]).integers('a', 3)
  assert found.value.args[1] == index


def test_numbers_that_do_not_end_are_none():
  whole = encode({'a': np.array([200, 5])})
  at = whole.rindex(b'\xc8\x01\x05')
  endless = whole[:at] + b'\xc8\x81\x85' + whole[at + 3 :]
  assert Examples([endless]).integers('a').size == 0
  with pytest.raises(ExampleError, match="0 values of 'a' instead of 2"):
    Examples([endless]).integers('a', 2)
