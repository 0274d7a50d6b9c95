"""Batches for training and evaluation; the one module that knows grain.

The batch of a step is a pure function of (features, batch size, seed, step).
Every host computes the same global batch and keeps its own rows of it, so the
order does not depend on the number of hosts. grain adds threads that prepare
batches ahead, and a position that a checkpoint can hold.
"""

import functools
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from mobilebert_jax.data.features import (
  Batch,
  Features,
  bucket_of,
  resolve_buckets,
)
from mobilebert_jax.errors import InputError

# Examples of similar length are sought among this many batches: enough to
# leave little padding, few enough that batches stay mixed.
_POOL_BATCHES = 64
_THREADS = 2
_AHEAD = 8


class TrainIterator(Protocol):
  """Batches with a position that can be saved and set."""

  def __iter__(self) -> 'TrainIterator': ...

  def __next__(self) -> Batch: ...

  def get_state(self) -> dict[str, Any]:
    """The position behind the last batch taken, JSON-able."""

  def set_state(self, state: dict[str, Any]) -> None:
    """Continues behind the batch after which `state` was taken."""


def steps_per_epoch(features: Features, batch_size: int) -> int:
  """Number of full batches in the data; the remainder of an epoch is dropped.

  Raises:
    InputError: There are fewer examples than a batch needs.
  """
  if batch_size > len(features):
    raise InputError(
      f'batch_size is {batch_size} but there are only {len(features)} training '
      f'examples; use a batch_size of at most {len(features)}'
    )
  return len(features) // batch_size


def batch_plan(
  lengths: Int[np.ndarray, 'N'], batch_size: int, seed: int, epoch: int
) -> Int[np.ndarray, 'steps B']:
  """Which examples make up each batch of one epoch.

  The examples are shuffled, pools of 64 batches are sorted by length and cut
  into batches, and the batches are shuffled. What does not fill a batch is
  left out; it is other examples in every epoch.

  Args:
    lengths: Each example's number of tokens.
    batch_size: Examples in a global batch.
    seed: Seed of the run, at least 0.
    epoch: Number of the epoch, from 0.
  """
  # Ranks of raw random words: the raw stream of a NumPy bit generator never
  # changes between versions, the stream of `Generator.permutation` may.
  words = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw
  count = len(lengths)
  steps = count // batch_size
  order = np.argsort(words(count), kind='stable')[: steps * batch_size]
  pool = _POOL_BATCHES * batch_size
  ordered = [
    part[np.argsort(lengths[part], kind='stable')]
    for part in np.split(order, range(pool, len(order), pool))
  ]
  batches = np.concatenate(ordered).reshape(steps, batch_size)
  return batches[np.argsort(words(steps), kind='stable')]


def train_iterator(
  features: Features,
  *,
  batch_size: int,
  num_steps: int,
  seed: int,
  buckets: tuple[int, ...] = (),
  process_index: int = 0,
  process_count: int = 1,
) -> TrainIterator:
  """Iterates over the training batches of steps 0 to `num_steps` - 1.

  Args:
    features: The encoded training examples, the same on every host.
    batch_size: Examples in a global batch.
    num_steps: Length of the run; epochs follow one another without a break.
    seed: Seed of the order.
    buckets: Lengths to pad to; () chooses them (`resolve_buckets`).
    process_index: This host's number.
    process_count: Number of hosts.

  Returns:
    An iterator over this host's rows of each batch.

  Raises:
    InputError: Too few examples for a batch, an example longer than the last
      bucket, or a batch that the hosts cannot share evenly.
  """
  import grain

  steps = steps_per_epoch(features, batch_size)
  buckets = resolve_buckets(features, buckets)
  lengths, slots = features.lengths(), features.slots()
  mine = _host_rows(batch_size, process_index, process_count)

  # Two epochs: threads that run ahead may already be in the next one.
  @functools.lru_cache(maxsize=2)
  def plan(epoch: int) -> Int[np.ndarray, 'steps B']:
    return batch_plan(lengths, batch_size, seed, epoch)

  def batch(step: int) -> Batch:
    rows = plan(step // steps)[step % steps]
    length = bucket_of(int(slots[rows].max()), buckets)
    return features.batch(rows[mine], length)

  dataset = grain.MapDataset.range(num_steps).map(batch)
  options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_AHEAD)
  return iter(dataset.to_iter_dataset(options))


def eval_batches(
  features: Features,
  *,
  batch_size: int,
  buckets: tuple[int, ...] = (),
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[tuple[Batch, Int[np.ndarray, 'real']]]:
  """Yields every example exactly once, shortest first.

  The last batch is filled up with repeats of weight 0, behind the real rows.

  Args:
    features: The encoded examples, the same on every host.
    batch_size: Examples in a global batch.
    buckets: Lengths to pad to; () chooses them (`resolve_buckets`).
    process_index: This host's number.
    process_count: Number of hosts.

  Yields:
    This host's rows of the batch, and the indices of the examples in the
    global batch (the same on every host): row i of the global batch belongs
    to example `indices[i]`, and the rows from `len(indices)` on to none.

  Raises:
    InputError: As `train_iterator`.
  """
  buckets = resolve_buckets(features, buckets)
  lengths, slots = features.lengths(), features.slots()
  order = np.argsort(lengths, kind='stable')
  mine = _host_rows(batch_size, process_index, process_count)
  for start in range(0, len(order), batch_size):
    indices = order[start : start + batch_size]
    missing = batch_size - len(indices)
    rows = np.concatenate([indices, np.repeat(indices[-1:], missing)])
    length = bucket_of(int(slots[indices].max()), buckets)
    real = np.clip(len(indices) - mine.start, 0, mine.stop - mine.start)
    yield features.batch(rows[mine], length, real=int(real)), indices


def _host_rows(
  batch_size: int, process_index: int, process_count: int
) -> slice:
  """The rows of a global batch that belong to one host."""
  if batch_size % process_count:
    raise InputError(
      f'batch size {batch_size} cannot be shared by {process_count} hosts; '
      f'use a multiple of {process_count}'
    )
  share = batch_size // process_count
  return slice(process_index * share, (process_index + 1) * share)
