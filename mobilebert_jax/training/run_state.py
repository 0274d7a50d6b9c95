"""What a run knows beside its arrays: position, scores, counts."""

import dataclasses
from typing import Any

from mobilebert_jax.metrics import ranking

Scores = dict[str, float]


@dataclasses.dataclass
class RunState:
  """What a run knows beside its arrays; every checkpoint has it as JSON.

  Attributes:
    data: position in the training data.
    first: scores before training.
    last: scores of the latest evaluation.
    best: scores of the best evaluation; the one before training counts too.
    best_step: its step.
    stale: evaluations since then.
    evaluated_step: step of the latest evaluation; None: there was none.
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
      metric: the score that decides; `metrics.ranking` says how.
      is_eligible: whether it is compared with others at all.
    """
    self.last, self.evaluated_step = scores, step
    if not is_eligible:
      return False
    new = ranking.rank(metric, scores[metric])
    old = ranking.rank(metric, self.best[metric]) if self.best else None
    # What has learnt something wins over what is only as good without.
    is_untrained = self.best_step == 0
    better = old is None or new > old or (is_untrained and new == old)
    self.stale = 0 if better else self.stale + 1
    if better:
      self.best, self.best_step = scores, step
    return better
