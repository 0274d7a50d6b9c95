"""The operations that a served model is made of, and JAX's and NumPy's.

`Operations` is what a backend must have; `ArrayOperations` computes at once,
with NumPy (float64: what others are measured against) or with JAX (what
StableHLO is made of). ONNX's write nodes of a graph instead:
`onnx_operations.OnnxOperations`.

Letters: B batch, S length, N = B * S tokens, C and O channels, H heads, K
channels of a head.
"""

from typing import Any, Protocol

import numpy as np


class Operations(Protocol):
  """A backend. Values are of its own kind; ids are integers [B, S]."""

  def weight(self, name: str, value: np.ndarray) -> Any:
    """Returns a weight; asked twice for a name, the same."""

  # Look-ups and layout.

  def take(self, table: Any, ids: Any) -> Any:
    """Returns rows of a table [V, C] for ids [B, S]: [B, S, C]."""

  def positions(self, table: Any, ids: Any) -> Any:
    """Returns the first S rows of a table: [S, C]."""

  def trigram(self, words: Any) -> Any:
    """Concatenates next, current and previous vectors: [B, S, 3 C].

    Past both ends is zero (paper, section 3.1).
    """

  def rows(self, x: Any) -> Any:
    """Reshapes [B, S, C] to [N, C]."""

  def tokens(self, x: Any, ids: Any) -> Any:
    """Reshapes [N, C] to [B, S, C]."""

  def scalars(self, x: Any, ids: Any) -> Any:
    """Reshapes [N, 1] to [B, S]."""

  def first(self, x: Any) -> Any:
    """Returns the first token of each sequence of [B, S, C]: [B, C]."""

  def split(self, x: Any, size: int, whole: int) -> tuple[Any, Any | None]:
    """Cuts [N, whole] into [N, size] and the rest, None if nothing is left."""

  def merge_choices(self, ids: Any) -> Any:
    """Reshapes [B, choices, S] to [B * choices, S]."""

  def split_choices(self, logits: Any, ids: Any) -> Any:
    """Reshapes [B * choices, 1] to [B, choices], as `ids` has them."""

  # Attention.

  def split_heads(self, x: Any, ids: Any, heads: int) -> Any:
    """Reshapes [N, H * K] and brings the heads forward: [B, H, S, K]."""

  def merge_heads(self, x: Any) -> Any:
    """Does the reverse: [B, H, S, K] to [N, H * K]."""

  def scores(self, q: Any, k: Any) -> Any:
    """Returns q @ k^T of each head: [B, H, S, S]."""

  def mix(self, probabilities: Any, v: Any) -> Any:
    """Returns probabilities @ v of each head: [B, H, S, K]."""

  def mask_bias(self, mask: Any, value: float | None) -> Any:
    """Returns 0 where [B, S] is not 0, else a value: [B, 1, 1, S].

    Args:
      mask: of integers.
      value: for keys that are hidden; None: the lowest float.
    """

  def softmax(self, x: Any) -> Any:
    """Returns the softmax along the last axis."""

  # Products, norms and functions of each element.

  def linear(self, x: Any, kernel: Any) -> Any:
    """Returns x @ kernel, [N, C] and [C, O]."""

  def linear_transposed(self, x: Any, table: Any) -> Any:
    """Returns x @ table^T, [N, C] and [O, C]."""

  def layer_norm(self, x: Any, eps: float, scale: Any, bias: Any) -> Any:
    """Returns (x - mean) / sqrt(variance + eps) * scale + bias."""

  def add(self, x: Any, y: Any) -> Any:
    """Returns x + y; vectors are of the last axis."""

  def subtract(self, x: Any, y: Any) -> Any:
    """Returns x - y."""

  def multiply(self, x: Any, y: Any) -> Any:
    """Returns x * y."""

  def number(self, value: float) -> Any:
    """Returns a constant, without a name."""

  def maximum(self, x: Any, y: Any) -> Any:
    """Returns the larger of the two."""

  def relu(self, x: Any) -> Any:
    """Returns x where it is above 0, else 0."""

  def minimum(self, x: Any, y: Any) -> Any:
    """Returns the smaller of the two."""

  def where_positive(self, x: Any, yes: Any, no: Any) -> Any:
    """Returns `yes` where x > 0, else `no`."""

  def tanh(self, x: Any) -> Any: ...
  def erf(self, x: Any) -> Any: ...
  def sigmoid(self, x: Any) -> Any: ...
  def exp(self, x: Any) -> Any: ...
  def log1p(self, x: Any) -> Any: ...
  def expm1(self, x: Any) -> Any: ...
  def sqrt(self, x: Any) -> Any: ...


