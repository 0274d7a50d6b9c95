"""What the models return, with transformers' field names."""

from collections.abc import Iterator
from typing import Any

import flax.struct
from jaxtyping import Array, Float


class ModelOutput:
  """Access by name or position, as transformers' outputs allow it.

  Fields that are None are left out of `keys()` and `to_tuple()`. There is no
  `loss`: losses are functions in `mobilebert_jax.losses`.
  """

  def keys(self) -> tuple[str, ...]:
    """Returns the names of the fields that are set."""
    names = self.__dataclass_fields__  # type: ignore[attr-defined]
    return tuple(name for name in names if getattr(self, name) is not None)

  def to_tuple(self) -> tuple[Any, ...]:
    """Returns the fields that are set, in order."""
    return tuple(getattr(self, name) for name in self.keys())

  def __getitem__(self, key: str | int | slice) -> Any:
    if isinstance(key, str):
      if key not in self.keys():
        raise KeyError(key)
      return getattr(self, key)
    return self.to_tuple()[key]

  def __iter__(self) -> Iterator[str]:
    return iter(self.keys())

  def __contains__(self, key: object) -> bool:
    return key in self.keys()


HiddenStates = tuple[Float[Array, 'B S D'], ...]
Attentions = tuple[Float[Array, 'B H S S'], ...]


@flax.struct.dataclass
class BaseModelOutputWithPooling(ModelOutput):
  """Output of `MobileBertModel`.

  Attributes:
    last_hidden_state: the last block's output.
    pooler_output: the pooled first token; None without a pooler.
    hidden_states: the embeddings' output and each block's, or None.
    attentions: each block's attention probabilities, or None.
    attention_scores: each block's masked attention scores, or None.
  """

  last_hidden_state: Float[Array, 'B S D']
  pooler_output: Float[Array, 'B D'] | None = None
  hidden_states: HiddenStates | None = None
  attentions: Attentions | None = None
  attention_scores: Attentions | None = None


@flax.struct.dataclass
class MobileBertForPreTrainingOutput(ModelOutput):
  """Output of `MobileBertForPreTraining`.

  Attributes:
    prediction_logits: scores of the vocabulary at each position.
    seq_relationship_logits: [:, 0] B follows A, [:, 1] B is random.
    hidden_states: see `BaseModelOutputWithPooling`.
    attentions: see `BaseModelOutputWithPooling`.
    attention_scores: see `BaseModelOutputWithPooling`.
  """

  prediction_logits: Float[Array, 'B S V']
  seq_relationship_logits: Float[Array, 'B 2']
  hidden_states: HiddenStates | None = None
  attentions: Attentions | None = None
  attention_scores: Attentions | None = None


@flax.struct.dataclass
class MaskedLMOutput(ModelOutput):
  """Output of `MobileBertForMaskedLM`; logits [B, S, V]."""

  logits: Float[Array, 'B S V']
  hidden_states: HiddenStates | None = None
  attentions: Attentions | None = None
  attention_scores: Attentions | None = None


@flax.struct.dataclass
class NextSentencePredictorOutput(ModelOutput):
  """Output of `MobileBertForNextSentencePrediction`; logits [B, 2]."""

  logits: Float[Array, 'B 2']
  hidden_states: HiddenStates | None = None
  attentions: Attentions | None = None
  attention_scores: Attentions | None = None


@flax.struct.dataclass
class SequenceClassifierOutput(ModelOutput):
  """Output of `MobileBertForSequenceClassification`; logits [B, labels]."""

  logits: Float[Array, 'B C']
  hidden_states: HiddenStates | None = None
  attentions: Attentions | None = None
  attention_scores: Attentions | None = None


@flax.struct.dataclass
class MultipleChoiceModelOutput(ModelOutput):
  """Output of `MobileBertForMultipleChoice`; logits [B, choices].

  Hidden states and attentions have the first axis B x choices, as in
  transformers.
  """

  logits: Float[Array, 'B N']
  hidden_states: HiddenStates | None = None
  attentions: Attentions | None = None
  attention_scores: Attentions | None = None


@flax.struct.dataclass
class TokenClassifierOutput(ModelOutput):
  """Output of `MobileBertForTokenClassification`; logits [B, S, labels]."""

  logits: Float[Array, 'B S C']
  hidden_states: HiddenStates | None = None
  attentions: Attentions | None = None
  attention_scores: Attentions | None = None


@flax.struct.dataclass
class QuestionAnsweringModelOutput(ModelOutput):
  """Output of `MobileBertForQuestionAnswering`; logits [B, S] each."""

  start_logits: Float[Array, 'B S']
  end_logits: Float[Array, 'B S']
  hidden_states: HiddenStates | None = None
  attentions: Attentions | None = None
  attention_scores: Attentions | None = None
