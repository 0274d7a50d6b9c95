"""Encoded examples in flat arrays, and batches padded from them.

`Features` holds the examples, in `Ragged` columns; `Features.batch` cuts a
padded batch from them; `resolve_buckets` decides the lengths that batches are
padded to; `Gathered` puts labels at masked positions alone.
"""

import dataclasses
import functools
import itertools
import types
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Num

from mobilebert_jax.runtime.errors import InputError

# Arrays by column, as a step is given them; this is where they are made.
NumpyBatch = dict[str, np.ndarray]

# The epoch that a transform is given in evaluation.
EVALUATION = -1

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
    """Returns the number of items in each row."""
    return np.diff(self.offsets)

  def take(self, rows: Int[np.ndarray, 'B']) -> 'Ragged':
    """Returns the chosen rows, in this order."""
    lengths = self.offsets[rows + 1] - self.offsets[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    shift = np.repeat(self.offsets[rows] - offsets[:-1], lengths)
    return Ragged(self.values[np.arange(offsets[-1]) + shift], offsets)

  def laid_out(
    self,
    shape: tuple[int, int],
    rows: Int[np.ndarray, 'rows'],
    starts: Int[np.ndarray, 'rows'],
    fill: int,
  ) -> Int[np.ndarray, 'R S']:
    """Scatters the rows' items into an array.

    Args:
      shape: The array's shape.
      rows: In which row of the array each row of this column goes.
      starts: At which position it begins there.
      fill: What stands everywhere else.
    """
    laid = np.full(shape, fill, np.int32)
    lengths = self.lengths()
    inside = np.arange(len(self.values)) - np.repeat(self.offsets[:-1], lengths)
    laid[np.repeat(rows, lengths), np.repeat(starts, lengths) + inside] = (
      self.values
    )
    return laid


Columns = Mapping[str, Ragged]
Transform = Callable[[Columns, Int[np.ndarray, 'B'], int, int], Columns]


@dataclasses.dataclass(frozen=True)
class Gathered:
  """The sequence column that batches have at its labels' positions alone.

  A masked language model predicts a seventh of the tokens at most. A batch
  whose labels are [B, P], with their positions, lets the head leave out all
  others (`HeadedModel`'s `masked_positions`). P is part of the batch's shape,
  and every shape is a compilation, so P depends on the length of the rows and
  on the settings of the masking, never on what was drawn.

  Attributes:
    most: `most[n]` is how many labels a sequence of n tokens, special ones
      included, can have at most, for n from 0 to the longest sequence; it
      never falls.
    column: the column with the labels, [B, P] in a batch; what it is padded
      with is no label.
    positions: the name of the column with their positions, [B, P] in a batch;
      0 where there is no label.
  """

  most: tuple[int, ...]
  column: str = 'labels'
  positions: str = 'masked_positions'

  def __post_init__(self):
    """Checks that `most` never falls."""
    if any(b < a for a, b in itertools.pairwise(self.most)):
      raise ValueError('a longer sequence can have no fewer labels')

  def width(self, length: int) -> int:
    """Returns P for rows of `length` positions with one sequence in each.

    A sequence has as many tokens as its row has positions, or fewer, and
    `most` never falls: so `most[length]` is enough.
    """
    return self.most[length]

  def packed_width(self, length: int) -> int:
    """Returns P for rows of `length` positions with any number of sequences.

    A sequence of n tokens takes n + 1 positions, or n if it is as long as
    sequences can be (`Features.slots`), and has `most[n]` labels at most. What
    a row can have is therefore the greatest value of an unbounded knapsack of
    that size, and this is that value: every way to fill the row is an argument
    of the maximum. Short sequences decide it, since each predicts a token
    however short it is: with 15% masked, one in every 4 positions.
    """
    return _knapsack(self.most, length)

  def gather(
    self, labels: Int[np.ndarray, 'B S'], none: int, width: int
  ) -> dict[str, Int[np.ndarray, 'B P']]:
    """Gathers a batch's labels and their positions.

    Args:
      labels: the column as it lies in the rows.
      none: what stands where there is no label.
      width: P.

    Returns:
      The columns `positions` and `column`, int32, by their names.

    Raises:
      ValueError: a row has more labels than `most` says, a defect of the
        encoder: labels that were dropped would be lost in silence.
    """
    rows, columns = np.nonzero(labels != none)
    counts = np.bincount(rows, minlength=len(labels))
    if counts.max(initial=0) > width:
      raise ValueError(
        f'{counts.max()} labels in a row that has {width} places'
      )
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    positions = np.zeros((len(labels), width), np.int32)
    gathered = np.full((len(labels), width), none, np.int32)
    positions[rows, nth] = columns
    gathered[rows, nth] = labels[rows, columns]
    return {self.positions: positions, self.column: gathered}


@functools.lru_cache(maxsize=64)
def _knapsack(most: tuple[int, ...], length: int) -> int:
  """Solves the knapsack of `Gathered.packed_width`."""
  longest = len(most) - 1
  # By size: the most labels of a sequence that takes so many positions.
  value = np.array([0, *most[:-1]], np.int64)
  value[longest] = most[longest]
  best = np.zeros(length + 1, np.int64)
  for size in range(1, length + 1):
    last = min(size, longest)
    rest = best[size - last : size][::-1]
    best[size] = max(best[size - 1], np.max(rest + value[1 : last + 1]))
  return int(best[length])


@dataclasses.dataclass(frozen=True)
class Features:
  """Encoded examples: what batches are cut from.

  What an example means never depends on the batch it is in: it is the example
  alone, padded to `max_length`. Unless it fills `max_length`, its last token
  therefore has a [PAD] to its right, which the trigram input sees; every way
  of batching keeps that one pad position (`slots`).

  Attributes:
    sequences: Columns with one row of integers per sequence; 'input_ids' is
      among them and all have its lengths. 'attention_mask' is not stored: it
      follows from the lengths.
    scalars: Columns with one number, or one row of numbers, per example: for
      instance 'labels' (int32 [N] for classes, float32 [N] for regression,
      float32 [N, classes] for several labels at once) or 'choice_mask'
      (int32 [N, choices]).
    pad: What each sequence column is filled up with, those that `transform`
      adds included.
    choices: None, or the number of sequences that make up one example
      (multiple choice); a batch's sequences then are [B, choices, S].
    max_length: The longest sequence that the encoder makes, special tokens
      included: the `max_length` that `Task.encode` is given.
    transform: None, or a function that changes sequence columns anew in each
      epoch, such as the masking of tokens. See `columns`. It is code, not
      data: features that were kept on disk get it from their encoder again.
    gather: None, or the column of labels that batches have at the labels'
      positions alone, [B, P] instead of [B, S].
  """

  sequences: Columns
  scalars: Mapping[str, Num[np.ndarray, 'N ...']]
  pad: Mapping[str, int]
  choices: int | None = None
  max_length: int = dataclasses.field(kw_only=True)
  transform: Transform | None = dataclasses.field(default=None, kw_only=True)
  gather: Gathered | None = dataclasses.field(default=None, kw_only=True)

  def __post_init__(self):
    """Checks that the columns agree; a misfit is a defect of the encoder."""
    ids = self.sequences['input_ids']
    self._check_columns(self.sequences, ids)
    if len(ids) % (self.choices or 1):
      raise ValueError(f'{len(ids)} sequences are not {self.choices} each')
    if ids.lengths().max(initial=0) > self.max_length:
      raise ValueError(f'a sequence has more than {self.max_length} tokens')
    if self.gather and (self.choices or self.gather.column not in self.pad):
      raise ValueError('gathered labels are a sequence column without choices')
    for name, values in self.scalars.items():
      if len(values) != len(self):
        raise ValueError(f'{name!r} has {len(values)} values for {len(self)}')
    for field in ('sequences', 'scalars', 'pad'):
      frozen = types.MappingProxyType(dict(getattr(self, field)))
      object.__setattr__(self, field, frozen)

  def _check_columns(self, columns: Columns, like: Ragged):
    for name, column in columns.items():
      if not np.array_equal(column.offsets, like.offsets):
        raise ValueError(f'{name!r} and input_ids have rows of other lengths')
      if name not in self.pad:
        raise ValueError(f'no padding value for {name!r}')

  def __len__(self) -> int:
    return len(self.sequences['input_ids']) // (self.choices or 1)

  def lengths(self) -> Int[np.ndarray, 'N']:
    """Returns each example's number of tokens (its longest choice's)."""
    return self._per_choice().max(axis=1)

  def slots(self) -> Int[np.ndarray, 'N choices']:
    """Returns the positions of each sequence, with a [PAD] behind its end.

    A sequence that fills `max_length` has none.
    """
    return np.minimum(self._per_choice() + 1, self.max_length)

  def _per_choice(self) -> Int[np.ndarray, 'N choices']:
    lengths = self.sequences['input_ids'].lengths()
    return lengths.reshape(len(self), self.choices or 1)

  def sequences_of(self, rows: Int[np.ndarray, 'B']) -> Int[np.ndarray, 'BC']:
    """Returns the indices of these examples' sequences, choices in a row."""
    choices = self.choices or 1
    return (rows[:, None] * choices + np.arange(choices)).reshape(-1)

  def columns(
    self,
    rows: Int[np.ndarray, 'B'],
    seed: int = 0,
    epoch: int = EVALUATION,
  ) -> dict[str, Ragged]:
    """Returns the sequence columns of some examples, as the model gets them.

    With a `transform` they are `transform(columns, rows, seed, epoch)`: it is
    given the columns of these examples (a row per sequence) and the indices of
    the examples, and returns the columns to use, all with the same lengths;
    it may add some, such as 'labels'. It must be a pure function of seed,
    epoch and each example's index, never of which other examples are there.

    Args:
      rows: Indices of the examples.
      seed: The run's seed; 0 in evaluation, so that runs can be compared.
      epoch: The epoch from 0, or `EVALUATION`.
    """
    chosen = self.sequences_of(rows)
    columns: Columns = {
      name: column.take(chosen) for name, column in self.sequences.items()
    }
    if self.transform is None:
      return dict(columns)
    lengths = columns['input_ids']
    columns = self.transform(columns, rows, seed, epoch)
    self._check_columns(columns, lengths)
    return dict(columns)

  def batch(
    self,
    rows: Int[np.ndarray, 'B'],
    length: int,
    real: int | None = None,
    *,
    seed: int = 0,
    epoch: int = EVALUATION,
  ) -> NumpyBatch:
    """Cuts one padded batch.

    Args:
      rows: Indices of the examples.
      length: Length S of the sequences, at least that of the longest row.
      real: How many of the rows count; the others get weight 0. None: all.
      seed: See `columns`.
      epoch: See `columns`.

    Returns:
      Every sequence column and 'attention_mask' as int32 [B, S] ([B, C, S]
      with choices), but those of `gather` [B, P]; every scalar column
      [B, ...], and 'weights' float32 [B].
    """
    columns = self.columns(rows, seed, epoch)
    count = len(columns['input_ids'])
    choice_axis = (self.choices,) if self.choices else ()
    shape = (len(rows), *choice_axis, length)
    place = (np.arange(count), np.zeros(count, np.int64))
    arrays = {
      name: column.laid_out((count, length), *place, self.pad[name])
      for name, column in columns.items()
    }
    ends = columns['input_ids'].lengths()[:, None]
    arrays['attention_mask'] = (np.arange(length) < ends).astype(np.int32)
    batch = {name: array.reshape(shape) for name, array in arrays.items()}
    if self.gather:
      batch |= self.gathered(batch, self.gather.width(length))
    batch |= {name: values[rows] for name, values in self.scalars.items()}
    return batch | {'weights': row_weights(len(rows), real)}

  def gathered(self, batch: NumpyBatch, width: int) -> NumpyBatch:
    """Returns the columns of `gather`, [B, P]; none without it.

    Args:
      batch: the column as it lies in the rows, [B, S].
      width: P.
    """
    if not self.gather:
      return {}
    name = self.gather.column
    return self.gather.gather(batch[name], self.pad[name], width)


def row_weights(rows: int, real: int | None) -> Float[np.ndarray, 'rows']:
  """Returns 1 for the first `real` rows of a batch (None: all), else 0."""
  weights = np.ones(rows, np.float32)
  weights[rows if real is None else real :] = 0
  return weights


def resolve_buckets(
  features: Features, buckets: tuple[int, ...] = ()
) -> tuple[int, ...]:
  """Returns the lengths that batches are padded to, ascending.

  Every length is one compilation of the training step, so there should be
  few. Without a choice they are the powers of two from 16 up to what the
  longest example needs (`Features.slots`); that, rounded up to a multiple of
  8 but not above `max_length`, is the last.

  Raises:
    InputError: The longest example and the pad position behind it fit in no
      bucket, or a bucket is longer than `max_length`.
  """
  needed = int(features.slots().max(initial=1))
  limit = features.max_length
  if not buckets:
    last = min(-(-needed // 8) * 8, limit)
    powers = [_SMALLEST_BUCKET]
    while powers[-1] < last:
      powers.append(powers[-1] * 2)
    return (*(power for power in powers if power < last), last)
  if max(buckets) > limit:
    raise InputError(
      f'config.data.buckets ends at {max(buckets)}, but no sequence is longer '
      'than '
      f'{limit} tokens; use buckets of at most {limit}.'
    )
  if needed > max(buckets):
    longest = int(features.lengths().max())
    raise InputError(
      f'config.data.buckets ends at {max(buckets)} but the longest example has '
      f'{longest} tokens'
      + (' and needs a [PAD] behind them' if needed > longest else '')
      + f'; add a bucket of at least {needed} or lower config.data.max_length.'
    )
  return tuple(sorted(set(buckets)))


def bucket_of(needed: int, buckets: tuple[int, ...]) -> int:
  """Returns the smallest of the ascending buckets with `needed` positions."""
  return next(bucket for bucket in buckets if bucket >= needed)
