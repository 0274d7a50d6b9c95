"""Probabilities from logits, on the host.

What the package computes on devices uses JAX's own.
"""

import numpy as np
from jaxtyping import Float, Int


def softmax(logits: Float[np.ndarray, '*B C']) -> Float[np.ndarray, '*B C']:
  """Returns exp(x_c) / sum_k exp(x_k), in float32 or the logits' wider dtype.

  Args:
    logits: scores of C classes that exclude one another.
  """
  from scipy import special

  return special.softmax(_at_least_float32(logits), axis=-1)


def log_softmax(logits: Float[np.ndarray, '*B C']) -> Float[np.ndarray, '*B C']:
  """Returns x_c - log sum_k exp(x_k), in float32 or the logits' wider dtype.

  Args:
    logits: scores of C classes that exclude one another; -inf excludes one.
  """
  from scipy import special

  return special.log_softmax(_at_least_float32(logits), axis=-1)


def _at_least_float32(logits: np.ndarray) -> np.ndarray:
  return np.asarray(logits, np.promote_types(logits.dtype, np.float32))


def sigmoid(logits: Float[np.ndarray, '*N']) -> Float[np.ndarray, '*N']:
  """Returns 1 / (1 + exp(-z)) in float64, without overflow."""
  return np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))


def negative_log_likelihood(
  logits: Float[np.ndarray, 'N C'], truth: Int[np.ndarray, 'N']
) -> Float[np.ndarray, 'N']:
  """Returns log(sum_k exp(z_k)) - z_truth, in float64, at least 0."""
  logits = logits.astype(np.float64)
  right = np.take_along_axis(logits, truth[:, None], axis=-1)[:, 0]
  # Rounding must not make a sure and right decision better than perfect.
  return np.maximum(np.logaddexp.reduce(logits, axis=-1) - right, 0.0)
