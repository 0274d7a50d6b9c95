"""Prepared data sets for the tests, and what is in them."""

import numpy as np
import pretraining_text

from mobilebert_jax import pretraining_data
from mobilebert_jax.data import records
from mobilebert_jax.data.tf_example import Examples
from mobilebert_jax.pretraining_data import PretrainingDataOptions

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
