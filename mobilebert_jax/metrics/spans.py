"""The best spans of a sequence by the scores of their two ends."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Spans(NamedTuple):
  """Spans of N sequences, best first.

  Attributes:
    starts: first positions.
    ends: last positions, inclusive.
    scores: sums of the two scores; -inf fills a sequence with fewer spans,
      whose positions then mean nothing.
  """

  starts: Int[np.ndarray, 'N K']
  ends: Int[np.ndarray, 'N K']
  scores: Float[np.ndarray, 'N K']


def best_spans(
  start: Float[np.ndarray, 'N S'],
  end: Float[np.ndarray, 'N S'],
  *,
  longest: int,
  count: int,
) -> Spans:
  """Finds the spans with the largest sums of start and end score.

  The search is exact: it sees every pair, where google-research's run_squad
  combines only the best starts with the best ends. Among equal scores the
  earlier start wins, then the shorter span.

  Args:
    start: scores of a span's first position; -inf where none may begin.
    end: scores of its last position; -inf where none may end.
    longest: positions in the longest span allowed.
    count: how many spans to find, K if a sequence has as many pairs.
  """
  length = start.shape[1]
  longest = min(longest, length)
  padded = np.pad(end, ((0, 0), (0, longest - 1)), constant_values=-np.inf)
  # [N, S, longest]: the scores of the ends that each start may have.
  windows = np.lib.stride_tricks.sliding_window_view(padded, longest, axis=1)
  # A span among the best `count` begins at one of the `count` starts whose
  # best span is best, so the others need not be sorted.
  best_of_start = start + windows.max(axis=2)
  kept = np.sort(_largest(best_of_start, min(count, length)), axis=1)
  rows = np.arange(len(start))[:, None]
  scores = start[rows, kept][:, :, None] + windows[rows, kept]
  flat = scores.reshape(len(start), kept.shape[1] * longest)
  order = _largest(flat, count)
  which, more = np.divmod(order, longest)
  starts = kept[rows, which]
  return Spans(starts, starts + more, flat[rows, order])


def _largest(
  values: Float[np.ndarray, 'N M'], count: int
) -> Int[np.ndarray, 'N K']:
  """Indices of the largest values, in descending order; ties: first first."""
  return np.argsort(-values, axis=1, kind='stable')[:, :count]
