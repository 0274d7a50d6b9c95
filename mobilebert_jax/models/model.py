"""The bare model: embeddings, encoder, pooler."""

import dataclasses
from typing import ClassVar, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from mobilebert_jax.models.attention import Mask, make_mask
from mobilebert_jax.models.embeddings import MobileBertEmbeddings, check_ids
from mobilebert_jax.models.encoder import Encoder, Options
from mobilebert_jax.models.folded_norms import fold_norms
from mobilebert_jax.models.layers import ConfiguredModule, Dense
from mobilebert_jax.models.outputs import (
  BaseModelOutputWithPooling,
  ModelOutput,
)
from mobilebert_jax.models.packing import (
  ClsPositions,
  SegmentIds,
  check_segments,
  take_tokens,
)
from mobilebert_jax.models.partitioning import constrain
from mobilebert_jax.models.typing import Params
from mobilebert_jax.runtime.errors import InputError

Ids = Int[Array | np.ndarray, 'B S'] | None
PositionIds = (
  Int[Array | np.ndarray, 'B S'] | Int[Array | np.ndarray, ' S'] | None
)
AttentionMask = (
  Num[Array | np.ndarray, '...'] | Bool[Array | np.ndarray, '...'] | None
)
HeadMask = Num[Array | np.ndarray, '...'] | None
Embeds = Float[Array | np.ndarray, 'B S E'] | None
MaskedPositions = Int[Array | np.ndarray, 'B P'] | None


class Inputs(NamedTuple):
  """The arrays that a model reads; see `MobileBertPreTrainedModel`."""

  input_ids: Ids = None
  attention_mask: AttentionMask = None
  token_type_ids: Ids = None
  position_ids: PositionIds = None
  head_mask: HeadMask = None
  inputs_embeds: Embeds = None
  segment_ids: SegmentIds = None
  cls_positions: ClsPositions = None
  masked_positions: MaskedPositions = None

  @property
  def words(self) -> Ids | Embeds:
    """The token ids, or the vectors that stand for them."""
    return self.inputs_embeds if self.input_ids is None else self.input_ids


class MobileBertPreTrainedModel(ConfiguredModule):
  """Base of the eight models: the arguments of a call.

  Class attributes:
    predicts_masked: whether the head predicts masked tokens, and so takes
      `masked_positions`.
  """

  predicts_masked: ClassVar[bool] = False

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
    masked_positions: MaskedPositions = None,
  ) -> ModelOutput:
    """Encodes a batch and applies the head, if the model has one.

    Args:
      input_ids: token ids; or give `inputs_embeds`. The multiple choice model
        has an axis of choices after the batch's in this and the other inputs.
      attention_mask: which keys are seen; see `make_mask`. Without
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
        position belongs to: 1, 2, ..., each in one piece, 0 for padding. A
        query sees the keys of its own example, as far as `attention_mask`
        lets it, and the trigram input sees zero past an example's ends. To
        stand for an example padded to some length, an example needs one [PAD]
        of its own behind it, with attention_mask 0.
      cls_positions: where each example of a packed row begins, [B, examples]
        (or [B, examples, choices]); a slot without an example may point
        anywhere. Without a pooler they are not read.
      masked_positions: for heads that predict masked tokens, the positions in
        each row to which the head is applied, [B, P], instead of all. Logits
        of tokens then are [B, P, V]. Few tokens are masked and the vocabulary
        is large: logits that no loss reads would be two fifths of the
        student's products (BERT's run_pretraining.py gathers likewise).

    Returns:
      The outputs of transformers' class of the same name, without a loss.
      Hidden states are in the compute dtype, logits in float32 at least. The
      pooled output is the first token's vector, through tanh(dense) with
      `classifier_activation`. In a packed batch, pooled outputs and logits of
      examples have a row for each of `cls_positions`, row after row; logits
      of tokens stay where the tokens are.

    Raises:
      InputError: contradicting inputs, too long a sequence, a mask, segments
        or positions of a wrong shape, or `masked_positions` for a model that
        predicts no masked tokens. Also an id, a token type or a position
        beyond its table, where the values are known: inside `jax.jit` they
        are not, and give NaN.
    """
    inputs = Inputs(
      input_ids,
      attention_mask,
      token_type_ids,
      position_ids,
      head_mask,
      inputs_embeds,
      segment_ids,
      cls_positions,
      masked_positions,
    )
    self._check_masked_positions(inputs)
    options = Options(
      deterministic,
      output_hidden_states,
      output_attentions,
      output_attention_scores,
    )
    return self._forward(inputs, options)

  def with_folded_norms(self) -> Self:
    """Returns the model for parameters that `fold_norms` returns.

    It is the same function, cheaper to compute: every NoNorm of a block is in
    the matrix before it (`models.folded_norms`), and attention takes the way
    that has an own backward pass, and a shorter one forward. Results differ by
    rounding.
    """
    compute = dataclasses.replace(self.compute, norms='folded', gradients='own')
    return self.clone(compute=compute)

  def fold_norms(self, params: Params) -> Params:
    """Returns the parameters for `with_folded_norms`; without a NoNorm, these.

    Args:
      params: the model's own.
    """
    return fold_norms(self.config, params)

  def _forward(self, inputs: Inputs, options: Options) -> ModelOutput:
    """Computes the outputs."""
    raise NotImplementedError

  def _check_masked_positions(self, inputs: Inputs) -> None:
    positions = inputs.masked_positions
    if positions is None:
      return
    if not self.predicts_masked:
      raise InputError(
        f'{type(self).__name__} takes no masked_positions: it predicts no '
        'masked tokens.'
      )
    words = inputs.words
    rows = positions.shape[:1] if words is None else words.shape[:1]
    if positions.ndim != 2 or positions.shape[:1] != rows:
      raise InputError(
        f'masked_positions have shape {positions.shape}, but must have [batch, '
        f'positions] with {rows[0]} rows.'
      )
    length = words.shape[1] if words is not None else positions.shape[1]
    check_ids('masked_positions', positions, length, 'tokens in a row')


