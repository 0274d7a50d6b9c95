"""What files lose of a model on its run's task, for the scripts beside this.

An example gives counts, and the score is a function of their sums: so examples
can be drawn anew, a model and its file together (`bootstrap`).
"""

from collections.abc import Callable
from typing import Any

import bootstrap
import numpy as np
import tagging_choice_intervals as intervals

from mobilebert_jax.data.batching.features import NumpyBatch
from mobilebert_jax.export.check import INPUTS, Outputs, Runtime
from mobilebert_jax.export.judge import Data, Judgement
from mobilebert_jax.tasks.tagging import task as tagging

_TAGS = 'MobileBertForTokenClassification'
_SPANS = 'MobileBertForQuestionAnswering'
_WORDS = 'MobileBertForMaskedLM'
# Bytes of a batch's outputs.
_REMEMBERED = 2**20


def counts(
  data: Data, kept: Any
) -> tuple[str, np.ndarray, Callable[[np.ndarray], float]]:
  """The score's name, what each example counts [N, K], and the score of sums.

  Entities have F1, questions the mean F1 of their answers, masked words and
  everything else the share that is right. Masked words count by the sequence.
  """
  task, examples = data.task, data.split.examples
  features = data.split.features
  head = task.head.__name__
  if head == _TAGS:
    predicted = tagging.predicted_tags(
      task.labels, 'IOB2', kept, examples, features
    )
    rows = [
      intervals.entity_counts(sentence.tags, tags)
      for sentence, tags in zip(examples, predicted, strict=True)
    ]
    return 'F1', np.array(rows, float), intervals.f1
  if head == _WORDS:
    asked = kept['counts']
    right = asked & (kept['guess'] == kept['target'])
    return (
      'accuracy',
      np.stack([right.sum(1), asked.sum(1)], 1),
      intervals.share,
    )
  outcomes = task.outcomes(kept, examples, features)
  is_span = head == _SPANS
  values = [1 - one.error if is_span else one.is_right for one in outcomes]
  rows = np.stack([np.array(values, float), np.ones(len(values))], 1)
  return 'F1' if is_span else 'accuracy', rows, intervals.share


def score(data: Data, kept: Any) -> str:
  """The score of what a task keeps, its name, and on how much."""
  name, rows, of = counts(data, kept)
  return f'{name} {of(rows.sum(0)):.4f} of {len(rows):,} examples'


def difference(data: Data, judgement: Judgement) -> str:
  """The file's score minus the model's in points, with its 95% interval.

  Of a paired bootstrap over examples.
  """
  (_, one, of), (_, other, _) = (
    counts(data, judgement.kept[which]) for which in ('model', 'file')
  )

  def lost(one: np.ndarray, other: np.ndarray) -> float:
    return 100 * (of(other.sum(0)) - of(one.sum(0)))

  low, high = bootstrap.interval(lost, one, other)
  return f'{lost(one, other):+.2f} ({low:+.2f} to {high:+.2f})'


def cell(data: Data, judgement: Judgement) -> str:
  """Difference of scores, decisions that agree, error of logits."""
  if not np.isfinite(judgement.error):
    return 'no numbers'
  agree = 1 - judgement.differ / judgement.decided
  return f'{difference(data, judgement)}, {agree:.2%}, {judgement.error:.1%}'


def remembered(model: Runtime) -> Runtime:
  """A model that computes each batch once, for many files beside it.

  But for outputs that would fill the memory, such as those of all words.
  """
  known: dict[bytes, Outputs] = {}

  def run(inputs: NumpyBatch) -> Outputs:
    key = b''.join(np.asarray(inputs[name]).tobytes() for name in INPUTS)
    if key in known:
      return known[key]
    outputs = model(inputs)
    if sum(value.nbytes for value in outputs.values()) < _REMEMBERED:
      known[key] = outputs
    return outputs

  return run
