import numpy as np
import pytest

from mobilebert_jax.metrics.spans import best_spans


def every_span(start, end, longest):
  """All spans of one sequence, best first, by looking at each."""
  found = [
    (start[i] + end[j], i, j)
    for i in range(len(start))
    for j in range(i, min(i + longest, len(end)))
    if np.isfinite(start[i] + end[j])
  ]
  return sorted(found, key=lambda one: (-one[0], one[1], one[2]))


@pytest.mark.parametrize('longest', [1, 3, 50])
@pytest.mark.parametrize('count', [1, 4, 500])
def test_the_search_is_exact(longest, count):
  rng = np.random.default_rng(longest * count)
  # Whole numbers: most scores are tied.
  start, end = rng.integers(-3, 4, (2, 6, 11)).astype(np.float64)
  start[rng.random(start.shape) < 0.3] = -np.inf
  end[rng.random(end.shape) < 0.3] = -np.inf
  start[5] = -np.inf
  spans = best_spans(start, end, longest=longest, count=count)
  for row in range(6):
    expected = every_span(start[row], end[row], longest)[:count]
    real = np.isfinite(spans.scores[row])
    assert (
      list(
        zip(
          spans.scores[row][real],
          spans.starts[row][real],
          spans.ends[row][real],
        )
      )
      == expected
    )
    # What is missing stands behind what is there.
    assert not real[len(expected) :].any()
  assert spans.scores.shape[1] <= count
