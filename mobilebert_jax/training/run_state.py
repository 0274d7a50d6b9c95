"""What a run knows beside its arrays: position, scores, counts."""

import dataclasses
from typing import Any

Scores = dict[str, float]


@dataclasses.dataclass
class RunState:
  """What a run knows beside its arrays; every checkpoint has it as JSON.

  Attributes:
    data: position in the training data.
    first: scores before training.
    last: scores of the latest evaluation.
    best: scores of the best evaluation.
    best_step: its step.
    stale: evaluations since then.
    evaluated_step: step of the latest evaluation; None: none since training
      began.
    skipped_steps: steps that left the weights as they were (`failures`).
    skipped_in_a_row: how many of them were the last ones.
    is_finished: whether training has ended.
  """

  data: dict[str, Any] = dataclasses.field(default_factory=dict)
  first: Scores = dataclasses.field(default_factory=dict)
  last: Scores = dataclasses.field(default_factory=dict)
  best: Scores = dataclasses.field(default_factory=dict)
  best_step: int | None = None
  stale: int = 0
  evaluated_step: int | None = None
  skipped_steps: int = 0
  skipped_in_a_row: int = 0
  is_finished: bool = False

  def record(
    self, step: int, scores: Scores, metric: str, is_eligible: bool = True
  ) -> bool:
    """Takes in an evaluation; returns whether it is the best so far.

    Args:
      step: when it was made.
      scores: what it gave.
      metric: the score that decides; higher is better.
      is_eligible: whether it is compared with others at all.
    """
    self.last, self.evaluated_step = scores, step
    if not is_eligible:
      return False
    better = not self.best or scores[metric] > self.best[metric]
    self.stale = 0 if better else self.stale + 1
    if better:
      self.best, self.best_step = scores, step
    return better
