"""Runs GLUE's tasks one after another, and puts their results together."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.experiments import trial
from mobilebert_jax.experiments.glue import benchmark
from mobilebert_jax.experiments.trial import Trial
from mobilebert_jax.reporting import markdown
from mobilebert_jax.runtime import files, lock
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import setup
from mobilebert_jax.training.workdir import Workdir

ARCHIVE = 'glue_submission.zip'
TABLE = 'glue.md'
DATA = 'glue.json'

TASKS = tuple(benchmark.SCORES)


def run(
  configs: Mapping[str, TrainConfig], workdir: str | os.PathLike[str]
) -> dict[str, Any]:
  """Trains each task in a directory of its own, or continues.

  A finished task is not run again, and one that diverges does not stop the
  others. The table and the submission are brought up to date after each task;
  they tell of all tasks that `workdir` holds.

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
  root = files.path(workdir)
  _check(configs, root)
  # Another suite there would write other tasks into the same table.
  with lock.held(root):
    return _run(configs, root)


def _run(
  configs: Mapping[str, TrainConfig], root: pathlib.Path
) -> dict[str, Any]:
  """The suite, alone in its workdir."""
  attempts = {
    task: trial.read(configs[task], root / task)
    if task in configs
    else Trial(Workdir(root / task).read_results())
    for task in TASKS
  }
  for task, config in configs.items():
    if attempts[task].status == 'not finished':
      _check_data(config)
  for number, (task, config) in enumerate(configs.items(), start=1):
    print(f'task {number} of {len(configs)}: {task}', flush=True)
    attempts[task] = trial.train(config, root / task)
    if attempts[task].problem:
      print(f'diverged: {attempts[task].problem}', flush=True)
    summary = _write(root, attempts)
  print('\n'.join(['', *_lines(summary)]))
  return summary


def _check(configs: Mapping[str, TrainConfig], root: pathlib.Path):
  trial.check_root(root)
  for task, config in configs.items():
    if config.task != task:
      raise InputError(
        f'the config for {task} has the task {config.task!r}; name a file for '
        'each task, with {task} in its name.'
      )
    setup.make_mesh(config)


def _check_data(config: TrainConfig):
  """Reads all splits: a wrong row should not stop the suite after hours."""
  task = setup.find_task(config)
  for split in task.splits.all():
    task.load(config.data, split)


def _write(root: pathlib.Path, attempts: Mapping[str, Trial]) -> dict[str, Any]:
  finished = {
    task: done.results['best']
    for task, done in attempts.items()
    if done.results is not None
  }
  missing = benchmark.write_submission(
    root / ARCHIVE,
    {task: Workdir(root / task).predictions for task in finished},
  )
  summary = {
    'tasks': {task: _entry(task, done) for task, done in attempts.items()},
    'glue_average': benchmark.benchmark_average(finished),
    'bert_average': benchmark.bert_average(finished),
    'missing_files': list(missing),
  }
  files.write_json(root / DATA, summary)
  files.write_lines(root / TABLE, _lines(summary))
  return summary


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


def _lines(summary: Mapping[str, Any]) -> list[str]:
  """The table, in per cent as the benchmark's own."""
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


def _average(value: float | None, name: str) -> str:
  told = 'needs all of its tasks' if value is None else f'{100 * value:.1f}'
  return f'- Average {name}: {told}.'


def _submission(missing: Sequence[str]) -> str:
  if not missing:
    return f'{ARCHIVE} is complete.'
  return (
    f'{ARCHIVE} is not complete, and the server takes only complete ones. '
    f'Missing: {", ".join(map(_named, missing))}.'
  )


def _named(name: str) -> str:
  return f'{name} (task {benchmark.MEMBERS[name]})'
