"""Examples that are read from disk batch by batch."""

import functools
import shutil

import numpy as np
import pytest

from mobilebert_jax import pretraining_data
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import PretrainingOptions
from mobilebert_jax.data.batching import loader
from mobilebert_jax.data.random_streams import permutation_at
from mobilebert_jax.data.records import records
from mobilebert_jax.data.records.tf_example import Examples, encode
from mobilebert_jax.pretraining_data import PretrainingDataOptions
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.pretraining import load
from mobilebert_jax.training import setup
from tests.support.pretraining_sets import (
  SMALL,
  TOKENIZER,
  features,
  write_every_kind,
)
from tests.support.tfrecords import record

COLUMNS = {
  'input_ids', 'token_type_ids', 'attention_mask', 'masked_positions', 'labels',
  'next_sentence_label', 'weights',
}  # fmt: skip
SIZE = SMALL['max_length']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return write_every_kind(tmp_path_factory.mktemp('stored'))


@pytest.mark.parametrize('kind', ['dynamic', 'static', 'tfrecord', 'a.jsonl'])
def test_every_kind_of_data_has_the_same_columns(folder, kind):
  found = features(folder / kind)
  rows = np.arange(0, len(found), 7)
  batch = found.batch(rows, SIZE, real=len(rows) - 1, seed=1, epoch=0)
  assert set(batch) == COLUMNS
  count, size = len(rows), SIZE
  for name, array in batch.items():
    is_float = name == 'weights'
    assert array.dtype == (np.float32 if is_float else np.int32), name
  assert batch['input_ids'].shape == (count, size)
  assert batch['labels'].shape == batch['masked_positions'].shape
  assert (
    batch['next_sentence_label'].shape == batch['weights'].shape == (count,)
  )
  assert batch['weights'].tolist() == [1.0] * (count - 1) + [0.0]
  counts = batch['labels'] != -100
  assert (counts.sum(axis=1) >= 1).all()
  for i, row in enumerate(rows):
    whole = np.array(load.tokens_of(found, int(row)))
    assert len(whole) == batch['attention_mask'][i].sum()
    places = batch['masked_positions'][i][counts[i]]
    assert len(set(places.tolist())) == len(places)
    np.testing.assert_array_equal(whole[places], batch['labels'][i][counts[i]])
    others = np.setdiff1d(np.arange(len(whole)), places)
    np.testing.assert_array_equal(whole[others], batch['input_ids'][i][others])
    assert not batch['masked_positions'][i][~counts[i]].any()


def test_masks_are_new_in_each_epoch_but_not_in_evaluation(folder):
  found, rows = features(folder / 'dynamic'), np.arange(50)
  batch = functools.partial(found.batch, rows, SIZE)
  first = batch(seed=1, epoch=0)
  for other in ({'seed': 1, 'epoch': 1}, {'seed': 2, 'epoch': 0}):
    assert (batch(**other)['input_ids'] != first['input_ids']).any()
  np.testing.assert_array_equal(batch()['labels'], batch()['labels'])
  again = found.batch(rows[::-1], SIZE, seed=1, epoch=0)
  for name, array in first.items():
    np.testing.assert_array_equal(again[name][::-1], array)
  fixed = features(folder / 'static')
  one = fixed.batch(rows, SIZE, seed=1, epoch=0)
  two = fixed.batch(rows, SIZE, seed=2, epoch=5)
  np.testing.assert_array_equal(one['input_ids'], two['input_ids'])


def test_tfrecords_are_read_as_our_own_records(folder):
  ours = records.find(folder / 'static')
  theirs = records.find(folder / 'tfrecord')
  rows = np.random.default_rng(0).permutation(len(ours))
  assert len(theirs) == len(ours)
  assert theirs.read(rows) == ours.read(rows)


def test_names_of_version_2(folder, tmp_path):
  """input_word_ids and input_type_ids, as tensorflow/models writes them."""
  found = records.find(folder / 'static')
  examples = Examples(found.read(np.arange(8)))
  names = {'input_ids': 'input_word_ids', 'segment_ids': 'input_type_ids'}
  content = b''
  (tmp_path / 'data').mkdir()
  for row in range(8):
    values = {
      names.get(name, name): examples.integers(name)[row]
      for name in examples.names()
      if name != 'masked_lm_weights'
    }
    values['masked_lm_weights'] = examples.floats('masked_lm_weights')[row]
    content += record(encode(values))
  (tmp_path / 'data' / 'a.tfrecord').write_bytes(content)
  shutil.copy(tmp_path / 'data' / 'a.tfrecord', tmp_path / 'b.tf_record')
  rows = np.arange(8)
  other = PretrainingOptions(validation_file='../b.tf_record')
  new = features(tmp_path / 'data', other).batch(rows, SIZE)
  other = PretrainingOptions(validation_file='../tfrecord')
  old = features(folder / 'static', other).batch(rows, SIZE)
  for name, array in old.items():
    np.testing.assert_array_equal(new[name], array)


