"""Models with heads, named and shaped as in transformers."""

import dataclasses
from typing import Any, ClassVar, Literal, cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mobilebert_jax.models.encoder import Options
from mobilebert_jax.models.layers import Dense
from mobilebert_jax.models.lm_head import MaskedLMHead
from mobilebert_jax.models.model import (
  Inputs,
  MaskedPositions,
  MobileBertModel,
  MobileBertPreTrainedModel,
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
from mobilebert_jax.models.packing import ClsPositions, tokens_at
from mobilebert_jax.models.partitioning import constrain
from mobilebert_jax.runtime.errors import InputError


class HeadedModel(MobileBertPreTrainedModel):
  """Base of the seven models with heads: the bare model, then the head.

  Class attributes:
    has_pooler: whether the head reads the pooled output.
    outputs_per: what the logits have a row for: each 'example', each 'token',
      or 'both' (logits of either kind).
  """

  has_pooler: ClassVar[bool] = True
  outputs_per: ClassVar[Literal['example', 'token', 'both']] = 'example'

  def setup(self):
    self.mobilebert = MobileBertModel(
      self.config, self.compute, add_pooling_layer=self.has_pooler
    )
    self._setup_head()

  def _forward(self, inputs: Inputs, options: Options) -> ModelOutput:
    bare = inputs._replace(masked_positions=None)
    asked = options._asdict()
    # Of blocks alone, not of a model's call.
    del asked['output_attention_inputs']
    body = self.mobilebert(**bare._asdict(), **asked)
    return self._apply_head(
      cast(BaseModelOutputWithPooling, body),
      inputs.masked_positions,
      options.deterministic,
    )

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
    return self._apply_head(body, masked_positions, deterministic)

  def _apply_head(
    self,
    body: BaseModelOutputWithPooling,
    masked_positions: MaskedPositions,
    deterministic: bool,
  ) -> ModelOutput:
    if masked_positions is not None:
      masked = tokens_at(body.last_hidden_state, masked_positions)
      masked = constrain(masked, 'batch', None, None)
      body = dataclasses.replace(body, last_hidden_state=masked)
    return self._head(body, deterministic)

  def _setup_head(self) -> None:
    """Builds the head's modules."""
    raise NotImplementedError

  def _head(
    self, body: BaseModelOutputWithPooling, deterministic: bool
  ) -> ModelOutput:
    """Applies the head to the bare model's output."""
    raise NotImplementedError

  def _dense(self, features: int) -> Dense:
    """Returns a head's dense layer; its logits are in float32 at least."""
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
    self.seq_relationship = self._dense(2)

  def _head(self, body, deterministic):
    del deterministic
    table = self.mobilebert.word_table()
    return MobileBertForPreTrainingOutput(
      prediction_logits=self.predictions(body.last_hidden_state, table),
      seq_relationship_logits=self.seq_relationship(body.pooler_output),
      **_of_all_blocks(body),
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
      **_of_all_blocks(body),
    )


class MobileBertForNextSentencePrediction(HeadedModel):
  """Says whether sentence B follows A: label 0 follows, 1 is random."""

  def _setup_head(self):
    self.seq_relationship = self._dense(2)

  def _head(self, body, deterministic):
    del deterministic
    return NextSentencePredictorOutput(
      logits=self.seq_relationship(body.pooler_output),
      **_of_all_blocks(body),
    )


class MobileBertForSequenceClassification(HeadedModel):
  """Classifies (or, with one label, grades) a text or a pair of texts."""

  def _setup_head(self):
    self.dropout = nn.Dropout(self.config.head_dropout)
    self.classifier = self._dense(self.config.num_labels)

  def _head(self, body, deterministic):
    pooled = self.dropout(body.pooler_output, deterministic=deterministic)
    return SequenceClassifierOutput(
      logits=self.classifier(pooled),
      **_of_all_blocks(body),
    )


class MobileBertForTokenClassification(HeadedModel):
  """Labels every token."""

  has_pooler = False
  outputs_per = 'token'

  def _setup_head(self):
    self.dropout = nn.Dropout(self.config.head_dropout)
    self.classifier = self._dense(self.config.num_labels)

  def _head(self, body, deterministic):
    x = self.dropout(body.last_hidden_state, deterministic=deterministic)
    return TokenClassifierOutput(
      logits=self.classifier(x),
      **_of_all_blocks(body),
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
    self.qa_outputs = self._dense(2)

  def _head(self, body, deterministic):
    del deterministic
    logits = self.qa_outputs(body.last_hidden_state)
    return QuestionAnsweringModelOutput(
      start_logits=logits[..., 0],
      end_logits=logits[..., 1],
      **_of_all_blocks(body),
    )


class MobileBertForMultipleChoice(HeadedModel):
  """Chooses among N texts or pairs: inputs [B, N, S], logits [B, N].

  In a packed batch each choice is a segment, inputs are rows as they are for
  other heads, and `cls_positions` [R, E, N] give logits [R * E, N].
  """

  def _setup_head(self):
    self.dropout = nn.Dropout(self.config.head_dropout)
    self.classifier = self._dense(1)

  def _head(self, body, deterministic):
    pooled = self.dropout(body.pooler_output, deterministic=deterministic)
    return MultipleChoiceModelOutput(
      logits=self.classifier(pooled),
      **_of_all_blocks(body),
    )

  def _forward(self, inputs: Inputs, options: Options) -> ModelOutput:
    choices = self._choices(inputs)

    def flat(x: Any) -> Any:
      return None if x is None else x.reshape(-1, *x.shape[2:])

    if inputs.cls_positions is None:
      inputs = inputs._replace(
        input_ids=flat(inputs.input_ids),
        attention_mask=flat(inputs.attention_mask),
        token_type_ids=flat(inputs.token_type_ids),
        position_ids=flat(inputs.position_ids),
        inputs_embeds=flat(inputs.inputs_embeds),
      )
    out: Any = super()._forward(inputs, options)
    return out.replace(logits=out.logits.reshape(-1, choices))

  def _choices(self, inputs: Inputs) -> int | None:
    """Returns the number of choices; checks the number of axes."""
    words, cls_positions = inputs.words, inputs.cls_positions
    if words is None:
      return None
    if cls_positions is not None:
      if cls_positions.ndim != 3:
        raise InputError(
          f'cls_positions have {cls_positions.ndim} axes, but multiple choice '
          'needs [rows, examples, choices].'
        )
      return cls_positions.shape[2]
    if words.ndim != 3 + (inputs.input_ids is None):
      raise InputError(
        f'the input has {words.ndim} axes, but multiple choice needs '
        'input_ids [batch, choices, tokens] or inputs_embeds [batch, choices, '
        'tokens, embedding_size].'
      )
    return words.shape[1]


def _of_all_blocks(body: BaseModelOutputWithPooling) -> dict[str, Any]:
  """Returns those outputs that all models have."""
  return {
    'hidden_states': body.hidden_states,
    'attentions': body.attentions,
    'attention_scores': body.attention_scores,
  }
