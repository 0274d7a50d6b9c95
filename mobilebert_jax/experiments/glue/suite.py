"""GLUE's tasks as an experiment: a trial for each, averages, submission."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.experiments.experiment import Experiment, Summary
from mobilebert_jax.experiments.glue import benchmark
from mobilebert_jax.experiments.trial import Trial
from mobilebert_jax.reporting import markdown
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import setup
from mobilebert_jax.training.workdir import Workdir

ARCHIVE = 'glue_submission.zip'
TASKS = tuple(benchmark.SCORES)


def run(
  configs: Mapping[str, TrainConfig], workdir: str | os.PathLike[str]
) -> Summary:
  """Trains each task in a directory of its own, or continues.

  A finished task is not run again, and one that diverges does not stop the
  others. The table and the submission are brought up to date after each task;
  they hold all tasks that `workdir` holds.

  Args:
    configs: the run of each task, by the task's name.
    workdir: where everything is written.

  Returns:
    What `glue.json` holds: 'tasks' (status, score and scores of each),
    'glue_average', 'bert_average' (None if tasks are missing) and
    'missing_files' of the submission.

  Raises:
    InputError: anything wrong with a config or with the data of any task;
      found before the first run; another suite in `workdir`.
  """
  return Suite(configs, files.path(workdir)).run()


class Suite(Experiment):
  """A trial for each task of GLUE."""

  name = 'glue'
  noun = 'task'

  def check(self):
    super().check()
    for task, config in self.configs.items():
      if config.task != task:
        raise InputError(
          f'the config for {task} has the task {config.task!r}; name a file '
          'for each task, with {task} in its name.'
        )
      setup.make_mesh(config)

  def read(self) -> dict[str, Trial]:
    known = super().read()
    for task in TASKS:
      if task not in known:
        known[task] = Trial(Workdir(self.root / task).read_results())
    return {task: known[task] for task in TASKS}

  def prepare(self, trials: Mapping[str, Trial]):
    """Reads all splits: a wrong row should not stop the suite after hours."""
    for name, config in self.configs.items():
      if trials[name].status == 'not finished':
        task = setup.find_task(config)
        for split in task.splits.all():
          task.load(config.data, split)

  def summarize(self, trials: Mapping[str, Trial]) -> Summary:
    """Returns the scores and averages; writes the submission."""
    finished = {
      task: done.results['best']
      for task, done in trials.items()
      if done.results is not None
    }
    missing = benchmark.write_submission(
      self.root / ARCHIVE,
      {task: Workdir(self.root / task).predictions for task in finished},
    )
    return {
      'tasks': {task: _entry(task, done) for task, done in trials.items()},
      'glue_average': benchmark.benchmark_average(finished),
      'bert_average': benchmark.bert_average(finished),
      'missing_files': list(missing),
    }

  def table(self, summary: Summary) -> list[str]:
    """Returns the lines of `glue.md`, in per cent as the benchmark's own."""
    rows = []
    for task, entry in summary['tasks'].items():
      if 'score' not in entry:
        rows.append([task, '', entry['status'], ''])
        continue
      scores = ', '.join(
        f'{name} {100 * value:.1f}' for name, value in entry['scores'].items()
      )
      step = str(entry['best_step'])
      rows.append([task, f'{100 * entry["score"]:.1f}', scores, step])
    return [
      '# GLUE, development sets',
      '',
      *markdown.table(
        ('task', 'score', 'scores', 'best step'),
        [[markdown.escape(cell) for cell in row] for row in rows],
        'lrlr',
      ),
      '',
      _average(summary['glue_average'], 'as the benchmark takes it'),
      _average(summary['bert_average'], "as in BERT's paper, without WNLI"),
      '',
      _submission(summary['missing_files']),
    ]

  def closing_line(self, summary: Summary) -> str:
    """Returns the table."""
    return '\n'.join(['', *self.table(summary)])


def _entry(task: str, done: Trial) -> dict[str, Any]:
  entry: dict[str, Any] = {'status': done.status, 'problem': done.problem}
  if done.results is None:
    return entry
  best = done.results['best']
  scores = {name: best[name] for name in benchmark.SCORES[task]}
  return entry | {
    'score': benchmark.task_score(task, best),
    'scores': scores,
    'best_step': best['step'],
  }


def _average(value: float | None, name: str) -> str:
  shown = 'needs all of its tasks' if value is None else f'{100 * value:.1f}'
  return f'- Average {name}: {shown}.'


def _submission(missing: Sequence[str]) -> str:
  if not missing:
    return f'{ARCHIVE} is complete.'
  names = [f'{name} (task {benchmark.MEMBERS[name]})' for name in missing]
  return (
    f'{ARCHIVE} is not complete, and the server takes only complete ones. '
    f'Missing: {", ".join(names)}.'
  )