def test_each_epoch_has_every_record_once_in_another_order(folder):
  found = features(folder / 'dynamic')
  count = len(found) // 16
  batches = loader.train_iterator(
    found, batch_size=16, num_steps=2 * count, seed=3, batching='padded'
  )
  rows = {}
  for row in range(len(found)):
    rows.setdefault(tuple(load.tokens_of(found, row)), []).append(row)

  def seen(batch):
    ids = batch['input_ids'].copy()
    for i, (labels, places) in enumerate(
      zip(batch['labels'], batch['masked_positions'])
    ):
      ids[i, places[labels != -100]] = labels[labels != -100]
    sizes = batch['attention_mask'].sum(axis=1)
    return [rows[tuple(i[:n].tolist())][0] for i, n in zip(ids, sizes)]

  epochs = [[i for _ in range(count) for i in seen(next(batches))]
            for _ in range(2)]  # fmt: skip
  for epoch in epochs:
    assert len(set(epoch)) > 0.99 * len(epoch)
  assert epochs[0] != epochs[1]
  expected = permutation_at(np.arange(16 * count), len(found), 3, 0)
  texts = [tuple(load.tokens_of(found, int(i))) for i in expected]
  assert epochs[0] == [rows[text][0] for text in texts]


def test_a_position_can_be_saved_and_each_process_reads_its_rows(folder):
  found = features(folder / 'dynamic')
  settings = {
    'batch_size': 8, 'num_steps': 9, 'seed': 1, 'batching': 'padded',
    'row_multiple': 4,
  }  # fmt: skip
  whole = list(loader.train_iterator(found, **settings))
  going = loader.train_iterator(found, **settings)
  for _ in range(4):
    next(going)
  state = going.get_state()
  again = loader.train_iterator(found, **settings)
  again.set_state(state)
  for expected, batch in zip(whole[4:], again, strict=True):
    for name, array in expected.items():
      np.testing.assert_array_equal(batch[name], array)
  shards = [loader.ProcessShard(4, (0, 3)), loader.ProcessShard(4, (1, 2))]
  for shard in shards:
    parts = loader.train_iterator(found, shard=shard, **settings)
    for expected, batch in zip(whole, parts, strict=True):
      for name, array in expected.items():
        np.testing.assert_array_equal(batch[name], array[shard.rows(8)])


def test_evaluation_sees_every_record_once(folder):
  found = features(folder / 'static', split='validation')
  batches = loader.eval_batches(
    found, batch_size=16, batching='padded', row_multiple=4
  )
  total, examples = 0.0, []
  for batch, placement in batches:
    total += batch['weights'].sum()
    examples += placement.examples.tolist()
    assert len(batch['weights']) % 4 == 0
  assert total == len(found) and examples == list(range(len(found)))


def test_nothing_is_kept_for_each_record(folder):
  """A set of any size costs its plan no memory."""
  found = features(folder / 'dynamic')
  assert found.lengths().strides == (0,)
  assert (found.lengths() == SIZE).all()
  many = 10**12
  places = np.arange(5) * 10**11
  order = permutation_at(places, many, 0, 0)
  assert len(set(order.tolist())) == 5 and (order < many).all()


@pytest.mark.parametrize('count', [1, 2, 3, 5, 16, 17, 300])
def test_an_order_has_each_number_once(count):
  order = permutation_at(np.arange(count), count, 1, 2)
  assert sorted(order.tolist()) == list(range(count))
  assert order.tolist() == [
    int(permutation_at(np.array([i]), count, 1, 2)[0]) for i in range(count)
  ]
  if count > 100:
    for other in ((2, 2), (1, 3)):
      different = permutation_at(np.arange(count), count, *other) != order
      assert different.mean() > 0.9


def test_an_order_is_random():
  """Ranks are uniform and neighbours independent, to four deviations."""
  count = 100_000
  order = permutation_at(np.arange(count), count, 7, 0) / count
  deciles = np.histogram(order[:10_000], 10, (0, 1))[0]
  assert (np.abs(deciles - 1000) < 4 * np.sqrt(900)).all()
  correlation = np.corrcoef(order[:-1], order[1:])[0, 1]
  assert abs(correlation) < 4 / np.sqrt(count)
  # One step in two goes up, as of independent numbers: variance n / 12.
  ups = (np.diff(order) > 0).sum()
  assert abs(ups - count / 2) < 4 * np.sqrt(count / 12)


