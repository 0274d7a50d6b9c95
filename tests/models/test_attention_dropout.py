"""The hash that says which attention probabilities dropout keeps.

Bounds are those of independent draws at five standard deviations, where chance
alone would fail one test in a million.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mobilebert_jax.models.attention import dropout

SHAPE = (4, 4, 96, 128)
RATE = 0.1
FIVE = 5.0


def mask(key, shape=SHAPE, rate=RATE):
  seed = dropout.seed_of(key)
  return np.asarray(
    jax.jit(dropout.mask, static_argnums=(1, 2))(seed, shape, rate)
  )


def centred(kept, rate=RATE):
  """Each bit with mean 0 and variance 1, if bits are independent."""
  return (kept - (1 - rate)) / np.sqrt(rate * (1 - rate))


def deviations(products):
  """How many standard deviations their mean is from 0."""
  return abs(products.mean()) * np.sqrt(products.size)


@pytest.fixture(scope='module')
def kept():
  return mask(jax.random.key(3, impl='rbg'))


@pytest.mark.parametrize('rate', [0.01, 0.1, 0.5, 0.9])
def test_keep_rate(rate):
  assert deviations(centred(mask(jax.random.key(1), rate=rate), rate)) < FIVE


@pytest.mark.parametrize('axis', range(4))
def test_rates_of_slices_vary_as_chance_does(kept, axis):
  """Chi-square over rows, heads, queries and keys."""
  x = centred(kept)
  others = tuple(i for i in range(4) if i != axis)
  sums = x.sum(axis=others) / np.sqrt(x.size / x.shape[axis])
  count = sums.size
  assert abs(np.square(sums).sum() - count) < FIVE * np.sqrt(2 * count)


@pytest.mark.parametrize('axis', range(4))
@pytest.mark.parametrize('step', [1, 2, 3, 8, 64])
def test_neighbours_are_independent(kept, axis, step):
  if step >= SHAPE[axis]:
    step = SHAPE[axis] - 1
  x = np.moveaxis(centred(kept), axis, 0)
  assert deviations(x[:-step] * x[step:]) < FIVE


def test_rectangles_are_independent(kept):
  """a + b in the hash must not show in products of four bits."""
  x = centred(kept)
  for t, s in itertools.product((1, 2, 32), (1, 2, 64)):
    four = x[:, :, :-t, :-s] * x[:, :, t:, :-s] * x[:, :, :-t, s:]
    assert deviations(four * x[:, :, t:, s:]) < FIVE


def test_patterns_of_eight_keys_are_as_frequent_as_chance_has_them():
  kept = mask(jax.random.key(2), rate=0.5)
  codes = np.packbits(kept, axis=-1).ravel()
  expected = codes.size / 256
  found = np.bincount(codes, minlength=256)
  chi = np.square(found - expected).sum() / expected
  assert abs(chi - 255) < FIVE * np.sqrt(2 * 255)


def test_steps_and_layers_are_independent(kept):
  """Keys as a run's steps and layers have them."""
  run = jax.random.key(0)
  masks = []
  for step in range(2):
    at_step = jax.random.fold_in(run, step)
    masks += [mask(key) for key in jax.random.split(at_step, 2)]
  for one, other in itertools.combinations(masks, 2):
    assert deviations(centred(one) * centred(other)) < FIVE


def test_all_words_of_a_key_count():
  for impl, count in (('threefry2x32', 2), ('rbg', 4)):
    words = np.arange(count, dtype=np.uint32)
    seeds = set()
    for i in range(count + 1):
      changed = words.copy()
      if i < count:
        changed[i] += 1
      key = jax.random.wrap_key_data(jnp.asarray(changed), impl=impl)
      seeds.add(tuple(np.asarray(dropout.seed_of(key)).tolist()))
    assert len(seeds) == count + 1


def test_a_part_has_the_bits_of_the_whole():
  seed = dropout.seed_of(jax.random.key(4))
  whole = np.asarray(dropout.mask(seed, (4, 4, 16, 24), RATE))
  part = dropout.mask(seed, (2, 2, 16, 24), RATE, first=(2, 1))
  np.testing.assert_array_equal(part, whole[2:, 1:3])


def test_same_bits_on_eight_devices():
  mesh = jax.make_mesh((2, 2, 2), ('a', 'b', 'c'))
  seed = dropout.seed_of(jax.random.key(5))

  def make(seed):
    return dropout.mask(seed, (8, 4, 16, 24), RATE)

  there = NamedSharding(mesh, PartitionSpec('a', 'b', 'c'))
  divided = jax.jit(make, out_shardings=there)(seed)
  assert len(divided.sharding.device_set) == 8
  assert divided.addressable_shards[0].data.shape == (4, 2, 8, 24)
  np.testing.assert_array_equal(divided, jax.jit(make)(seed))
