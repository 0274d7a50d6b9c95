"""The training loop, from top to bottom: set up, restore, steps, finish."""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from mobilebert_jax.config import run as run_config
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.convert.pretrained import load_pretrained
from mobilebert_jax.data.batching import loader
from mobilebert_jax.models.typing import Metrics, Params
from mobilebert_jax.reporting import metrics_log, wandb_log
from mobilebert_jax.runtime import (
  compilation_cache,
  distributed,
  files,
  huge_pages,
  lock,
  preemption,
)
from mobilebert_jax.runtime.progress import Progress
from mobilebert_jax.training import (
  failures,
  finish,
  mesh,
  overview,
  profiling,
  setup,
  train_step,
)
from mobilebert_jax.training.checkpoint import Checkpoints, DamagedError
from mobilebert_jax.training.evaluate import Evaluator
from mobilebert_jax.training.hooks import Hook
from mobilebert_jax.training.method import SUPERVISED, MethodBuilder
from mobilebert_jax.training.run_state import RunState
from mobilebert_jax.training.setup import Run
from mobilebert_jax.training.train_step import TrainState
from mobilebert_jax.training.workdir import Workdir

# Steps, from which on it is worth while to begin again with a faster setting.
_LONG_RUN = 1000


def train(
  config: TrainConfig,
  workdir: str | os.PathLike[str],
  method: MethodBuilder = SUPERVISED,
  hooks: Sequence[Hook] = (),
) -> dict[str, Any]:
  """Trains, or continues where an earlier start in `workdir` stopped.

  The result does not depend on where it was interrupted: the same parameters,
  bit for bit, as without any interruption.

  Args:
    config: the run.
    workdir: where everything is written; see `Workdir`.
    method: what the run learns by; `launch.train` has the one that a config
      asks for.
    hooks: called at points of the loop.

  Returns:
    What `results.json` holds.

  Raises:
    InputError: anything wrong with the config or the files, or another run is
      in `workdir`; then nothing has been written.
    NonFiniteError: training diverged.
    RunError: a full disk, too little memory, or data that cannot be read.
    Interrupted: SIGTERM; the last step is saved.
  """
  started = time.monotonic()
  place = Workdir(files.path(workdir))
  distributed.raise_on_all(lambda: wandb_log.check(config.wandb))
  is_resumed, is_extended, results = distributed.run_on_primary(
    lambda: _find_run(place, config)
  )
  if results is not None:
    distributed.print_on_primary(finish.closing_line(results, place))
    distributed.print_on_primary(place.finished_line(results))
    return results

  with contextlib.ExitStack() as whole_run:
    whole_run.enter_context(failures.translate_errors(config, place.path))
    whole_run.enter_context(lock.held(place.path))
    whole_run.enter_context(
      compilation_cache.used(config.compilation_cache_dir)
    )

    # -------------------------------------------------------------- Set up ---
    run = setup.build(config, place, is_resumed, method)
    if is_extended:
      distributed.run_on_primary(lambda: place.extend(config))
    model, task, learning = run.start.model, run.task, run.method
    whole_run.enter_context(jax.set_mesh(run.mesh))
    abstract, _ = train_step.abstract_state(
      model, learning.optimizer, run.mesh, config.mesh.param_sharding
    )
    batches = loader.Prefetch(
      run.batches, functools.partial(mesh.put_batch, mesh=run.mesh)
    )
    watch = preemption.Watch()
    evaluator = Evaluator(task, model, run.mesh, config, watch.check)
    eval_every = config.eval_every or run.steps_per_epoch
    save_every = config.checkpoint_every or eval_every
    checkpoints = whole_run.enter_context(
      Checkpoints(place.checkpoints, config.keep_checkpoints)
    )
    # Before anything is compiled.
    summary = distributed.raise_on_all(
      lambda: overview.summarize(run) if distributed.is_primary() else None
    )
    if summary is not None:
      distributed.print_on_primary('\n'.join(summary.lines()))
    for hook in hooks:
      hook.on_start(run, checkpoints)

    with contextlib.ExitStack() as steps:
      steps.enter_context(watch)
      profile = steps.enter_context(
        profiling.Profile(config.profile.range(), place.profile)
      )

      # ----------------------------------------------------------- Restore ---
      has_checkpoint = bool(checkpoints.steps())
      if has_checkpoint:
        state, run_state = _restore(checkpoints, abstract, run)
        if is_extended and int(state.step) < run.total_steps:
          run_state.is_finished = False
        batches.set_state(run_state.data)
      else:
        state, run_state = setup.first_state(run), RunState()
      first = int(state.step)
      log = metrics_log.start(
        place.path, first if has_checkpoint else -1, lambda: _other_logs(run)
      )
      steps.enter_context(log)
      progress = steps.enter_context(
        Progress(run.total_steps, first, config.batch_size)
      )
      if first < run.total_steps:
        progress.say('Compiling; the first step follows.')
      if run.total_steps - first >= _LONG_RUN:
        hint = huge_pages.hint(jax.default_backend())
        if hint is not None:
          progress.say(hint)

      def log_step(step: int, metrics: Metrics):
        """Fetches, checks and logs the numbers of one step."""
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        problem = failures.nonfinite_problem(values)
        if problem is None:
          run_state.skipped_in_a_row = 0
        elif config.nonfinite == 'skip' and failures.may_skip(run_state):
          progress.say(f'step {step}: {problem}; the step is skipped')
        else:
          raise _diverged(problem, step, run_state, checkpoints)
        progress.advance(values['loss'])
        is_logged = step in (1, run.total_steps) or step % config.log_every == 0
        if is_logged or problem:
          if config.nonfinite == 'skip':
            values['skipped_steps'] = run_state.skipped_steps
          values['epoch'] = step / run.steps_per_epoch
          values['examples_per_second'] = progress.examples_per_second()
          log.write(step, failures.finite_values(values))
        for hook in hooks:
          hook.after_step(step, values)

      def save(state: TrainState):
        """Begins to save the state, and all that makes it go on from there."""
        for hook in hooks:
          hook.before_save(int(state.step))
        run_state.data = batches.get_state()
        # What a checkpoint has behind it is not logged again.
        log.flush()
        checkpoints.save(state, dataclasses.asdict(run_state))

      # ------------------------------------------------------------- Steps ---
      unlogged: tuple[int, Metrics] | None = None
      try:
        # The first pass takes no step: it is for the state as it is,
        # whose evaluation may be due.
        for step in range(first, run.total_steps + 1):
          if run_state.is_finished:
            break
          is_evaluated = step % eval_every == 0 or step == run.total_steps
          is_saved = step % save_every == 0

          if step > first:
            batch = _next_batch(batches, step)
            message = learning.message(step)
            if message is not None:
              progress.say(message)
            state, metrics = profile.step(
              step, learning.step(step), state, batch
            )
            # Fetched while the devices already work on the next step.
            if unlogged is not None:
              log_step(*unlogged)
            unlogged = (step, metrics)
            if step == first + 1 or message is not None:
              # A new program: if the memory does not suffice, it is now. A next
              # step that took over a state that could not be made would wait
              # for it for ever.
              jax.block_until_ready(metrics)
            if step == first + 1:
              seconds = time.monotonic() - started
              progress.say(f'Step {step} after {seconds:.0f} s.')
            is_asked = watch.asked()
            if is_asked or is_evaluated or is_saved:
              log_step(*unlogged)
              unlogged = None
            # What failed meanwhile in the background must not stay unsaid.
            checkpoints.check()
            if is_asked:
              watch.check()

          # ------------------------------------------------------ Evaluate ---
          is_best = False
          # At `first` it is due if the run stopped before or during it.
          if is_evaluated and run_state.evaluated_step != step:
            for hook in hooks:
              hook.before_evaluation(step)
            scores = evaluator.scores(state.params, run.evaluation)
            for hook in hooks:
              hook.after_evaluation(step, scores)
            log.write(step, scores)
            progress.say(f'step {step}: {_format_scores(scores)}')
            is_best = run_state.record(
              step, scores, task.primary_metric, learning.is_eligible(step)
            )
            if step == 0:
              run_state.first = scores
            else:
              run_state.is_finished = step == run.total_steps or (
                config.early_stop is not None
                and run_state.stale >= config.early_stop
              )
            if is_best:
              # Before the checkpoint that knows about it: a kill between the
              # two repeats this evaluation.
              finish.save_best(run, run_state, state.params)

          # ---------------------------------------------------------- Save ---
          if step > first and (is_best or run_state.is_finished or is_saved):
            save(state)
          if is_evaluated or is_saved:
            progress.restart_clock()
      except preemption.Interrupted:
        if int(state.step):
          save(state)
          checkpoints.wait()
        raise _interrupted(int(state.step), run, checkpoints) from None
      checkpoints.wait()

    # -------------------------------------------------------------- Finish ---
    step, params = int(state.step), state.params
    assert run_state.best_step is not None
    if run_state.best_step != step:
      params = _best_params(run_state.best_step, run, checkpoints, abstract)
    predict = functools.partial(evaluator.predictions, params)
    results = finish.write(run, run_state, step, predict, summary)
  distributed.print_on_primary(finish.closing_line(results, place))
  return results


