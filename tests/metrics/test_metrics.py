import fractions
import math

import numpy as np
import pytest
from sklearn import metrics as sk

from mobilebert_jax.metrics import classification
from mobilebert_jax.runtime.errors import InputError

PREDICTED = np.array([1, 0, 1, 1, 0, 0, 1, 0])
LABELS = np.array([1, 0, 0, 1, 1, 0, 1, 0])


def test_classification_scores_by_hand():
  # True positives 3, false positives 1, false negatives 1, true negatives 3.
  assert classification.accuracy(PREDICTED, LABELS) == 6 / 8
  assert classification.f1(PREDICTED, LABELS) == pytest.approx(6 / (6 + 1 + 1))
  assert classification.matthews(PREDICTED, LABELS) == pytest.approx(8 / 16)


def test_f1_without_any_positive_is_zero():
  zeros = np.zeros(3, int)
  assert classification.f1(zeros, zeros) == 0.0


def test_correlations_by_hand():
  values = np.array([1.0, 2.0, 3.0, 4.0])
  assert classification.pearson(2 * values + 1, values) == pytest.approx(1)
  assert classification.pearson(-values, values) == pytest.approx(-1)
  assert classification.spearman(np.exp(values), values) == pytest.approx(1)
  # Ranks 2 1 3 4 against 1 2 3 4: 1 - 6 * 2 / (4 * 15).
  swapped = np.array([2.0, 1.0, 3.0, 4.0])
  assert classification.spearman(swapped, values) == pytest.approx(0.8)


@pytest.mark.parametrize(
  'score', [classification.pearson, classification.spearman]
)
def test_a_constant_correlates_with_nothing(score):
  assert score(np.ones(4), np.arange(4.0)) == 0.0
  assert score(np.arange(4.0), np.ones(4)) == 0.0


@pytest.mark.parametrize(
  'score',
  [
    classification.accuracy,
    classification.f1,
    classification.matthews,
    classification.pearson,
    classification.spearman,
  ],
)
def test_nothing_to_score_is_an_error(score):
  with pytest.raises(InputError, match='no example to score'):
    score(np.array([]), np.array([]))
  with pytest.raises(ValueError, match='predictions'):
    score(np.zeros(3), np.zeros(2))


# --- Against independent implementations ---

BINARY = {
  'random': lambda rng: rng.integers(0, 2, (2, 500)),
  'rare': lambda rng: (rng.random((2, 500)) < 0.01).astype(int),
  'all predicted': lambda rng: np.stack([np.ones(50, int), np.arange(50) % 2]),
  'none predicted': lambda rng: np.stack(
    [np.zeros(50, int), np.arange(50) % 2]
  ),
  'none there': lambda rng: np.stack([np.arange(50) % 2, np.zeros(50, int)]),
  'nothing': lambda rng: np.zeros((2, 9), int),
  'everything': lambda rng: np.ones((2, 9), int),
  'all wrong': lambda rng: np.stack([np.arange(50) % 2, 1 - np.arange(50) % 2]),
  'one example': lambda rng: np.array([[1], [0]]),
}


def rates(predicted, labels):
  """True and false positives and negatives, counted one by one."""
  counts = {(p, y): 0 for p in (0, 1) for y in (0, 1)}
  for pair in zip(predicted.tolist(), labels.tolist()):
    counts[pair] += 1
  return counts[1, 1], counts[1, 0], counts[0, 1], counts[0, 0]


@pytest.mark.parametrize('case', BINARY)
@pytest.mark.parametrize('seed', range(3))
def test_classification_scores_agree(case, seed):
  predicted, labels = BINARY[case](np.random.default_rng(seed))
  tp, fp, fn, tn = rates(predicted, labels)
  assert classification.accuracy(predicted, labels) == pytest.approx(
    sk.accuracy_score(labels, predicted), abs=1e-9
  )
  f1 = 2 * tp / (2 * tp + fp + fn) if tp else 0.0
  assert classification.f1(predicted, labels) == pytest.approx(f1, abs=1e-9)
  square = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
  expected = (tp * tn - fp * fn) / square**0.5 if square else 0.0
  assert classification.matthews(predicted, labels) == pytest.approx(
    expected, abs=1e-9
  )


