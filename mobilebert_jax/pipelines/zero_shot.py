"""Zero-shot classification by a model for natural language inference."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mobilebert_jax.convert import label_names
from mobilebert_jax.metrics.probabilities import softmax
from mobilebert_jax.models import MobileBertForSequenceClassification
from mobilebert_jax.pipelines.base import (
  Pipeline,
  as_texts,
  encoded_rows,
)
from mobilebert_jax.runtime.errors import InputError

_MEANT = {'entailment': 'entail', 'contradiction': 'contradict'}
_ENTAILMENT = re.compile('entail')
_CONTRADICTION = re.compile(r'contradict|no[nt]?[\W_]*entail')


class ZeroShotClassification(Pipeline):
  """Any labels, through entailment (transformers' pipeline of this name)."""

  model_class = MobileBertForSequenceClassification

  def __call__(
    self,
    sequences: str | Sequence[str],
    candidate_labels: str | Sequence[str],
    hypothesis_template: str = 'This example is {}.',
    multi_label: bool = False,
    *,
    entailment: str | None = None,
    contradiction: str | None = None,
  ) -> Any:
    """Asks for every label whether the text entails the hypothesis of it.

    Args:
      sequences: a text or a list of texts; too long ones are cut.
      candidate_labels: labels, as a list or separated by commas.
      hypothesis_template: a sentence with `{}` in the label's place.
      multi_label: score every label by itself, entailment against
        contradiction, instead of labels against each other.
      entailment: the model's label for what follows from the text; None: the
        one whose name begins with 'entail'.
      contradiction: its opposite; None: the one that begins with 'contradict',
        'not entail' or the like, or the other one of two labels.

    Returns:
      Per text a mapping with `sequence`, `labels` (best first) and `scores`;
      for a list of texts a list of those.

    Raises:
      InputError: no label, a template without `{}`, or labels of the model
        whose names do not tell which is which.
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
    yes = self._entailment_id(entailment)
    is_single = multi_label or len(labels) == 1
    no = self._contradiction_id(contradiction, yes) if is_single else None
    pairs = [(t, hypothesis_template.format(c)) for t in texts for c in labels]
    rows = encoded_rows(self.tokenize(pairs, truncation='only_first'))
    logits = np.stack([picked['logits'] for picked in self.run(rows)])
    logits = logits.reshape(len(texts), len(labels), -1)
    if no is not None:
      scores = softmax(logits[..., [no, yes]])[..., 1]
    else:
      scores = softmax(logits[..., yes])
    results = [_result(t, labels, s) for t, s in zip(texts, scores)]
    return results[0] if isinstance(sequences, str) else results

  def select(self, outputs: Any, batch: Mapping[str, jax.Array]) -> Any:
    """Returns the logits."""
    return {'logits': outputs.logits}

  def _entailment_id(self, name: str | None) -> int:
    """Returns which logit says that the hypothesis follows."""
    return self._label_id('entailment', name, _ENTAILMENT)

  def _contradiction_id(self, name: str | None, entailment: int) -> int:
    """Returns which logit says the opposite."""
    if name is None and self.config.num_labels == 2:
      return 1 - entailment
    return self._label_id('contradiction', name, _CONTRADICTION)

  def _label_id(
    self, argument: str, name: str | None, pattern: re.Pattern[str]
  ) -> int:
    """Returns the one label of this name, or of such a name."""
    keys = {
      index: label_names.key(label)
      for index, label in self.config.id2label.items()
    }
    if name is None:
      result = [index for index, key in keys.items() if pattern.match(key)]
    else:
      wanted = label_names.key(name)
      result = [index for index, key in keys.items() if key == wanted]
    if len(result) == 1:
      return result[0]
    labels = ', '.join(self.config.id2label.values())
    if name is not None:
      raise InputError(
        f'{argument}={name!r} must be one of the labels of the model: {labels}.'
      )
    start = _MEANT[argument]
    raise InputError(
      f"zero-shot needs a model with a label that begins with '{start}'; this "
      f'one has {labels}: pass {argument}=, the name of the label that means '
      'it.'
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
