"""Long sentences cut into windows, each word decided by one of them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def split(lengths: Sequence[int], capacity: int, stride: int) -> list[range]:
  """Cuts a sentence at the borders of words.

  Each window is as full as it can be, and begins with the last words of the
  one before it, as many as fit in `stride` tokens and leave room for the next
  new word.

  Args:
    lengths: Tokens of each word, at most `capacity`; words without tokens cost
      nothing.
    capacity: Tokens that a window holds, at least 1.
    stride: Tokens that a window may repeat, less than `capacity`.

  Returns:
    The words of each window. Every word is in one window at least.
  """
  windows: list[range] = []
  start = end = 0
  while end < len(lengths):
    # The overlap must leave room for the first word that is new.
    room = min(stride, capacity - lengths[end])
    start, used = end, 0
    while windows and start > 0 and used + lengths[start - 1] <= room:
      start -= 1
      used += lengths[start]
    while end < len(lengths) and used + lengths[end] <= capacity:
      used += lengths[end]
      end += 1
    windows.append(range(start, end))
  return windows


def deciders(
  lengths: Sequence[int], windows: Sequence[range]
) -> Int[np.ndarray, 'words']:
  """For each word the window that sees most on both of its sides.

  The rule of BERT's SQuAD script: the smaller one of the tokens to the left
  and to the right counts; the earlier window wins a tie.
  """
  ends = np.cumsum(lengths)
  begins = ends - np.asarray(lengths)
  best = np.full(len(lengths), -1, np.int64)
  decider = np.zeros(len(lengths), np.int64)
  for number, window in enumerate(windows):
    words = slice(window.start, window.stop)
    left = begins[words] - begins[window.start]
    right = ends[window.stop - 1] - ends[words]
    context = np.minimum(left, right)
    better = context > best[words]
    decider[words][better] = number
    best[words][better] = context[better]
  return decider
