"""Examples for pre-training that TensorFlow has written."""

import shutil
import struct

import numpy as np
import pytest

from mobilebert_jax.config.task_options import PretrainingOptions
from mobilebert_jax.data.readers import remarks
from mobilebert_jax.data.records import records
from mobilebert_jax.data.records.tf_example import Examples, encode
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.pretraining import load
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from tests.support import tfrecords
from tests.support.tfrecords import CLS, PREDICTIONS, SEP, SIZE, VOCAB_SIZE


@pytest.fixture(scope='module')
def tokenizer():
  names = {0: '[PAD]', 100: '[UNK]', CLS: '[CLS]', SEP: '[SEP]', 103: '[MASK]'}
  vocab = {names.get(i, f't{i}'): i for i in range(VOCAB_SIZE)}
  return MobileBertTokenizerFast(vocab=vocab)


@pytest.fixture(params=['stored', 'live'])
def written(request, tmp_path):
  """A file of TensorFlow's, and what is in it."""
  path = tmp_path / 'theirs.tfrecord'
  if request.param == 'stored':
    shutil.copy(tfrecords.GOLDEN, path)
    with np.load(tfrecords.GOLDEN_ROWS) as rows:
      return path, dict(rows)
  pytest.importorskip('tensorflow', exc_type=ImportError)
  rows = tfrecords.bert_rows(50, seed=1)
  tfrecords.write_with_tensorflow(path, rows)
  return path, rows


def features(path, tokenizer):
  found = records.find(path)
  options = PretrainingOptions()
  return load.encode(options, found, tokenizer, SIZE)


def test_a_run_reads_what_tensorflow_wrote(written, tokenizer):
  path, rows = written
  found = features(path, tokenizer)
  assert len(found) == len(rows['input_ids'])
  order = np.random.default_rng(0).permutation(len(found))
  batch = found.batch(order, SIZE)
  counts = rows['masked_lm_weights'] > 0
  assert counts.any() and not counts.all()
  expected = {
    'input_ids': rows['input_ids'],
    'attention_mask': rows['input_mask'],
    'token_type_ids': rows['segment_ids'],
    'masked_positions': rows['masked_lm_positions'],
    'labels': np.where(counts, rows['masked_lm_ids'].astype(int), -100),
    'next_sentence_label': rows['next_sentence_labels'][:, 0],
    'weights': np.ones(len(found)),
  }
  assert set(batch) == set(expected)
  assert batch['labels'].shape == (len(found), PREDICTIONS)
  for name, values in expected.items():
    np.testing.assert_array_equal(batch[name], values[order], name)


def test_a_flipped_byte_of_theirs_is_found(written, tokenizer):
  path, _ = written
  content = bytearray(path.read_bytes())
  at = 0
  for _ in range(7):
    at += struct.unpack_from('<Q', content, at)[0] + 16
  content[at + 12 + 100] ^= 1
  path.write_bytes(content)
  found = features(path, tokenizer)
  whole = np.setdiff1d(np.arange(len(found)), [7])
  assert len(found.batch(whole, SIZE)['weights']) == len(whole)
  with pytest.raises(InputError, match=rf'theirs\.tfrecord: the record at byte '
                     rf'{at} is damaged: its data has another'):  # fmt: skip
    found.batch(np.arange(len(found)), SIZE)


def test_our_records_are_theirs(written):
  """The features are the same; TensorFlow does not sort their names."""
  path, rows = written
  found = records.find(path)
  for index, payload in enumerate(found.read(np.arange(len(found)))):
    ours = encode({name: values[index] for name, values in rows.items()})
    assert len(ours) == len(payload)
    assert Examples([ours]).names() == Examples([payload]).names()


def test_tensorflow_reads_what_we_write(tmp_path):
  tf = pytest.importorskip('tensorflow', exc_type=ImportError)
  rows = tfrecords.bert_rows(50)
  path = tmp_path / 'ours.tfrecord'
  payloads = [
    encode({name: values[index] for name, values in rows.items()})
    for index in range(50)
  ]
  path.write_bytes(b''.join(map(tfrecords.record, payloads)))
  theirs = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
  spec = {
    name: tf.io.FixedLenFeature(
      [values.shape[1]],
      tf.float32 if values.dtype == np.float32 else tf.int64,
    )
    for name, values in rows.items()
  }
  parsed = tf.io.parse_example(theirs, spec)
  for name, values in rows.items():
    np.testing.assert_array_equal(parsed[name].numpy(), values)


def test_a_vocabulary_beside_the_records_is_compared(
  tmp_path, tokenizer, capsys
):
  path = tmp_path / 'theirs.tfrecord'
  shutil.copy(tfrecords.GOLDEN, path)
  remarks.forget()
  features(path, tokenizer)
  assert 'only the id of [CLS] is compared' in capsys.readouterr().err
  tokens = tokenizer.tokens()
  beside = tmp_path / 'vocab.txt'
  beside.write_text(''.join(f'{token}\n' for token in tokens))
  remarks.forget()
  features(path, tokenizer)
  assert capsys.readouterr().err == ''
  tokens[200], tokens[201] = tokens[201], tokens[200]
  beside.write_text(''.join(f'{token}\n' for token in tokens))
  with pytest.raises(
    InputError, match="'t200' has the id 200 in it, and not 201"
  ):
    features(path, tokenizer)
