"""Training batches that are on the devices before their step begins."""

import collections
import copy
from collections.abc import Callable
from typing import Any

from mobilebert_jax.data.batching.features import NumpyBatch
from mobilebert_jax.data.batching.loader import TrainIterator

# More would take memory, and a device has only one next step.
_AHEAD = 1


class Prefetch:
  """An iterator like the one it reads from, but a batch ahead of its user.

  While the devices compute a step, the next step's batch is read and sent to
  them. The position is that of the last batch taken, not of the last one read;
  so a checkpoint holds the same whether or not there is a prefetch. An error
  with a batch is raised when that batch is taken.

  Args:
    batches: where they come from.
    put: sends a batch to the devices (`sharding.put_batch`) without waiting.
  """

  def __init__(self, batches: TrainIterator, put: Callable[[NumpyBatch], Any]):
    self._batches, self._put = batches, put
    self._position = copy.deepcopy(batches.get_state())
    # Batches with the positions behind them, or what was raised.
    self._ready: collections.deque[tuple[Any, Any]] = collections.deque()
    self._error: Exception | None = None

  def __iter__(self) -> 'Prefetch':
    return self

  def __next__(self) -> Any:
    if not self._ready:
      self._read()
    if not self._ready:
      assert self._error is not None
      raise self._error
    batch, self._position = self._ready.popleft()
    while len(self._ready) < _AHEAD and self._error is None:
      self._read()
    return batch

  def get_state(self) -> dict[str, Any]:
    """The position behind the last batch taken, JSON-able."""
    return copy.deepcopy(self._position)

  def set_state(self, state: dict[str, Any]) -> None:
    """Continues behind the batch after which `state` was taken."""
    self._ready.clear()
    self._error = None
    self._batches.set_state(state)
    self._position = copy.deepcopy(state)

  def _read(self):
    if self._error is not None:
      return
    try:
      batch = self._put(next(self._batches))
      self._ready.append((batch, copy.deepcopy(self._batches.get_state())))
    # Whatever it is, the batches before it are good.
    except Exception as error:
      self._error = error
