"""Batches for training and evaluation; the one module that knows grain.

The batch of a step is a pure function of (features, batch size, batching, seed,
step). Packed batches and batches padded to `max_length` have the same examples.
Every process plans the same global batch and makes its own rows of it, so the
order does not depend on the number of processes. grain adds threads that
prepare batches ahead, and a position that a checkpoint can hold; `Prefetch`
sends the next batch to the devices while a step runs.
"""

import collections
import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from jaxtyping import Int

from mobilebert_jax.data.batching.features import (
  EVALUATION,
  Features,
  NumpyBatch,
  bucket_of,
  resolve_buckets,
)
from mobilebert_jax.data.batching.packing import Packer, Placement
from mobilebert_jax.data.random_streams import (
  Stream,
  permutation_at,
  philox,
)
from mobilebert_jax.data.records.stored_features import (
  AnyFeatures,
  StoredFeatures,
)
from mobilebert_jax.runtime.errors import InputError

# Examples of similar length are brought together among this many batches:
# enough to leave little padding, few enough that batches stay mixed.
_POOL_BATCHES = 64
# Threads that prepare batches, and batches that are ready ahead of the step.
_THREADS = 2
_AHEAD = 8

Batching = Literal['bucketed', 'packed', 'padded']
_Cut = Callable[[Int[np.ndarray, 'B'], int, int], tuple[NumpyBatch, Placement]]


class ProcessShard(NamedTuple):
  """The rows of each global batch that one process makes.

  Attributes:
    of: Number of equal parts that a batch is cut into.
    parts: Numbers of this process's parts, ascending.
  """

  of: int
  parts: tuple[int, ...]

  def rows(self, count: int) -> Int[np.ndarray, 'R']:
    """Returns the indices of this process's rows in a batch of `count`.

    Raises:
      InputError: `count` is no multiple of `of`.
    """
    if count % self.of:
      raise InputError(
        f'a batch of {count} rows cannot be cut into {self.of} parts; use a '
        f'multiple of {self.of}.'
      )
    return np.arange(count).reshape(self.of, -1)[list(self.parts)].ravel()


WHOLE_BATCH = ProcessShard(1, (0,))


class TrainIterator(Protocol):
  """Batches with a position that can be saved and set."""

  def __iter__(self) -> 'TrainIterator': ...

  def __next__(self) -> NumpyBatch: ...

  def get_state(self) -> dict[str, Any]:
    """Returns the position behind the last batch taken, for JSON."""

  def set_state(self, state: dict[str, Any]) -> None:
    """Continues behind the batch after which `state` was taken."""


def steps_per_epoch(features: AnyFeatures, batch_size: int) -> int:
  """Returns the number of full batches; an epoch's remainder is dropped.

  Raises:
    InputError: There are fewer examples than a batch needs.
  """
  if batch_size > len(features):
    raise InputError(
      f'config.batch_size is {batch_size} but there are only {len(features)} '
      f'training examples; use at most {len(features)}.'
    )
  return len(features) // batch_size


def batch_plan(
  lengths: Int[np.ndarray, 'N'],
  batch_size: int,
  seed: int,
  epoch: int,
  *,
  by_length: bool = True,
) -> Int[np.ndarray, 'steps B']:
  """Returns the indices of the examples in each batch of one epoch.

  The examples are shuffled and cut into batches. To bring similar lengths
  together, pools of 64 batches are sorted by length before they are cut, and
  the batches are shuffled. What does not fill a batch is left out; it is other
  examples in every epoch.

  Args:
    lengths: Each example's number of tokens.
    batch_size: Examples in a global batch.
    seed: Seed of the run, at least 0.
    epoch: Number of the epoch, from 0.
    by_length: Whether to bring similar lengths together.
  """
  words = philox(Stream.BATCHES, seed, epoch).random_raw
  count = len(lengths)
  steps = count // batch_size
  order = np.argsort(words(count), kind='stable')[: steps * batch_size]
  if not by_length:
    return order.reshape(steps, batch_size)
  pool = _POOL_BATCHES * batch_size
  ordered = [
    part[np.argsort(lengths[part], kind='stable')]
    for part in np.split(order, range(pool, len(order), pool))
  ]
  batches = np.concatenate(ordered).reshape(steps, batch_size)
  return batches[np.argsort(words(steps), kind='stable')]


def train_iterator(
  features: AnyFeatures,
  *,
  batch_size: int,
  num_steps: int,
  seed: int,
  batching: Batching = 'bucketed',
  buckets: tuple[int, ...] = (),
  row_multiple: int = 1,
  shard: ProcessShard = WHOLE_BATCH,
) -> TrainIterator:
  """Returns an iterator over the batches of steps 0 to `num_steps` - 1.

  Args:
    features: The encoded training examples, the same in every process. Those
      on disk are taken in an order that is computed step by step
      (`random_streams.permutation_at`), so that no array has an entry for
      each.
    batch_size: Examples in a global batch.
    num_steps: Length of the run; epochs follow one another without a break.
    seed: Seed of the order.
    batching: How examples share a batch; see `DataConfig`.
    buckets: Lengths to pad to, if bucketed; () chooses them
      (`resolve_buckets`).
    row_multiple: What the number of rows of a global batch must be a multiple
      of: the devices that divide it, times the micro-batches in training.
    shard: This process's rows.

  Returns:
    An iterator over this process's rows of each batch.

  Raises:
    InputError: Too few examples for a batch, an example longer than the last
      bucket, a batch that cannot be shared evenly, or examples on disk that
      are not to be 'padded'.
  """
  import grain

  steps = steps_per_epoch(features, batch_size)
  cut = _cutter(features, batch_size, batching, buckets, row_multiple, shard)
  chosen = _order(features, batch_size, batching, seed)

  def batch(step: int) -> NumpyBatch:
    epoch, number = divmod(step, steps)
    return cut(chosen(epoch, number), seed, epoch)[0]

  dataset = grain.MapDataset.range(num_steps).map(batch)
  options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_AHEAD)
  return iter(dataset.to_iter_dataset(options))


