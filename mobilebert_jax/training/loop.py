"""A training run from its config: build, restore, loop, evaluate, save."""

import dataclasses
import functools
import os
from typing import Any

import jax

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.convert.pretrained import load_pretrained, save_pretrained
from mobilebert_jax.distillation.steps import Steps
from mobilebert_jax.models import partitioning
from mobilebert_jax.reporting import metrics_log
from mobilebert_jax.runtime import (
  compilation_cache,
  distributed,
  files,
  lock,
  preemption,
)
from mobilebert_jax.runtime.progress import Progress
from mobilebert_jax.training import (
  assembly,
  failures,
  finish,
  nonfinite,
  prefetch,
  profiling,
)
from mobilebert_jax.training import step as train_step
from mobilebert_jax.training.assembly import Run
from mobilebert_jax.training.checkpoint import Checkpoints, DamagedError
from mobilebert_jax.training.evaluate import Evaluator
from mobilebert_jax.training.run_state import Facts, Scores
from mobilebert_jax.training.workdir import Workdir


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
    InputError: anything wrong with the config or the files, or another run is
      in `workdir`; then nothing has been written.
    NonFiniteError: training diverged.
    RunError: a full disk, too little memory, or data that cannot be read.
    Interrupted: SIGTERM; the last step is saved.
  """
  place = Workdir(files.path(workdir))

  def known() -> tuple[bool, dict[str, Any] | None]:
    resumes = place.is_started(config)
    return resumes, place.read_results() if resumes else None

  resumes, results = distributed.on_main(known)
  if results is None:
    with (
      failures.told(config, place.path),
      lock.held(place.path),
      compilation_cache.used(config.compilation_cache_dir),
    ):
      run = assembly.build(config, place, resumes)
      with jax.set_mesh(run.mesh):
        results = _Trainer(run).run()
  distributed.tell(finish.closing_line(results, place))
  return results


class _Trainer:
  """The loop. Holds what its steps share; `run` is called once."""

  def __init__(self, run: Run):
    config, model = run.config, run.start.model
    self._run = run
    self._tx = assembly.optimizer(run)
    self._abstract, _ = train_step.abstract_state(
      model, self._tx, run.mesh, config.distillation.student_placement
    )
    self._steps = Steps(
      config, run.task, model, self._tx, run.mesh, run.stages, run.teacher
    )
    self._profile = profiling.Profile(
      config.profile.range(), run.workdir.profile
    )
    self._batches = prefetch.Prefetch(
      run.batches, functools.partial(partitioning.put_batch, mesh=run.mesh)
    )
    self._watch = preemption.Watch()
    self._evaluator = Evaluator(
      run.task, model, run.mesh, config, self._watch.check
    )
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
      with self._watch, self._profile:
        state = self._initial_state()
        done = int(state.step)
        with (
          metrics_log.start(
            run.workdir.path, done if checkpoints.steps() else -1
          ) as log,
          Progress(run.total_steps, done, config.batch_size) as progress,
        ):
          self._log, self._progress = log, progress
          state = self._train(state, done)
        checkpoints.wait()
      return self._report(state)

  def _initial_state(self) -> train_step.TrainState:
    run = self._run
    if self._checkpoints.steps():
      state, facts, damaged = self._checkpoints.restore_newest(self._abstract)
      for told in damaged:
        distributed.tell(
          f'{told}; it is removed, and its steps are done again.'
        )
      self._facts = Facts(**facts)
      self._batches.set_state(self._facts.data)
      distributed.tell(
        f'continuing at step {int(state.step)} of {run.total_steps}.'
      )
      return state
    return assembly.first_state(run, self._tx)

  def _train(self, state: train_step.TrainState, done: int):
    """All steps after `done`; saves the last one if it is asked to stop."""
    try:
      if not self._facts.first:
        self._facts.first = self._evaluate(state, 0)
      if self._is_evaluated(done) and self._facts.evaluated_step != done:
        # The run was asked to stop before or during this evaluation.
        self._judge(state, done)
      late = None
      for step in range(done + 1, self._run.total_steps + 1):
        if self._facts.is_finished:
          break
        batch = self._next_batch(step)
        news = self._steps.news(step)
        has_new_program = step == done + 1 or news is not None
        if news is not None:
          self._progress.say(news)
        compiled = self._steps.step_for(step)
        state, metrics = self._profile.step(step, compiled, state, batch)
        # Fetched while the device already works on the next step.
        if late is not None:
          self._take(*late)
        late = (step, metrics)
        if has_new_program:
          # If the memory does not suffice, it is now. A next step that took
          # over a state that could not be made would wait for it for ever.
          jax.block_until_ready(metrics)
        is_asked = self._watch.asked()
        if is_asked or self._is_border(step):
          self._take(*late)
          late = None
        # What failed meanwhile in the background must not stay unsaid.
        self._checkpoints.check()
        if is_asked:
          self._watch.check()
        if self._is_border(step):
          self._judge_and_save(state, step)
    except preemption.Interrupted:
      raise self._interrupted(state) from None
    return state

  def _is_evaluated(self, step: int) -> bool:
    is_due = step % self._eval_every == 0 or step == self._run.total_steps
    return is_due and step > 0

  def _is_border(self, step: int) -> bool:
    return self._is_evaluated(step) or step % self._save_every == 0

  def _next_batch(self, step: int) -> Any:
    try:
      return next(self._batches)
    except Exception as error:
      raise failures.of_data(step, error) from error

  def _judge_and_save(self, state: train_step.TrainState, step: int):
    is_best = self._is_evaluated(step) and self._judge(state, step)
    if is_best or self._facts.is_finished or step % self._save_every == 0:
      self._save(state)
    self._progress.restart_clock()

  def _judge(self, state: train_step.TrainState, step: int) -> bool:
    """Evaluates; returns whether it is the best model so far, and keeps it."""
    run, facts = self._run, self._facts
    scores = self._evaluate(state, step)
    is_best = facts.note(
      step, scores, run.task.primary_metric, self._steps.may_be_best(step)
    )
    patience = run.config.early_stop
    facts.is_finished = step == run.total_steps or (
      patience is not None and facts.stale >= patience
    )
    if is_best:
      # Before the checkpoint that knows about it: a kill between the two
      # repeats this evaluation.
      params = partitioning.fetch_tree(state.params)
      model, tokenizer = run.start.model, run.start.tokenizer
      distributed.on_main(
        lambda: save_pretrained(run.workdir.model, model, params, tokenizer)
      )
    return is_best

  def _save(self, state: train_step.TrainState):
    self._facts.data = self._batches.get_state()
    # What a checkpoint has behind it is not logged again.
    self._log.flush()
    self._checkpoints.save(state, dataclasses.asdict(self._facts))

  def _interrupted(
    self, state: train_step.TrainState
  ) -> preemption.Interrupted:
    """Saves what has been done, and says so."""
    step = int(state.step)
    if step:
      self._save(state)
      self._checkpoints.wait()
    return preemption.Interrupted(
      f'interrupted: step {step} of {self._run.total_steps} is saved in '
      f'{self._checkpoints.directory}; the same command continues.'
      if step
      else 'interrupted before the first step; the same command starts again.'
    )

  def _take(self, step: int, metrics: train_step.Metrics):
    """Fetches, checks and logs the numbers of one step."""
    values = {k: float(v) for k, v in jax.device_get(metrics).items()}
    facts, config = self._facts, self._run.config
    problem = nonfinite.problem(values)
    if problem is None:
      facts.skipped_in_a_row = 0
    elif config.nonfinite == 'skip' and nonfinite.may_skip(facts):
      self._progress.say(f'step {step}: {problem}; the step is skipped')
    else:
      self._fail(problem, step)
    self._progress.advance(values['loss'])
    is_told = step == 1 or step % config.log_every == 0
    if is_told or problem or step == self._run.total_steps:
      if config.nonfinite == 'skip':
        values['skipped_steps'] = facts.skipped_steps
      values['epoch'] = step / self._run.steps_per_epoch
      values['examples_per_second'] = self._progress.examples_per_second()
      self._log.write(step, nonfinite.finite(values))

  def _fail(self, problem: str, step: int):
    self._checkpoints.wait()
    steps = self._checkpoints.steps()
    good = f'{self._checkpoints.directory / str(steps[-1])}' if steps else None
    skipped = self._facts.skipped_in_a_row
    raise nonfinite.NonFiniteError(
      f'{problem} at step {step}'
      + (f', after {skipped - 1} skipped ones' if skipped else '')
      + '; '
      + (f'the last good checkpoint is {good}' if good else 'no checkpoint yet')
      + '; a lower optimizer.learning_rate or a longer warm-up may help.'
    )

  def _evaluate(self, state: train_step.TrainState, step: int) -> Scores:
    scores = self._evaluator.scores(state.params, self._run.evaluation)
    self._log.write(step, scores)
    told = ', '.join(f'{k} {v:.4f}' for k, v in scores.items())
    self._progress.say(f'step {step}: {told}')
    self._progress.restart_clock()
    return scores

  def _report(self, state: train_step.TrainState) -> dict[str, Any]:
    """Writes what the best weights and the whole run amount to."""
    run, facts = self._run, self._facts
    params = state.params
    assert facts.best_step is not None
    if facts.best_step != int(state.step):
      params = self._best_params(facts.best_step)
    results: dict[str, Any] = {
      'task': run.task.name,
      'primary_metric': run.task.primary_metric,
      'first': {'step': 0, **facts.first},
      'final': {'step': int(state.step), **facts.last},
      'best': {'step': facts.best_step, **facts.best},
    }
    if run.config.nonfinite == 'skip':
      results['skipped_steps'] = facts.skipped_steps
    predict = functools.partial(self._evaluator.predictions, params)
    finish.write(
      run.config, run.workdir, run.task, run.splits, results, params, predict
    )
    return results

  def _best_params(self, step: int) -> train_step.Params:
    """The best weights; they are in two places."""
    try:
      return self._checkpoints.restore_params(self._abstract, step)[0]
    except DamagedError as error:
      place, model = self._run.workdir.model, self._run.start.model
      distributed.tell(f'{error}; the same weights are taken from {place}.')
      _, params, _ = load_pretrained(
        type(model), place, **dataclasses.asdict(model.compute)
      )
      self._checkpoints.remove(step)
      shardings = jax.tree.map(lambda x: x.sharding, self._abstract.params)
      return partitioning.put_tree(params, shardings)
