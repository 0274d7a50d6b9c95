"""Scores of classes and numbers; the one module that uses scikit-learn."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from mobilebert_jax.runtime.errors import InputError


def accuracy(
  predicted: Int[np.ndarray, 'N'], labels: Int[np.ndarray, 'N']
) -> float:
  """Returns the share of predictions that are right."""
  _check(predicted, labels)
  return float(np.mean(predicted == labels))


def f1(predicted: Int[np.ndarray, 'N'], labels: Int[np.ndarray, 'N']) -> float:
  """Returns F1 of class 1 against class 0, 2 TP / (2 TP + FP + FN).

  It is 0 if class 1 is neither predicted nor there.
  """
  _check(predicted, labels)
  from sklearn import metrics

  return float(metrics.f1_score(labels, predicted, zero_division=0.0))


def matthews(
  predicted: Int[np.ndarray, 'N'], labels: Int[np.ndarray, 'N']
) -> float:
  """Returns Matthews's correlation of two classifications, from -1 to 1.

  It is 0 if one side has a single class (it then is undefined).
  """
  if _is_constant(predicted, labels):
    return 0.0
  from sklearn import metrics

  return float(metrics.matthews_corrcoef(labels, predicted))


def micro_f1(
  predicted: Int[np.ndarray, 'N C'], labels: Int[np.ndarray, 'N C']
) -> float:
  """Returns F1 over all decisions of several labels; 0 where undefined.

  Args:
    predicted: 1 for each class that was chosen, else 0.
    labels: 1 for each class that applies, else 0.
  """
  return _averaged_f1(predicted, labels, 'micro')


def macro_f1(
  predicted: Int[np.ndarray, 'N C'], labels: Int[np.ndarray, 'N C']
) -> float:
  """Returns the mean of the classes' F1; 0 for one neither predicted nor there.

  Args:
    predicted: 1 for each class that was chosen, else 0.
    labels: 1 for each class that applies, else 0.
  """
  return _averaged_f1(predicted, labels, 'macro')


def exact_match(
  predicted: Int[np.ndarray, 'N C'], labels: Int[np.ndarray, 'N C']
) -> float:
  """Returns the share of examples with exactly the right set of labels."""
  _check(predicted, labels)
  return float(np.mean(np.all(predicted == labels, axis=-1)))


def pearson(
  predicted: Float[np.ndarray, 'N'], values: Float[np.ndarray, 'N']
) -> float:
  """Returns Pearson's correlation; 0 if one side is constant (undefined)."""
  if _is_constant(predicted, values):
    return 0.0
  from scipy import stats

  return float(stats.pearsonr(_from_zero(predicted), _from_zero(values))[0])


def spearman(
  predicted: Float[np.ndarray, 'N'], values: Float[np.ndarray, 'N']
) -> float:
  """Returns Spearman's rank correlation; 0 if one side is constant."""
  if _is_constant(predicted, values):
    return 0.0
  from scipy import stats

  return float(stats.spearmanr(predicted, values).statistic)


def mean_squared_error(
  predicted: Float[np.ndarray, 'N'], values: Float[np.ndarray, 'N']
) -> float:
  """Returns the mean of (predicted - values)^2, in float64."""
  _check(predicted, values)
  return float(np.mean(np.square(predicted - values, dtype=np.float64)))


def mean_of(
  *scores: Callable[[np.ndarray, np.ndarray], float],
) -> Callable[[np.ndarray, np.ndarray], float]:
  """Returns the score that is the mean of others, such as GLUE's for MRPC."""

  def mean(predicted: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([score(predicted, labels) for score in scores]))

  return mean


def _averaged_f1(
  predicted: np.ndarray, labels: np.ndarray, average: str
) -> float:
  _check(predicted, labels)
  # Over the C columns by hand: scikit-learn takes a single column for the two
  # classes of one label.
  result = np.sum(predicted * labels, axis=0)
  named = np.sum(predicted, axis=0) + np.sum(labels, axis=0)
  if average == 'micro':
    result, named = result.sum(keepdims=True), named.sum(keepdims=True)
  safe = np.maximum(named, 1)
  return float(np.mean(2 * result / safe))


def _from_zero(values: np.ndarray) -> np.ndarray:
  """Returns the values minus the first, which changes no correlation.

  It keeps the digits of differences: the predictions of an untrained model are
  nearly constant.
  """
  values = values.astype(np.float64)
  return values - values[0]


def _is_constant(first: np.ndarray, second: np.ndarray) -> bool:
  _check(first, second)
  return bool(np.all(first == first[0]) or np.all(second == second[0]))


def _check(predicted: np.ndarray, labels: np.ndarray) -> None:
  if predicted.shape != labels.shape:
    raise ValueError(f'{predicted.shape} predictions, {labels.shape} labels')
  if not len(labels):
    raise InputError('there is no example to score; give at least one.')
