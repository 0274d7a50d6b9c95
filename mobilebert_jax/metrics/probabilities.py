"""Probabilities from logits, on the host.

What the package computes on devices uses JAX's own.
"""

import numpy as np
from jaxtyping import Float


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
