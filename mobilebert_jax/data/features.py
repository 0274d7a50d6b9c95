"""Encoded examples in flat arrays, and batches padded from them."""

import dataclasses
import types
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Int, Num

from mobilebert_jax.errors import InputError

Batch = dict[str, np.ndarray]

_SMALLEST_BUCKET = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Ragged:
  """Rows of different lengths, end to end in one array.

  Attributes:
    values: The rows' items, int32.
    offsets: Row i is `values[offsets[i]:offsets[i + 1]]`, int64.
  """

  values: Int[np.ndarray, 'items']
  offsets: Int[np.ndarray, 'rows+1']

  @classmethod
  def from_rows(cls, rows: Iterable[Sequence[int]]) -> 'Ragged':
    """Joins rows of integers."""
    rows = list(rows)
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = (item for row in rows for item in row)
    return cls(np.fromiter(items, np.int32, int(offsets[-1])), offsets)

  def __len__(self) -> int:
    return len(self.offsets) - 1

  def lengths(self) -> Int[np.ndarray, 'rows']:
    """The number of items in each row."""
    return np.diff(self.offsets)

  def padded(
    self, rows: Int[np.ndarray, 'B'], length: int, fill: int
  ) -> Int[np.ndarray, 'B S']:
    """The chosen rows, each filled up with `fill` to `length`, as int32."""
    starts = self.offsets[rows][:, None]
    position = np.arange(length)
    inside = position < self.lengths()[rows][:, None]
    index = np.where(inside, starts + position, 0)
    if not len(self.values):
      return np.full(index.shape, fill, np.int32)
    return np.where(inside, self.values[index], np.int32(fill))


@dataclasses.dataclass(frozen=True)
class Features:
  """Encoded examples: what batches are cut from.

  Attributes:
    sequences: Columns with one row of integers per sequence; 'input_ids' is
      among them and all have its lengths. 'attention_mask' is not stored: it
      follows from the lengths.
    scalars: Columns with one number per example, for instance 'labels' (int32
      for classes, float32 for regression).
    pad: What each sequence column is filled up with.
    choices: None, or the number of sequences that make up one example
      (multiple choice); a batch's sequences then are [B, choices, S].
  """

  sequences: Mapping[str, Ragged]
  scalars: Mapping[str, Num[np.ndarray, 'N']]
  pad: Mapping[str, int]
  choices: int | None = None

  def __post_init__(self):
    """Checks that the columns agree: a misfit is a defect of the encoder."""
    ids = self.sequences['input_ids']
    for name, column in self.sequences.items():
      if not np.array_equal(column.offsets, ids.offsets):
        raise ValueError(f'{name!r} and input_ids have rows of other lengths')
      if name not in self.pad:
        raise ValueError(f'no padding value for {name!r}')
    if len(ids) % (self.choices or 1):
      raise ValueError(f'{len(ids)} sequences are not {self.choices} each')
    for name, values in self.scalars.items():
      if len(values) != len(self):
        raise ValueError(f'{name!r} has {len(values)} values for {len(self)}')
    for field in ('sequences', 'scalars', 'pad'):
      frozen = types.MappingProxyType(dict(getattr(self, field)))
      object.__setattr__(self, field, frozen)

  def __len__(self) -> int:
    return len(self.sequences['input_ids']) // (self.choices or 1)

  def lengths(self) -> Int[np.ndarray, 'N']:
    """Each example's number of tokens (its longest choice's)."""
    lengths = self.sequences['input_ids'].lengths()
    return lengths.reshape(len(self), self.choices or 1).max(axis=1)

  def batch(
    self, rows: Int[np.ndarray, 'B'], length: int, real: int | None = None
  ) -> Batch:
    """Cuts one padded batch.

    Args:
      rows: Indices of the examples.
      length: Length S of the sequences, at least that of the longest row.
      real: How many of the rows count; the others get weight 0. None: all.

    Returns:
      Every sequence column and 'attention_mask' as int32 [B, S] ([B, C, S]
      with choices), every scalar column [B], and 'weights' float32 [B].
    """
    choices = self.choices or 1
    flat = (rows[:, None] * choices + np.arange(choices)).reshape(-1)
    choice_axis = (self.choices,) if self.choices else ()
    shape = (len(rows), *choice_axis, length)
    columns = {
      name: column.padded(flat, length, self.pad[name])
      for name, column in self.sequences.items()
    }
    ends = self.sequences['input_ids'].lengths()[flat][:, None]
    columns['attention_mask'] = (np.arange(length) < ends).astype(np.int32)
    batch = {name: column.reshape(shape) for name, column in columns.items()}
    batch |= {name: values[rows] for name, values in self.scalars.items()}
    weights = np.ones(len(rows), np.float32)
    weights[len(rows) if real is None else real :] = 0
    return batch | {'weights': weights}


def resolve_buckets(
  features: Features, buckets: tuple[int, ...] = ()
) -> tuple[int, ...]:
  """The lengths that batches are padded to, ascending.

  Every length is one compilation of the training step, so there should be
  few. Without a choice they are the powers of two from 16 up to the longest
  example, whose own length, rounded up to a multiple of 8, is the last.

  Raises:
    InputError: The longest example fits in no bucket.
  """
  longest = int(features.lengths().max(initial=1))
  if not buckets:
    last = -(-longest // 8) * 8
    powers = [_SMALLEST_BUCKET]
    while powers[-1] < last:
      powers.append(powers[-1] * 2)
    return (*(power for power in powers if power < last), last)
  if longest > max(buckets):
    raise InputError(
      f'data.buckets ends at {max(buckets)} but the longest example has '
      f'{longest} tokens; add a bucket of at least {longest} or lower '
      'data.max_length'
    )
  return tuple(sorted(set(buckets)))


def bucket_of(length: int, buckets: tuple[int, ...]) -> int:
  """The smallest bucket that holds `length`; `buckets` is ascending."""
  return next(bucket for bucket in buckets if bucket >= length)
