"""Which blocks a smaller model begins with."""

import itertools

import pytest

from mobilebert_jax.config import taken_layers
from mobilebert_jax.runtime.errors import InputError


@pytest.mark.parametrize(
  ('number', 'available', 'expected'),
  [
    (6, 12, (0, 2, 4, 7, 9, 11)),
    (3, 12, (0, 6, 11)),
    (12, 24, (0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21, 23)),
    (6, 24, (0, 5, 9, 14, 18, 23)),
    (2, 8, (0, 7)),
    (1, 8, (0,)),
  ],
)
def test_a_number_of_blocks(number, available, expected):
  assert taken_layers.spread(number, available) == expected
  assert taken_layers.resolve(number, available, 'x') == expected
  assert taken_layers.count(number) == taken_layers.count(expected)


def test_every_number_is_spread_evenly_from_the_first_to_the_last():
  for available in range(1, 30):
    for number in range(1, available + 1):
      found = taken_layers.spread(number, available)
      assert len(found) == number and found[0] == 0
      if number > 1:
        assert found[-1] == available - 1
        gaps = [b - a for a, b in itertools.pairwise(found)]
        assert min(gaps) >= 1 and max(gaps) - min(gaps) <= 1


def test_named_blocks_keep_their_order():
  assert taken_layers.resolve((5, 0, 3), 6, 'x') == (5, 0, 3)
  assert taken_layers.resolve([2], 6, 'x') == (2,)


@pytest.mark.parametrize(
  ('layers', 'message'),
  [
    (0, 'config.init_layers is 0, but must be at least 1.'),
    (9, 'is 9, but must be at most 8, the number of blocks of some/model.'),
    ((0, 8), 'is (0, 8), but must be numbers from 0 to 7, those of the blocks'),
    ((0, -1), 'the first block being 0'),
    ((3, 3), 'none of them twice'),
    ((), 'at least one'),
  ],
)
def test_wrong_blocks(layers, message):
  with pytest.raises(InputError) as error:
    taken_layers.resolve(layers, 8, 'some/model')
  assert message in str(error.value)


def test_what_is_said_of_them():
  said = [
    taken_layers.describe(layers, 'x') for layers in (None, 12, 1, (0, 3), (2,))
  ]
  assert said == [
    'x', '12 blocks of x', '1 block of x', 'blocks 0, 3 of x', 'block 2 of x',
  ]  # fmt: skip
