"""Multiple choice: which of several texts goes with a question."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mobilebert_jax.metrics.probabilities import softmax
from mobilebert_jax.models import MobileBertForMultipleChoice
from mobilebert_jax.pipelines.base import (
  ItemError,
  Pipeline,
  encoded_rows,
)
from mobilebert_jax.runtime.errors import InputError


class MultipleChoice(Pipeline):
  """Chooses among texts; transformers has no pipeline for it."""

  model_class = MobileBertForMultipleChoice

  def __call__(
    self, question: Any, choices: Any = None, *, truncation: bool = False
  ) -> Any:
    """Answers questions.

    Args:
      question: a question (or article, or beginning of a text), or a list of
        them; or, without `choices`, a mapping with `question` and `choices`,
        or a list of those.
      choices: the choices, at least two strings, for each question (a list of
        lists for a list of questions); as many as wanted, and not the same
        number for each question.
      truncation: cut texts that are too long together, the longer one first.

    Returns:
      Per question a mapping with the best `choice`, its `index` and `score`,
      and the `scores` of all choices in their order: probabilities. For a
      list of questions a list.

    Raises:
      InputError: an input of another form, or texts that are too long.
    """
    single, items = _questions(question, choices)
    pairs = [(asked, choice) for asked, texts in items for choice in texts]
    owners = [i for i, (_, texts) in enumerate(items) for _ in texts]
    rows = encoded_rows(self.tokenize(pairs, truncation=truncation))
    try:
      logits = [picked['logits'] for picked in self.run(rows)]
    except ItemError as error:
      raise ItemError(owners[error.index], error.problem) from None
    results, start = [], 0
    for _, texts in items:
      scores = softmax(np.stack(logits[start : start + len(texts)]))
      start += len(texts)
      best = int(scores.argmax())
      results.append(
        {
          'choice': texts[best],
          'index': best,
          'score': float(scores[best]),
          'scores': [float(score) for score in scores],
        }
      )
    return results[0] if single else results

  def select(self, outputs: Any, batch: Mapping[str, jax.Array]) -> Any:
    """Returns the score of each row's only choice."""
    return {'logits': outputs.logits[:, 0]}

  def shaped(self, inputs: dict[str, Any]) -> dict[str, Any]:
    """Returns each pair as a question with one choice, scored alone."""
    return {name: value[:, None] for name, value in inputs.items()}


def _questions(
  question: Any, choices: Any
) -> tuple[bool, list[tuple[str, Sequence[str]]]]:
  """Returns whether there is one question, and each with its choices."""
  if choices is None:
    single = isinstance(question, Mapping)
    items = [question] if single else question
    if not isinstance(items, (list, tuple)) or not all(
      isinstance(item, Mapping) for item in items
    ):
      raise InputError('give question and choices, or mappings with both.')
    pairs = [(item.get('question'), item.get('choices')) for item in items]
  else:
    single = isinstance(question, str)
    questions = [question] if single else question
    listed = [choices] if single else choices
    if not isinstance(questions, (list, tuple)) or not isinstance(
      listed, (list, tuple)
    ):
      raise InputError('question must be a string or a list, choices a list.')
    if len(questions) != len(listed):
      raise InputError(
        f'there are {len(questions)} questions, but choices for {len(listed)}.'
      )
    pairs = list(zip(questions, listed))
  for i, (asked, texts) in enumerate(pairs):
    if not isinstance(asked, str):
      raise ItemError(i, f'has the question {asked!r}; it must be a string.')
    if not isinstance(texts, (list, tuple)) or not all(
      isinstance(text, str) for text in texts
    ):
      raise ItemError(i, f'has the choices {texts!r}; give a list of strings.')
    if len(texts) < 2:
      raise ItemError(i, f'has {len(texts)} choices; give at least two.')
  return single, pairs