def test_records_stay_out_of_the_token_cache(folder, tmp_path):
  from mobilebert_jax.config.run import TrainConfig
  from mobilebert_jax.tasks import TASKS

  data = DataConfig(
    source='files', path=str(folder / 'dynamic'), batching='padded',
    max_length=SIZE, cache_dir=str(tmp_path / 'cache'),
  )  # fmt: skip
  config = TrainConfig(task='pretraining', num_steps=1, data=data)
  task = TASKS['pretraining'].make_task({}, data)
  split = setup.load_split(config, task, TOKENIZER, 'train')
  assert len(split.features) > 100 and not (tmp_path / 'cache').exists()


def other_tokenizer():
  names = TOKENIZER.convert_ids_to_tokens(list(range(len(TOKENIZER))))
  swapped = [*names[:-2], names[-1], names[-2]]
  return type(TOKENIZER)(vocab={token: i for i, token in enumerate(swapped)})


def test_data_that_does_not_fit_the_run(folder, tmp_path):
  with pytest.raises(InputError, match=r'have 32 positions, but .* is 64'):
    features(folder / 'dynamic', size=64)
  with pytest.raises(InputError, match='made with another vocabulary'):
    features(folder / 'dynamic', tokenizer=other_tokenizer())
  found = features(folder / 'dynamic')
  for batching in ('bucketed', 'packed'):
    with pytest.raises(InputError, match=f"is '{batching}', .* use 'padded'"):
      loader.train_iterator(
        found, batch_size=4, num_steps=1, seed=0, batching=batching
      )
  plain = PretrainingDataOptions(
    max_length=SIZE, next_sentence=False, block_size=9000
  )
  path = tmp_path / 'plain'
  pretraining_data.write(plain, [folder / 'a.jsonl'], path, TOKENIZER)
  with pytest.raises(InputError, match='no next_sentence_labels; use'):
    features(path)
  without = features(path, PretrainingOptions(next_sentence=False))
  assert set(without.batch(np.arange(4), SIZE)) == COLUMNS - {
    'next_sentence_label'
  }
  # A set with the labels may be learnt from without them.
  ignored = features(folder / 'static', PretrainingOptions(next_sentence=False))
  assert 'next_sentence_label' not in ignored.batch(np.arange(4), SIZE)


def example(**changes):
  """A right record with other features."""
  values = {
    'input_ids': np.array([2, 9, 4, 9, 3, 0]),
    'input_mask': np.array([1, 1, 1, 1, 1, 0]),
    'segment_ids': np.zeros(6, int),
    'masked_lm_positions': np.array([2, 0]),
    'masked_lm_ids': np.array([9, 0]),
    'masked_lm_weights': np.array([1, 0], np.float32),
    'next_sentence_labels': np.array([0]),
  }
  values |= changes
  return encode({k: v for k, v in values.items() if v is not None})


BEYOND = np.array([2, 9, 4, 9**9, 3, 0])
WRONG = {
  'ids': ({'input_ids': BEYOND}, r'input_ids beyond the \d+ tokens'),
  'negative ids': ({'input_ids': -BEYOND}, 'input_ids beyond'),
  'targets': ({'masked_lm_ids': np.array([9**9, 0])}, 'masked_lm_ids beyond'),
  'positions': (
    {'masked_lm_positions': np.array([5, 0])}, 'masked_lm_positions beyond',
  ),
  'weights': (
    {'masked_lm_weights': np.array([0.5, 0], np.float32)}, 'neither 0 nor 1',
  ),
  'a gap': ({'input_mask': np.array([1, 0, 1, 1, 1, 0])}, 'mask with gaps'),
  'types': ({'segment_ids': np.array([0, 0, 2, 0, 0, 0])}, 'beyond 0, 1'),
  'label': ({'next_sentence_labels': np.array([2])}, 'neither 0 nor 1'),
  'no label': ({'next_sentence_labels': None}, "no feature 'next_sentence"),
  'a shorter row': ({'input_ids': BEYOND[:5]}, "5 values of 'input_ids' inst"),
  'no ids': ({'input_ids': None}, "has no feature 'input_ids'; it has input_"),
}  # fmt: skip


@pytest.mark.parametrize('case', WRONG)
def test_a_wrong_record_is_named(tmp_path, case):
  changes, message = WRONG[case]
  right = record(example())
  content = right * 3 + record(example(**changes)) + right
  (tmp_path / 'a.tfrecord').write_bytes(content)
  (tmp_path / 'b.tfrecord').write_bytes(right)
  other = PretrainingOptions(validation_file='b.tfrecord')
  found = features(tmp_path, other, size=6)
  place = rf'a\.tfrecord: the record at byte {3 * len(right)} .*{message}'
  with pytest.raises(InputError, match=place):
    found.batch(np.array([4, 3, 0]), 6)
  assert found.batch(np.array([4, 0]), 6)['labels'].tolist() == [[9, -100]] * 2
