"""SQuAD's exact match and F1, as the official evaluation scripts define them.

The scripts (evaluate-v1.1.py, evaluate-v2.0.py) print percentages; everything
here is a share from 0 to 1, as all scores of this package are. They differ in
two points beside the breakdown:

- an answer without words (such as 'the') and a prediction without words have
  F1 0 by the first, and 1 by the second;
- the second drops gold answers without words, and gives a question that has
  none left (or never had one) the empty answer.
"""

import collections
import re
import string
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from mobilebert_jax.runtime.errors import InputError

_ARTICLES = re.compile(r'\b(a|an|the)\b')
_NO_PUNCTUATION = str.maketrans('', '', string.punctuation)

Golds = Sequence[Sequence[str]]
Values = Float[np.ndarray, 'N']


def normalize(text: str) -> str:
  """Lowers, drops ASCII punctuation and articles, leaves single spaces."""
  bare = text.lower().translate(_NO_PUNCTUATION)
  return ' '.join(_ARTICLES.sub(' ', bare).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
  """Returns 1 if the prediction is a gold answer after `normalize`, else 0.

  Args:
    prediction: the answer.
    golds: the right answers, at least one; '' is one of them where no answer
      is right.
  """
  predicted = normalize(prediction)
  return float(any(predicted == normalize(gold) for gold in golds))


def f1(
  prediction: str, golds: Sequence[str], *, wordless_match: bool = False
) -> float:
  """Returns the best F1 of the words shared with a gold answer.

  Args:
    prediction: the answer.
    golds: as for `exact_match`.
    wordless_match: whether two answers without words agree: True in SQuAD
      2.0, False in 1.1.
  """
  words = normalize(prediction).split()
  return max(_f1(words, normalize(g).split(), wordless_match) for g in golds)


def golds_v2(golds: Sequence[str]) -> Sequence[str]:
  """Returns the gold answers that SQuAD 2.0 counts; [''] if there is none."""
  return [gold for gold in golds if normalize(gold)] or ['']


def scores_v1(predictions: Sequence[str], golds: Golds) -> dict[str, float]:
  """Returns `exact_match` and `f1` of SQuAD 1.1.

  Args:
    predictions: one answer for each question.
    golds: the right answers of each question, at least one.

  Raises:
    InputError: there is no question, or one without answers.
  """
  _check(predictions, golds)
  for number, answers in enumerate(golds):
    if not answers:
      raise InputError(
        f'question {number} has no answer; SQuAD 1.1 needs at least one.'
      )
  pairs = list(zip(predictions, golds))
  return {
    'exact_match': float(np.mean([exact_match(p, g) for p, g in pairs])),
    'f1': float(np.mean([f1(p, g) for p, g in pairs])),
  }


def scores_v2(
  predictions: Sequence[str],
  golds: Golds,
  null_odds: Sequence[float],
  threshold: float | None = None,
) -> dict[str, float]:
  """Returns the scores of SQuAD 2.0, by the official names.

  They are those of evaluate-v2.0.py for a file of these predictions, called
  with --na-prob-file and --na-prob-thresh.

  Args:
    predictions: one answer for each question, not yet replaced by '' where
      the question shall count as unanswerable.
    golds: the right answers of each question, none if it is unanswerable.
    null_odds: how much more no answer scores than the prediction.
    threshold: a question counts as unanswerable if its odds are above; None:
      the threshold with the best F1 on these very questions.

  Returns:
    exact, f1; the same over the questions with an answer (HasAns_*) and over
    those without (NoAns_*), where there are any; best_exact, best_f1, and the
    thresholds that give them (best_exact_thresh, best_f1_thresh).

  Raises:
    InputError: there is no question.
  """
  exact, shared = raw_scores_v2(predictions, golds)
  answerable = np.array([bool(answers) for answers in golds])
  is_empty = np.array([not text for text in predictions])
  odds = np.asarray(null_odds, np.float64)
  best_exact = best_threshold(exact, odds, answerable, is_empty)
  best_f1 = best_threshold(shared, odds, answerable, is_empty)
  above = odds > (best_f1[1] if threshold is None else threshold)
  exact = np.where(above, ~answerable, exact)
  shared = np.where(above, ~answerable, shared)
  scores = {'exact': exact.mean(), 'f1': shared.mean()}
  for name, chosen in (('HasAns', answerable), ('NoAns', ~answerable)):
    if chosen.any():
      scores[f'{name}_exact'] = exact[chosen].mean()
      scores[f'{name}_f1'] = shared[chosen].mean()
  scores['best_exact'], scores['best_exact_thresh'] = best_exact
  scores['best_f1'], scores['best_f1_thresh'] = best_f1
  return {name: float(value) for name, value in scores.items()}


def raw_scores_v2(
  predictions: Sequence[str], golds: Golds
) -> tuple[Values, Values]:
  """Returns exact match and F1 of each question, before any threshold.

  Raises:
    InputError: there is no question.
  """
  _check(predictions, golds)
  pairs = [(p, golds_v2(g)) for p, g in zip(predictions, golds)]
  return (
    np.array([exact_match(p, g) for p, g in pairs]),
    np.array([f1(p, g, wordless_match=True) for p, g in pairs]),
  )


def best_threshold(
  scores: Values,
  null_odds: Values,
  answerable: Bool[np.ndarray, 'N'],
  is_empty: Bool[np.ndarray, 'N'],
) -> tuple[float, float]:
  """Finds the threshold of the null odds with the best mean score.

  As in the official script: beginning with no answer for every question, at
  threshold 0, the predictions are taken in the order of their odds (equal
  odds: in their own order), and the odds of the first prediction that reaches
  the best sum are the threshold. Of equal odds the sum may count only some,
  so that the best score need not be reached exactly.

  Args:
    scores: of each prediction, unthresholded.
    null_odds: of each question.
    answerable: whether the question has an answer.
    is_empty: whether the prediction is the empty string.

  Returns:
    The best mean score, and its threshold.
  """
  wrong = np.where(is_empty, 0.0, -1.0)
  order = np.argsort(null_odds, kind='stable')
  changes = np.where(answerable, scores, wrong)[order]
  sums = np.cumsum([float(np.sum(~answerable)), *changes])
  best = int(np.argmax(sums))
  threshold = float(null_odds[order[best - 1]]) if best else 0.0
  return float(sums[best]) / len(scores), threshold


def _f1(predicted: list[str], gold: list[str], wordless_match: bool) -> float:
  if not predicted or not gold:
    return float(wordless_match and predicted == gold)
  shared = collections.Counter(predicted) & collections.Counter(gold)
  same = sum(shared.values())
  if not same:
    return 0.0
  precision, recall = same / len(predicted), same / len(gold)
  return 2 * precision * recall / (precision + recall)


def _check(predictions: Sequence[str], golds: Golds) -> None:
  if len(predictions) != len(golds):
    raise ValueError(f'{len(predictions)} predictions, {len(golds)} questions')
  if not len(golds):
    raise InputError('there is no question to score; give at least one.')
