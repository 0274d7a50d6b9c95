"""A training run from its config: build, restore, loop, evaluate, save."""

import dataclasses
import functools
import math
import os
import pathlib
from typing import Any

import jax

from mobilebert_jax import assembly, finish, preparation, sharding, training
from mobilebert_jax.assembly import Run
from mobilebert_jax.checkpoint import Checkpoints
from mobilebert_jax.convert.pretrained import save_pretrained
from mobilebert_jax.evaluate import Evaluator
from mobilebert_jax.facts import Facts, Scores
from mobilebert_jax.optimizer import make_optimizer
from mobilebert_jax.reporting.metrics_log import MetricsLog
from mobilebert_jax.reporting.progress import Progress
from mobilebert_jax.run_config import TrainConfig
from mobilebert_jax.workdir import Workdir


class NonFiniteError(FloatingPointError):
  """Training diverged: a loss or gradient is infinite or not a number."""


def train(
  config: TrainConfig, workdir: str | os.PathLike[str]
) -> dict[str, Any]:
  """Trains, or continues where an earlier start in `workdir` stopped.

  The result does not depend on where it was interrupted: the same parameters,
  bit for bit, as without any interruption.

  Args:
    config: the run.
    workdir: where everything is written; see `Workdir`.

  Returns:
    What `results.json` holds.

  Raises:
    InputError: anything wrong with the config or the files; then nothing has
      been written.
    NonFiniteError: training diverged.
  """
  place = Workdir(pathlib.Path(workdir).expanduser())
  resumes = place.is_started(config)
  results = place.read_results() if resumes else None
  if results is None:
    run = assembly.build(config, place, resumes)
    with jax.set_mesh(run.mesh):
      results = _Trainer(run).run()
  print(closing_line(results, place))
  return results


