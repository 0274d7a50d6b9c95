"""The batch ahead: same batches, and the position of the one that was taken."""

import numpy as np
import pytest

from mobilebert_jax.data.batching import loader
from mobilebert_jax.data.batching.loader import Prefetch
from tests.support import packed


class Counting:
  """Batches 0, 1, 2, ... with a position; `broken` cannot be read."""

  def __init__(self, stop=5, broken=None):
    self.position, self.stop, self.broken = 0, stop, broken

  def __next__(self):
    if self.position == self.stop:
      raise StopIteration
    if self.position == self.broken:
      raise OSError('damaged')
    self.position += 1
    return self.position - 1

  def get_state(self):
    return {'position': self.position}

  def set_state(self, state):
    self.position = state['position']


def test_one_batch_is_sent_ahead_and_does_not_count_as_taken():
  sent = []

  def put(batch):
    sent.append(batch)
    return f'on device {batch}'

  batches = Prefetch(Counting(), put)
  assert batches.get_state() == {'position': 0} and sent == []
  assert next(batches) == 'on device 0'
  assert sent == [0, 1]
  assert batches.get_state() == {'position': 1}
  assert list(batches) == [f'on device {n}' for n in range(1, 5)]
  assert batches.get_state() == {'position': 5}


def test_a_position_is_continued_without_what_was_ahead():
  batches = Prefetch(Counting(), lambda batch: batch)
  assert [next(batches) for _ in range(3)] == [0, 1, 2]
  batches.set_state({'position': 1})
  assert batches.get_state() == {'position': 1}
  assert list(batches) == [1, 2, 3, 4]
  batches.set_state({'position': 4})
  assert list(batches) == [4]


def test_trouble_comes_with_the_batch_that_has_it():
  batches = Prefetch(Counting(broken=2), lambda batch: batch)
  assert [next(batches), next(batches)] == [0, 1]
  for _ in range(2):
    with pytest.raises(OSError, match='damaged'):
      next(batches)
  assert batches.get_state() == {'position': 2}


def test_grains_position_is_the_same_with_and_without():
  def batches():
    return loader.train_iterator(
      packed.make_features(count=12), batch_size=4, num_steps=7, seed=3
    )

  plain, ahead = batches(), Prefetch(batches(), lambda batch: batch)
  for _ in range(4):
    a, b = next(plain), next(ahead)
    np.testing.assert_array_equal(a['input_ids'], b['input_ids'])
    assert plain.get_state() == ahead.get_state()
  again = Prefetch(batches(), lambda batch: batch)
  again.set_state(ahead.get_state())
  np.testing.assert_array_equal(
    next(again)['input_ids'], next(plain)['input_ids']
  )