def _other_logs(run: Run) -> list[metrics_log.Place]:
  """Begins what metrics go to beside the workdir."""
  config = run.config
  if config.wandb.project is None:
    return []
  shown = run_config.to_dict(config)
  return [wandb_log.WandbLog(config.wandb, run.workdir.path, shown)]


def _find_run(
  place: Workdir, config: TrainConfig
) -> tuple[bool, bool, dict[str, Any] | None]:
  """Returns whether the run has been started, and is made longer; its results.

  Those only if it has ended.
  """
  if place.is_shorter(config):
    return True, True, None
  is_started = place.is_started(config)
  return is_started, False, place.read_results() if is_started else None


def _restore(
  checkpoints: Checkpoints, abstract: TrainState, run: Run
) -> tuple[TrainState, RunState]:
  """Reads the newest good checkpoint, and says where the run continues."""
  state, values, damaged = checkpoints.restore_newest(abstract)
  for problem in damaged:
    distributed.print_on_primary(
      f'{problem}; it is removed, and its steps are done again.'
    )
  distributed.print_on_primary(
    f'continuing at step {int(state.step)} of {run.total_steps}.'
  )
  return state, RunState(**values)


def _next_batch(batches: loader.Prefetch, step: int) -> Any:
  try:
    return next(batches)
  except Exception as error:
    raise failures.data_error(step, error) from error


