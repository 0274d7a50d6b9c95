import numpy as np
import pytest

from mobilebert_jax import metrics
from mobilebert_jax.errors import InputError

PREDICTED = np.array([1, 0, 1, 1, 0, 0, 1, 0])
LABELS = np.array([1, 0, 0, 1, 1, 0, 1, 0])


def test_classification_scores_by_hand():
  # True positives 3, false positives 1, false negatives 1, true negatives 3.
  assert metrics.accuracy(PREDICTED, LABELS) == 6 / 8
  assert metrics.f1(PREDICTED, LABELS) == pytest.approx(6 / (6 + 1 + 1))
  assert metrics.matthews(PREDICTED, LABELS) == pytest.approx(8 / 16)


def test_f1_without_any_positive_is_zero():
  zeros = np.zeros(3, int)
  assert metrics.f1(zeros, zeros) == 0.0


def test_correlations_by_hand():
  values = np.array([1.0, 2.0, 3.0, 4.0])
  assert metrics.pearson(2 * values + 1, values) == pytest.approx(1)
  assert metrics.pearson(-values, values) == pytest.approx(-1)
  assert metrics.spearman(np.exp(values), values) == pytest.approx(1)
  # Ranks 2 1 3 4 against 1 2 3 4: 1 - 6 * 2 / (4 * 15).
  swapped = np.array([2.0, 1.0, 3.0, 4.0])
  assert metrics.spearman(swapped, values) == pytest.approx(0.8)


@pytest.mark.parametrize('score', [metrics.pearson, metrics.spearman])
def test_a_constant_correlates_with_nothing(score):
  assert score(np.ones(4), np.arange(4.0)) == 0.0
  assert score(np.arange(4.0), np.ones(4)) == 0.0


@pytest.mark.parametrize(
  'score',
  [
    metrics.accuracy,
    metrics.f1,
    metrics.matthews,
    metrics.pearson,
    metrics.spearman,
  ],
)
def test_nothing_to_score_is_an_error(score):
  with pytest.raises(InputError, match='no example to score'):
    score(np.array([]), np.array([]))
  with pytest.raises(ValueError, match='predictions'):
    score(np.zeros(3), np.zeros(2))
