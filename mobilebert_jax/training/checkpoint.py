"""Checkpoints of a run, written and read by Orbax.

A checkpoint is a directory `checkpoints/STEP` of three parts: `params`, the
parameters; `train_state`, the rest of the training state; and `run_state`, JSON
values (position in the data, best score so far). Orbax writes it under another
name and renames it when it is complete, so a kill at any moment never leaves
half a checkpoint under its final name. Each part has digests of its files,
written before the renaming and checked before the reading: what has changed on
the disk is never taken for good.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mobilebert_jax.models.typing import Params
from mobilebert_jax.runtime import digests, distributed, files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training.train_step import TrainState

# Orbax logs several lines for each save through absl, warnings among them that
# an array format has nothing to merge, and an error many times over; what
# matters arrives as an exception.
_LOGGERS = ('absl', 'orbax', 'asyncio')


class DamagedError(InputError):
  """A checkpoint that is not what was saved."""


class _LatestAndBest:
  """Orbax's preservation policy: the newest n steps and the best one."""

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

  Args:
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
    _silence_loggers()
    import orbax.checkpoint as ocp

    self._ocp = ocp
    self.directory = files.absolute(directory)
    self._policy = _LatestAndBest(keep)
    self._saving_step: int | None = None
    self._manager = _manager_class()(
      self.directory,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=self._policy,
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
      ),
      handler_registry=_handler_registry(),
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

  def save(self, state: TrainState, run_state: dict[str, Any]):
    """Starts saving; returns when the state may be donated.

    Args:
      state: saved under `state.step`; skipped if that one exists.
      run_state: JSON values; 'best_step' names the checkpoint that must stay.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    self._policy.best_step = run_state.get('best_step')
    self.wait()
    self._saving_step = step
    args = self._ocp.args
    self._manager.save(
      step,
      args=args.Composite(
        params=args.StandardSave(_drop_empty(state.params)),
        train_state=args.StandardSave(_drop_empty(_serialize(state))),
        run_state=args.JsonSave(run_state),
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
        # Orbax does not tell the names of its own files.
        error.filename = str(self.directory / str(step))
      raise

  def check(self):
    """Raises what went wrong with a save that has ended meanwhile.

    A full disk arrives as an OSError, or as a ValueError of tensorstore's.
    """
    # Orbax's check_for_errors is no help: its own thread takes the error away.
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
        state, run_state = self.restore(abstract, step)
      except DamagedError as error:
        damaged[step] = str(error)
        continue
      for bad in damaged:
        self.remove(bad)
      return state, run_state, list(damaged.values())
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
      abstract: shapes, dtypes and shardings (`train_step.abstract_state`).
      step: which one; None: the newest.

    Returns:
      The state, and the run state that was saved with it.

    Raises:
      DamagedError: it is not what was saved.
      InputError: there is none, or it has other shapes.
    """
    wanted = {
      'params': abstract.params,
      'train_state': _serialize_abstract(abstract),
    }
    read = self._read(step, wanted)
    others = dict(read['train_state'])
    key = jax.random.wrap_key_data(others.pop('key'))
    state = TrainState(params=read['params'], key=key, **others)
    return state, read['run_state']

  def restore_params(
    self, abstract: TrainState, step: int | None = None
  ) -> tuple[Params, dict[str, Any]]:
    """Like `restore`, but reads the parameters alone."""
    read = self._read(step, {'params': abstract.params})
    return read['params'], read['run_state']

  def _read(self, step: int | None, wanted: dict[str, Any]) -> Any:
    step = self.latest() if step is None else step
    if step not in self.steps():
      raise InputError(
        f'{self.directory} has no checkpoint of step {step}; it has: '
        f'{", ".join(map(str, self.steps()))}.'
      )
    self._check_digests(step, wanted)
    try:
      stored = _drop_empty(wanted)
      self._check_shapes(step, stored)
      read = self._read_step(step, stored)
      arrays = {
        name: _restore_empty(target, read[name])
        for name, target in wanted.items()
      }
      return {'run_state': read['run_state'], **arrays}
    except InputError:
      raise
    # Orbax and tensorstore report a damaged file by many exceptions.
    except Exception as error:
      raise DamagedError(
        f'the checkpoint {self.directory / str(step)} cannot be read '
        f'({type(error).__name__})'
      ) from error

  def _check_digests(self, step: int, names: Iterable[str]):
    directory = self.directory / str(step)

    def first_problem() -> str | None:
      parts = ('run_state', *names)
      problems = (digests.problem(directory / part) for part in parts)
      return next(filter(None, problems), None)

    # All processes see the same files; one reads them.
    problem = distributed.run_on_primary(first_problem)
    if problem:
      raise DamagedError(f'the checkpoint {directory} is damaged: {problem}')

  def _read_step(self, step: int, wanted: dict[str, Any]) -> Any:
    args = self._ocp.args
    items = {
      name: args.StandardRestore(target) for name, target in wanted.items()
    }
    return self._manager.restore(
      step, args=args.Composite(run_state=args.JsonRestore(), **items)
    )

  def _check_shapes(self, step: int, wanted: dict[str, Any]):
    # The manager would refuse on gs://: behind a save, all processes but the
    # first take its parts for unfinished, as they have no other name there.
    handler = self._ocp.StandardCheckpointHandler(use_ocdbt=False)
    directory = self._manager.directory / str(step)
    there = _shapes(
      {name: handler.metadata(directory / name).tree for name in wanted}
    )
    here = _shapes(wanted)
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


