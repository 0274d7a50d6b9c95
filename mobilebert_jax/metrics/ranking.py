"""Which of two scores is the better one, by the score's name."""

import math

# Of all others the higher value is better.
_LOWER_IS_BETTER = frozenset({'loss', 'mse', 'perplexity'})


def lower_is_better(metric: str) -> bool:
  """Returns whether a score is better the lower it is.

  Args:
    metric: its name, also as '<split>/<score>'.
  """
  return metric.rpartition('/')[2] in _LOWER_IS_BETTER


def rank(metric: str, value: float) -> float:
  """Returns a number that is the higher the better the score; NaN is worst."""
  if math.isnan(value):
    return -math.inf
  return -value if lower_is_better(metric) else value
