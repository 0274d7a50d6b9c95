"""One of several runs: it may diverge without stopping the others."""

import dataclasses
import json
import math
import pathlib
from typing import Any

import jax

from mobilebert_jax import launch
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
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


def check_root(root: pathlib.Path):
  """Checks the directory that is to hold the directories of several runs.

  Raises:
    InputError: it is a file, or the directory of a single run.
  """
  if root.exists() and not root.is_dir():
    raise InputError(f'{root} is a file, but must be a directory.')
  if Workdir(root).config.exists():
    raise InputError(
      f'{root} holds a single run (config.json); choose another --workdir.'
    )


def read(config: TrainConfig, path: pathlib.Path) -> Trial:
  """What is known of a run before it is started, or started again.

  Raises:
    InputError: the directory holds other things, or another run.
  """
  workdir = Workdir(path)
  if not workdir.is_started(config):
    return Trial()
  marker = path / _DIVERGED
  if marker.exists():
    problem = json.loads(marker.read_text(encoding='utf-8'))['problem']
    return Trial(problem=problem)
  return Trial(workdir.read_results())


def train(config: TrainConfig, path: pathlib.Path) -> Trial:
  """Trains, or continues, or takes what an earlier start has finished.

  A run that diverged is not tried again: it would do the same.

  Args:
    config: the run.
    path: its workdir.

  Raises:
    InputError: anything wrong with the config or the data.
  """
  known = read(config, path)
  if known.status != 'not finished':
    return known
  try:
    return Trial(launch.train(config, path))
  except NonFiniteError as error:
    files.write_json(path / _DIVERGED, {'problem': str(error)})
    return Trial(problem=str(error))
  finally:
    # Every run compiles programs of its own, which no later run uses.
    jax.clear_caches()
