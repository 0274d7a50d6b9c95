import json

import chex
import numpy as np
import pytest

from mobilebert_jax.data import features as features_lib
from mobilebert_jax.data import loader
from mobilebert_jax.errors import InputError

SETTINGS = {'batch_size': 8, 'num_steps': 30, 'seed': 3, 'buckets': (8, 16, 32)}


def make(count, longest=30):
  """Example i is a row of i's, its length pseudo-random."""
  lengths = 1 + (np.arange(count) * 7919) % longest
  ids = features_lib.Ragged.from_rows([[i] * n for i, n in enumerate(lengths)])
  return features_lib.Features(
    {'input_ids': ids},
    {'labels': np.arange(count, dtype=np.int32)},
    {'input_ids': -1},
    max_length=32,
  )


def take(features, **changes):
  return list(loader.train_iterator(features, **(SETTINGS | changes)))


def test_an_epoch_has_every_example_once_and_drops_the_remainder():
  features = make(83)
  assert loader.steps_per_epoch(features, 8) == 10
  batches = [batch['labels'] for batch in take(features)]
  epochs = [np.concatenate(batches[i : i + 10]) for i in (0, 10, 20)]
  assert [len(set(epoch)) for epoch in epochs] == [80, 80, 80]
  left_out = [set(range(83)) - set(epoch) for epoch in epochs]
  assert left_out[0] != left_out[1] or left_out[1] != left_out[2]
  assert not np.array_equal(epochs[0], epochs[1])


def test_a_batch_is_a_function_of_seed_and_step():
  features = make(83)
  chex.assert_trees_all_equal(take(features), take(features))
  first = [batch['labels'] for batch in take(features)]
  other = [batch['labels'] for batch in take(features, seed=4)]
  assert not all(map(np.array_equal, first, other))
  # A longer run begins with the shorter one.
  chex.assert_trees_all_equal(take(features, num_steps=12), take(features)[:12])


def test_the_order_is_the_one_of_every_version():
  plan = loader.batch_plan(np.array([5, 1, 4, 2, 3, 9]), 2, seed=1, epoch=0)
  chex.assert_trees_all_equal(plan, np.array([[4, 2], [0, 5], [1, 3]]))


@pytest.mark.parametrize('hosts', [1, 2, 4])
def test_hosts_share_the_same_global_batches(hosts):
  features = make(83)
  parts = [
    take(features, process_index=i, process_count=hosts) for i in range(hosts)
  ]
  joined = [
    {name: np.concatenate([p[name] for p in step]) for name in step[0]}
    for step in zip(*parts)
  ]
  chex.assert_trees_all_equal(joined, take(features))


def test_batches_hold_examples_of_similar_length():
  features = make(4096, longest=32)
  lengths = features.lengths()
  plan = loader.batch_plan(lengths, 16, seed=0, epoch=0)
  padded = lengths[plan].max(axis=1).sum() * 16
  assert padded < 1.05 * lengths.sum()
  # ... yet batches of all lengths follow one another.
  assert np.std(lengths[plan].mean(axis=1)[:32]) > 5


def test_a_batch_is_padded_to_the_smallest_bucket():
  for batch in take(make(200)):
    longest = batch['attention_mask'].sum(axis=1).max()
    length = batch['input_ids'].shape[1]
    assert length == min(b for b in (8, 16, 32) if b >= longest)


def test_continuing_from_a_saved_position_gives_the_same_batches():
  features = make(83)
  whole = take(features)
  for stop in (0, 1, 9, 10, 29, 30):
    iterator = loader.train_iterator(features, **SETTINGS)
    for _ in range(stop):
      next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    again = loader.train_iterator(features, **SETTINGS)
    again.set_state(state)
    chex.assert_trees_all_equal(list(again), whole[stop:])


def test_too_few_examples_for_a_batch():
  with pytest.raises(InputError, match=r'batch_size is 8 .* only 5 training'):
    loader.train_iterator(make(5), **SETTINGS)


def test_hosts_that_cannot_share_a_batch():
  with pytest.raises(InputError, match='multiple of 3'):
    take(make(83), process_count=3)
  with pytest.raises(InputError, match='multiple of 3'):
    list(loader.eval_batches(make(9), batch_size=8, process_count=3))


@pytest.mark.parametrize('count', [1, 7, 8, 9, 83])
@pytest.mark.parametrize('hosts', [1, 4])
def test_evaluation_has_every_example_once(count, hosts):
  features = make(count)
  seen = []
  parts = [
    loader.eval_batches(
      features, batch_size=8, process_index=i, process_count=hosts
    )
    for i in range(hosts)
  ]
  for step in zip(*parts, strict=True):
    indices = step[0][1]
    for _, others in step:
      chex.assert_trees_all_equal(others, indices)
    labels = np.concatenate([batch['labels'] for batch, _ in step])
    weights = np.concatenate([batch['weights'] for batch, _ in step])
    chex.assert_trees_all_equal(labels[: len(indices)], indices)
    chex.assert_trees_all_equal(
      weights, (np.arange(8) < len(indices)).astype(np.float32)
    )
    seen += labels[weights > 0].tolist()
  assert sorted(seen) == list(range(count))


def test_no_examples_are_no_batches():
  assert list(loader.eval_batches(make(0), batch_size=8)) == []
