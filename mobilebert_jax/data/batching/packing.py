"""Several examples in one row: which goes where, and the packed arrays.

The host's part of packing; what the device does with the arrays, and their
shapes, is in `mobilebert_jax.models.packing` and in the models' `segment_ids`.
"""

import bisect
import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from mobilebert_jax.data.batching.features import (
  EVALUATION,
  Features,
  NumpyBatch,
  Ragged,
)

# A row has a slot for every 4 of its positions: [CLS], a word, [SEP] and [PAD]
# is as short as examples usually get, and an empty slot costs no more than a
# row of the head's output.
_POSITIONS_PER_SLOT = 4
# The number of rows is rounded up to a multiple of about 1/8 of what a batch
# needs on average: a handful of shapes to compile, little waste.
_STEPS_TO_AVERAGE = 8


@dataclasses.dataclass(frozen=True)
class Placement:
  """Where the examples of a global batch lie in its rows.

  Attributes:
    examples: Indices of the examples.
    rows: The row of each example.
    slots: Its slot in that row, from 0.
    starts: The position in that row where it begins.
    slots_per_row: How many slots each row has.
  """

  examples: Int[np.ndarray, 'B']
  rows: Int[np.ndarray, 'B']
  slots: Int[np.ndarray, 'B']
  starts: Int[np.ndarray, 'B']
  slots_per_row: int = 1

  @classmethod
  def one_per_row(cls, examples: Int[np.ndarray, 'B']) -> 'Placement':
    """Places example i alone in row i."""
    zeros = np.zeros(len(examples), np.int64)
    return cls(examples, np.arange(len(examples)), zeros, zeros)


def best_fit(
  sizes: Sequence[int] | Int[np.ndarray, 'B'], capacity: int, most: int
) -> Int[np.ndarray, 'B']:
  """Packs items into rows: the largest first, each where it fits most tightly.

  Args:
    sizes: Each item's size, at most `capacity`.
    capacity: What a row holds.
    most: How many items a row holds at most.

  Returns:
    The row of each item, from 0.
  """
  row_of = np.zeros(len(sizes), np.int64)
  # Rows with room for another item, by free space and then by number.
  free: list[tuple[int, int]] = []
  counts: list[int] = []
  for item in np.argsort(-np.asarray(sizes), kind='stable'):
    size = int(sizes[item])
    at = bisect.bisect_left(free, (size, 0))
    left, row = free.pop(at) if at < len(free) else (capacity, len(counts))
    if row == len(counts):
      counts.append(0)
    counts[row] += 1
    row_of[item] = row
    if counts[row] < most:
      bisect.insort(free, (left - size, row))
  return row_of


class Packer:
  """Packs batches of one set of features into a few static shapes.

  Attributes:
    length: Positions of a row: `max_length`, times the number of choices.
    slots_per_row: Examples in a row, at most.
  """

  def __init__(self, features: Features, batch_size: int, row_multiple: int):
    """Chooses the shapes.

    Args:
      features: The encoded examples.
      batch_size: Examples in a full batch.
      row_multiple: What the number of rows must be a multiple of, so that
        micro-batches and devices can share them.
    """
    self._features = features
    # One example in each row is always possible.
    self._most = math.ceil(batch_size / row_multiple) * row_multiple
    self._slots = features.slots()
    self._sizes = self._slots.sum(axis=1)
    self.length = features.max_length * (features.choices or 1)
    self.slots_per_row = math.ceil(features.max_length / _POSITIONS_PER_SLOT)
    share = float(self._sizes.mean()) / self.length if len(features) else 1.0
    average = batch_size * max(share, 1 / self.slots_per_row)
    step = math.ceil(average / _STEPS_TO_AVERAGE)
    self._step = math.ceil(step / row_multiple) * row_multiple
    self._fewest = max(math.floor(average / self._step), 1) * self._step

  def place(self, examples: Int[np.ndarray, 'B']) -> tuple[Placement, int]:
    """Chooses where each example goes, and the number of rows."""
    sizes = self._sizes[examples]
    rows = best_fit(sizes, self.length, self.slots_per_row)
    order = np.argsort(rows, kind='stable')
    firsts = np.searchsorted(rows[order], rows[order])
    before = np.cumsum(sizes[order]) - sizes[order]
    slots, starts = np.empty_like(rows), np.empty_like(rows)
    slots[order] = np.arange(len(rows)) - firsts
    starts[order] = before - before[firsts]
    needed = int(rows.max(initial=0)) + 1
    count = max(math.ceil(needed / self._step) * self._step, self._fewest)
    count = min(count, self._most)
    placement = Placement(examples, rows, slots, starts, self.slots_per_row)
    return placement, count

  def batch(
    self,
    examples: Int[np.ndarray, 'B'],
    *,
    seed: int = 0,
    epoch: int = EVALUATION,
  ) -> tuple[NumpyBatch, Placement]:
    """Cuts one packed batch.

    Args:
      examples: Indices of the examples, at most `batch_size`.
      seed: See `Features.columns`.
      epoch: See `Features.columns`.

    Returns:
      The arrays that `mobilebert_jax.models.packing` describes, for all rows,
      and where each example is.
    """
    features = self._features
    placement, count = self.place(examples)
    columns = features.columns(examples, seed, epoch)
    slots = self._slots[examples]
    choices = slots.shape[1]
    # Each sequence, a choice or a whole example: its row, start and segment.
    rows = np.repeat(placement.rows, choices)
    within = np.cumsum(slots, axis=1) - slots
    starts = (placement.starts[:, None] + within).reshape(-1)
    segments = (
      placement.slots[:, None] * choices + np.arange(choices) + 1
    ).reshape(-1)
    shape = (count, self.length)
    batch: NumpyBatch = {
      name: column.laid_out(shape, rows, starts, features.pad[name])
      for name, column in columns.items()
    }
    lengths = columns['input_ids'].lengths()
    ones = np.ones(len(lengths), np.int32)
    batch['attention_mask'] = _spans(shape, rows, starts, lengths, ones)
    batch['segment_ids'] = _spans(
      shape, rows, starts, slots.reshape(-1), segments
    )
    first = np.zeros((count, self.slots_per_row, choices), np.int32)
    first[placement.rows, placement.slots] = starts.reshape(-1, choices)
    batch['cls_positions'] = first if features.choices else first[..., 0]
    if features.gather:
      width = features.gather.packed_width(self.length)
      batch |= features.gathered(batch, width)
    batch |= self._by_slot(placement, count)
    return batch, placement

  def _by_slot(self, placement: Placement, count: int) -> NumpyBatch:
    """Returns the scalar columns and 'weights', zero in empty slots."""
    scalars = self._features.scalars
    arrays = {k: v[placement.examples] for k, v in scalars.items()}
    arrays['weights'] = np.ones(len(placement.examples), np.float32)
    batch: NumpyBatch = {}
    for name, values in arrays.items():
      shape = (count, self.slots_per_row, *values.shape[1:])
      batch[name] = np.zeros(shape, values.dtype)
      batch[name][placement.rows, placement.slots] = values
    return batch


def _spans(
  shape: tuple[int, int],
  rows: Int[np.ndarray, 'N'],
  starts: Int[np.ndarray, 'N'],
  lengths: Int[np.ndarray, 'N'],
  values: Int[np.ndarray, 'N'],
) -> Int[np.ndarray, 'R S']:
  """Returns zeros with each sequence's value on its positions."""
  offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
  spans = Ragged(np.repeat(values, lengths), offsets)
  return spans.laid_out(shape, rows, starts, 0)
