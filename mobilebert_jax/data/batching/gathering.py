"""Few labels in many positions: where they are, instead of a row full of none.

A masked language model predicts a seventh of the tokens at most. A batch whose
labels are [B, P], with their positions, lets the head leave out all others
(`HeadedModel`'s `masked_positions`). P is part of the batch's shape, and every
shape is a compilation, so it may depend on the length of the rows and on the
settings of the masking, but never on what was drawn.
"""

import dataclasses
import functools
import itertools

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True)
class Gathered:
  """The sequence column that batches have at its labels' positions alone.

  Attributes:
    most: `most[n]` is how many labels a sequence of n tokens, special ones
      included, can have at most, for n from 0 to the longest sequence; it
      never falls.
    column: the column with the labels, [B, P] in a batch; what it is padded
      with is no label.
    positions: the name of the column with their positions, [B, P] in a batch;
      0 where there is no label.
  """

  most: tuple[int, ...]
  column: str = 'labels'
  positions: str = 'masked_positions'

  def __post_init__(self):
    """Checks what every bound below relies on."""
    if any(b < a for a, b in itertools.pairwise(self.most)):
      raise ValueError('a longer sequence can have no fewer labels')

  def width(self, length: int) -> int:
    """P of rows of `length` positions with one sequence in each.

    A sequence has as many tokens as its row has positions, or fewer, and
    `most` never falls: so `most[length]` is enough.
    """
    return self.most[length]

  def packed_width(self, length: int) -> int:
    """P of rows of `length` positions with any number of sequences in each.

    A sequence of n tokens takes n + 1 positions, or n if it is as long as
    sequences can be (`Features.slots`), and has `most[n]` labels at most. What
    a row can have is therefore the greatest value of an unbounded knapsack of
    that size, and this is that value: every way to fill the row is an argument
    of the maximum. Short sequences decide it, since each predicts a token
    however short it is: with 15% masked, one in every 4 positions.
    """
    return _knapsack(self.most, length)

  def gather(
    self, labels: Int[np.ndarray, 'B S'], none: int, width: int
  ) -> dict[str, Int[np.ndarray, 'B P']]:
    """Labels and positions of a batch.

    Args:
      labels: the column as it lies in the rows.
      none: what stands where there is no label.
      width: P.

    Returns:
      The columns `positions` and `column`, int32, by their names.

    Raises:
      ValueError: a row has more labels than `most` says, a defect of the
        encoder: labels that were dropped would be lost in silence.
    """
    rows, places = np.nonzero(labels != none)
    counts = np.bincount(rows, minlength=len(labels))
    if counts.max(initial=0) > width:
      raise ValueError(
        f'{counts.max()} labels in a row that has {width} places'
      )
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    positions = np.zeros((len(labels), width), np.int32)
    found = np.full((len(labels), width), none, np.int32)
    positions[rows, nth] = places
    found[rows, nth] = labels[rows, places]
    return {self.positions: positions, self.column: found}


@functools.lru_cache(maxsize=64)
def _knapsack(most: tuple[int, ...], length: int) -> int:
  """The greatest number of labels in `length` positions; see `Gathered`."""
  longest = len(most) - 1
  # By size: the most labels of a sequence that takes so many positions.
  value = np.array([0, *most[:-1]], np.int64)
  value[longest] = most[longest]
  best = np.zeros(length + 1, np.int64)
  for size in range(1, length + 1):
    last = min(size, longest)
    rest = best[size - last : size][::-1]
    best[size] = max(best[size - 1], np.max(rest + value[1 : last + 1]))
  return int(best[length])
