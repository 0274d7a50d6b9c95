"""The stack of feed-forward networks inside a block."""

import flax.linen as nn
from jaxtyping import Array, Float

from mobilebert_jax.models.activations import Activation
from mobilebert_jax.models.layers import (
  TORCH_LAYER_NORM_EPS,
  ConfiguredModule,
  Dense,
  block_axis,
  block_norm,
  inner_axis,
)
from mobilebert_jax.models.partitioning import constrain


class FeedForwardStack(ConfiguredModule):
  """`num_feedforward_networks` networks in a row (paper, section 3.2)."""

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B S C'], *, deterministic: bool = True
  ) -> Float[Array, 'B S C']:
    """Applies all networks, each with its own residual."""
    count = self.config.num_feedforward_networks
    for j in range(count):
      network = _FeedForward(
        self.config, self.compute, is_last=j == count - 1, name=f'ffn_{j}'
      )
      x = network(x, deterministic=deterministic)
    return x


class _FeedForward(ConfiguredModule):
  """norm(W2 act(W1 x) + x).

  The last network of a block is special in the reference: its LayerNorm has
  torch's epsilon, and it has dropout where no bottleneck follows.
  """

  is_last: bool = False

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B S C'], *, deterministic: bool
  ) -> Float[Array, 'B S C']:
    c, compute = self.config, self.compute
    wide, narrow = 'intermediate', block_axis(c)

    def dense(features, axes, name):
      return Dense(features, axes, c, compute, name=name)

    y = dense(c.intermediate_size, (narrow, wide), 'intermediate')(x)
    y = constrain(y, 'batch', 'sequence', 'intermediate')
    y = Activation(c.hidden_act, compute, name='activation')(y)
    y = dense(c.true_hidden_size, (wide, narrow), 'output')(y)
    y = constrain(y, 'batch', 'sequence', None)
    if self.is_last and not c.use_bottleneck:
      dropout = nn.Dropout(c.hidden_dropout_prob, name='dropout')
      y = dropout(y, deterministic=deterministic)
    eps = TORCH_LAYER_NORM_EPS if self.is_last else None
    return block_norm(c, compute, inner_axis(c), eps=eps, name='norm')(y + x)
