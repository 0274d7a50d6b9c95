"""The encoder: bottlenecks, stacked feed-forward networks, blocks, their stack.

In this order: what leads into a block and out of it, the networks inside it,
the block, and the stack of blocks, scanned or unrolled, with optional
rematerialisation (paper, section 3.1 and figure 1c).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.models.attention import (
  SEES_ALL,
  BlockInputs,
  Mask,
  SelfAttention,
)
from mobilebert_jax.models.folded_norms import fold_blocks
from mobilebert_jax.models.layers import (
  TORCH_LAYER_NORM_EPS,
  Activation,
  ConfiguredModule,
  Dense,
  block_axis,
  block_norm,
  folds_norms,
  inner_axis,
  residual_norm,
)
from mobilebert_jax.models.partitioning import constrain
from mobilebert_jax.models.remat import REMAT_POLICIES
from mobilebert_jax.runtime.errors import InputError


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
    if folds_norms(c, compute):
      return x
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
    return residual_norm(c, compute, 'hidden', y, x)


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
    return residual_norm(c, compute, inner_axis(c), y, x, eps=eps)


class Options(NamedTuple):
  """What one call of the encoder does beside computing.

  Attributes:
    deterministic: no dropout.
    output_hidden_states: also return each block's output.
    output_attentions: also return each block's attention probabilities.
    output_attention_scores: also return each block's masked scores before the
      softmax.
    output_attention_inputs: also return each block's queries and keys.
  """

  deterministic: bool = True
  output_hidden_states: bool = False
  output_attentions: bool = False
  output_attention_scores: bool = False
  output_attention_inputs: bool = False


DEFAULT_OPTIONS = Options()


class EncoderOutput(NamedTuple):
  """Results of all blocks; the optional ones are stacked on axis 0."""

  last_hidden_state: Float[Array, 'B S D']
  hidden_states: Float[Array, 'L B S D'] | None
  attentions: Float[Array, 'L B H S S'] | None
  attention_scores: Float[Array, 'L B H S S'] | None
  attention_inputs: (
    tuple[Float[Array, 'L B S C'], Float[Array, 'L B S C']] | None
  )


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
    mask: Mask,
  ) -> tuple[Float[Array, 'B S D'], tuple[Any, ...]]:
    """Returns the block's output, and what `options` ask for.

    Args:
      x: the stream.
      head_mask: a factor for each head's probabilities, or None.
      mask: which keys a query sees.

    Returns:
      The output; and output, attention probabilities, masked scores, and
      queries with keys, each None unless asked for.
    """
    c, compute, options = self.config, self.compute, self.options
    deterministic = options.deterministic
    inputs = Bottleneck(c, compute, name='bottleneck')(x)
    attention = SelfAttention(c, compute, name='attention')
    attended = attention(
      inputs,
      mask,
      head_mask,
      deterministic=deterministic,
      with_maps=options.output_attentions or options.output_attention_scores,
    )
    feed_forward = FeedForwardStack(c, compute, name='feed_forward')
    y = feed_forward(attended.hidden, deterministic=deterministic)
    if c.use_bottleneck:
      output = OutputBottleneck(c, compute, name='output_bottleneck')
      y = output(y, x, deterministic=deterministic)
    y = constrain(y, 'batch', 'sequence', None)
    return y, (
      y if options.output_hidden_states else None,
      attended.probs if options.output_attentions else None,
      attended.scores if options.output_attention_scores else None,
      (attended.query, attended.key)
      if options.output_attention_inputs
      else None,
    )


class Encoder(ConfiguredModule):
  """All blocks in a row, their parameters stacked on axis 0 as `layers`."""

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B S D'],
    mask: Mask = SEES_ALL,
    head_mask: Num[Array | np.ndarray, '...'] | None = None,
    options: Options = DEFAULT_OPTIONS,
  ) -> EncoderOutput:
    """Runs the blocks.

    Args:
      x: the embeddings' output.
      mask: which keys a query sees.
      head_mask: factors for the attention probabilities, [H] for all blocks
        or [L, H]; or None.
      options: dropout and outputs.

    Raises:
      InputError: a head mask of another shape.
    """
    c, compute = self.config, self.compute
    folds = compute.norms == 'fold' and not self.is_initializing()
    if self.is_initializing() or folds:
      # Parameters are made, and stay, as the paper has them.
      norms = 'folded' if folds else 'separate'
      compute = dataclasses.replace(compute, norms=norms)
    unrolled = compute.layers == 'loop'
    block = Block
    policy = REMAT_POLICIES[compute.remat]
    if policy is not None:
      # Inside a compiled loop, XLA cannot undo the recomputation by merging
      # it with the forward pass; in unrolled code it could.
      block = nn.remat(Block, policy=policy, prevent_cse=unrolled)
    # Flax traces the block once more to check what is constant; without that,
    # random numbers in a block would be others. Nothing is drawn, nothing lost.
    draws = self.is_initializing() or not options.deterministic
    # A fully unrolled scan is the plain loop: the same stacked parameters and
    # the same dropout keys, but straight-line code.
    stack = nn.scan(
      block,
      length=c.num_hidden_layers,
      unroll=c.num_hidden_layers if unrolled else 1,
      variable_axes={'params': 0},
      split_rngs={'params': True, 'dropout': True},
      in_axes=(0, nn.broadcast),
      metadata_params={nn.PARTITION_NAME: 'layers'},
      check_constancy_invariants=draws,
    )
    if folds:
      stack = nn.map_variables(
        stack, 'params', lambda tree: _folded_blocks(c, tree)
      )
    layers = stack(c, compute, options, name='layers')
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


def _folded_blocks(
  config: MobileBertConfig, variables: Mapping[str, Any]
) -> dict[str, Any]:
  """Folds the collection of parameters, on its way into the blocks."""
  return {'params': fold_blocks(config, variables['params'])}
