"""Multi-head self-attention inside a block."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Key

from mobilebert_jax.models.attention import (
  choice,
  cudnn,
  dropout,
  meshed,
  xla,
)
from mobilebert_jax.models.attention.masks import SEES_ALL, Mask
from mobilebert_jax.models.attention.xla import Drawn
from mobilebert_jax.models.layers import (
  ConfiguredModule,
  Dense,
  block_axis,
  inner_axis,
  residual_norm,
)
from mobilebert_jax.models.partitioning import constrain


class BlockInputs(NamedTuple):
  """What attention reads, and the residual that is added to its result."""

  query: Float[Array, 'B S Q']
  key: Float[Array, 'B S Q']
  value: Float[Array, 'B S W']
  residual: Float[Array, 'B S C']


class Attended(NamedTuple):
  """What attention gives.

  Attributes:
    hidden: the hidden states at the block's width.
    probs: the probabilities after dropout and head mask (as transformers
      returns them), in float32 at least; or None.
    scores: the masked scores before the softmax (as google-research's
      `all_attention_maps`), in float32 at least; or None.
    query: what scores are made of: queries, head after head.
    key: keys likewise.
  """

  hidden: Float[Array, 'B S C']
  probs: Float[Array, 'B H S S'] | None
  scores: Float[Array, 'B H S S'] | None
  query: Float[Array, 'B S W']
  key: Float[Array, 'B S W']


class SelfAttention(ConfiguredModule):
  """Self-attention, its output projection, residual and norm.

  norm(softmax(Q K^T / sqrt(head_dim) + mask) V W + residual), for each head.
  """

  @nn.compact
  def __call__(
    self,
    inputs: BlockInputs,
    mask: Mask = SEES_ALL,
    head_mask: Float[Array, ' H'] | None = None,
    *,
    deterministic: bool = True,
    with_maps: bool = True,
  ) -> Attended:
    """Mixes the values that each query sees.

    Args:
      inputs: what queries, keys and values are projected from, and the
        residual.
      mask: which keys a query sees.
      head_mask: a factor for each head's probabilities, or None.
      deterministic: no dropout.
      with_maps: return probabilities and scores; otherwise they need not be
        made, and are None.
    """
    c, compute = self.config, self.compute
    narrow = inner_axis(c)
    shared = c.key_query_shared_bottleneck or c.use_bottleneck_attention
    query_axis = narrow if shared else 'hidden'
    value_axis = narrow if c.use_bottleneck_attention else 'hidden'
    q = self._projected(inputs.query, 'query', query_axis)
    k = self._projected(inputs.key, 'key', query_axis)
    v = self._projected(inputs.value, 'value', value_axis)
    rate = 0.0 if deterministic else c.attention_probs_dropout_prob
    drawn = Drawn()
    if rate:
      drawn = Drawn(_DropoutKey(name='probs_dropout')())
    y, probs, scores = self._attend(q, k, v, mask, head_mask, drawn, with_maps)
    axes = ('heads', block_axis(c))
    y = Dense(c.true_hidden_size, axes, c, compute, name='output')(y)
    y = constrain(y, 'batch', 'sequence', None)
    if not c.use_bottleneck:
      drop = nn.Dropout(c.hidden_dropout_prob, name='dropout')
      y = drop(y, deterministic=deterministic)
    y = residual_norm(c, compute, narrow, y, inputs.residual)
    return Attended(y, probs, scores, q, k)

  def _projected(self, x: Array, name: str, axis: str) -> Array:
    """Projects x to all heads, one after another: [B, S, H K]."""
    c = self.config
    axes = (axis, 'heads')
    y = Dense(c.true_hidden_size, axes, c, self.compute, name=name)(x)
    return constrain(y, 'batch', 'sequence', 'heads')

  def _attend(
    self,
    q: Array,
    k: Array,
    v: Array,
    mask: Mask,
    head_mask: Array | None,
    drawn: Drawn,
    with_maps: bool,
  ) -> tuple[Array, Array | None, Array | None]:
    """Returns mixed values, [B, S, H K]; probabilities and scores with maps."""
    c, compute = self.config, self.compute
    heads, rate = c.num_attention_heads, c.attention_probs_dropout_prob
    kind = choice.kind(
      compute, q.shape, heads, is_dropping=drawn.key is not None
    )
    is_hashed = kind == 'fused' or compute.attention_dropout == 'hash'
    if drawn.key is not None and is_hashed:
      drawn = Drawn(seed=dropout.seed_of(drawn.key))
    if kind == 'fused' and not with_maps:
      y = meshed.attend(
        q, k, v, mask, head_mask, drawn.seed, heads=heads, rate=rate,
        interpret=choice.is_interpreted(),
      )  # fmt: skip
      return y, None, None
    if kind == 'cudnn' and not with_maps:
      return cudnn.attend(q, k, v, mask, head_mask, heads=heads), None, None
    q, k, v = (x.reshape(*x.shape[:2], heads, c.head_dim) for x in (q, k, v))
    has_own_gradient = (
      not with_maps
      and drawn.key is None
      and (is_hashed or compute.gradients == 'own')
    )
    function: Any = xla.attend_hashed if has_own_gradient else xla.attend
    core: Any = functools.partial(function, rate=rate, compute=compute)
    if compute.remat == 'attention':
      # As for whole blocks in `encoder`: in straight-line code XLA could undo
      # the recomputation.
      core = jax.checkpoint(core, prevent_cse=compute.layers == 'loop')
    result = core(q, k, v, mask, head_mask, drawn)
    y, probs, scores = (result, None, None) if has_own_gradient else result
    return y.reshape(*y.shape[:2], c.true_hidden_size), probs, scores


class _DropoutKey(nn.Module):
  """Draws the key that a dropout of this name would draw."""

  @nn.compact
  def __call__(self) -> Key[Array, '']:
    return self.make_rng('dropout')
