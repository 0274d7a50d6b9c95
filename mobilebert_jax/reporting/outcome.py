"""What became of one example: the common language of all reports."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Outcome:
  """One example, for people who look at a run.

  Attributes:
    text: What the model was asked, as a reader wants to see it.
    expected: The right answer: a label, a number, or a text.
    predicted: The model's answer, of the same kind.
    error: How wrong it is, at least 0; larger is worse. For classes minus
      the log-probability of the right one, for numbers the absolute error.
    is_right: Whether the answer counts as right (for numbers: never).
  """

  text: str
  expected: str | float
  predicted: str | float
  error: float
  is_right: bool
