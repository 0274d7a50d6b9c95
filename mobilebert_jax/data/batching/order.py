"""A random order of any number of things, without an array of that size.

The order of 100 million examples as ranks of random words takes 2.4 GB while
it is made and 0.8 GB for each epoch that is kept, in every process. Here each
element is computed when it is wanted: a Feistel network permutes the numbers
of an even number of bits, and what falls outside goes through again until it
is inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
"""

import numpy as np
from jaxtyping import Int

# Four rounds make a pseudo-random permutation (Luby and Rackoff 1988); more,
# since the domain may be small.
_ROUNDS = 8
# Sets this stream of random words apart from the others of a run.
_STREAM = 3


def permuted(
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
    counter=np.array([0, 0, 0, _STREAM], np.uint64),
  ).random_raw(_ROUNDS)
  half = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))
  found = _once(places.astype(np.uint64), keys, half)
  while (outside := found >= count).any():
    found[outside] = _once(found[outside], keys, half)
  return found.astype(np.int64)


def _once(numbers: np.ndarray, keys: np.ndarray, half: np.uint64) -> np.ndarray:
  """A permutation of the numbers of 2 * `half` bits."""
  mask = (np.uint64(1) << half) - np.uint64(1)
  left, right = numbers >> half, numbers & mask
  for key in keys:
    left, right = right, left ^ (_mixed(right + key) & mask)
  return left << half | right


def _mixed(words: np.ndarray) -> np.ndarray:
  """The finaliser of SplitMix64 (Steele et al. 2014): every bit moves all."""
  words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return words ^ (words >> np.uint64(31))
