"""Word, position and segment embeddings with the trigram input."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mobilebert_jax.models.layers import (
  TORCH_LAYER_NORM_EPS,
  ConfiguredModule,
  Dense,
  Embed,
  block_norm,
)
from mobilebert_jax.models.packing import (
  SegmentIds,
  segment_positions,
  within_segment,
)
from mobilebert_jax.runtime.errors import InputError


def trigram(
  x: Float[Array, 'B S E'], segment_ids: Int[Array, 'B S'] | None = None
) -> Float[Array, 'B S E3']:
  """Concatenates each vector with its next and its previous one.

  The order is [next, current, previous], with zeros past both ends (paper,
  section 3.1). No mask is applied: the last real token sees the vector of a
  following [PAD], so padding changes its output, as in the reference.

  Args:
    x: word vectors.
    segment_ids: the examples of packed rows, whose ends are ends too; or None.
  """
  following = jnp.pad(x[:, 1:], ((0, 0), (0, 1), (0, 0)))
  previous = jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0)))
  if segment_ids is not None:
    following = within_segment(following, segment_ids, 1)
    previous = within_segment(previous, segment_ids, -1)
  return jnp.concatenate([following, x, previous], axis=-1)


def check_ids(name: str, ids: Any, size: int, what: str):
  """Checks ids that can be looked at; those that are traced cannot.

  Inside `jax.jit` a wrong id gives NaN, or for a position what is at the end.

  Args:
    name: what they are called.
    ids: integers, in NumPy or JAX; None: nothing.
    size: they are below it.
    what: what they count, such as 'tokens (vocab_size)'.

  Raises:
    InputError: one that is negative or too large.
  """
  if ids is None or isinstance(ids, jax.core.Tracer):
    return
  if isinstance(ids, jax.Array) and not ids.is_fully_addressable:
    return
  values = np.asarray(ids)
  if not values.size:
    return
  for value in (int(values.min()), int(values.max())):
    if not 0 <= value < size:
      raise InputError(
        f'{name} has {value}, but there are {size} {what}: it must be from 0 '
        f'to {size - 1}.'
      )


class MobileBertEmbeddings(ConfiguredModule):
  """Turns token ids into the first hidden states (paper, section 3.1).

  dropout(norm(dense(trigram(words)) + positions + token types)).
  """

  def setup(self):
    c, compute = self.config, self.compute
    self.word_embeddings = Embed(
      c.vocab_size,
      c.embedding_size,
      ('vocab', 'embedding'),
      c,
      compute,
      pad_id=c.pad_token_id,
    )
    self.position_embeddings = Embed(
      c.max_position_embeddings,
      c.hidden_size,
      ('position', 'hidden'),
      c,
      compute,
    )
    self.token_type_embeddings = Embed(
      c.type_vocab_size, c.hidden_size, ('token_type', 'hidden'), c, compute
    )
    self.embedding_transformation = Dense(
      c.hidden_size, ('trigram', 'hidden'), c, compute
    )
    self.norm = block_norm(c, compute, 'hidden', eps=TORCH_LAYER_NORM_EPS)
    self.dropout = nn.Dropout(c.hidden_dropout_prob)

  def __call__(
    self,
    input_ids: Int[Array | np.ndarray, 'B S'] | None = None,
    token_type_ids: Int[Array | np.ndarray, 'B S'] | None = None,
    position_ids: Int[Array | np.ndarray, 'b S'] | None = None,
    inputs_embeds: Float[Array | np.ndarray, 'B S E'] | None = None,
    *,
    deterministic: bool = True,
    segment_ids: SegmentIds = None,
  ) -> Float[Array, 'B S D']:
    """Embeds a batch.

    Args:
      input_ids: token ids; or give `inputs_embeds`.
      token_type_ids: segment ids; all 0 unless given.
      position_ids: positions, for each row or one row for all; 0, 1, 2, ...
        unless given, from 0 in each segment of a packed row.
      inputs_embeds: word vectors in the place of `input_ids`, `embedding_size`
        wide: the trigram and the projection still follow.
      deterministic: no dropout.
      segment_ids: the examples of packed rows, or None.

    Returns:
      The first hidden states.

    Raises:
      InputError: neither or both kinds of input, too long a sequence, or (of
        values that are not traced) an id beyond its table.
    """
    if (input_ids is None) == (inputs_embeds is None):
      raise InputError('give input_ids or inputs_embeds, exactly one of them.')
    for name, ids, size, what in (
      ('input_ids', input_ids, self.config.vocab_size, 'tokens (vocab_size)'),
      (
        'token_type_ids', token_type_ids, self.config.type_vocab_size,
        'token types (type_vocab_size)',
      ),
      (
        'position_ids', position_ids, self.config.max_position_embeddings,
        'positions (max_position_embeddings)',
      ),
    ):  # fmt: skip
      check_ids(name, ids, size, what)
    if input_ids is not None:
      words = self.word_embeddings(input_ids)
    else:
      words = jnp.asarray(inputs_embeds, self.compute.dtype)
    if segment_ids is not None:
      segment_ids = jnp.asarray(segment_ids)
      if position_ids is None:
        position_ids = segment_positions(segment_ids)
    self._check_shapes(words, position_ids, inputs_embeds is not None)
    c = self.config
    inputs = trigram(words, segment_ids) if c.trigram_input else words
    x = self.embedding_transformation(inputs)
    if not c.trigram_input and c.embedding_size == c.hidden_size:
      # The reference has the transformation's parameters even here, where it
      # does not use them; XLA drops the product.
      x = words
    x = x + self._positions(position_ids, words.shape[1])
    x = x + self._token_types(token_type_ids)
    return self.dropout(self.norm(x), deterministic=deterministic)

  def _positions(self, position_ids, length):
    if position_ids is not None:
      rows = self.position_embeddings(position_ids)
      return rows if rows.ndim == 3 else rows[None]
    table = self.position_embeddings.whole().astype(self.compute.dtype)
    return table[None, :length]

  def _token_types(self, token_type_ids):
    if token_type_ids is not None:
      return self.token_type_embeddings(token_type_ids)
    table = self.token_type_embeddings.whole().astype(self.compute.dtype)
    return table[None, :1]

  def _check_shapes(self, words, position_ids, is_embeds):
    length, limit = words.shape[1], self.config.max_position_embeddings
    if position_ids is None and length > limit:
      raise InputError(
        f'the sequence has {length} tokens, but max_position_embeddings is '
        f'{limit}: truncate the input.'
      )
    if is_embeds and words.shape[-1] != self.config.embedding_size:
      raise InputError(
        f'inputs_embeds is {words.shape[-1]} wide, but must be embedding_size '
        f'({self.config.embedding_size}) wide.'
      )
