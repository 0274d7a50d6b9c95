"""Models with heads, named and shaped as in transformers."""

import dataclasses
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.models.compute import Compute
from mobilebert_jax.models.layers import Dense
from mobilebert_jax.models.lm_head import MaskedLMHead
from mobilebert_jax.models.model import (
  AttentionMask,
  Embeds,
  HeadMask,
  Ids,
  MobileBertModel,
  PositionIds,
)
from mobilebert_jax.models.outputs import (
  BaseModelOutputWithPooling,
  MaskedLMOutput,
  MobileBertForPreTrainingOutput,
  ModelOutput,
  MultipleChoiceModelOutput,
  NextSentencePredictorOutput,
  QuestionAnsweringModelOutput,
  SequenceClassifierOutput,
  TokenClassifierOutput,
)
from mobilebert_jax.models.packing import ClsPositions, SegmentIds, tokens_at
from mobilebert_jax.models.partitioning import constrain
from mobilebert_jax.runtime.errors import InputError

MaskedPositions = Int[Array | np.ndarray, 'B P'] | None


class HeadedModel(nn.Module):
  """What all seven have in common: the bare model and its arguments.

  Attributes:
    config: the architecture.
    compute: dtypes, loop over layers, rematerialisation.

  Class attributes:
    has_pooler: whether the head reads the pooled output.
    predicts_masked: whether the head predicts masked tokens, and so takes
      `masked_positions`.
    outputs_per: what the logits have a row for: each 'example', each 'token',
      or 'both' (logits of either kind).
  """

  config: MobileBertConfig
  compute: Compute = Compute()

  has_pooler: ClassVar[bool] = True
  predicts_masked: ClassVar[bool] = False
  outputs_per: ClassVar[Literal['example', 'token', 'both']] = 'example'

  def setup(self):
    self.mobilebert = MobileBertModel(
      self.config, self.compute, add_pooling_layer=self.has_pooler
    )
    self._setup_head()

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
    """Encodes a batch and applies the head.

    The arguments are `MobileBertModel`'s, and one for heads that predict masked
    tokens: `masked_positions` [B, P], the positions in each row to which the
    head is applied, instead of all. Logits of tokens then are [B, P, V]. Few
    tokens are masked and the vocabulary is large: logits that no loss reads
    would be two fifths of the student's products (BERT's run_pretraining.py
    gathers likewise).

    Logits are in float32 at least. In a packed batch, logits of an example have
    one row for each of `cls_positions`, and logits of tokens stay where the
    tokens are.

    Raises:
      InputError: `masked_positions` of another shape, or for another head; and
        what `MobileBertModel` raises.
    """
    self._check_positions(input_ids, inputs_embeds, masked_positions)
    body = self.mobilebert(
      input_ids,
      attention_mask,
      token_type_ids,
      position_ids,
      head_mask,
      inputs_embeds,
      deterministic=deterministic,
      output_hidden_states=output_hidden_states,
      output_attentions=output_attentions,
      output_attention_scores=output_attention_scores,
      segment_ids=segment_ids,
      cls_positions=cls_positions,
    )
    return self._at(masked_positions, body, deterministic)

  def from_hidden(
    self,
    last_hidden_state: Float[Array, 'B S D'],
    *,
    deterministic: bool = True,
    cls_positions: ClsPositions = None,
    masked_positions: MaskedPositions = None,
  ) -> ModelOutput:
    """Applies pooler and head to the last hidden states of this model.

    For `model.apply({'params': params}, hidden, method='from_hidden')`, where
    the blocks have been run apart from the model.

    Args:
      last_hidden_state: the last block's output.
      deterministic: no dropout.
      cls_positions: see `MobileBertModel`.
      masked_positions: see `__call__`.
    """
    body = self.mobilebert.pooled(last_hidden_state, cls_positions)
    return self._at(masked_positions, body, deterministic)

  def _at(
    self,
    masked_positions: MaskedPositions,
    body: BaseModelOutputWithPooling,
    deterministic: bool,
  ) -> ModelOutput:
    if masked_positions is not None:
      masked = tokens_at(body.last_hidden_state, masked_positions)
      masked = constrain(masked, 'batch', None, None)
      body = dataclasses.replace(body, last_hidden_state=masked)
    return self._head(body, deterministic)

  def _check_positions(
    self, input_ids: Ids, inputs_embeds: Embeds, positions: MaskedPositions
  ) -> None:
    if positions is None:
      return
    if not self.predicts_masked:
      raise InputError(
        f'{type(self).__name__} takes no masked_positions: it predicts no '
        'masked tokens.'
      )
    inputs = inputs_embeds if input_ids is None else input_ids
    rows = positions.shape[:1] if inputs is None else inputs.shape[:1]
    if positions.ndim != 2 or positions.shape[:1] != rows:
      raise InputError(
        f'masked_positions have shape {positions.shape}, but must have [batch, '
        f'positions] with {rows[0]} rows.'
      )

  def _setup_head(self) -> None:
    """Builds the head's modules."""
    raise NotImplementedError

  def _head(
    self, body: BaseModelOutputWithPooling, deterministic: bool
  ) -> ModelOutput:
    """Applies the head to the bare model's output."""
    raise NotImplementedError

  def _linear(self, features: int) -> Dense:
    """A head's linear map; its logits are in float32 at least."""
    return Dense(
      features,
      ('hidden', 'label'),
      self.config,
      self.compute,
      out_dtype=str(jnp.dtype(self.compute.stats_dtype)),
    )