def _order(
  features: AnyFeatures, batch_size: int, batching: Batching, seed: int
) -> Callable[[int, int], Int[np.ndarray, 'B']]:
  """Returns a function: (epoch, number of the batch in it) -> its examples."""
  if isinstance(features, StoredFeatures):
    in_batch = np.arange(batch_size)
    return lambda epoch, number: permutation_at(
      number * batch_size + in_batch, len(features), seed, epoch
    )

  # Two epochs: threads that run ahead may already be in the next one.
  @functools.lru_cache(maxsize=2)
  def plan(epoch: int) -> Int[np.ndarray, 'steps B']:
    by_length = batching == 'bucketed'
    lengths = features.lengths()
    return batch_plan(lengths, batch_size, seed, epoch, by_length=by_length)

  return lambda epoch, number: plan(epoch)[number]


def eval_batches(
  features: AnyFeatures,
  *,
  batch_size: int,
  batching: Batching = 'bucketed',
  buckets: tuple[int, ...] = (),
  row_multiple: int = 1,
  shard: ProcessShard = WHOLE_BATCH,
) -> Iterator[tuple[NumpyBatch, Placement]]:
  """Yields every example exactly once.

  A batch that lacks examples, the last one or any if `batch_size` is no
  multiple of `row_multiple`, is filled up with repeats of weight 0 behind the
  real rows, or with empty rows if packed.

  Args:
    features: The encoded examples, the same in every process.
    batch_size: Examples in a global batch.
    batching: As `train_iterator`.
    buckets: As `train_iterator`.
    row_multiple: As `train_iterator`.
    shard: This process's rows.

  Yields:
    This process's rows of the batch, and where the examples are in the global
    batch (the same in every process).

  Raises:
    InputError: As `train_iterator`.
  """
  cut = _cutter(features, batch_size, batching, buckets, row_multiple, shard)
  order = np.arange(len(features))
  if batching == 'bucketed':
    order = np.argsort(features.lengths(), kind='stable')
  for start in range(0, len(order), batch_size):
    yield cut(order[start : start + batch_size], 0, EVALUATION)


def _cutter(
  features: AnyFeatures,
  batch_size: int,
  batching: Batching,
  buckets: tuple[int, ...],
  row_multiple: int,
  shard: ProcessShard,
) -> _Cut:
  """Returns a function: (examples, seed, epoch) -> this process's rows."""
  if isinstance(features, StoredFeatures) and batching != 'padded':
    raise InputError(
      f'config.data.batching is {batching!r}, but records on disk are padded '
      'to '
      "config.data.max_length already; use 'padded'."
    )
  if batching == 'packed':
    assert isinstance(features, Features)
    shard.rows(row_multiple)
    packer = Packer(features, batch_size, row_multiple)

    def packed(examples, seed, epoch):
      batch, placement = packer.batch(examples, seed=seed, epoch=epoch)
      mine = shard.rows(len(batch['input_ids']))
      return {k: v[mine] for k, v in batch.items()}, placement

    return packed
  length_of = _length_of(features, buckets if batching == 'bucketed' else None)
  count = -(-batch_size // row_multiple) * row_multiple
  mine = shard.rows(count)

  def padded(examples, seed, epoch):
    missing = count - len(examples)
    rows = np.concatenate([examples, np.repeat(examples[-1:], missing)])
    length = length_of(examples)
    real = int(np.sum(mine < len(examples)))
    batch = features.batch(
      rows[mine], length, real=real, seed=seed, epoch=epoch
    )
    return batch, Placement.one_per_row(examples)

  return padded


def _length_of(
  features: AnyFeatures, buckets: tuple[int, ...] | None
) -> Callable[[Int[np.ndarray, 'B']], int]:
  """Returns a function: examples -> the length of their batch's rows."""
  if buckets is None:
    return lambda examples: features.max_length
  assert isinstance(features, Features)
  chosen = resolve_buckets(features, buckets)
  needed = features.slots().max(axis=1)
  return lambda examples: bucket_of(int(needed[examples].max()), chosen)


# More would take memory, and a device has only one next step.
_ON_DEVICES = 1


class Prefetch:
  """An iterator like the one it reads from, but a batch ahead of its user.

  While the devices compute a step, the next step's batch is read and sent to
  them. The position is that of the last batch taken, not of the last one read;
  so a checkpoint holds the same whether or not there is a prefetch. An error
  with a batch is raised when that batch is taken.

  Args:
    batches: where they come from.
    put: sends a batch to the devices (`mesh.put_batch`) without waiting.
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
    while len(self._ready) < _ON_DEVICES and self._error is None:
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