class ArrayOperations:
  """Operations that compute at once.

  Args:
    numbers: `numpy` or `jax.numpy`.
    special: `scipy.special` or `jax.scipy.special`.
    dtype: of all values; weights are cast to it.
  """

  def __init__(self, numbers: Any, special: Any, dtype: Any):
    self._np, self._special, self._dtype = numbers, special, dtype

  def weight(self, name, value):
    del name
    return self._np.asarray(value, self._dtype)

  def number(self, value):
    return self._np.asarray(value, self._dtype)

  def take(self, table, ids):
    return self._np.take(table, ids, axis=0, mode='clip')

  def positions(self, table, ids):
    return table[: ids.shape[1]]

  def trigram(self, words):
    edge = self._np.zeros_like(words[:, :1])
    following = self._np.concatenate([words[:, 1:], edge], axis=1)
    previous = self._np.concatenate([edge, words[:, :-1]], axis=1)
    return self._np.concatenate([following, words, previous], axis=-1)

  def rows(self, x):
    return x.reshape(-1, x.shape[-1])

  def tokens(self, x, ids):
    return x.reshape(*ids.shape, x.shape[-1])

  def scalars(self, x, ids):
    return x.reshape(ids.shape)

  def first(self, x):
    return x[:, 0]

  def split(self, x, size, whole):
    return x[:, :size], x[:, size:] if size < whole else None

  def merge_choices(self, ids):
    return ids.reshape(-1, ids.shape[-1])

  def split_choices(self, logits, ids):
    return logits.reshape(ids.shape[:2])

  def split_heads(self, x, ids, heads):
    return x.reshape(*ids.shape, heads, -1).transpose(0, 2, 1, 3)

  def merge_heads(self, x):
    b, h, s, k = x.shape
    return x.transpose(0, 2, 1, 3).reshape(b * s, h * k)

  def scores(self, q, k):
    return q @ k.transpose(0, 1, 3, 2)

  def mix(self, probabilities, v):
    return probabilities @ v

  def mask_bias(self, mask, value):
    value = np.finfo(self._dtype).min if value is None else value
    zero, hidden = self._np.asarray([0, value], self._dtype)
    return self._np.where(mask != 0, zero, hidden)[:, None, None, :]

  def softmax(self, x):
    e = self._np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)

  def linear(self, x, kernel):
    return x @ kernel

  def linear_transposed(self, x, table):
    return x @ table.T

  def layer_norm(self, x, eps, scale, bias):
    # Two passes, as the model: large means would cancel.
    x = x - x.mean(axis=-1, keepdims=True)
    variance = (x * x).mean(axis=-1, keepdims=True)
    return self.add(
      self.multiply(x / self._np.sqrt(variance + eps), scale), bias
    )

  def _aligned(self, x, y):
    """Gives a vector the axes of the other operand, explicitly."""
    axes = max(x.ndim, y.ndim)
    return (z.reshape((1,) * (axes - z.ndim) + z.shape) for z in (x, y))

  def add(self, x, y):
    x, y = self._aligned(x, y)
    return x + y

  def subtract(self, x, y):
    x, y = self._aligned(x, y)
    return x - y

  def multiply(self, x, y):
    x, y = self._aligned(x, y)
    return x * y

  def maximum(self, x, y):
    return self._np.maximum(*self._aligned(x, y))

  def relu(self, x):
    return self.maximum(x, self.number(0.0))

  def minimum(self, x, y):
    return self._np.minimum(*self._aligned(x, y))

  def where_positive(self, x, yes, no):
    return self._np.where(x > 0, yes, no)

  def tanh(self, x):
    return self._np.tanh(x)

  def erf(self, x):
    return self._special.erf(x)

  def sigmoid(self, x):
    return self._special.expit(x)

  def exp(self, x):
    return self._np.exp(x)

  def log1p(self, x):
    return self._np.log1p(x)

  def expm1(self, x):
    return self._np.expm1(x)

  def sqrt(self, x):
    return self._np.sqrt(x)


def numpy_operations(dtype: Any = np.float64) -> ArrayOperations:
  """Returns NumPy's operations."""
  import scipy.special

  return ArrayOperations(np, scipy.special, dtype)


def jax_operations(dtype: Any = np.float32) -> ArrayOperations:
  """Returns JAX's operations."""
  import jax.numpy as jnp
  import jax.scipy.special

  return ArrayOperations(jnp, jax.scipy.special, dtype)
