"""The model that chooses among several texts."""

from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float, Int

from mobilebert_jax.models.heads import HeadedModel, MaskedPositions
from mobilebert_jax.models.model import HeadMask
from mobilebert_jax.models.outputs import MultipleChoiceModelOutput
from mobilebert_jax.models.segments import ClsPositions, SegmentIds
from mobilebert_jax.runtime.errors import InputError

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
        f'The input has {inputs.ndim} axes, but multiple choice needs '
        'input_ids [batch, choices, tokens] or inputs_embeds [batch, choices, '
        'tokens, embedding_size].'
      )
    return inputs.shape[1]
