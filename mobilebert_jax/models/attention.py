"""Multi-head self-attention inside a block, and its masks."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from mobilebert_jax.models.compute import Compute
from mobilebert_jax.models.layers import (
  ConfiguredModule,
  Dense,
  block_axis,
  block_norm,
  inner_axis,
)
from mobilebert_jax.models.packing import same_segment
from mobilebert_jax.models.partitioning import constrain
from mobilebert_jax.runtime.errors import InputError


def attention_mask_4d(
  mask: Num[Array | np.ndarray, '...'] | Bool[Array | np.ndarray, '...'],
) -> Array:
  """Brings every accepted attention mask to the shape of the scores.

  Args:
    mask: one of
      [B, S]: 1 for keys that all queries may see;
      [B, T, S]: 1 where query t may see key s (transformers 4);
      [B, 1 or H, 1 or T, S]: booleans or integers with the same meaning, or
      floats that are added to the scores (transformers 5).

  Returns:
    A boolean mask, True = see, or an additive float mask; four axes.

  Raises:
    InputError: another number of axes.
  """
  mask = jnp.asarray(mask)
  if mask.ndim == 4:
    is_additive = jnp.issubdtype(mask.dtype, jnp.floating)
    return mask if is_additive else mask != 0
  if mask.ndim == 2:
    return (mask != 0)[:, None, None, :]
  if mask.ndim == 3:
    return (mask != 0)[:, None, :, :]
  raise InputError(
    f'attention_mask has {mask.ndim} axes, but must have 2 [batch, keys], '
    '3 [batch, queries, keys] or 4 [batch, heads, queries, keys].'
  )


def within_segments(
  mask: Array | None, segment_ids: Int[Array | np.ndarray, 'B S'] | None
) -> Array | None:
  """Narrows a mask to the keys of each query's own segment.

  Args:
    mask: from `attention_mask_4d`, or None.
    segment_ids: the examples of packed rows; None leaves the mask as it is.
  """
  if segment_ids is None:
    return mask
  own = same_segment(jnp.asarray(segment_ids))[:, None]
  if mask is None:
    return own
  if mask.dtype == jnp.bool_:
    return mask & own
  return jnp.where(own, mask, jnp.finfo(mask.dtype).min)


def apply_mask(
  scores: Float[Array, 'B H T S'], mask: Array | None
) -> Float[Array, 'B H T S']:
  """Hides keys from the softmax; a fully hidden row becomes uniform."""
  if mask is None:
    return scores
  lowest = jnp.finfo(scores.dtype).min
  if mask.dtype == jnp.bool_:
    bias = jnp.where(mask, 0.0, lowest)
  else:
    # -inf in every key of a row would make its softmax NaN.
    bias = jnp.maximum(mask, lowest)
  # Added, not selected: that is what lets gradients pass through a fully
  # hidden row as they do in the reference.
  return scores + bias.astype(scores.dtype)


def attend(
  q: Float[Array, 'B T H K'],
  k: Float[Array, 'B S H K'],
  v: Float[Array, 'B S H K'],
  mask: Array | None,
  head_mask: Float[Array, ' H'] | None,
  key: Key[Array, ''] | None,
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
    mask: from `attention_mask_4d`, or None.
    head_mask: a factor for each head's probabilities, or None.
    key: for dropout; None: no dropout.
    rate: how likely a probability is dropped.
    compute: dtypes.

  Returns:
    The mixed values; the probabilities after dropout and head mask; and the
    masked scores before the softmax. The latter two are in float32 at least.
  """
  scores = jnp.einsum(
    'BTHK,BSHK->BHTS', q, k, preferred_element_type=compute.stats_dtype
  )
  scores = apply_mask(scores * q.shape[-1] ** -0.5, mask)
  probs = jax.nn.softmax(scores, axis=-1)
  if key is not None:
    dropout = nn.Dropout(rate, deterministic=False, parent=None)
    probs = dropout.apply({}, probs, rng=key)
  if head_mask is not None:
    probs = probs * head_mask.astype(probs.dtype).reshape(1, -1, 1, 1)
  context = jnp.einsum('BHTS,BSHK->BTHK', probs.astype(compute.dtype), v)
  return context, probs, scores


class BlockInputs(NamedTuple):
  """What attention reads, and the residual that is added to its result."""

  query: Float[Array, 'B S Q']
  key: Float[Array, 'B S Q']
  value: Float[Array, 'B S W']
  residual: Float[Array, 'B S C']


class SelfAttention(ConfiguredModule):
  """Self-attention, its output projection, residual and norm.

  norm(softmax(Q K^T / sqrt(head_dim) + mask) V W + residual), for each head.
  """

  @nn.compact
  def __call__(
    self,
    inputs: BlockInputs,
    mask: Array | None = None,
    head_mask: Float[Array, ' H'] | None = None,
    *,
    deterministic: bool = True,
  ) -> tuple[
    Float[Array, 'B S C'], Float[Array, 'B H S S'], Float[Array, 'B H S S']
  ]:
    """Mixes the values that each query sees.

    Args:
      inputs: what queries, keys and values are projected from, and the
        residual.
      mask: from `attention_mask_4d`, or None.
      head_mask: a factor for each head's probabilities, or None.
      deterministic: no dropout.

    Returns:
      The hidden states at the block's width; the probabilities after dropout
      and head mask (as transformers returns them); and the masked scores
      before the softmax (as google-research's `all_attention_maps`). The
      latter two are in float32 at least.
    """
    c, compute = self.config, self.compute
    narrow = inner_axis(c)
    shared = c.key_query_shared_bottleneck or c.use_bottleneck_attention
    query_axis = narrow if shared else 'hidden'
    value_axis = narrow if c.use_bottleneck_attention else 'hidden'
    q = self._heads(inputs.query, 'query', query_axis)
    k = self._heads(inputs.key, 'key', query_axis)
    v = self._heads(inputs.value, 'value', value_axis)
    core = functools.partial(
      attend, rate=c.attention_probs_dropout_prob, compute=compute
    )
    if compute.remat == 'attention':
      # As for whole blocks in `encoder`: in straight-line code XLA could undo
      # the recomputation.
      core = jax.checkpoint(core, prevent_cse=compute.layers == 'loop')
    key = None
    if c.attention_probs_dropout_prob > 0 and not deterministic:
      key = _DropoutKey(name='probs_dropout')()
    context, probs, scores = core(q, k, v, mask, head_mask, key)
    y = context.reshape(*context.shape[:2], c.true_hidden_size)
    axes = ('heads', block_axis(c))
    y = Dense(c.true_hidden_size, axes, c, compute, name='output')(y)
    y = constrain(y, 'batch', 'sequence', None)
    if not c.use_bottleneck:
      dropout = nn.Dropout(c.hidden_dropout_prob, name='dropout')
      y = dropout(y, deterministic=deterministic)
    y = block_norm(c, compute, narrow, name='norm')(y + inputs.residual)
    return y, probs, scores

  def _heads(self, x: Array, name: str, axis: str) -> Array:
    """Projects x and splits the result into heads: [B, S, H, K]."""
    c = self.config
    axes = (axis, 'heads')
    y = Dense(c.true_hidden_size, axes, c, self.compute, name=name)(x)
    y = y.reshape(*y.shape[:2], c.num_attention_heads, c.head_dim)
    return constrain(y, 'batch', 'sequence', 'heads', None)


class _DropoutKey(nn.Module):
  """Draws the key that a dropout of this name would draw."""

  @nn.compact
  def __call__(self) -> Key[Array, '']:
    return self.make_rng('dropout')
