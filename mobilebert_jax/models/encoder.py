"""The stack of blocks: scanned or unrolled, with optional rematerialisation."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from mobilebert_jax.models.attention import SelfAttention
from mobilebert_jax.models.bottleneck import Bottleneck, OutputBottleneck
from mobilebert_jax.models.compute import REMAT_POLICIES
from mobilebert_jax.models.feed_forward import FeedForwardStack
from mobilebert_jax.models.layers import ConfiguredModule
from mobilebert_jax.models.partitioning import constrain
from mobilebert_jax.runtime.errors import InputError


class Options(NamedTuple):
  """What one call of the encoder does beside computing.

  Attributes:
    deterministic: no dropout.
    output_hidden_states: also return each block's output.
    output_attentions: also return each block's attention probabilities.
    output_attention_scores: also return each block's masked scores before the
      softmax.
  """

  deterministic: bool = True
  output_hidden_states: bool = False
  output_attentions: bool = False
  output_attention_scores: bool = False


DEFAULT_OPTIONS = Options()


class EncoderOutput(NamedTuple):
  """Results of all blocks; the optional ones are stacked on axis 0."""

  last_hidden_state: Float[Array, 'B S D']
  hidden_states: Float[Array, 'L B S D'] | None
  attentions: Float[Array, 'L B H S S'] | None
  attention_scores: Float[Array, 'L B H S S'] | None


class Block(ConfiguredModule):
  """One block, in the shape that `nn.scan` wants (paper, Figure 1).

  Attributes:
    options: dropout and outputs.
  """

  options: Options = DEFAULT_OPTIONS

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B S D'],
    head_mask: Float[Array, ' H'] | None,
    mask: Array | None,
  ) -> tuple[Float[Array, 'B S D'], tuple[Array | None, ...]]:
    """Returns the block's output, and what `options` ask for.

    Args:
      x: the stream.
      head_mask: a factor for each head's probabilities, or None.
      mask: from `attention_mask_4d`, or None.

    Returns:
      The output; and output, attention probabilities and masked scores, each
      None unless asked for.
    """
    c, compute, options = self.config, self.compute, self.options
    deterministic = options.deterministic
    inputs = Bottleneck(c, compute, name='bottleneck')(x)
    attention = SelfAttention(c, compute, name='attention')
    y, probs, scores = attention(
      inputs, mask, head_mask, deterministic=deterministic
    )
    feed_forward = FeedForwardStack(c, compute, name='feed_forward')
    y = feed_forward(y, deterministic=deterministic)
    if c.use_bottleneck:
      output = OutputBottleneck(c, compute, name='output_bottleneck')
      y = output(y, x, deterministic=deterministic)
    y = constrain(y, 'batch', 'sequence', None)
    return y, (
      y if options.output_hidden_states else None,
      probs if options.output_attentions else None,
      scores if options.output_attention_scores else None,
    )


class Encoder(ConfiguredModule):
  """All blocks in a row, their parameters stacked on axis 0 as `layers`."""

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B S D'],
    mask: Array | None = None,
    head_mask: Num[Array | np.ndarray, '...'] | None = None,
    options: Options = DEFAULT_OPTIONS,
  ) -> EncoderOutput:
    """Runs the blocks.

    Args:
      x: the embeddings' output.
      mask: from `attention_mask_4d`, or None.
      head_mask: factors for the attention probabilities, [H] for all blocks
        or [L, H]; or None.
      options: dropout and outputs.

    Raises:
      InputError: a head mask of another shape.
    """
    c, compute = self.config, self.compute
    unrolled = compute.layers == 'loop'
    block = Block
    if compute.remat != 'none':
      # Inside a compiled loop, XLA cannot undo the recomputation by merging
      # it with the forward pass; in unrolled code it could.
      block = nn.remat(
        Block,
        policy=REMAT_POLICIES[compute.remat],
        prevent_cse=unrolled,
      )
    # A fully unrolled scan is the plain loop: the same stacked parameters and
    # the same dropout keys, but straight-line code.
    layers = nn.scan(
      block,
      length=c.num_hidden_layers,
      unroll=c.num_hidden_layers if unrolled else 1,
      variable_axes={'params': 0},
      split_rngs={'params': True, 'dropout': True},
      in_axes=(0, nn.broadcast),
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )(c, compute, options, name='layers')
    head_masks = None if head_mask is None else self._head_masks(head_mask)
    y, outputs = layers(x, head_masks, mask)
    return EncoderOutput(y, *outputs)

  def _head_masks(self, head_mask: Array | np.ndarray) -> Array:
    """Checks the factors and gives each block its own."""
    shape = (self.config.num_hidden_layers, self.config.num_attention_heads)
    head_mask = jnp.asarray(head_mask)
    if head_mask.shape not in (shape, shape[1:]):
      raise InputError(
        f'head_mask has shape {head_mask.shape}, but must be [heads] = '
        f'({shape[1]},) or [layers, heads] = {shape}.'
      )
    return jnp.broadcast_to(head_mask, shape)
