"""What is counted at the start of a run, of data that stays on disk."""

import types

import numpy as np
import pytest

from mobilebert_jax.config.run import DataConfig, TrainConfig
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.training import overview
from mobilebert_jax.training.evaluate import Split
from tests.support.pretraining_sets import (
  SMALL,
  TOKENIZER,
  features,
  write_every_kind,
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_every_kind(tmp_path_factory.mktemp('stored'))


@pytest.mark.parametrize('kind', ['dynamic', 'static', 'tfrecord'])
@pytest.mark.parametrize('most', [13, 10**6])
def test_records_are_counted_in_parts_as_at_once(
  folder, kind, most, monkeypatch
):
  found = features(folder / kind)
  # Parts of which the last is shorter.
  monkeypatch.setattr(overview, '_READ_AT_ONCE', 5)
  monkeypatch.setattr(overview, '_ROWS', most)
  config = TrainConfig(
    task='pretraining',
    num_steps=1,
    data=DataConfig(max_length=SMALL['max_length']),
  )
  run = types.SimpleNamespace(
    task=TASKS['pretraining'].make_task({}, config.data),
    config=config,
    start=types.SimpleNamespace(tokenizer=TOKENIZER),
  )
  facts = overview._look_at(run, Split('train', found.records, found))
  texts = found.texts(np.arange(min(most, len(found))))
  assert (facts.rows, facts.seen) == (len(found), len(texts))
  assert facts.lengths.tolist() == [len(text) for text in texts]
  values = np.concatenate(texts)
  special = {*TOKENIZER.all_special_ids} - {TOKENIZER.unk_token_id}
  is_text = ~np.isin(values, [*special])
  unknown = values == TOKENIZER.unk_token_id
  assert facts.unknown_share == unknown.sum() / is_text.sum()
  known = {*range(len(TOKENIZER))} - {*TOKENIZER.all_special_ids}
  assert facts.blank == sum(not known & {*text.tolist()} for text in texts)
