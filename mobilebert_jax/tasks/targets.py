"""What a text can be labelled with: one class, several classes, a number.

Each kind knows how labels become a column of numbers, what the logits decide,
and how far a decision is from the truth. The names are transformers' values of
`problem_type`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int, Num

from mobilebert_jax.metrics.probabilities import negative_log_likelihood
from mobilebert_jax.reporting.outcomes import LOG_PROBABILITY

# The index of a class; a number; or the indices of the classes that apply.
Label = int | float | tuple[int, ...]
Logits = Float[np.ndarray, 'N C']
# Constant answers that are tried.
_MOST_CONSTANTS = 8


class Target(Protocol):
  """One kind of label.

  Attributes:
    problem_type: transformers' name of it.
    labels: names of the classes, in the order of the logits; () for a number.
    error_name: what `error` is, for people.
  """

  @property
  def problem_type(self) -> str: ...

  @property
  def error_name(self) -> str: ...

  @property
  def labels(self) -> tuple[str, ...]: ...

  def column(self, labels: Sequence[Any]) -> Num[np.ndarray, 'N *C']:
    """Returns the labels as the loss wants them."""

  def truth(self, labels: Sequence[Any]) -> Num[np.ndarray, 'N *C']:
    """Returns the labels as scores want them: `column`, but never rounded."""

  def decide(self, logits: Logits) -> Num[np.ndarray, 'N *C']:
    """Decides by the logits, in the form of `truth`."""

  def error(
    self, logits: Logits, truth: Num[np.ndarray, 'N *C']
  ) -> Float[np.ndarray, 'N']:
    """Returns how wrong each row is, at least 0 (see `Outcome.error`)."""

  def describe(self, value: Any) -> str | float:
    """Describes one row of `truth` or `decide`, for people."""

  def is_right(self, guess: Any, truth: Any) -> bool:
    """Returns whether a decision counts as right."""

  def constants(self, truth: Num[np.ndarray, 'N *C']) -> list[Any]:
    """Returns decisions that may be the best for all of these rows alike."""


@dataclasses.dataclass(frozen=True)
class SingleLabel:
  """Exactly one of several classes; labels are class indices (int32 [N])."""

  labels: tuple[str, ...]
  problem_type: str = 'single_label_classification'
  error_name: str = LOG_PROBABILITY

  def column(self, labels: Sequence[int]) -> Int[np.ndarray, 'N']:
    return np.array(labels, np.int32)

  truth = column

  def decide(self, logits: Logits) -> Int[np.ndarray, 'N']:
    """Returns the class with the largest logit, the first of equal ones."""
    return np.argmax(logits, axis=-1)

  def error(
    self, logits: Logits, truth: Int[np.ndarray, 'N']
  ) -> Float[np.ndarray, 'N']:
    """Returns -log p of the right class."""
    return negative_log_likelihood(logits, truth)

  def describe(self, value: int) -> str:
    return self.labels[value]

  def is_right(self, guess: int, truth: int) -> bool:
    return bool(guess == truth)

  def constants(self, truth: Int[np.ndarray, 'N']) -> list[int]:
    """Returns the largest classes; of two each may have the best F1."""
    counts = np.bincount(truth, minlength=len(self.labels))
    return np.argsort(-counts, kind='stable')[:_MOST_CONSTANTS].tolist()


@dataclasses.dataclass(frozen=True)
class MultiLabel:
  """Any number of classes at once; labels are tuples of class indices.

  The column is float32 [N, C] of 0 and 1. A class is chosen where its logit is
  positive: where its probability is above one half.
  """

  labels: tuple[str, ...]
  problem_type: str = 'multi_label_classification'
  error_name: str = LOG_PROBABILITY

  def column(self, labels: Sequence[tuple[int, ...]]) -> np.ndarray:
    return self.truth(labels).astype(np.float32)

  def truth(self, labels: Sequence[tuple[int, ...]]) -> Int[np.ndarray, 'N C']:
    """Returns 1 for each class that applies, else 0."""
    table = np.zeros((len(labels), len(self.labels)), np.int32)
    for row, chosen in zip(table, labels, strict=True):
      row[list(chosen)] = 1
    return table

  def decide(self, logits: Logits) -> Int[np.ndarray, 'N C']:
    """Returns 1 for each class with a positive logit, else 0."""
    return (logits > 0).astype(np.int32)

  def error(
    self, logits: Logits, truth: Int[np.ndarray, 'N C']
  ) -> Float[np.ndarray, 'N']:
    """Returns -log p of exactly the right classes."""
    logits = logits.astype(np.float64)
    return np.logaddexp(0.0, np.where(truth, -logits, logits)).sum(axis=-1)

  def describe(self, value: Int[np.ndarray, 'C']) -> str:
    """Joins the names by commas; 'none' if there is none."""
    chosen = [self.labels[i] for i in np.flatnonzero(value)]
    return ', '.join(chosen) or 'none'

  def is_right(self, guess: np.ndarray, truth: np.ndarray) -> bool:
    return bool(np.array_equal(guess, truth))

  def constants(self, truth: Int[np.ndarray, 'N C']) -> list[np.ndarray]:
    """Returns the sets of the largest classes, as many as may be best."""
    order = np.argsort(-truth.sum(axis=0), kind='stable')
    rank = np.argsort(order)
    most = min(len(order), int(truth.sum(axis=1).max(initial=0)))
    most = min(most, _MOST_CONSTANTS)
    return [(rank < size).astype(np.int32) for size in range(most + 1)]


@dataclasses.dataclass(frozen=True)
class Regression:
  """A number; the model has one logit, and labels are float32 [N]."""

  labels: tuple[str, ...] = ()
  problem_type: str = 'regression'
  error_name: str = 'absolute error'

  def column(self, labels: Sequence[float]) -> Float[np.ndarray, 'N']:
    return np.array(labels, np.float32)

  def truth(self, labels: Sequence[float]) -> Float[np.ndarray, 'N']:
    """Returns the numbers as the data has them, in float64."""
    return np.array(labels, np.float64)

  def decide(self, logits: Logits) -> Float[np.ndarray, 'N']:
    """Returns the only logit, in float64."""
    return logits[:, 0].astype(np.float64)

  def error(
    self, logits: Logits, truth: Float[np.ndarray, 'N']
  ) -> Float[np.ndarray, 'N']:
    """Returns the absolute error."""
    return np.abs(self.decide(logits) - truth)

  def describe(self, value: float) -> float:
    return float(value)

  def is_right(self, guess: float, truth: float) -> bool:
    return False

  def constants(self, truth: Float[np.ndarray, 'N']) -> list[float]:
    """Returns the mean."""
    return [float(np.mean(truth))]
