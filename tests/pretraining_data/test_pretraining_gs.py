"""Pre-training data from and to gs://, against an emulator of the store."""

import importlib.util

import numpy as np
import pytest

from mobilebert_jax import pretraining_data
from mobilebert_jax.data.records import prepared, records
from mobilebert_jax.pretraining_data import PretrainingDataOptions
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from tests.support import gs, pretraining_text

pytestmark = pytest.mark.scale


@pytest.fixture
def bucket(tmp_path):
  for needed in ('gcsfs', 'gcp_storage_emulator'):
    if importlib.util.find_spec(needed) is None:
      pytest.skip(f"{needed} is missing: install the extra 'scale'")
  with gs.emulator(tmp_path / 'cache'):
    yield files.path(f'{gs.BUCKET}/pretraining')


def test_a_data_set_on_gs_is_the_local_one(tmp_path, bucket):
  """Text from the store, two shards to it, records from it."""
  text = pretraining_text.write_text(tmp_path / 'a.jsonl', 20)
  tokenizer = pretraining_text.tokenizer()
  options = PretrainingDataOptions(max_length=32, block_size=6000)
  pretraining_data.write(options, [text], tmp_path / 'set', tokenizer)
  there = bucket / 'text' / 'a.jsonl'
  files.write_text(there, text.read_text())
  for index in (1, 0):
    if index == 0:
      with pytest.raises(InputError, match='not complete'):
        records.find(bucket / 'set')
    pretraining_data.write(
      options, [there], bucket / 'set', tokenizer, (index, 2)
    )
  for path in (tmp_path / 'set').iterdir():
    assert (bucket / 'set' / path.name).read_bytes() == path.read_bytes()
  assert records.holds_records(bucket / 'set')
  here, found = records.find(tmp_path / 'set'), records.find(bucket / 'set')
  rows = np.arange(len(here))[::-3]
  assert found.read(rows) == here.read(rows)
  with pytest.raises(InputError, match='seed is 12345 there and 2 here'):
    pretraining_data.write(
      PretrainingDataOptions(max_length=32, block_size=6000, seed=2),
      [there], bucket / 'set', tokenizer,
    )  # fmt: skip
  assert (bucket / 'set' / prepared.DATASET).exists()