class MobileBertForPreTraining(HeadedModel):
  """Masked language model and next-sentence prediction together."""

  predicts_masked = True
  outputs_per = 'both'

  def _setup_head(self):
    self.predictions = MaskedLMHead(self.config, self.compute)
    self.seq_relationship = self._linear(2)

  def _head(self, body, deterministic):
    del deterministic
    table = self.mobilebert.word_table()
    return MobileBertForPreTrainingOutput(
      prediction_logits=self.predictions(body.last_hidden_state, table),
      seq_relationship_logits=self.seq_relationship(body.pooler_output),
      hidden_states=body.hidden_states,
      attentions=body.attentions,
      attention_scores=body.attention_scores,
    )


class MobileBertForMaskedLM(HeadedModel):
  """Predicts masked tokens."""

  has_pooler = False
  predicts_masked = True
  outputs_per = 'token'

  def _setup_head(self):
    self.predictions = MaskedLMHead(self.config, self.compute)

  def _head(self, body, deterministic):
    del deterministic
    table = self.mobilebert.word_table()
    return MaskedLMOutput(
      logits=self.predictions(body.last_hidden_state, table),
      hidden_states=body.hidden_states,
      attentions=body.attentions,
      attention_scores=body.attention_scores,
    )


class MobileBertForNextSentencePrediction(HeadedModel):
  """Says whether sentence B follows A: label 0 follows, 1 is random."""

  def _setup_head(self):
    self.seq_relationship = self._linear(2)

  def _head(self, body, deterministic):
    del deterministic
    return NextSentencePredictorOutput(
      logits=self.seq_relationship(body.pooler_output),
      hidden_states=body.hidden_states,
      attentions=body.attentions,
      attention_scores=body.attention_scores,
    )


class MobileBertForSequenceClassification(HeadedModel):
  """Classifies (or, with one label, grades) a text or a pair of texts."""

  def _setup_head(self):
    self.dropout = nn.Dropout(self.config.head_dropout)
    self.classifier = self._linear(self.config.num_labels)

  def _head(self, body, deterministic):
    pooled = self.dropout(body.pooler_output, deterministic=deterministic)
    return SequenceClassifierOutput(
      logits=self.classifier(pooled),
      hidden_states=body.hidden_states,
      attentions=body.attentions,
      attention_scores=body.attention_scores,
    )


class MobileBertForTokenClassification(HeadedModel):
  """Labels every token."""

  has_pooler = False
  outputs_per = 'token'

  def _setup_head(self):
    self.dropout = nn.Dropout(self.config.head_dropout)
    self.classifier = self._linear(self.config.num_labels)

  def _head(self, body, deterministic):
    x = self.dropout(body.last_hidden_state, deterministic=deterministic)
    return TokenClassifierOutput(
      logits=self.classifier(x),
      hidden_states=body.hidden_states,
      attentions=body.attentions,
      attention_scores=body.attention_scores,
    )