class MobileBertModel(MobileBertPreTrainedModel):
  """MobileBERT without a head (transformers' `MobileBertModel`).

  Attributes:
    add_pooling_layer: whether there is a pooled output.
  """

  add_pooling_layer: bool = True

  def setup(self):
    c, compute = self.config, self.compute
    self.embeddings = MobileBertEmbeddings(c, compute)
    self.encoder = Encoder(c, compute)
    if self.add_pooling_layer and c.classifier_activation:
      axes = ('hidden', 'hidden_out')
      self.pooler = Dense(c.hidden_size, axes, c, compute)

  def _forward(
    self, inputs: Inputs, options: Options
  ) -> BaseModelOutputWithPooling:
    x, mask = self.embed(inputs, deterministic=options.deterministic)
    out = self.encoder(x, mask, inputs.head_mask, options)
    hidden_states = _tuple(out.hidden_states)
    return dataclasses.replace(
      self.pooled(out.last_hidden_state, inputs.cls_positions),
      hidden_states=None if hidden_states is None else (x, *hidden_states),
      attentions=_tuple(out.attentions),
      attention_scores=_tuple(out.attention_scores),
    )

  def embed(
    self, inputs: Inputs, *, deterministic: bool = True
  ) -> tuple[Float[Array, 'B S D'], Mask]:
    """Returns what the first block reads, and the mask of all blocks."""
    if inputs.words is not None:
      check_segments(
        inputs.words.shape[:2],
        inputs.segment_ids,
        inputs.cls_positions,
        is_pooled=self.add_pooling_layer,
      )
    x = self.embeddings(
      inputs.input_ids,
      inputs.token_type_ids,
      inputs.position_ids,
      inputs.inputs_embeds,
      deterministic=deterministic,
      segment_ids=inputs.segment_ids,
    )
    x = constrain(x, 'batch', 'sequence', None)
    return x, make_mask(inputs.attention_mask, inputs.segment_ids)

  def pooled(
    self,
    last_hidden_state: Float[Array, 'B S D'],
    cls_positions: ClsPositions = None,
  ) -> BaseModelOutputWithPooling:
    """Returns the encoder's output beside the pooled one."""
    return BaseModelOutputWithPooling(
      last_hidden_state=last_hidden_state,
      pooler_output=self._pool(last_hidden_state, cls_positions),
    )

  def word_table(self) -> Float[Array, 'V E']:
    """Returns the word vectors, for a decoder that is tied to them."""
    return self.embeddings.word_embeddings.whole()

  def _pool(self, x: Array, cls_positions: ClsPositions) -> Array | None:
    if not self.add_pooling_layer:
      return None
    first = x[:, 0] if cls_positions is None else take_tokens(x, cls_positions)
    if not self.config.classifier_activation:
      return first
    return jnp.tanh(self.pooler(first))


def _tuple(stacked: Array | None) -> tuple[Array, ...] | None:
  """Returns one array for each block, as transformers does."""
  return None if stacked is None else tuple(stacked)
