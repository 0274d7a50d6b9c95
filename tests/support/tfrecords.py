"""TFRecords: by their definition, byte by byte, and by TensorFlow."""

import pathlib
import struct

import numpy as np

# Written by TensorFlow, and what is in it: golden/make_tfrecord_golden.py.
GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'tensorflow.tfrecord'
GOLDEN_ROWS = GOLDEN.with_suffix('.npz')
# Of BERT's vocabulary; so that numbers have up to three bytes.
VOCAB_SIZE, CLS, SEP = 30522, 101, 102
SIZE, PREDICTIONS = 64, 10


def crc32c(data):
  """Castagnoli's CRC bit by bit: reflected polynomial 0x82F63B78."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc ^= byte
    for _ in range(8):
      crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
  return crc ^ 0xFFFFFFFF


def masked(data):
  """The CRC as it is stored: rotated and shifted."""
  crc = crc32c(data)
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(payload):
  """One record: length, its CRC, payload, its CRC."""
  length = struct.pack('<Q', len(payload))
  return b''.join(
    (length, struct.pack('<I', masked(length)),
     payload, struct.pack('<I', masked(payload)))
  )  # fmt: skip


def bert_rows(count, seed=0):
  """Random examples with the features of create_pretraining_data.py.

  Returns:
    Arrays [count, n] by name.
  """
  rng = np.random.default_rng(seed)
  rows = []
  for _ in range(count):
    size = rng.integers(16, SIZE + 1)
    middle = rng.integers(3, size - 3)
    ids = rng.integers(1000, VOCAB_SIZE, size)
    ids[[0, middle, size - 1]] = CLS, SEP, SEP
    text = np.setdiff1d(np.arange(size), [0, middle, size - 1])
    places = np.sort(rng.choice(text, rng.integers(1, PREDICTIONS + 1), False))
    rows.append({
      'input_ids': _filled(ids, SIZE),
      'input_mask': _filled(np.ones(size, int), SIZE),
      'segment_ids': _filled(np.arange(size) > middle, SIZE),
      'masked_lm_positions': _filled(places, PREDICTIONS),
      'masked_lm_ids': _filled(
        rng.integers(1000, VOCAB_SIZE, len(places)), PREDICTIONS
      ),
      'masked_lm_weights': _filled(
        np.ones(len(places)), PREDICTIONS
      ).astype(np.float32),
      'next_sentence_labels': rng.integers(0, 2, 1),
    })  # fmt: skip
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _filled(values, size):
  return np.pad(values, (0, size - len(values))).astype(int)


def write_with_tensorflow(path, rows):
  """Writes them with TensorFlow's own classes, as BERT's script does."""
  import tensorflow as tf

  def feature(values):
    if values.dtype == np.float32:
      return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

  with tf.io.TFRecordWriter(str(path)) as writer:
    for row in range(len(rows['input_ids'])):
      features = tf.train.Features(
        feature={name: feature(values[row]) for name, values in rows.items()}
      )
      example = tf.train.Example(features=features)
      writer.write(example.SerializeToString())
