import dataclasses
import json

import chex
import numpy as np
import pytest

from mobilebert_jax.data.batching import features as features_lib
from mobilebert_jax.data.batching import loader
from mobilebert_jax.runtime.errors import InputError

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


def join(parts):
  """The hosts' rows of one batch, put together."""
  return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


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


def shards(hosts):
  return [loader.ProcessShard(hosts, (index,)) for index in range(hosts)]


@pytest.mark.parametrize('hosts', [1, 2, 4])
@pytest.mark.parametrize('batching', ['bucketed', 'packed'])
def test_hosts_share_the_same_global_batches(hosts, batching):
  features = make(83)
  settings = {'batching': batching, 'row_multiple': 4}
  parts = [take(features, shard=shard, **settings) for shard in shards(hosts)]
  joined = [join(step) for step in zip(*parts)]
  chex.assert_trees_all_equal(joined, take(features, **settings))


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
    needed = batch['attention_mask'].sum(axis=1).max() + 1
    length = batch['input_ids'].shape[1]
    assert length == min(b for b in (8, 16, 32) if b >= needed)


@pytest.mark.parametrize('batching', ['bucketed', 'packed', 'padded'])
def test_continuing_from_a_saved_position_gives_the_same_batches(batching):
  features = make(83)
  settings = SETTINGS | {'batching': batching}
  whole = take(features, **settings)
  for stop in (0, 1, 9, 10, 29, 30):
    iterator = loader.train_iterator(features, **settings)
    for _ in range(stop):
      next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    again = loader.train_iterator(features, **settings)
    again.set_state(state)
    chex.assert_trees_all_equal(list(again), whole[stop:])


def test_too_few_examples_for_a_batch():
  with pytest.raises(InputError, match=r'batch_size is 8 .* only 5 training'):
    loader.train_iterator(make(5), **SETTINGS)


def test_hosts_that_cannot_share_a_batch():
  third = loader.ProcessShard(3, (0,))
  with pytest.raises(InputError, match='multiple of 3'):
    take(make(83), shard=third)
  with pytest.raises(InputError, match='multiple of 3'):
    list(loader.eval_batches(make(9), batch_size=8, shard=third))
  with pytest.raises(InputError, match='2 rows cannot be cut into 4 parts'):
    take(
      make(83),
      batching='packed',
      row_multiple=2,
      shard=loader.ProcessShard(4, (1,)),
    )


def test_a_host_may_have_parts_that_are_not_neighbours():
  shard = loader.ProcessShard(4, (0, 2))
  assert shard.rows(8).tolist() == [0, 1, 4, 5]
  features = make(83)
  for part, whole in zip(take(features, shard=shard), take(features)):
    rows = {name: array[[0, 1, 4, 5]] for name, array in whole.items()}
    chex.assert_trees_all_equal(part, rows)


@pytest.mark.parametrize('count', [1, 7, 8, 9, 83])
@pytest.mark.parametrize('hosts', [1, 4])
@pytest.mark.parametrize('batching', ['bucketed', 'packed', 'padded'])
def test_evaluation_has_every_example_once(count, hosts, batching):
  features = make(count)
  seen = []
  parts = [
    loader.eval_batches(
      features,
      batch_size=8,
      batching=batching,
      row_multiple=4,
      shard=shard,
    )
    for shard in shards(hosts)
  ]
  for step in zip(*parts, strict=True):
    placement = step[0][1]
    for _, others in step:
      chex.assert_trees_all_equal(vars(others), vars(placement))
    batch = join([batch for batch, _ in step])
    place = (placement.rows, placement.slots)
    if batching != 'packed':
      place = placement.rows
    chex.assert_trees_all_equal(batch['labels'][place], placement.examples)
    weights = np.zeros_like(batch['weights'])
    weights[place] = 1
    chex.assert_trees_all_equal(batch['weights'], weights)
    seen += batch['labels'][weights > 0].tolist()
  assert sorted(seen) == list(range(count))


def test_no_examples_are_no_batches():
  for batching in ('bucketed', 'packed', 'padded'):
    batches = loader.eval_batches(make(0), batch_size=8, batching=batching)
    assert list(batches) == []


def tokens_of(batch):
  """The labels and their tokens in a batch of any kind."""
  if 'segment_ids' not in batch:
    masks, ids = batch['attention_mask'] > 0, batch['input_ids']
    return {
      label: row[mask].tolist()
      for label, row, mask in zip(batch['labels'], ids, masks)
    }
  found = {}
  for row, slot in zip(*np.nonzero(batch['weights'])):
    start = batch['cls_positions'][row, slot]
    mask = batch['segment_ids'][row] == slot + 1
    assert mask.argmax() == start
    mask = mask & (batch['attention_mask'][row] > 0)
    found[batch['labels'][row, slot]] = batch['input_ids'][row, mask].tolist()
  return found


def test_packed_and_padded_steps_have_the_same_examples():
  features = make(83)
  packed, padded = (take(features, batching=b) for b in ('packed', 'padded'))
  for one, other in zip(packed, padded, strict=True):
    assert other['input_ids'].shape == (8, 32)
    assert one['input_ids'].shape[1] == 32
    assert len(one['input_ids']) < 8
    assert tokens_of(one) == tokens_of(other)
    assert len(tokens_of(one)) == 8


def test_a_transform_sees_seed_and_epoch():
  def noted(columns, rows, seed, epoch):
    note = np.repeat(1000 * seed + 100 * epoch + rows, columns['ids'].lengths())
    ids = columns['input_ids']
    return {**columns, 'input_ids': dataclasses.replace(ids, values=note)}

  base = make(20)
  features = dataclasses.replace(
    base,
    sequences={**base.sequences, 'ids': base.sequences['input_ids']},
    pad={**base.pad, 'ids': -1},
    transform=noted,
  )
  for batching in ('bucketed', 'packed', 'padded'):
    batches = take(features, batching=batching, num_steps=4)
    for step, batch in enumerate(batches):
      real = batch['attention_mask'] > 0
      expected = 3000 + 100 * (step // 2) + batch['ids'][real]
      chex.assert_trees_all_equal(batch['input_ids'][real], expected)
    for batch, _ in loader.eval_batches(
      features, batch_size=8, batching=batching
    ):
      real = batch['attention_mask'] > 0
      chex.assert_trees_all_equal(
        batch['input_ids'][real], batch['ids'][real] - 100
      )
