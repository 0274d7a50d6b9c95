"""One run of an experiment: started, continued, finished or diverged."""

import dataclasses
import json
import math
import pathlib
from typing import Any

import jax

from mobilebert_jax import launch
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.runtime import distributed, files
from mobilebert_jax.training.failures import NonFiniteError
from mobilebert_jax.training.workdir import Workdir

# Written beside a run's config when it has diverged.
_DIVERGED = 'diverged.json'


@dataclasses.dataclass(frozen=True)
class Trial:
  """What became of a run.

  Attributes:
    results: what its `results.json` holds; None if it diverged or has not
      been finished.
    problem: how it diverged; None if it did not.
  """

  results: dict[str, Any] | None = None
  problem: str | None = None

  @property
  def status(self) -> str:
    """'finished', 'diverged' or 'not finished'."""
    if self.results is not None:
      return 'finished'
    return 'not finished' if self.problem is None else 'diverged'

  @property
  def score(self) -> float | None:
    """The best value of the primary metric; None if it has no finite one."""
    if self.results is None:
      return None
    score = self.results['best'][self.results['primary_metric']]
    return score if math.isfinite(score) else None


def read(config: TrainConfig, path: pathlib.Path) -> Trial:
  """Returns what is known of a run before it is started or continued.

  Args:
    config: the run.
    path: its workdir.

  Raises:
    InputError: the directory holds other things, or another run.
  """
  workdir = Workdir(path)
  if not workdir.is_started(config):
    return Trial()
  diverged = path / _DIVERGED
  if diverged.exists():
    problem = json.loads(diverged.read_text(encoding='utf-8'))['problem']
    return Trial(problem=problem)
  return Trial(workdir.read_results())


def train(
  config: TrainConfig, path: pathlib.Path, *, may_diverge: bool = True
) -> Trial:
  """Trains, continues, or returns what an earlier start has finished.

  Args:
    config: the run.
    path: its workdir.
    may_diverge: whether divergence is a result. It is recorded then, and
      neither a finished nor a diverged run is opened again: it would do the
      same.

  Raises:
    InputError: anything wrong with the config or the data.
    NonFiniteError: the run diverged, though it may not.
    RunError, Interrupted: as `launch.train`.
  """
  if may_diverge:
    known = distributed.raise_on_all(lambda: read(config, path))
    if known.status != 'not finished':
      return known
  try:
    return Trial(launch.train(config, path))
  except NonFiniteError as error:
    if not may_diverge:
      raise
    files.write_json(path / _DIVERGED, {'problem': str(error)})
    return Trial(problem=str(error))
  finally:
    # Every run compiles programs of its own, which no later run uses.
    jax.clear_caches()
