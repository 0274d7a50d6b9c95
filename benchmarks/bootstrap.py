"""Bootstrap intervals of scores, for the scripts beside this file."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Shaped

_SAMPLES = 2000


def interval(
  score: Callable[..., float], *columns: Shaped[np.ndarray, 'N ...']
) -> tuple[float, float]:
  """The 95% percentile interval of a score (Efron and Tibshirani 1993, ch. 13).

  The samples are the same for every score of as many examples, so that
  intervals can be compared.

  Args:
    score: The score of some examples, given their columns.
    *columns: What is known of the examples.
  """
  rng = np.random.default_rng(0)
  count = len(columns[0])
  values = []
  for _ in range(_SAMPLES):
    rows = rng.integers(count, size=count)
    values.append(score(*(column[rows] for column in columns)))
  low, high = np.percentile(values, [2.5, 97.5])
  return low, high
