"""The bare model: embeddings, encoder, pooler."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.models.attention import attention_mask_4d, within_segments
from mobilebert_jax.models.compute import Compute
from mobilebert_jax.models.embeddings import MobileBertEmbeddings
from mobilebert_jax.models.encoder import Encoder, Options
from mobilebert_jax.models.layers import Dense
from mobilebert_jax.models.outputs import BaseModelOutputWithPooling
from mobilebert_jax.models.packing import (
  ClsPositions,
  SegmentIds,
  check_segments,
  take_tokens,
)
from mobilebert_jax.models.partitioning import constrain

Ids = Int[Array | np.ndarray, 'B S'] | None
PositionIds = (
  Int[Array | np.ndarray, 'B S'] | Int[Array | np.ndarray, ' S'] | None
)
AttentionMask = (
  Num[Array | np.ndarray, '...'] | Bool[Array | np.ndarray, '...'] | None
)
HeadMask = Num[Array | np.ndarray, '...'] | None
Embeds = Float[Array | np.ndarray, 'B S E'] | None


class MobileBertModel(nn.Module):
  """MobileBERT without a head (transformers' `MobileBertModel`).

  Attributes:
    config: the architecture.
    compute: dtypes, loop over layers, rematerialisation.
    add_pooling_layer: whether there is a pooled output.
  """

  config: MobileBertConfig
  compute: Compute = Compute()
  add_pooling_layer: bool = True

  def setup(self):
    c, compute = self.config, self.compute
    self.embeddings = MobileBertEmbeddings(c, compute)
    self.encoder = Encoder(c, compute)
    if self.add_pooling_layer and c.classifier_activation:
      axes = ('hidden', 'hidden_out')
      self.pooler = Dense(c.hidden_size, axes, c, compute)

  def __call__(
    self,
    input_ids: Ids = None,
    attention_mask: AttentionMask = None,
    token_type_ids: Ids = None,
    position_ids: PositionIds = None,
    head_mask: HeadMask = None,
    inputs_embeds: Embeds = None,
    *,
    deterministic: bool = True,
    output_hidden_states: bool = False,
    output_attentions: bool = False,
    output_attention_scores: bool = False,
    segment_ids: SegmentIds = None,
    cls_positions: ClsPositions = None,
  ) -> BaseModelOutputWithPooling:
    """Encodes a batch.

    Args:
      input_ids: token ids; or give `inputs_embeds`.
      attention_mask: which keys are seen; see `attention_mask_4d`. Without
        one, all are.
      token_type_ids: segment ids; all 0 unless given.
      position_ids: positions; 0, 1, 2, ... unless given, beginning anew in
        each segment of `segment_ids`.
      head_mask: factors for the attention probabilities, [heads] or
        [layers, heads] (transformers 4).
      inputs_embeds: word vectors, `embedding_size` wide.
      deterministic: no dropout; otherwise `apply` needs rngs={'dropout': key}.
      output_hidden_states: return the embeddings' output and each block's.
      output_attentions: return each block's attention probabilities.
      output_attention_scores: return each block's masked scores before the
        softmax; what a student's are compared with.
      segment_ids: for rows that hold several examples, which of them each
        position belongs to: 1, 2, ..., each in one piece, 0 for nobody. A
        query sees the keys of its own example, as far as `attention_mask`
        lets it, and the trigram input sees zero past an example's ends. To
        stand for an example padded to some length, an example needs one [PAD]
        of its own behind it, with attention_mask 0.
      cls_positions: where each example of a packed row begins, [B, examples]
        (or [B, examples, choices]); a slot without an example may point
        anywhere. Without a pooler they are not read.

    Returns:
      Hidden states in the compute dtype. The pooled output is the first
      token's vector, through tanh(dense) with `classifier_activation`; with
      `cls_positions`, one for each of them, row after row.

    Raises:
      InputError: contradicting inputs, too long a sequence, a mask or segments
        of a wrong shape.
    """
    x, mask = self.embed(
      input_ids,
      attention_mask,
      token_type_ids,
      position_ids,
      inputs_embeds,
      deterministic=deterministic,
      segment_ids=segment_ids,
      cls_positions=cls_positions,
    )
    options = Options(
      deterministic,
      output_hidden_states,
      output_attentions,
      output_attention_scores,
    )
    out = self.encoder(x, mask, head_mask, options)
    hidden_states = _tuple(out.hidden_states)
    return dataclasses.replace(
      self.pooled(out.last_hidden_state, cls_positions),
      hidden_states=None if hidden_states is None else (x, *hidden_states),
      attentions=_tuple(out.attentions),
      attention_scores=_tuple(out.attention_scores),
    )

  def embed(
    self,
    input_ids: Ids = None,
    attention_mask: AttentionMask = None,
    token_type_ids: Ids = None,
    position_ids: PositionIds = None,
    inputs_embeds: Embeds = None,
    *,
    deterministic: bool = True,
    segment_ids: SegmentIds = None,
    cls_positions: ClsPositions = None,
  ) -> tuple[Float[Array, 'B S D'], Array | None]:
    """What the first block reads, and the mask of all; see `__call__`."""
    words = inputs_embeds if input_ids is None else input_ids
    if words is not None:
      check_segments(
        words.shape[:2],
        segment_ids,
        cls_positions,
        is_pooled=self.add_pooling_layer,
      )
    x = self.embeddings(
      input_ids,
      token_type_ids,
      position_ids,
      inputs_embeds,
      deterministic=deterministic,
      segment_ids=segment_ids,
    )
    x = constrain(x, 'batch', 'sequence', None)
    mask = None if attention_mask is None else attention_mask_4d(attention_mask)
    return x, within_segments(mask, segment_ids)

  def pooled(
    self,
    last_hidden_state: Float[Array, 'B S D'],
    cls_positions: ClsPositions = None,
  ) -> BaseModelOutputWithPooling:
    """What follows on the encoder: its output, and the pooled one."""
    return BaseModelOutputWithPooling(
      last_hidden_state=last_hidden_state,
      pooler_output=self._pool(last_hidden_state, cls_positions),
    )

  def word_table(self) -> Float[Array, 'V E']:
    """The word vectors, for a decoder that is tied to them."""
    return self.embeddings.word_embeddings.whole()

  def _pool(self, x: Array, cls_positions: ClsPositions) -> Array | None:
    if not self.add_pooling_layer:
      return None
    first = x[:, 0] if cls_positions is None else take_tokens(x, cls_positions)
    if not self.config.classifier_activation:
      return first
    return jnp.tanh(self.pooler(first))


def _tuple(stacked: Array | None) -> tuple[Array, ...] | None:
  """One array for each block, as transformers has it."""
  return None if stacked is None else tuple(stacked)
