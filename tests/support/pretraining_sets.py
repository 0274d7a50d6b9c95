"""Prepared data sets for the tests, and what is in them."""

import numpy as np

from mobilebert_jax import pretraining_data
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import PretrainingOptions
from mobilebert_jax.data.records import records
from mobilebert_jax.data.records.tf_example import Examples
from mobilebert_jax.pretraining_data import PretrainingDataOptions
from mobilebert_jax.tasks.pretraining import load as pretraining_load
from tests.support import pretraining_text
from tests.support.tfrecords import record

TOKENIZER = pretraining_text.tokenizer()
# Some of the documents of `pretraining_text` are a block.
SMALL = {'max_length': 32, 'block_size': 6000}


def write_two_files(folder):
  """Two files of documents, about 35,000 characters in all."""
  pretraining_text.write_text(folder / 'a.jsonl', 12, seed=0)
  pretraining_text.write_text(folder / 'b.jsonl', 9, seed=1)
  return folder


def write(text, output, shard=(0, 1), workers=1, **options):
  """Writes the set of a text; options as SMALL where they are not given."""
  return pretraining_data.write(
    PretrainingDataOptions(**{**SMALL, **options}), [text], output, TOKENIZER,
    shard, workers,
  )  # fmt: skip


def contents(folder):
  """The bytes of a directory's files."""
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def read_all(folder):
  """All records."""
  found = records.find(folder)
  return Examples(found.read(np.arange(len(found))))


def write_every_kind(root):
  """A text, and what is made of it: dynamic, static, two TFRecord files."""
  text = pretraining_text.write_text(root / 'a.jsonl', 24)
  for masking in ('dynamic', 'static'):
    write(text, root / masking, masking=masking, duplicates=1, block_size=9000)
  found = records.find(root / 'static')
  payloads = found.read(np.arange(len(found)))
  (root / 'tfrecord').mkdir()
  half = len(payloads) // 2
  for name, part in (('0', payloads[:half]), ('1', payloads[half:])):
    content = b''.join(map(record, part))
    (root / 'tfrecord' / f'x.tfrecord-0000{name}-of-00002').write_bytes(content)
  return root


def load(path, split='train', options=None, **data):
  """A split as a run finds it."""
  options = options or PretrainingOptions()
  config = DataConfig(source='files', path=str(path), batching='padded', **data)
  return pretraining_load.load(options, config, split)


def features(path, options=None, size=SMALL['max_length'], split='train',
             tokenizer=TOKENIZER):  # fmt: skip
  """The same, encoded."""
  options = options or PretrainingOptions()
  return pretraining_load.encode(
    options, load(path, split, options), tokenizer, size
  )
