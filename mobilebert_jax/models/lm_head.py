"""The masked-language-model head."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mobilebert_jax.models.layers import (
  Activation,
  ConfiguredModule,
  Dense,
  Norm,
  along_last_axis,
  normal_init,
)
from mobilebert_jax.models.partitioning import constrain, partitioned


class MaskedLMHead(ConfiguredModule):
  """Scores the vocabulary at each position.

  The word vectors are narrower than the hidden states, so the decoder has two
  parts: the first `embedding_size` features meet the word table, the others
  the matrix `dense`. The norm is a true LayerNorm even in NoNorm models.
  """

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B S D'], word_table: Float[Array, 'V E']
  ) -> Float[Array, 'B S V']:
    """Returns logits in float32 at least.

    Args:
      x: the last hidden states, of all positions or of the masked ones.
      word_table: the word vectors, used if `tie_word_embeddings`.
    """
    c, compute = self.config, self.compute
    zeros = nn.initializers.zeros
    axes = ('hidden', 'hidden_out')
    x = Dense(c.hidden_size, axes, c, compute, name='transform')(x)
    x = Activation(c.hidden_act, compute, name='activation')(x)
    norm = Norm('layer_norm', 'hidden', c.layer_norm_eps, compute, name='norm')
    x = norm(x)
    bias = self.param(
      'bias',
      partitioned(zeros, ('vocab',)),
      (c.vocab_size,),
      compute.param_dtype,
    )
    if not c.tie_word_embeddings:
      # The reference keeps `bias` beside the untied decoder's own, unused.
      word_table, bias = _Decoder(c, compute, name='decoder')()
    weights = self._rest(word_table)
    logits = jnp.dot(
      x,
      weights.astype(compute.dtype),
      preferred_element_type=compute.stats_dtype,
    )
    logits = constrain(logits, 'batch', 'sequence', 'vocab')
    return logits + along_last_axis(bias.astype(logits.dtype), logits.ndim)

  def _rest(self, word_table: Array) -> Array:
    """Returns the whole decoder, [D, V]: word table above, `dense` below."""
    c, compute = self.config, self.compute
    rest = constrain(_Kernel(c, compute, name='dense')(), None, None)
    return jnp.concatenate([word_table.T, rest.astype(word_table.dtype)])


class _Kernel(ConfiguredModule):
  """The decoder's rows beyond the word vectors; none if D == E."""

  @nn.compact
  def __call__(self) -> Float[Array, 'R V']:
    c = self.config
    return self.param(
      'kernel',
      partitioned(normal_init(c), ('hidden_rest', 'vocab')),
      (c.hidden_size - c.embedding_size, c.vocab_size),
      self.compute.param_dtype,
    )


class _Decoder(ConfiguredModule):
  """An untied word table with a bias of its own."""

  @nn.compact
  def __call__(self) -> tuple[Float[Array, 'V E'], Float[Array, ' V']]:
    c, param_dtype = self.config, self.compute.param_dtype
    table = self.param(
      'embedding',
      partitioned(normal_init(c), ('vocab', 'embedding')),
      (c.vocab_size, c.embedding_size),
      param_dtype,
    )
    zeros = partitioned(nn.initializers.zeros, ('vocab',))
    return table, self.param('bias', zeros, (c.vocab_size,), param_dtype)
