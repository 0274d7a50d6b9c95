"""Attention on a GPU, by cuDNN's kernel through `jax.nn`.

It keeps scores and probabilities to itself, forward and backward. The public
interface has no dropout, and the kernel no float32.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mobilebert_jax.models.attention.masks import Mask, additive

# Channels of a head come in groups of eight, at most so many.
_GROUP, _WIDEST = 8, 128


def problem(dtype: str, head_dim: int, *, is_dropping: bool) -> str | None:
  """Returns why the kernel cannot compute this, or None.

  Args:
    dtype: of queries, keys and values.
    head_dim: channels of a head.
    is_dropping: whether there is dropout.
  """
  if dtype != 'bfloat16':
    return f"dtype 'bfloat16', and it is {dtype!r}"
  if is_dropping:
    return 'no dropout of attention (attention_probs_dropout_prob=0)'
  if head_dim % _GROUP or head_dim > _WIDEST:
    return f'heads of 8, 16, ..., {_WIDEST} channels, and they are {head_dim}'
  return None


def attend(
  q: Float[Array, 'B S W'],
  k: Float[Array, 'B S W'],
  v: Float[Array, 'B S W'],
  mask: Mask,
  head_mask: Float[Array, ' H'] | None,
  *,
  heads: int,
  implementation: Literal['cudnn', 'xla'] = 'cudnn',
) -> Float[Array, 'B S W']:
  """Mixes the values that each query sees; see `xla.attend`.

  Args:
    q: queries, heads one after another.
    k: keys.
    v: values.
    mask: which keys a query sees.
    head_mask: a factor for each head's probabilities, or None.
    heads: how many there are.
    implementation: of `jax.nn.dot_product_attention`.
  """
  q, k, v = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
  seen = mask.dense()
  bias: Array | None = None
  if seen is not None and seen.dtype != jnp.bool_:
    bias = additive(seen, q.dtype)
    seen = None
  y = jax.nn.dot_product_attention(
    q,
    k,
    v,
    bias=bias,
    mask=seen,
    implementation=implementation,
  )
  if head_mask is not None:
    y = y * head_mask.astype(y.dtype).reshape(1, 1, -1, 1)
  return y.reshape(*y.shape[:2], -1)
