"""Traces of some training steps, for TensorBoard's profile page and XProf."""

import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from mobilebert_jax.runtime import distributed, files
from mobilebert_jax.runtime.errors import InputError

T = TypeVar('T')


def check(steps: range, total_steps: int):
  """Checks that a run has the steps that are to be traced.

  Raises:
    InputError: it has not.
  """
  if steps and steps.stop - 1 > total_steps:
    raise InputError(
      f"config.profile.steps is '{steps.start}:{steps.stop}', but the run has "
      f'only {total_steps} steps.'
    )


class Profile:
  """Traces a range of a run's steps; a context manager around the run.

  A run that continues in the middle of the range traces what is left of it; one
  that ends there writes what it has. With several processes the first one
  traces its own devices.

  Args:
    steps: numbers of the steps, from 1; empty: none.
    directory: gets `plugins/profile/<time>/`, as the profiler's viewers expect
      (https://docs.jax.dev/en/latest/profiling.html).
  """

  def __init__(self, steps: range, directory: pathlib.Path):
    self._steps = steps if distributed.is_primary() else range(0)
    self._directory = directory
    self._folder: tempfile.TemporaryDirectory[str] | None = None

  def __enter__(self) -> 'Profile':
    return self

  def __exit__(self, *error: object):
    self._stop()

  def step(self, number: int, function: Callable[..., T], *args: Any) -> T:
    """Calls a compiled step, traced if its number is in the range."""
    if number not in self._steps:
      return function(*args)
    if self._folder is None:
      # What was started before is not to be seen in the trace.
      jax.block_until_ready(args)
      self._folder = tempfile.TemporaryDirectory()
      jax.profiler.start_trace(self._folder.name)
    with jax.profiler.StepTraceAnnotation('train', step_num=number):
      result = function(*args)
    if number == self._steps[-1]:
      jax.block_until_ready(result)
      self._stop()
    return result

  def _stop(self):
    """Ends the trace, if there is one, and moves it to its place."""
    if self._folder is None:
      return
    with self._folder as name:
      self._folder = None
      jax.profiler.stop_trace()
      made = pathlib.Path(name)
      for source in sorted(path for path in made.rglob('*') if path.is_file()):
        target = self._directory / source.relative_to(made).as_posix()
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(target) as partial:
          shutil.copyfile(source, partial)