@pytest.mark.parametrize('classes', [1, 2, 7])
@pytest.mark.parametrize('share', [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize('seed', range(2))
def test_scores_of_several_labels_agree(classes, share, seed):
  rng = np.random.default_rng(seed)
  predicted = (rng.random((60, classes)) < share).astype(int)
  labels = (rng.random((60, classes)) < 0.1).astype(int)
  if seed:
    labels[:, 0] = predicted[:, 0] = 0
  for average, function in (
    ('micro', classification.micro_f1), ('macro', classification.macro_f1),
  ):  # fmt: skip
    # scikit-learn takes one column for two classes of one label; a second
    # column without anything would change the mean.
    if classes > 1:
      expected = sk.f1_score(
        labels, predicted, average=average, zero_division=0.0
      )
    else:
      expected = sk.f1_score(labels[:, 0], predicted[:, 0], zero_division=0.0)
    assert function(predicted, labels) == pytest.approx(expected, abs=1e-9)
  assert classification.exact_match(predicted, labels) == pytest.approx(
    sk.accuracy_score(labels, predicted), abs=1e-9
  )


NUMBERS = {
  'random': lambda rng: rng.normal(size=(2, 300)),
  'ties': lambda rng: rng.integers(0, 4, (2, 300)) / 3,
  'float32': lambda rng: rng.normal(size=(2, 300)).astype(np.float32),
  'huge': lambda rng: rng.normal(size=(2, 50)) * [[1e150], [1e-150]],
  'far from zero': lambda rng: rng.normal(size=(2, 50)) + 1e6,
  'nearly constant': lambda rng: np.stack(
    [1 + 1e-13 * np.arange(9), np.arange(9.0)]
  ),
  'outlier': lambda rng: np.stack(
    [np.append(rng.normal(size=40), 1e9), rng.normal(size=41)]
  ),
  'opposite': lambda rng: np.stack([np.arange(9.0), -(np.arange(9.0) ** 3)]),
  'two examples': lambda rng: np.array([[0.1, 0.3], [2.0, 1.0]]),
}


def correlation(first, second):
  """Pearson's correlation in exact arithmetic."""
  x = [fractions.Fraction(float(v)) for v in first]
  y = [fractions.Fraction(float(v)) for v in second]
  mx, my = sum(x) / len(x), sum(y) / len(y)
  xy = sum((a - mx) * (b - my) for a, b in zip(x, y))
  xx = sum((a - mx) ** 2 for a in x)
  yy = sum((b - my) ** 2 for b in y)
  root = math.sqrt(xy * xy / (xx * yy))
  return root if xy > 0 else -root


def ranks(values):
  """Ranks from 1, ties sharing their mean, by comparing all pairs."""
  return [
    (sum(v < w for v in values) + sum(v <= w for v in values) + 1) / 2
    for w in values.tolist()
  ]


@pytest.mark.parametrize('case', NUMBERS)
def test_correlations_agree(case):
  predicted, values = NUMBERS[case](np.random.default_rng(0))
  assert classification.pearson(predicted, values) == pytest.approx(
    correlation(predicted, values), abs=1e-9
  )
  assert classification.spearman(predicted, values) == pytest.approx(
    correlation(ranks(predicted), ranks(values)), abs=1e-9
  )
  both = classification.mean_of(
    classification.pearson, classification.spearman
  )(predicted, values)
  assert both == pytest.approx(
    (
      classification.pearson(predicted, values)
      + classification.spearman(predicted, values)
    )
    / 2,
    abs=1e-12,
  )
