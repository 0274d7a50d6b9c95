"""Attention as plain operations, for any backend: the reference of all others.

`attend` returns probabilities and scores as well, and its gradient is JAX's.
`attend_hashed` has its own backward pass, which keeps the probabilities in the
compute dtype and nothing else of their size: dropout's mask is computed again,
and the row sum of the softmax's gradient is that of dO O, as numerous as the
values.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Key, UInt32

from mobilebert_jax.models import own_gradients
from mobilebert_jax.models.attention import dropout
from mobilebert_jax.models.attention.masks import Mask, apply_mask
from mobilebert_jax.models.compute import Compute
from mobilebert_jax.models.remat import CONTEXT


class Drawn(NamedTuple):
  """Where dropout's mask comes from: one of the two, or none.

  Attributes:
    key: for `jax.random`.
    seed: for the hash.
  """

  key: Key[Array, ''] | None = None
  seed: UInt32[Array, ' 2'] | None = None


def attend(
  q: Float[Array, 'B T H K'],
  k: Float[Array, 'B S H K'],
  v: Float[Array, 'B S H K'],
  mask: Mask,
  head_mask: Float[Array, ' H'] | None,
  drawn: Drawn,
  *,
  rate: float,
  compute: Compute,
) -> tuple[
  Float[Array, 'B T H K'], Float[Array, 'B H T S'], Float[Array, 'B H T S']
]:
  """Mixes the values that each query sees, for each head by itself.

  dropout(softmax(q k^T / sqrt(head_dim) + mask)) head_mask v.

  Args:
    q: queries.
    k: keys.
    v: values.
    mask: which keys a query sees.
    head_mask: a factor for each head's probabilities, or None.
    drawn: for dropout.
    rate: how likely a probability is dropped.
    compute: dtypes.

  Returns:
    The mixed values; the probabilities after dropout and head mask; and the
    masked scores before the softmax. The latter two are in float32 at least.
  """
  scores = jnp.einsum(
    'BTHK,BSHK->BHTS', q, k, preferred_element_type=compute.stats_dtype
  )
  scores = apply_mask(scores * q.shape[-1] ** -0.5, mask.dense())
  probs = jax.nn.softmax(scores, axis=-1)
  if drawn.key is not None:
    drop: Any = nn.Dropout(rate, deterministic=False, parent=None)
    probs = drop.apply({}, probs, rng=drawn.key)
  elif drawn.seed is not None:
    kept = dropout.mask(drawn.seed, probs.shape, rate)
    probs = jnp.where(kept, probs / (1 - rate), 0.0)
  if head_mask is not None:
    probs = probs * head_mask.astype(probs.dtype).reshape(1, -1, 1, 1)
  context = jnp.einsum('BHTS,BSHK->BTHK', probs.astype(compute.dtype), v)
  context = checkpoint_name(context, CONTEXT)
  return context, probs, scores


def attend_hashed(
  q: Float[Array, 'B T H K'],
  k: Float[Array, 'B S H K'],
  v: Float[Array, 'B S H K'],
  mask: Mask,
  head_mask: Float[Array, ' H'] | None,
  drawn: Drawn,
  *,
  rate: float,
  compute: Compute,
) -> Float[Array, 'B T H K']:
  """Returns the mixed values alone; see `attend`.

  Args:
    q: queries.
    k: keys.
    v: values.
    mask: which keys a query sees.
    head_mask: a factor for each head's probabilities, or None.
    drawn: for dropout; never a key.
    rate: how likely a probability is dropped.
    compute: dtypes.
  """
  q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
  rate = 0.0 if drawn.seed is None else rate
  context = jnp.swapaxes(
    _attend(rate, compute, q, k, v, mask.dense(), drawn.seed), 1, 2
  )
  if head_mask is None:
    return context
  return context * head_mask.astype(context.dtype).reshape(1, 1, -1, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(rate, compute, q, k, v, mask, seed):
  if q.dtype == jnp.float32 and seed is None:
    return _divided_last(compute, q, k, v, mask)
  return _attend_forward(rate, compute, q, k, v, mask, seed)[0]


def _divided_last(compute, q, k, v, mask):
  """Divides values by the softmax's sums, fewer numbers than probabilities."""
  scores = _masked_scores(compute, q, k, mask)
  e = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
  context = jnp.einsum('BHTS,BHSK->BHTK', e, v)
  return context / jnp.sum(e, axis=-1, keepdims=True)


def _masked_scores(compute, q, k, mask):
  wide = compute.stats_dtype
  scores = jnp.einsum('BHTK,BHSK->BHTS', q, k, preferred_element_type=wide)
  return apply_mask(scores * q.shape[-1] ** -0.5, mask)


def _attend_forward(rate, compute, q, k, v, mask, seed):
  wide = compute.stats_dtype
  scores = _masked_scores(compute, q, k, mask)
  probs = jax.nn.softmax(scores, axis=-1).astype(q.dtype)
  context = jnp.einsum(
    'BHTS,BHSK->BHTK',
    _dropped(rate, seed, probs),
    v,
    preferred_element_type=wide,
  )
  context = (context / (1 - rate)).astype(q.dtype)
  context = checkpoint_name(context, CONTEXT)
  return context, (q, k, v, mask, seed, probs, context)


def _attend_backward(rate, compute, kept, gradient):
  q, k, v, mask, seed, probs, context = kept
  wide, scale = compute.stats_dtype, q.shape[-1] ** -0.5
  over_queries: Any = functools.partial(jnp.einsum, 'BHTS,BHTK->BHSK')
  if own_gradients.are_used(compute):
    over_queries = own_gradients.over_queries
  gradient = gradient.astype(wide)
  row_sum = jnp.sum(gradient * context.astype(wide), axis=-1, keepdims=True)
  scaled = (gradient / (1 - rate)).astype(q.dtype)
  dv = over_queries(_dropped(rate, seed, probs), scaled)
  dp = jnp.einsum('BHTK,BHSK->BHTS', scaled, v, preferred_element_type=wide)
  wide_ds = probs.astype(wide) * (_dropped(rate, seed, dp) - row_sum)
  ds = wide_ds.astype(q.dtype)
  dq = jnp.einsum('BHTS,BHSK->BHTK', ds, k) * scale
  dk = over_queries(ds, q) * scale
  return (
    dq.astype(q.dtype), dk.astype(k.dtype), dv, mask_gradient(mask, wide_ds),
    None,
  )  # fmt: skip


_attend.defvjp(_attend_forward, _attend_backward)


def _dropped(rate: float, seed: Array | None, x: Array) -> Array:
  """Returns x with 0 where dropout drops."""
  if seed is None:
    return x
  return jnp.where(dropout.mask(seed, x.shape, rate), x, jnp.zeros((), x.dtype))


def mask_gradient(
  mask: Array | None, ds: Float[Array, 'B H T S']
) -> Array | None:
  """Returns the gradient of an additive mask from that of the scores."""
  if mask is None or not jnp.issubdtype(mask.dtype, jnp.floating):
    return None
  _, to_mask = jax.vjp(
    lambda mask: apply_mask(jnp.zeros(ds.shape, ds.dtype), mask), mask
  )
  return to_mask(ds)[0]
