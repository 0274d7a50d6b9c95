"""The dense layers that lead into a block and out of it."""

from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float

from mobilebert_jax.models.layers import ConfiguredModule, Dense, block_norm
from mobilebert_jax.models.partitioning import constrain


class BlockInputs(NamedTuple):
  """What attention reads, and the residual that is added to its result."""

  query: Float[Array, 'B S Q']
  key: Float[Array, 'B S Q']
  value: Float[Array, 'B S W']
  residual: Float[Array, 'B S C']


class Bottleneck(ConfiguredModule):
  """Brings the stream to the block's width (paper, section 3.1, Figure 1)."""

  @nn.compact
  def __call__(self, x: Float[Array, 'B S D']) -> BlockInputs:
    """Projects a block's input and says who reads what."""
    c = self.config
    if not c.use_bottleneck:
      return BlockInputs(x, x, x, x)
    narrow = _Projection(c, self.compute, name='input')(x)
    if c.key_query_shared_bottleneck:
      # Under use_bottleneck_attention the reference keeps these parameters
      # without using them; XLA then drops the product.
      shared = _Projection(c, self.compute, name='attention')(x)
    if c.use_bottleneck_attention:
      return BlockInputs(narrow, narrow, narrow, narrow)
    if c.key_query_shared_bottleneck:
      return BlockInputs(shared, shared, x, narrow)
    return BlockInputs(x, x, x, narrow)


class _Projection(ConfiguredModule):
  """norm(dense(x)), from the stream's width to the block's."""

  @nn.compact
  def __call__(self, x: Float[Array, 'B S D']) -> Float[Array, 'B S C']:
    c, compute, axes = self.config, self.compute, ('hidden', 'bottleneck')
    x = Dense(c.intra_bottleneck_size, axes, c, compute, name='dense')(x)
    x = constrain(x, 'batch', 'sequence', None)
    return block_norm(c, compute, 'bottleneck', name='norm')(x)


class OutputBottleneck(ConfiguredModule):
  """norm(dropout(dense(y)) + x): back to the stream's width."""

  @nn.compact
  def __call__(
    self,
    y: Float[Array, 'B S C'],
    x: Float[Array, 'B S D'],
    *,
    deterministic: bool = True,
  ) -> Float[Array, 'B S D']:
    """Adds what the block computed, y, to the stream, x."""
    c, compute, axes = self.config, self.compute, ('bottleneck', 'hidden')
    y = Dense(c.hidden_size, axes, c, compute, name='dense')(y)
    dropout = nn.Dropout(c.hidden_dropout_prob, name='dropout')
    y = dropout(y, deterministic=deterministic)
    return block_norm(c, compute, 'hidden', name='norm')(y + x)
