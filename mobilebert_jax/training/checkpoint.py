"""Checkpoints of a run; with `checkpoint_handlers` what knows orbax.

A checkpoint is a directory `checkpoints/STEP` with the parameters, the rest of
the training state and a few JSON facts (position in the data, best score so
far). orbax writes it under another name and renames it when it is complete, so
a kill at any moment never leaves half a checkpoint under its final name. Each
part has digests of its files, written before the renaming and checked before
the reading: what has changed on the disk is never taken for good.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from mobilebert_jax.runtime import digests, distributed, files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import checkpoint_handlers, stored_state
from mobilebert_jax.training.step import Params, TrainState


class DamagedError(InputError):
  """A checkpoint that is not what was saved."""


class _LatestAndBest:
  """orbax's preservation policy: the newest n steps and the best one."""

  def __init__(self, latest: int):
    self.latest = latest
    self.best_step: int | None = None

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> Sequence[bool]:
    """For each checkpoint, oldest first, whether it stays."""
    del context
    newest = {info.step for info in list(checkpoints)[-self.latest :]}
    keep = {*newest, self.best_step}
    return [info.step in keep for info in checkpoints]


class Checkpoints:
  """The checkpoints of one run; a context manager that waits at its end.

  Args of the constructor:
    directory: holds one directory for each step; made if it is not there.
    keep: how many of the newest stay, beside the best one.
    read_only: for others than the run itself, which may be saving meanwhile:
      its unfinished files are left alone.
  """

  def __init__(
    self,
    directory: str | os.PathLike[str],
    keep: int = 2,
    read_only: bool = False,
  ):
    checkpoint_handlers.quiet()
    import orbax.checkpoint as ocp

    self._ocp = ocp
    self.directory = files.absolute(directory)
    self._policy = _LatestAndBest(keep)
    self._saving_step: int | None = None
    self._manager = checkpoint_handlers.manager_class()(
      self.directory,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=self._policy,
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
      ),
      handler_registry=checkpoint_handlers.registry(),
    )

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *error: object):
    self._manager.close()

  def steps(self) -> list[int]:
    """Steps with a complete checkpoint, ascending."""
    return sorted(self._manager.all_steps())

  def latest(self) -> int:
    """The newest step.

    Raises:
      InputError: there is no complete checkpoint.
    """
    if not self.steps():
      raise InputError(f'{self.directory} holds no checkpoint.')
    return self.steps()[-1]

  def save(self, state: TrainState, facts: dict[str, Any]):
    """Starts saving; returns when the state may be donated.

    Args:
      state: saved under `state.step`; skipped if that one exists.
      facts: JSON values; 'best_step' names the checkpoint that must stay.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    self._policy.best_step = facts.get('best_step')
    self.wait()
    self._saving_step = step
    args = self._ocp.args
    self._manager.save(
      step,
      args=args.Composite(
        params=args.StandardSave(stored_state.filled(state.params)),
        rest=args.StandardSave(stored_state.filled(stored_state.rest(state))),
        facts=args.JsonSave(facts),
      ),
    )

  def wait(self):
    """Waits until everything is on disk.

    Raises:
      OSError, ValueError: something could not be written; see `check`.
    """
    step, self._saving_step = self._saving_step, None
    try:
      self._manager.wait_until_finished()
    except OSError as error:
      if error.errno is not None and error.filename is None:
        # Of orbax's own files nobody has told the name.
        error.filename = str(self.directory / str(step))
      raise

  def check(self):
    """Raises what went wrong with a save that has ended meanwhile.

    A full disk arrives as an OSError, or as a ValueError of tensorstore's.
    """
    # orbax's check_for_errors is no help: its own thread takes the error away.
    is_saving = self._manager.is_saving_in_progress()
    if self._saving_step is not None and not is_saving:
      self.wait()

  def remove(self, step: int):
    """Removes a checkpoint."""
    self._manager.delete(step)

  def restore_newest(
    self, abstract: TrainState
  ) -> tuple[TrainState, dict[str, Any], list[str]]:
    """Reads the newest checkpoint that is good, and removes newer ones.

    Nothing is removed before a good one has been read. A run that continues
    from there makes the removed ones again, with the same bits.

    Returns:
      What `restore` does, and what was wrong with each one that was removed.

    Raises:
      InputError: there is none, none is good, or it has other shapes.
    """
    self.latest()
    damaged: dict[int, str] = {}
    for step in reversed(self.steps()):
      try:
        state, facts = self.restore(abstract, step)
      except DamagedError as error:
        damaged[step] = str(error)
        continue
      for bad in damaged:
        self.remove(bad)
      return state, facts, list(damaged.values())
    raise InputError(
      f'no checkpoint in {self.directory} is good, and nothing has been '
      f'removed: {"; ".join(damaged.values())}. Bring back a good copy, or '
      'start again in another --workdir.'
    )

  def restore(
    self, abstract: TrainState, step: int | None = None
  ) -> tuple[TrainState, dict[str, Any]]:
    """Reads a checkpoint, bit for bit.

    Args:
      abstract: shapes, dtypes and shardings (`training.abstract_state`).
      step: which one; None: the newest.

    Returns:
      The state and the facts saved with it.

    Raises:
      DamagedError: it is not what was saved.
      InputError: there is none, or it has other shapes.
    """
    read = self._read(
      step,
      {'params': abstract.params, 'rest': stored_state.abstract_rest(abstract)},
    )
    rest = dict(read['rest'])
    key = jax.random.wrap_key_data(rest.pop('key'))
    return TrainState(params=read['params'], key=key, **rest), read['facts']

  def restore_params(
    self, abstract: TrainState, step: int | None = None
  ) -> tuple[Params, dict[str, Any]]:
    """Like `restore`, but reads the parameters alone."""
    read = self._read(step, {'params': abstract.params})
    return read['params'], read['facts']

  def _read(self, step: int | None, wanted: dict[str, Any]) -> Any:
    step = self.latest() if step is None else step
    if step not in self.steps():
      raise InputError(
        f'{self.directory} has no checkpoint of step {step}; it has: '
        f'{", ".join(map(str, self.steps()))}.'
      )
    self._check_digests(step, wanted)
    try:
      stored = stored_state.filled(wanted)
      self._check_shapes(step, stored)
      read = self._read_step(step, stored)
      arrays = {
        name: stored_state.with_empty(target, read[name])
        for name, target in wanted.items()
      }
      return {'facts': read['facts'], **arrays}
    except InputError:
      raise
    # orbax and tensorstore report a damaged file by many exceptions.
    except Exception as error:
      raise DamagedError(
        f'the checkpoint {self.directory / str(step)} cannot be read '
        f'({type(error).__name__})'
      ) from error

  def _check_digests(self, step: int, names: Iterable[str]):
    directory = self.directory / str(step)

    def first_problem() -> str | None:
      found = (digests.problem(directory / n) for n in ('facts', *names))
      return next(filter(None, found), None)

    # All processes see the same files; one reads them.
    problem = distributed.on_main(first_problem)
    if problem:
      raise DamagedError(f'the checkpoint {directory} is damaged: {problem}')

  def _read_step(self, step: int, wanted: dict[str, Any]) -> Any:
    args = self._ocp.args
    items = {
      name: args.StandardRestore(target) for name, target in wanted.items()
    }
    return self._manager.restore(
      step, args=args.Composite(facts=args.JsonRestore(), **items)
    )

  def _check_shapes(self, step: int, wanted: dict[str, Any]):
    # The manager would refuse on gs://: behind a save, all processes but the
    # first take its parts for unfinished, as they have no other name there.
    handler = self._ocp.StandardCheckpointHandler(use_ocdbt=False)
    directory = self._manager.directory / str(step)
    there = stored_state.shapes(
      {name: handler.metadata(directory / name).tree for name in wanted}
    )
    here = stored_state.shapes(wanted)
    wrong = [
      f'{name} is {there.get(name, "missing")} there and '
      f'{here.get(name, "missing")} here'
      for name in sorted({*there, *here})
      if there.get(name) != here.get(name)
    ]
    if wrong:
      more = f' and {len(wrong) - 3} more' * (len(wrong) > 3)
      raise InputError(
        f'the checkpoint {self.directory / str(step)} is of another model: '
        f'{"; ".join(wrong[:3])}{more}.'
      )
