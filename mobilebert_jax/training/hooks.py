"""The points of the training loop at which other code may look on or stop it.

A test observes a run with a hook, stops it by raising, or kills its process.
"""

from collections.abc import Mapping

from mobilebert_jax.training.checkpoint import Checkpoints
from mobilebert_jax.training.run_state import Scores
from mobilebert_jax.training.setup import Run


class Hook:
  """What is called at points of the loop; each method here does nothing.

  The loop calls every process's hooks in their order. What a hook raises ends
  the run as if the loop had raised it. A step's number is counted from 1; 0
  stands for the state before training.
  """

  def on_start(self, run: Run, checkpoints: Checkpoints):
    """Called once, when the run is set up and nothing is restored yet."""

  def after_step(self, step: int, metrics: Mapping[str, float]):
    """Called when the numbers of a step have been fetched and logged.

    That is one step late, while the devices work on the next one, except before
    an evaluation or a save.
    """

  def before_evaluation(self, step: int):
    """Called before the evaluation splits are scored."""

  def after_evaluation(self, step: int, scores: Scores):
    """Called when they have been scored, before the scores are logged."""

  def before_save(self, step: int):
    """Called before a checkpoint is written."""