class MobileBertForQuestionAnswering(HeadedModel):
  """Finds where an answer starts and ends.

  Raises:
    InputError: a config whose `num_labels` is not 2 (start and end).
  """

  has_pooler = False
  outputs_per = 'token'

  def _setup_head(self):
    if self.config.num_labels != 2:
      raise InputError(
        f'MobileBertConfig.num_labels is {self.config.num_labels}, but must be '
        '2 for question answering: start and end.'
      )
    self.qa_outputs = self._linear(2)

  def _head(self, body, deterministic):
    del deterministic
    logits = self.qa_outputs(body.last_hidden_state)
    return QuestionAnsweringModelOutput(
      start_logits=logits[..., 0],
      end_logits=logits[..., 1],
      hidden_states=body.hidden_states,
      attentions=body.attentions,
      attention_scores=body.attention_scores,
    )


Choices = Int[Array | np.ndarray, 'B N S'] | None


class MobileBertForMultipleChoice(HeadedModel):
  """Chooses among N texts or pairs; inputs are [B, N, S]."""

  def _setup_head(self):
    self.dropout = nn.Dropout(self.config.head_dropout)
    self.classifier = self._linear(1)

  def _head(self, body, deterministic):
    pooled = self.dropout(body.pooler_output, deterministic=deterministic)
    return MultipleChoiceModelOutput(
      logits=self.classifier(pooled),
      hidden_states=body.hidden_states,
      attentions=body.attentions,
      attention_scores=body.attention_scores,
    )

  def __call__(
    self,
    input_ids: Choices = None,
    attention_mask: Choices = None,
    token_type_ids: Choices = None,
    position_ids: Choices = None,
    head_mask: HeadMask = None,
    inputs_embeds: Float[Array | np.ndarray, 'B N S E'] | None = None,
    *,
    deterministic: bool = True,
    output_hidden_states: bool = False,
    output_attentions: bool = False,
    output_attention_scores: bool = False,
    segment_ids: SegmentIds = None,
    cls_positions: ClsPositions = None,
    masked_positions: MaskedPositions = None,
  ) -> MultipleChoiceModelOutput:
    """Scores the choices: logits [B, N].

    The arguments are `HeadedModel`'s with an axis of choices after the
    batch's; errors are the same, and other shapes are an InputError. In a
    packed batch each choice is a segment, inputs are rows as they are for
    other heads, and `cls_positions` [R, E, N] give logits [R * E, N].
    """
    inputs: Any = inputs_embeds if input_ids is None else input_ids
    choices = self._choices(inputs, input_ids is None, cls_positions)

    def flat(x):
      is_row = x is None or cls_positions is not None
      return x if is_row else x.reshape(-1, *x.shape[2:])

    out: Any = super().__call__(
      flat(input_ids),
      flat(attention_mask),
      flat(token_type_ids),
      flat(position_ids),
      head_mask,
      flat(inputs_embeds),
      deterministic=deterministic,
      output_hidden_states=output_hidden_states,
      output_attentions=output_attentions,
      output_attention_scores=output_attention_scores,
      segment_ids=segment_ids,
      cls_positions=cls_positions,
      masked_positions=masked_positions,
    )
    return out.replace(logits=out.logits.reshape(-1, choices))

  def _choices(
    self, inputs: Any, is_embeds: bool, cls_positions: ClsPositions
  ) -> int | None:
    """The number of choices; checks the number of axes."""
    if inputs is None:
      return None
    if cls_positions is not None:
      if cls_positions.ndim != 3:
        raise InputError(
          f'cls_positions have {cls_positions.ndim} axes, but multiple choice '
          'needs [rows, examples, choices].'
        )
      return cls_positions.shape[2]
    if inputs.ndim != 3 + is_embeds:
      raise InputError(
        f'the input has {inputs.ndim} axes, but multiple choice needs '
        'input_ids [batch, choices, tokens] or inputs_embeds [batch, choices, '
        'tokens, embedding_size].'
      )
    return inputs.shape[1]
