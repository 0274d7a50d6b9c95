"""Every random stream of the host, numbered in one place.

Random numbers come from Philox (Salmon et al. 2011), whose output is a pure
function of a key and a counter: key = (seed, n1) and counter = (block, n2, n3,
stream), where `Stream` sets one use apart from another, n1 to n3 are the use's
own numbers (such as the epoch), and the block counts up from 0. Only raw 64-bit
words are used: NumPy keeps the raw stream of a bit generator for ever, the
streams of its distributions it does not.

What is held out (`hash_rank`) depends on names alone, not on a seed. Random
numbers on the device (dropout, initial weights) come from `jax.random`.
"""

import enum
import hashlib
import random

import numpy as np
from jaxtyping import Int, UInt64


class Stream(enum.IntEnum):
  """The uses of random words, with the numbers n1, n2, n3 of each.

  A number is never given to another use: it decides the words of a seed.
  """

  # loader.batch_plan: the order of examples in memory, and of batches.
  # n1: epoch.
  BATCHES = 0
  # masking.Masking: which tokens are predicted, and what replaces them.
  # n1: epoch + 1 (0 in evaluation), or the block of prepared data; n2: row.
  MASKING = 1
  # next_sentence.make_pairs: the coins and the random second segments.
  SENTENCE_PAIRS = 2
  # permutation_at: the order of examples on disk. n1: epoch.
  PERMUTATION = 3
  # sequences.draw: lengths, borders and random segments of sequences.
  # n1: pass over the text; n2: document; n3: number of the text.
  SEQUENCES = 4
  # sequences.shuffled: the order of sequences. n1: number of the text.
  SHUFFLE = 5


def philox(
  stream: Stream, seed: int, n1: int = 0, n2: int = 0, n3: int = 0
) -> np.random.Philox:
  """Returns the generator of a stream; see the module for the arguments."""
  return np.random.Philox(
    key=np.array([seed, n1], np.uint64),
    counter=np.array([0, n2, n3, stream], np.uint64),
  )


def unit_interval(words: UInt64[np.ndarray, '*n']) -> np.ndarray:
  """Maps random words to numbers in [0, 1), float64: the upper 53 bits."""
  return (words >> np.uint64(11)) * 2.0**-53


def hash_rank(name: str) -> bytes:
  """Returns the SHA-256 of a name: sorts names in a fixed arbitrary order."""
  return hashlib.sha256(name.encode()).digest()


def generator_named(name: str) -> random.Random:
  """Returns Python's generator with a text as its seed.

  For made-up data (`tasks.entailment`): slower than `philox`, with `choice`
  and `sample`, whose results Python has kept since version 3.2.
  """
  return random.Random(name)


class Draws:
  """Random choices from the words of a stream, one after another."""

  _WORDS_AT_ONCE = 1024

  def __init__(
    self, stream: Stream, seed: int, n1: int = 0, n2: int = 0, n3: int = 0
  ):
    """Begins at the stream's first word; arguments as `philox`."""
    self._generator = philox(stream, seed, n1, n2, n3)
    self._words: list[int] = []

  def word(self) -> int:
    """Draws 64 random bits."""
    if not self._words:
      self._words = self._generator.random_raw(self._WORDS_AT_ONCE).tolist()
    return self._words.pop()

  def below(self, limit: int) -> int:
    """Draws an integer from 0 to `limit` - 1."""
    return self.word() * limit >> 64

  def chance(self, probability: float) -> bool:
    """Draws True with this probability."""
    return (self.word() >> 11) * 2.0**-53 < probability

  def heads(self, tosses: int) -> int:
    """Draws the number of heads among so many tosses of a fair coin."""
    count = 0
    for start in range(0, tosses, 64):
      count += (self.word() >> max(0, 64 - (tosses - start))).bit_count()
    return count


# Four rounds make a pseudo-random permutation (Luby and Rackoff 1988); more,
# since the domain may be small.
_ROUNDS = 8


def permutation_at(
  positions: Int[np.ndarray, 'n'], count: int, seed: int, epoch: int
) -> Int[np.ndarray, 'n']:
  """Returns some elements of a random permutation of 0 to `count` - 1.

  The whole permutation is never in memory: as ranks of random words that of
  100 million examples takes 2.4 GB while it is made and 0.8 GB for each epoch
  that is kept, in every process. Here a Feistel network permutes the integers
  of an even number of bits, and what falls outside goes through again until it
  is inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").

  Args:
    positions: Indices into the permutation, from 0 to `count` - 1.
    count: Its length.
    seed: Of the run, at least 0.
    epoch: From 0; each has another permutation.

  Returns:
    The elements at `positions`, int64; over all positions each number once.
  """
  keys = philox(Stream.PERMUTATION, seed, epoch).random_raw(_ROUNDS)
  half = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))
  elements = _feistel(positions.astype(np.uint64), keys, half)
  while (outside := elements >= count).any():
    elements[outside] = _feistel(elements[outside], keys, half)
  return elements.astype(np.int64)


def _feistel(
  numbers: np.ndarray, keys: np.ndarray, half: np.uint64
) -> np.ndarray:
  """Permutes the integers of 2 * `half` bits, a round for each key."""
  mask = (np.uint64(1) << half) - np.uint64(1)
  left, right = numbers >> half, numbers & mask
  for key in keys:
    left, right = right, left ^ (_mix(right + key) & mask)
  return left << half | right


def _mix(words: np.ndarray) -> np.ndarray:
  """Finalises words as SplitMix64 (Steele et al. 2014): each bit moves all."""
  words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return words ^ (words >> np.uint64(31))
