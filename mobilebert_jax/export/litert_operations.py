"""JAX's operations as LiteRT's converter and its integer kernels want them.

Words are rows and heads are a batch of matrices throughout, so that a file has
few copies, and sums of 16-bit integers have the same shape on both sides: no
kernel repeats rows there.
"""

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np

from mobilebert_jax.inference.operations import ArrayOperations
from mobilebert_jax.inference.quantization import Grid


def fake_quantize(x: Any, grid: Grid) -> Any:
  """Returns x, and tells the converter that it is of integers.

  Args:
    x: a tensor of float32.
    grid: which integers.
  """
  scale = np.atleast_1d(np.asarray(grid.scale, np.float32))
  attributes: dict[str, Any] = {
    'scale': scale,
    'zero_point': np.full(scale.shape, grid.zero_point, np.int64),
    'dtype': f'i{grid.bits}',
    'narrow_range': grid.narrow,
  }
  if grid.axis is not None:
    attributes['quantization_dimension'] = grid.axis
  marked = jax.lax.composite(lambda value, **_: value, 'quant.fake_quant')
  return marked(x, **attributes)


class LiteRtOperations(ArrayOperations):
  """Operations on inputs of one shape.

  Args:
    shape: batch and length, with choices in the batch.
    heads: of attention.
  """

  def __init__(self, shape: tuple[int, int], heads: int):
    super().__init__(jnp, jax.scipy.special, np.float32)
    self._shape, self._heads = shape, heads

  def take(self, table, ids):
    # The converter makes EMBEDDING_LOOKUP of it, which quantisers know; what
    # `take` alone becomes (GATHER_ND) they leave in float32.
    look_up = jax.lax.composite(
      lambda i, t: jnp.take(t, i, axis=0, mode='clip'), 'odml.embedding_lookup'
    )
    return look_up(ids.reshape(-1), table)

  def positions(self, table, ids):
    return jnp.tile(table[: ids.shape[1]], (ids.shape[0], 1))

  def trigram(self, words):
    words = words.reshape(*self._shape, -1)
    return self.rows(super().trigram(words))

  def split_heads(self, x, ids, heads):
    (batch, length), _ = self._shape, ids
    x = x.reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)
    return x.reshape(batch * heads, length, -1)

  def merge_heads(self, x):
    batch, length = self._shape
    x = x.reshape(batch, self._heads, length, -1).transpose(0, 2, 1, 3)
    return x.reshape(batch * length, -1)

  def scores(self, q, k):
    return q @ k.transpose(0, 2, 1)

  def mask_bias(self, mask, value):
    # For each head: [B * H, 1, S].
    return super().mask_bias(self._of_heads(mask, 1), value)[:, 0]

  def attentions(self, probabilities: Any) -> Any:
    """Returns probabilities as outputs have them: [B, H, S, S]."""
    length = self._shape[1]
    return probabilities.reshape(-1, self._heads, length, length)

  def _of_heads(self, mask: Any, queries: int) -> Any:
    batch, length = self._shape
    shape = (batch, self._heads, queries, length)
    return jnp.broadcast_to(mask[:, None, None, :], shape).reshape(-1, length)


class WideOperations(LiteRtOperations):
  """The same for activations of 16 bits, with what these kernels lack.

  Args:
    shape: batch and length, with choices in the batch.
    heads: of attention.
    words: the grid of the words that are taken; they are rounded behind the
      trigram, for nothing concatenates integers of 16 bits.
  """

  def __init__(self, shape: tuple[int, int], heads: int, words: Grid):
    super().__init__(shape, heads)
    self._words = words

  def trigram(self, words):
    # The converter would give integers to a concatenation whose output is
    # rounded, and to all that only moves values around. It stops at a product:
    # vectors are rolled, and what came round the ends is multiplied by 0.
    words = words.reshape(*self._shape, -1)
    inside = np.ones((1, self._shape[1], 3, 1), np.float32)
    inside[:, -1, 0] = inside[:, 0, 2] = 0
    rolled = [jnp.roll(words, shift, axis=1) for shift in (-1, 0, 1)]
    wide = jnp.stack(rolled, axis=2) * inside
    rows = wide.reshape(-1, 3 * words.shape[-1])
    return fake_quantize(rows, self._words)

  def mask_bias(self, mask, value):
    # For each query: [B * H, S, S].
    batch, length = self._shape
    whole = self._of_heads(mask, length)
    bias = super(LiteRtOperations, self).mask_bias(whole, value)
    return bias.reshape(batch * self._heads, length, length)

  def tanh(self, x):
    # Of a whole tanh the converter recognises GELUs, which have no kernel here.
    return 2 * self.sigmoid(2 * x) - 1

  def multiply(self, x, y):
    shape = np.broadcast_shapes(x.shape, y.shape)
    return jnp.broadcast_to(x, shape) * jnp.broadcast_to(y, shape)
