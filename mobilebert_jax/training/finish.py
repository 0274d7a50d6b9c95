"""What a run writes at its end: predictions, curves, report, results."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mobilebert_jax import models
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.models.typing import Params
from mobilebert_jax.reporting import metrics_log, pictures, report
from mobilebert_jax.runtime import distributed, files
from mobilebert_jax.tasks import Task
from mobilebert_jax.tasks.task import Predictions
from mobilebert_jax.training.evaluate import Split
from mobilebert_jax.training.run_state import RunState
from mobilebert_jax.training.setup import Run
from mobilebert_jax.training.workdir import Workdir

# How the report spells `config.optimizer.name`.
_OPTIMIZERS = {'adamw': 'AdamW', 'lamb': 'LAMB'}


def write(
  run: Run,
  run_state: RunState,
  step: int,
  params: Params,
  predict: Callable[[Split], Predictions],
) -> dict[str, Any]:
  """Writes everything that shows what was learnt; `results.json` last.

  So a run that is stopped meanwhile does all of it again, and a finished run
  does none of it.

  Args:
    run: the run.
    run_state: its scores.
    step: its last step.
    params: the best weights.
    predict: the predictions for a split with the best weights.

  Returns:
    What `results.json` holds.
  """
  config, workdir, task, splits = run.config, run.workdir, run.task, run.splits
  results: dict[str, Any] = {
    'task': task.name,
    'primary_metric': task.primary_metric,
    'first': {'step': 0, **run_state.first},
    'final': {'step': step, **run_state.last},
    'best': {'step': run_state.best_step, **run_state.best},
  }
  if config.nonfinite == 'skip':
    results['skipped_steps'] = run_state.skipped_steps
  shown, *others = (*task.splits.evaluation, *task.splits.test)
  predictions = _write_predictions(workdir, task, splits[shown], predict)
  outcomes = task.outcomes(
    predictions, splits[shown].examples, splits[shown].features
  )
  del predictions
  for name in others:
    _write_predictions(workdir, task, splits[name], predict)

  def show():
    records = metrics_log.read(workdir.metrics)
    pictures.draw_curves(workdir.curves, records, task.primary_metric)
    findings = report.Findings(
      results=results,
      about=_about(config, task, splits, results, params),
      labels=task.labels,
      split=shown,
      outcomes=outcomes,
      tokens=_tokens(task, splits),
      max_length=config.data.max_length,
      records=records,
      batch_size=config.batch_size,
    )
    report.write(workdir.report, workdir.pictures, workdir.curves, findings)
    files.write_json(workdir.results, results)

  distributed.run_on_primary(show)
  return results


def closing_line(results: Mapping[str, Any], workdir: Workdir) -> str:
  """Returns what was learnt, and where it is."""
  metric = results['primary_metric']
  first, final, best = (results[k] for k in ('first', 'final', 'best'))
  return (
    f'{results["task"]}: {metric} went from {first[metric]:.4f} to '
    f'{final[metric]:.4f} in {final["step"]} steps; the best, '
    f'{best[metric]:.4f} at step {best["step"]}, is in {workdir.model}, '
    f'everything else in {workdir.path}.'
  )


def _write_predictions(
  workdir: Workdir,
  task: Task,
  split: Split,
  predict: Callable[[Split], Predictions],
) -> Predictions:
  """Predicts in all processes together; the first one writes."""
  predictions = predict(split)

  def write():
    workdir.predictions.mkdir(exist_ok=True)
    task.write_predictions(
      workdir.predictions, split.name, predictions, split.examples,
      split.features,
    )  # fmt: skip

  distributed.run_on_primary(write)
  return predictions


def _about(
  config: TrainConfig,
  task: Task,
  splits: Mapping[str, Split],
  results: Mapping[str, Any],
  params: Any,
) -> list[tuple[str, str]]:
  """Returns the rows of the report's table about the run."""
  counts = ', '.join(
    f'{name} {len(split.examples):,}' for name, split in splits.items()
  )
  data = config.data
  source = data.source if data.path is None else f'{data.source}, {data.path}'
  steps = results['final']['step']
  seen = steps * config.batch_size / len(splits[task.splits.train].examples)
  devices = jax.devices()
  return [
    ('model', f'{task.head.__name__}, {models.count_params(params):,} '
     'parameters'),
    ('started from', config.init),
    ('data', f'{source}; examples: {counts}'),
    ('training', f'{steps:,} steps of {config.batch_size} examples, '
     f'{seen:.3g} times the training data'),
    ('optimizer', f'{_OPTIMIZERS[config.optimizer.name]}, learning rate '
     f'{config.optimizer.learning_rate:g}, weight decay '
     f'{config.optimizer.weight_decay:g}'),
    ('seed, computation', f'{config.seed}, {config.dtype}'),
    ('devices', f'{len(devices)} x {devices[0].device_kind}'),
  ]  # fmt: skip


def _tokens(task: Task, splits: Mapping[str, Split]) -> dict[str, np.ndarray]:
  """Returns lengths in the training and the main evaluation split."""
  names = (task.splits.train, task.splits.evaluation[0])
  return {name: splits[name].features.lengths() for name in names}
