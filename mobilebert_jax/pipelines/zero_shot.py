"""Zero-shot classification by a model for natural language inference."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mobilebert_jax.metrics.probabilities import softmax
from mobilebert_jax.models import MobileBertForSequenceClassification
from mobilebert_jax.pipelines.base import (
  Pipeline,
  as_texts,
  encoded_rows,
)
from mobilebert_jax.runtime.errors import InputError


class ZeroShotClassification(Pipeline):
  """Any labels, through entailment (transformers' pipeline of this name)."""

  model_class = MobileBertForSequenceClassification

  def __call__(
    self,
    sequences: str | Sequence[str],
    candidate_labels: str | Sequence[str],
    hypothesis_template: str = 'This example is {}.',
    multi_label: bool = False,
  ) -> Any:
    """Asks for every label whether the text entails the hypothesis of it.

    Args:
      sequences: a text or a list of texts; too long ones are cut.
      candidate_labels: labels, as a list or separated by commas.
      hypothesis_template: a sentence with `{}` in the label's place.
      multi_label: score every label by itself, entailment against
        contradiction, instead of labels against each other.

    Returns:
      Per text a mapping with `sequence`, `labels` (best first) and `scores`;
      for a list of texts a list of those.

    Raises:
      InputError: no label, a template without `{}`, or a model without a
        label that begins with 'entail'.
    """
    texts = as_texts(sequences, 'sequences')
    if isinstance(candidate_labels, str):
      candidate_labels = candidate_labels.split(',')
      candidate_labels = [c.strip() for c in candidate_labels if c.strip()]
    labels = as_texts(candidate_labels, 'candidate_labels')
    if not labels or not texts:
      raise InputError('give at least one text and one candidate label.')
    if hypothesis_template.format(labels[0]) == hypothesis_template:
      raise InputError(
        f'hypothesis_template {hypothesis_template!r} must have {{}} in the '
        "label's place."
      )
    entailment = self._entailment_id()
    pairs = [(t, hypothesis_template.format(c)) for t in texts for c in labels]
    rows = encoded_rows(self.tokenize(pairs, truncation='only_first'))
    logits = np.stack([picked['logits'] for picked in self.run(rows)])
    logits = logits.reshape(len(texts), len(labels), -1)
    if multi_label or len(labels) == 1:
      contradiction = -1 if entailment == 0 else 0
      scores = softmax(logits[..., [contradiction, entailment]])[..., 1]
    else:
      scores = softmax(logits[..., entailment])
    results = [_result(t, labels, s) for t, s in zip(texts, scores)]
    return results[0] if isinstance(sequences, str) else results

  def select(self, outputs: Any, batch: Mapping[str, jax.Array]) -> Any:
    """Returns the logits."""
    return {'logits': outputs.logits}

  def _entailment_id(self) -> int:
    for index, label in self.config.id2label.items():
      if label.lower().startswith('entail'):
        return index
    raise InputError(
      "zero-shot needs a model with a label that begins with 'entail'; this "
      f'one has {", ".join(self.config.id2label.values())}.'
    )


def _result(
  text: str, labels: Sequence[str], scores: np.ndarray
) -> dict[str, Any]:
  # The order of ties is that of transformers: ascending, then turned round.
  order = scores.argsort()[::-1]
  return {
    'sequence': text,
    'labels': [labels[i] for i in order],
    'scores': [float(scores[i]) for i in order],
  }
