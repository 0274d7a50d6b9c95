"""Every random stream of the host, numbered in one place."""

import numpy as np
from jaxtyping import Int

# Four rounds make a pseudo-random permutation (Luby and Rackoff 1988); more,
# since the domain may be small.
_ROUNDS = 8
# Sets this stream of random words apart from the others of a run.
_ORDER_STREAM = 3


def permutation_at(
  places: Int[np.ndarray, 'n'], count: int, seed: int, epoch: int
) -> Int[np.ndarray, 'n']:
  """What stands at some places of a random order of 0 to `count` - 1.

  Args:
    places: Places, from 0 to `count` - 1.
    count: How many things are ordered.
    seed: Of the run, at least 0.
    epoch: Its number, from 0: another order in each.

  Returns:
    int64; over all places each number once.
  """
  keys = np.random.Philox(
    key=np.array([seed, epoch], np.uint64),
    counter=np.array([0, 0, 0, _ORDER_STREAM], np.uint64),
  ).random_raw(_ROUNDS)
  half = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))
  found = _feistel(places.astype(np.uint64), keys, half)
  while (outside := found >= count).any():
    found[outside] = _feistel(found[outside], keys, half)
  return found.astype(np.int64)


def _feistel(
  numbers: np.ndarray, keys: np.ndarray, half: np.uint64
) -> np.ndarray:
  """A permutation of the numbers of 2 * `half` bits."""
  mask = (np.uint64(1) << half) - np.uint64(1)
  left, right = numbers >> half, numbers & mask
  for key in keys:
    left, right = right, left ^ (_mix(right + key) & mask)
  return left << half | right


def _mix(words: np.ndarray) -> np.ndarray:
  """The finaliser of SplitMix64 (Steele et al. 2014): every bit moves all."""
  words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return words ^ (words >> np.uint64(31))


_WORDS_AT_ONCE = 1024
# Sets this stream of random words apart from the others of a run.
_DRAWS_STREAM = 4


class Draws:
  """Random choices from the raw words of a Philox generator.

  NumPy keeps the raw stream of a bit generator for ever, the streams of its
  distributions it does not.

  Args of the constructor:
    seed: Of the run, at least 0.
    *numbers: Up to three numbers that set one stream apart from another.
  """

  def __init__(self, seed: int, *numbers: int):
    first, second, third = (*numbers, 0, 0, 0)[:3]
    self._generator = np.random.Philox(
      key=np.array([seed, first], np.uint64),
      counter=np.array([0, second, third, _DRAWS_STREAM], np.uint64),
    )
    self._words: list[int] = []

  def word(self) -> int:
    """64 random bits."""
    if not self._words:
      self._words = self._generator.random_raw(_WORDS_AT_ONCE).tolist()
    return self._words.pop()

  def below(self, limit: int) -> int:
    """A number from 0 to `limit` - 1."""
    return self.word() * limit >> 64

  def chance(self, probability: float) -> bool:
    """True so often."""
    return (self.word() >> 11) * 2.0**-53 < probability

  def heads(self, tosses: int) -> int:
    """How many of so many fair coins fall on one side."""
    count = 0
    for start in range(0, tosses, 64):
      count += (self.word() >> max(0, 64 - (tosses - start))).bit_count()
    return count
