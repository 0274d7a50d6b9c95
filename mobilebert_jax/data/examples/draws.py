"""Random choices that are the same in every version of NumPy."""

import numpy as np

_WORDS_AT_ONCE = 1024
# Sets this stream of random words apart from the others of a run.
_STREAM = 4


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
      counter=np.array([0, second, third, _STREAM], np.uint64),
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
