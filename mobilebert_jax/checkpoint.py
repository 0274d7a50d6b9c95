"""Checkpoints of a run; the one module that knows orbax.

A checkpoint is a directory `checkpoints/STEP` with the parameters, the rest of
the training state and a few JSON facts (position in the data, best score so
far). orbax writes it under another name and renames it when it is complete, so
a kill at any moment never leaves half a checkpoint under its final name.
"""

import logging
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mobilebert_jax.errors import InputError
from mobilebert_jax.training import Params, TrainState

# orbax logs several lines for each save through absl, warnings among them that
# an array format has nothing to merge; what matters arrives as an exception.
_QUIET = ('absl', 'orbax')


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
  """

  def __init__(self, directory: str | os.PathLike[str], keep: int = 2):
    for name in _QUIET:
      logging.getLogger(name).setLevel(logging.ERROR)
    import orbax.checkpoint as ocp

    self._ocp = ocp
    self.directory = pathlib.Path(directory).resolve()
    self._policy = _LatestAndBest(keep)
    self._manager = ocp.CheckpointManager(
      self.directory,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=self._policy, cleanup_tmp_directories=True
      ),
      item_handlers={
        'params': _arrays_handler(ocp),
        'rest': _arrays_handler(ocp),
        'facts': ocp.JsonCheckpointHandler(),
      },
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
    args = self._ocp.args
    self._manager.save(
      step,
      args=args.Composite(
        params=args.StandardSave(_filled(state.params)),
        rest=args.StandardSave(_filled(_rest(state))),
        facts=args.JsonSave(facts),
      ),
    )

  def wait(self):
    """Waits until everything is on disk."""
    self._manager.wait_until_finished()

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
      InputError: there is none, it cannot be read, or has other shapes.
    """
    read = self._read(
      step, {'params': abstract.params, 'rest': _abstract_rest(abstract)}
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
    try:
      stored = _filled(wanted)
      self._check_shapes(step, stored)
      read = self._read_step(step, stored)
      arrays = {
        name: _with_empty(target, read[name]) for name, target in wanted.items()
      }
      return {'facts': read['facts'], **arrays}
    except InputError:
      raise
    # orbax and tensorstore report a damaged file by many exceptions.
    except Exception as error:
      raise InputError(
        f'the checkpoint {self.directory / str(step)} cannot be read '
        f'({type(error).__name__}); {self._advice(step, wanted)}'
      ) from error

  def _read_step(self, step: int, wanted: dict[str, Any]) -> Any:
    args = self._ocp.args
    items = {
      name: args.StandardRestore(target) for name, target in wanted.items()
    }
    return self._manager.restore(
      step, args=args.Composite(facts=args.JsonRestore(), **items)
    )

  def _check_shapes(self, step: int, wanted: dict[str, Any]):
    metadata = self._manager.item_metadata(step)
    there = _shapes({name: metadata[name].tree for name in wanted})
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

  def _advice(self, bad: int, wanted: dict[str, Any]) -> str:
    """What to do about a damaged checkpoint."""
    for step in reversed([step for step in self.steps() if step < bad]):
      try:
        self._read_step(step, _filled(wanted))
      except Exception:
        continue
      return f'remove it to continue from step {step}, which is good.'
    return 'no older checkpoint is good: start again in another directory.'


def _arrays_handler(ocp: Any) -> Any:
  # A directory for each array. The merged format (OCDBT) has been seen to lose
  # an array's header on a busy machine, and the save then fails; with layers
  # stacked there are few arrays anyway.
  return ocp.StandardCheckpointHandler(use_ocdbt=False)


def _filled(tree: Any) -> Any:
  """Without arrays of no elements, which Orbax refuses to save.

  The language model's head has one where embeddings are as wide as the body.
  """
  return jax.tree.map(lambda leaf: leaf if leaf.size else None, tree)


def _with_empty(abstract: Any, read: Any) -> Any:
  """Puts them back."""
  return jax.tree.map(
    lambda leaf, value: (
      jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)
      if value is None
      else value
    ),
    abstract,
    read,
  )


def _rest(state: TrainState) -> dict[str, Any]:
  """All but the parameters; the random key as plain numbers."""
  key = jax.random.key_data(state.key)
  return {'step': state.step, 'opt_state': state.opt_state, 'key': key}


def _abstract_rest(abstract: TrainState) -> dict[str, Any]:
  """The same for shapes, which keep their shardings."""
  key = jax.eval_shape(jax.random.key_data, abstract.key)
  place = abstract.key.sharding
  return {
    'step': abstract.step,
    'opt_state': abstract.opt_state,
    'key': jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=place),
  }


def _shapes(tree: Any) -> dict[str, str]:
  """Shape and dtype of each array, by its path joined with slashes."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): (
      f'{tuple(leaf.shape)} {leaf.dtype}'
    )
    for path, leaf in jax.tree.leaves_with_path(tree)
  }