def _diverged(
  problem: str, step: int, run_state: RunState, checkpoints: Checkpoints
) -> failures.NonFiniteError:
  checkpoints.wait()
  complete = checkpoints.steps()
  last = checkpoints.directory / str(complete[-1]) if complete else None
  return failures.diverged(problem, step, run_state.skipped_in_a_row, last)


def _format_scores(scores: Mapping[str, float]) -> str:
  return ', '.join(f'{name} {value:.4f}' for name, value in scores.items())


def _interrupted(
  step: int, run: Run, checkpoints: Checkpoints
) -> preemption.Interrupted:
  return preemption.Interrupted(
    f'interrupted: step {step} of {run.total_steps} is saved in '
    f'{checkpoints.directory}; the same command continues.'
    if step
    else 'interrupted before the first step; the same command starts again.'
  )


def _best_params(
  step: int, run: Run, checkpoints: Checkpoints, abstract: TrainState
) -> Params:
  """Reads the best weights: from their checkpoint, or else from model/."""
  # There is no checkpoint of step 0.
  if step:
    try:
      return checkpoints.restore_params(abstract, step)[0]
    except DamagedError as error:
      distributed.print_on_primary(
        f'{error}; the same weights are taken from {run.workdir.model}.'
      )
      checkpoints.remove(step)
  model = run.start.model
  _, params, _ = load_pretrained(
    type(model), run.workdir.model, **dataclasses.asdict(model.compute)
  )
  shardings = jax.tree.map(lambda x: x.sharding, abstract.params)
  return mesh.put_tree(params, shardings)
