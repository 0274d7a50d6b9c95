"""Text classification: labels of texts or pairs of texts."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mobilebert_jax.metrics.probabilities import softmax
from mobilebert_jax.models import MobileBertForSequenceClassification
from mobilebert_jax.pipelines.base import (
  Pipeline,
  check_count,
  encoded_rows,
)
from mobilebert_jax.runtime.errors import InputError

_FUNCTIONS = ('softmax', 'sigmoid', 'none')
_UNSET: Any = object()


class TextClassification(Pipeline):
  """Labels texts (transformers' `TextClassificationPipeline`)."""

  model_class = MobileBertForSequenceClassification

  def __call__(
    self,
    inputs: Any,
    top_k: int | None = _UNSET,
    function_to_apply: str | None = None,
    **tokenizer_options: Any,
  ) -> Any:
    """Classifies texts.

    Args:
      inputs: a text, a mapping with `text` and `text_pair`, or a list of
        either.
      top_k: how many labels, best first; None is all. Left out: the best one.
      function_to_apply: 'softmax', 'sigmoid' or 'none'. None: nothing for
        regression, sigmoid for several labels at once or a single one, else
        softmax.
      **tokenizer_options: such as `truncation=True`.

    Returns:
      With `top_k`, per input a list of mappings with `label` and `score`.
      Without, one mapping per input; a single text gives a list of one, as in
      transformers.

    Raises:
      InputError: an input of another form, or one that is too long.
    """
    if top_k is not _UNSET and top_k is not None:
      check_count('top_k', top_k)
    apply = self._function(function_to_apply)
    single = isinstance(inputs, (str, Mapping))
    items = [inputs] if single else inputs
    rows = [
      row
      for i, item in enumerate(items)
      for row in encoded_rows(
        self.tokenize(*_texts(item, i), **tokenizer_options)
      )
    ]
    results = [
      self._labels(apply(picked['logits']), top_k) for picked in self.run(rows)
    ]
    if not single:
      return results
    if top_k is _UNSET and isinstance(inputs, str):
      return results
    return results[0]

  def select(self, outputs: Any, batch: Mapping[str, jax.Array]) -> Any:
    """Returns the logits."""
    return {'logits': outputs.logits}

  def _labels(self, scores: np.ndarray, top_k: Any) -> Any:
    names = self.config.id2label
    order = np.argsort(-scores, kind='stable')
    if top_k is _UNSET:
      best = int(order[0])
      return {'label': names[best], 'score': float(scores[best])}
    return [
      {'label': names[int(i)], 'score': float(scores[i])} for i in order[:top_k]
    ]

  def _function(self, name: str | None) -> Any:
    if name is None:
      problem = self.config.problem_type
      if problem == 'regression':
        name = 'none'
      elif (
        problem == 'multi_label_classification' or self.config.num_labels == 1
      ):
        name = 'sigmoid'
      else:
        name = 'softmax'
    if name not in _FUNCTIONS:
      raise InputError(
        f'function_to_apply must be one of {", ".join(_FUNCTIONS)}, '
        f'got {name!r}.'
      )
    return {'softmax': softmax, 'sigmoid': _sigmoid, 'none': np.asarray}[name]


def _texts(item: Any, index: int) -> tuple[list[str], list[str] | None]:
  """Returns one input as lists of one, for the tokenizer."""
  if isinstance(item, str):
    return [item], None
  if isinstance(item, Mapping):
    unknown = set(item) - {'text', 'text_pair'}
    text, pair = item.get('text'), item.get('text_pair')
    if (
      not unknown
      and isinstance(text, str)
      and (pair is None or isinstance(pair, str))
    ):
      # As for the tokenizer, an empty second text is none.
      return [text], [pair] if pair else None
  raise InputError(
    f'input {index} is {item!r}; it must be a string or a mapping with the '
    'strings text and text_pair.'
  )


def _sigmoid(logits: np.ndarray) -> np.ndarray:
  # tanh does not overflow, and MobileBERT's logits can be in the millions.
  return 0.5 * (1 + np.tanh(0.5 * logits))
