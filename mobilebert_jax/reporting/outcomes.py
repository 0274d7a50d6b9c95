"""What became of each example, and how well each class is recognised."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True)
class Outcome:
  """One example with its answer, for people who look at a run.

  Attributes:
    text: what the model was asked, as a reader wants to see it.
    expected: the right answer: a label, a number, or a text.
    predicted: the model's answer, of the same kind.
    error: how wrong it is, at least 0; larger is worse. For classes
      -log p(expected), for numbers the absolute error.
    is_right: whether the answer counts as right (for numbers: never).
    confidence: the probability that the model gives its answer, from 0 to 1;
      None: it is not known.
  """

  text: str
  expected: str | float
  predicted: str | float
  error: float
  is_right: bool
  confidence: float | None = None


# What `Outcome.error` is for classes.
LOG_PROBABILITY = '-log p(expected)'


@dataclasses.dataclass(frozen=True)
class Breakdown:
  """Scores of parts of a split, such as of each type of entity.

  Attributes:
    title: what the parts are.
    header: names of the columns; the first one is that of the part.
    rows: a row for each part: its name, then numbers, None where there is none.
  """

  title: str
  header: tuple[str, ...]
  rows: tuple[tuple[str | int | float | None, ...], ...]


@dataclasses.dataclass(frozen=True)
class ClassRates:
  """How well one class is recognised.

  Attributes:
    label: its name.
    examples: examples of it.
    predicted: examples taken for it.
    precision: part of those taken for it that are of it; None: there are none.
    recall: part of those of it that are taken for it; None: there are none.
    f1: their harmonic mean, 2 hits / (examples + predicted); None: neither.
  """

  label: str
  examples: int
  predicted: int
  precision: float | None
  recall: float | None
  f1: float | None


def are_classes(outcomes: Sequence[Outcome], labels: Sequence[str]) -> bool:
  """Returns whether each answer is exactly one of the labels."""
  known = set(labels)
  return bool(known and outcomes) and all(
    outcome.expected in known and outcome.predicted in known
    for outcome in outcomes
  )


def confusion(
  outcomes: Sequence[Outcome], labels: Sequence[str]
) -> Int[np.ndarray, 'C C']:
  """Counts examples by expected (rows) and predicted class (columns)."""
  number = {label: index for index, label in enumerate(labels)}
  counts = np.zeros((len(labels), len(labels)), np.int64)
  for outcome in outcomes:
    counts[number[str(outcome.expected)], number[str(outcome.predicted)]] += 1
  return counts


def rates(
  counts: Int[np.ndarray, 'C C'], labels: Sequence[str]
) -> list[ClassRates]:
  """Returns precision, recall and F1 of each class, in the labels' order."""
  result = []
  for index, label in enumerate(labels):
    hits = int(counts[index, index])
    examples = int(counts[index].sum())
    predicted = int(counts[:, index].sum())
    result.append(
      ClassRates(
        label,
        examples,
        predicted,
        _ratio(hits, predicted),
        _ratio(hits, examples),
        _ratio(2 * hits, examples + predicted),
      )
    )
  return result


def most_confused(
  counts: Int[np.ndarray, 'C C'], labels: Sequence[str], most: int
) -> list[tuple[str, str, int]]:
  """Returns the pairs (expected, predicted, examples) of most mistakes."""
  wrong = counts * ~np.eye(len(counts), dtype=bool)
  order = np.argsort(-wrong, axis=None, kind='stable')[:most]
  pairs = zip(*np.unravel_index(order, wrong.shape))
  return [
    (labels[i], labels[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j]
  ]


def _ratio(part: int, whole: int) -> float | None:
  return part / whole if whole else None