def _serialize(state: TrainState) -> dict[str, Any]:
  """Returns all but the parameters; the random key as plain numbers."""
  key = jax.random.key_data(state.key)
  return {'step': state.step, 'opt_state': state.opt_state, 'key': key}


def _serialize_abstract(abstract: TrainState) -> dict[str, Any]:
  """Returns the same for shapes, which keep their shardings."""
  key = jax.eval_shape(jax.random.key_data, abstract.key)
  where = abstract.key.sharding
  return {
    'step': abstract.step,
    'opt_state': abstract.opt_state,
    'key': jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=where),
  }


def _drop_empty(tree: Any) -> Any:
  """Drops arrays of no elements, which Orbax refuses to save.

  The language model's head has one where embeddings are as wide as the body.
  """
  return jax.tree.map(lambda leaf: leaf if leaf.size else None, tree)


def _restore_empty(abstract: Any, read: Any) -> Any:
  """Puts arrays of no elements back."""
  return jax.tree.map(
    lambda leaf, value: (
      jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)
      if value is None
      else value
    ),
    abstract,
    read,
  )


def _shapes(tree: Any) -> dict[str, str]:
  """Returns shape and dtype of each array, by its path joined with slashes."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): (
      f'{tuple(leaf.shape)} {leaf.dtype}'
    )
    for path, leaf in jax.tree.leaves_with_path(tree)
  }


def _silence_loggers():
  """Leaves reports of what went wrong to the exceptions that are raised."""
  for name in _LOGGERS:
    logging.getLogger(name).setLevel(logging.CRITICAL)


def _manager_class() -> Any:
  """Returns Orbax's CheckpointManager, less its own look at preemption."""
  import orbax.checkpoint as ocp

  class Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
      # Orbax would ask JAX's preemption service with numbers of its own, which
      # must not mix with those of `preemption.Watch`.
      del step
      return False

  return Manager


def _handler_registry() -> Any:
  """Returns which part of a checkpoint is read and written by what."""
  import orbax.checkpoint as ocp

  # A directory for each array. The merged format (OCDBT) has been seen to lose
  # an array's header on a busy machine, and the save then fails; with layers
  # stacked there are few arrays anyway.
  arrays = _with_digests(ocp.StandardCheckpointHandler)
  values = _with_digests(ocp.JsonCheckpointHandler)()
  registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
  for part in ('params', 'train_state'):
    handler = arrays(use_ocdbt=False)
    registry.add(part, ocp.args.StandardSave, handler)
    registry.add(part, ocp.args.StandardRestore, handler)
  registry.add('run_state', ocp.args.JsonSave, values)
  registry.add('run_state', ocp.args.JsonRestore, values)
  return registry


def _with_digests(kind: Any) -> Any:
  """Returns a kind of handler that also writes the digests of its files.

  Orbax calls `finalize` on one process, when all processes have written, and
  before the checkpoint gets its name.
  """

  class Digested(kind):
    def finalize(self, directory: Any):
      super().finalize(directory)
      digests.write(directory)

  return Digested
