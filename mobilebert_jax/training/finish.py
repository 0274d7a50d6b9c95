"""What a run writes for others: its best weights; at its end, the results."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mobilebert_jax import models
from mobilebert_jax.config import taken_layers
from mobilebert_jax.convert.pretrained import save_pretrained
from mobilebert_jax.models.typing import Params
from mobilebert_jax.reporting import metrics_log, model_card, pictures, report
from mobilebert_jax.reporting.start_summary import StartSummary
from mobilebert_jax.runtime import distributed, files, hub
from mobilebert_jax.tasks import Task
from mobilebert_jax.tasks.task import Predictions
from mobilebert_jax.training import calibration, mesh, starting
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
  predict: Callable[[Split], Predictions],
  start: StartSummary | None = None,
) -> dict[str, Any]:
  """Writes everything that shows what was learnt; `results.json` last.

  So a run that is stopped meanwhile does all of it again, and a finished run
  does none of it.

  Args:
    run: the run.
    run_state: its scores.
    step: its last step.
    predict: the predictions for a split with the best weights.
    start: what was found before it began, for the report.

  Returns:
    What `results.json` holds.
  """
  config, workdir, task, splits = run.config, run.workdir, run.task, run.splits
  results = _scores_so_far(run, run_state)
  results['final'] = {'step': step, **run_state.last}
  if config.nonfinite == 'skip':
    results['skipped_steps'] = run_state.skipped_steps
  shown, *others = (*task.splits.evaluation, *task.splits.test)
  main = splits[shown]
  predictions = _write_predictions(workdir, task, main, predict)
  evaluated = (predictions, main.examples, main.features)
  outcomes = task.outcomes(*evaluated)
  breakdown = task.breakdown(*evaluated) if task.breakdown else None
  baseline = _baseline(run, main, predictions)
  del predictions, evaluated
  for name in others:
    predictions = _write_predictions(workdir, task, splits[name], predict)
    if name in task.splits.evaluation:
      baseline |= _baseline(run, splits[name], predictions)
    del predictions
  if baseline:
    results['baseline'] = baseline

  def show():
    records = metrics_log.read(workdir.metrics)
    pictures.draw_curves(
      workdir.curves,
      records,
      task.primary_metric,
      report.baseline(results),
      run_state.best_step,
    )
    findings = report.Findings(
      results=results,
      about=_about(run, step),
      labels=task.labels,
      split=shown,
      outcomes=outcomes,
      tokens=_tokens(task, splits),
      max_length=config.data.max_length,
      records=records,
      batch_size=config.batch_size,
      error_name=task.error_name,
      breakdown=breakdown,
      start=start,
    )
    report.write(workdir.report, workdir.pictures, workdir.curves, findings)
    _write_card(run, results)
    files.write_json(workdir.results, results)

  distributed.run_on_primary(show)
  return results


def save_best(run: Run, run_state: RunState, params: Params):
  """Writes the best weights as a transformers directory, with a model card.

  Args:
    run: the run.
    run_state: its scores so far.
    params: the weights.
  """
  host = mesh.fetch_tree(params)
  model, tokenizer = run.start.model, run.start.tokenizer
  usage = _usage(run, run_state.best)
  config = model.config.replace(task_specific_params=usage or None)
  results = _scores_so_far(run, run_state)

  def save():
    save_pretrained(
      run.workdir.model, model.clone(config=config), host, tokenizer
    )
    _write_card(run, results)

  distributed.run_on_primary(save)


def _scores_so_far(run: Run, run_state: RunState) -> dict[str, Any]:
  """Returns what `results.json` holds, without the final scores."""
  return {
    'task': run.task.name,
    'primary_metric': run.task.primary_metric,
    'first': {'step': 0, **run_state.first},
    'best': {'step': run_state.best_step, **run_state.best},
  }


def _baseline(
  run: Run, split: Split, predictions: Predictions
) -> dict[str, Any]:
  """Returns the scores of the best constant answer on a split, and which it is.

  A run that learns nothing of its task is not compared with it.
  """
  task = run.task
  if task.baseline is None or not run.method.is_eligible(0):
    return {}
  train = run.splits[task.splits.train]
  constant = task.baseline(
    train.examples,
    train.features,
    predictions,
    split.examples,
    split.features,
  )
  scores = {f'{split.name}/{k}': v for k, v in constant.scores.items()}
  return {'answer': constant.answer, **scores}


def _usage(run: Run, scores: Mapping[str, float]) -> Mapping[str, Any]:
  """Returns `task_specific_params` after an evaluation."""
  usage = run.task.usage_params
  return usage(scores) if usage else {}


def _write_card(run: Run, results: Mapping[str, Any]):
  config, start = run.config, run.start
  is_hub_name = (
    config.init != starting.SCRATCH
    and hub.is_hub_name(config.init)
    and not files.path(config.init).exists()
  )
  step = results.get('final', results['best'])['step']
  summary = model_card.ModelSummary(
    head=run.task.head.__name__,
    max_length=config.data.max_length,
    lower_case=start.tokenizer.do_lower_case,
    labels=run.task.labels,
    usage=_usage(run, results['best']),
    config=config,
    results=results,
    about=_about(run, step, model_card.last_part),
    base_model=config.init if is_hub_name else None,
    versions=model_card.installed_versions(),
  )
  files.write_text(
    run.workdir.model / model_card.NAME, model_card.card(summary)
  )


def closing_line(results: Mapping[str, Any], workdir: Workdir) -> str:
  """Returns what was learnt, and where it is."""
  metric = results['primary_metric']
  first, final, best = (results[k] for k in ('first', 'final', 'best'))
  constant = report.baseline(results)
  beside = '' if constant is None else f' ({constant[0]}: {constant[1]:.4f})'
  return (
    f'{results["task"]}: {metric} went from {first[metric]:.4f} to '
    f'{final[metric]:.4f} in {final["step"]} steps{beside}; the best, '
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
  run: Run, step: int, show_path: Callable[[str], str] = str
) -> list[tuple[str, str]]:
  """Returns the rows of a table about the run.

  Args:
    run: the run.
    step: its steps.
    show_path: from a directory to what is shown of it.
  """
  config, task, splits = run.config, run.task, run.splits
  counts = ', '.join(
    f'{name} {len(split.examples):,}' for name, split in splits.items()
  )
  data = config.data
  source: str = data.source
  if data.path is not None:
    source = f'{source}, {show_path(data.path)}'
  parameters = models.count_params(models.abstract_params(run.start.model))
  seen = step * config.batch_size / len(splits[task.splits.train].examples)
  devices = jax.devices()
  rounding = []
  if config.quantization.is_on:
    rounding = [('quantization', calibration.describe(config))]
  return [
    ('model', f'{task.head.__name__}, {parameters:,} parameters'),
    (
      'started from',
      taken_layers.describe(config.init_layers, show_path(config.init)),
    ),
    ('data', f'{source}; examples: {counts}'),
    ('training', f'{step:,} steps of {config.batch_size} examples, '
     f'{seen:.3g} times the training data'),
    ('optimizer', f'{_OPTIMIZERS[config.optimizer.name]}, learning rate '
     f'{config.optimizer.learning_rate:g}, weight decay '
     f'{config.optimizer.weight_decay:g}'),
    ('seed, computation', f'{config.seed}, {config.dtype}'),
    *rounding,
    ('devices', f'{len(devices)} x {devices[0].device_kind}'),
  ]  # fmt: skip


def _tokens(task: Task, splits: Mapping[str, Split]) -> dict[str, np.ndarray]:
  """Returns lengths in the training and the main evaluation split."""
  names = (task.splits.train, task.splits.evaluation[0])
  return {name: splits[name].features.lengths() for name in names}