class _Trainer:
  """The loop. Holds what its steps share; `run` is called once."""

  def __init__(self, run: Run):
    config, model = run.config, run.start.model
    self._run = run
    self._tx = make_optimizer(config.optimizer, run.total_steps)
    self._abstract, _ = training.abstract_state(model, self._tx, run.mesh)
    self._step = training.make_train_step(
      model, run.task.loss, self._tx, run.mesh, config.accumulation_steps
    )
    self._evaluator = Evaluator(run.task, model, run.mesh, config)
    self._eval_every = config.eval_every or run.steps_per_epoch
    self._save_every = config.checkpoint_every or self._eval_every
    self._facts = Facts()

  def run(self) -> dict[str, Any]:
    """Restores or starts, trains to the end, reports."""
    run, config = self._run, self._run.config
    with Checkpoints(
      run.workdir.checkpoints, config.keep_checkpoints
    ) as checkpoints:
      self._checkpoints = checkpoints
      state = self._initial_state()
      done = int(state.step)
      with (
        MetricsLog(
          run.workdir.path, done if checkpoints.steps() else -1
        ) as log,
        Progress(run.total_steps, done, config.batch_size) as progress,
      ):
        self._log, self._progress = log, progress
        if not self._facts.first:
          self._facts.first = self._evaluate(state, 0)
        state = self._train(state, done)
      checkpoints.wait()
      return self._report(state)

  def _initial_state(self) -> training.TrainState:
    run = self._run
    if self._checkpoints.steps():
      state, facts = self._checkpoints.restore(self._abstract)
      self._facts = Facts(**facts)
      run.batches.set_state(self._facts.data)
      print(f'continuing at step {int(state.step)} of {run.total_steps}.')
      return state
    start = run.start
    if start.params is None:
      # Stopped before the first checkpoint: begin anew, with the same bits.
      train = run.splits[run.task.splits.train].examples
      start = preparation.begin(run.config, run.task, train)
    key = preparation.key_for(run.config, 'dropout')
    return training.create_state(
      start.model, self._tx, run.mesh, start.params, key
    )

  def _train(self, state: training.TrainState, done: int):
    run, total = self._run, self._run.total_steps
    late = None
    for step in range(done + 1, total + 1):
      if self._facts.is_finished:
        break
      batch = sharding.put_batch(next(run.batches), run.mesh)
      state, metrics = self._step(state, batch)
      # Fetched while the device already works on the next step.
      if late is not None:
        self._take(*late)
      late = (step, metrics)
      is_last = step == total
      evaluates = step % self._eval_every == 0 or is_last
      if evaluates or step % self._save_every == 0:
        self._take(*late)
        late = None
        self._save(state, step, evaluates)
    return state

  def _save(self, state: training.TrainState, step: int, evaluates: bool):
    run, facts = self._run, self._facts
    is_best = False
    if evaluates:
      metric = run.task.primary_metric
      is_best = facts.note(step, self._evaluate(state, step), metric)
      patience = run.config.early_stop
      facts.is_finished = step == run.total_steps or (
        patience is not None and facts.stale >= patience
      )
    if is_best:
      # Before the checkpoint that knows about it: a kill between the two
      # repeats this evaluation.
      params = jax.device_get(state.params)
      save_pretrained(
        run.workdir.model, run.start.model, params, run.start.tokenizer
      )
    if is_best or facts.is_finished or step % self._save_every == 0:
      facts.data = run.batches.get_state()
      self._checkpoints.save(state, dataclasses.asdict(facts))
    self._progress.restart_clock()

  def _take(self, step: int, metrics: training.Metrics):
    """Fetches, checks and logs the numbers of one step."""
    values = {k: float(v) for k, v in jax.device_get(metrics).items()}
    for name in ('loss', 'grad_norm'):
      if not math.isfinite(values[name]):
        self._fail(name, values[name], step)
    self._progress.advance(values['loss'])
    every, total = self._run.config.log_every, self._run.total_steps
    if step == 1 or step % every == 0 or step == total:
      values['epoch'] = step / self._run.steps_per_epoch
      values['examples_per_second'] = self._progress.examples_per_second()
      self._log.write(step, values)

  def _fail(self, name: str, value: float, step: int):
    self._checkpoints.wait()
    steps = self._checkpoints.steps()
    good = f'{self._checkpoints.directory / str(steps[-1])}' if steps else None
    raise NonFiniteError(
      f'the {name} is {value} at step {step}; '
      + (f'the last good checkpoint is {good}' if good else 'no checkpoint yet')
      + '; a lower optimizer.learning_rate or a longer warm-up may help.'
    )

  def _evaluate(self, state: training.TrainState, step: int) -> Scores:
    scores = self._evaluator.scores(state.params, self._run.evaluation)
    self._log.write(step, scores)
    told = ', '.join(f'{k} {v:.4f}' for k, v in scores.items())
    self._progress.say(f'step {step}: {told}')
    self._progress.restart_clock()
    return scores

  def _report(self, state: training.TrainState) -> dict[str, Any]:
    """Writes what the best weights and the whole run amount to."""
    run, facts = self._run, self._facts
    params = state.params
    if facts.best_step != int(state.step):
      params, _ = self._checkpoints.restore_params(
        self._abstract, facts.best_step
      )
    results = {
      'task': run.task.name,
      'primary_metric': run.task.primary_metric,
      'first': {'step': 0, **facts.first},
      'final': {'step': int(state.step), **facts.last},
      'best': {'step': facts.best_step, **facts.best},
    }
    predict = functools.partial(self._evaluator.predictions, params)
    finish.write(
      run.config, run.workdir, run.task, run.splits, results, params, predict
    )
    return results


def closing_line(results: dict[str, Any], workdir: Workdir) -> str:
  """What was learnt, and where it is."""
  metric = results['primary_metric']
  first, final, best = (results[k] for k in ('first', 'final', 'best'))
  return (
    f'{results["task"]}: {metric} went from {first[metric]:.4f} to '
    f'{final[metric]:.4f} in {final["step"]} steps; the best, '
    f'{best[metric]:.4f} at step {best["step"]}, is in {workdir.model}, '
    f'everything else in {workdir.path}.'
  )
