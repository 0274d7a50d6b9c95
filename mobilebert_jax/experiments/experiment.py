"""Several trials below one workdir, one after another, and their report."""

import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.experiments import trial
from mobilebert_jax.experiments.trial import Trial
from mobilebert_jax.runtime import distributed, files, lock
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import workdir

# What NAME.json holds: JSON values.
Summary = dict[str, Any]


class Experiment:
  """Runs trials and keeps a report of them up to date.

  Each trial is an ordinary run in the directory of its name below the workdir.
  The same experiment in the same workdir continues: finished trials are not
  run again. A subclass says what the trials amount to.

  Attributes:
    name: of the files of the report: NAME.json, NAME.md and NAME.png.
    noun: what messages call a trial.
    is_chain: whether each trial builds on those before it. Then one that
      diverges ends the experiment, and the report is written at the end;
      otherwise divergence is a result, and the report is written after each
      trial.
    configs: the run of each trial by the trial's name, in their order.
    root: the workdir.
  """

  name: ClassVar[str]
  noun: ClassVar[str] = 'trial'
  is_chain: ClassVar[bool] = False

  def __init__(self, configs: Mapping[str, TrainConfig], root: pathlib.Path):
    self.configs = configs
    self.root = root

  @property
  def data_path(self) -> pathlib.Path:
    """NAME.json, with the summary; written last."""
    return self.root / f'{self.name}.json'

  @property
  def table_path(self) -> pathlib.Path:
    """NAME.md, with the table."""
    return self.root / f'{self.name}.md'

  @property
  def picture_path(self) -> pathlib.Path:
    """NAME.png, if the experiment has a picture."""
    return self.root / f'{self.name}.png'

  def summarize(self, trials: Mapping[str, Trial]) -> Summary:
    """Returns what the trials amount to so far."""
    raise NotImplementedError

  def table(self, summary: Summary) -> list[str]:
    """Returns the lines of NAME.md."""
    raise NotImplementedError

  def closing_line(self, summary: Summary) -> str:
    """Returns what is printed at the end: what was found, and where it is."""
    raise NotImplementedError

  def draw(self, summary: Summary):
    """Writes NAME.png; an experiment without a picture writes nothing."""

  def check(self):
    """Finds what can be wrong before anything is written.

    Raises:
      InputError: the workdir is a file, or that of a single run.
    """
    if self.root.exists() and not self.root.is_dir():
      raise InputError(f'{self.root} is a file, but must be a directory.')
    if workdir.is_workdir(self.root):
      raise InputError(
        f'{self.root} holds a single run; choose another --workdir.'
      )

  def read(self) -> dict[str, Trial]:
    """Returns the trials as an earlier start has left them.

    Raises:
      InputError: a trial's directory holds another run, or other things.
    """
    return {
      name: trial.read(config, self.root / name)
      for name, config in self.configs.items()
    }

  def prepare(self, trials: Mapping[str, Trial]):
    """Does what is needed before the first run; alone in the workdir."""

  def finish(self, summary: Summary):
    """Does what is left behind the last run; alone in the workdir."""

  def run(self) -> Summary:
    """Trains every trial, or continues where an earlier start stopped.

    Returns:
      What NAME.json holds.

    Raises:
      InputError: anything wrong with the trials, or another experiment in the
        workdir; what has been finished stays.
      NonFiniteError: a trial of a chain diverged.
      RunError, Interrupted: as `loop.train`.
    """
    distributed.raise_on_all(self.check)
    # Another experiment there would write other trials into the same report.
    with lock.held(self.root):
      trials = distributed.raise_on_all(self.read)
      self.prepare(trials)
      summary: Summary = {}
      for number, (name, config) in enumerate(self.configs.items(), start=1):
        distributed.print_on_primary(
          f'{self.noun} {number} of {len(self.configs)}: {name}'
        )
        trials[name] = trial.train(
          config, self.root / name, may_diverge=not self.is_chain
        )
        if trials[name].problem is not None:
          distributed.print_on_primary(f'diverged: {trials[name].problem}')
        if not self.is_chain or number == len(self.configs):
          summary = distributed.run_on_primary(lambda: self._report(trials))
      self.finish(summary)
      distributed.print_on_primary(self.closing_line(summary))
      return summary

  def _report(self, trials: Mapping[str, Trial]) -> Summary:
    """Brings the files of the report up to date."""
    summary = self.summarize(trials)
    self.draw(summary)
    files.write_lines(self.table_path, self.table(summary))
    files.write_json(self.data_path, summary)
    return summary
