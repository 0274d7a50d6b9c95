"""Pre-training examples that are read from disk batch by batch.

The records have the features of BERT's create_pretraining_data.py:
input_ids, input_mask and segment_ids (input_word_ids and input_type_ids in
files of tensorflow/models' version 2), next_sentence_labels, and with static
masking masked_lm_positions, masked_lm_ids and masked_lm_weights. Records
without the last three are masked anew in each epoch.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from mobilebert_jax.data.batching.features import (
  EVALUATION,
  Features,
  Gathered,
  NumpyBatch,
  row_weights,
)
from mobilebert_jax.data.records.records import Records
from mobilebert_jax.data.records.tf_example import ExampleError, Examples
from mobilebert_jax.runtime.errors import InputError

# (tokens, seed, epoch, row) -> (tokens as the model sees them, labels)
Mask = Callable[
  [Int[np.ndarray, 'S'], int, int, int],
  tuple[Int[np.ndarray, 'S'], Int[np.ndarray, 'S']],
]
_POSITIONS = 'masked_lm_positions'
_NEXT_SENTENCE = 'next_sentence_labels'


@dataclasses.dataclass(frozen=True, eq=False)
class StoredFeatures:
  """The counterpart of `Features` for sets larger than memory.

  Every row is padded to `max_length`. Reading and masking of a row depend on
  (seed, epoch, row) alone.

  Attributes:
    records: Where the rows are.
    max_length: Positions of a row.
    vocab_size: Ids are below it.
    ignore_index: The label of positions in [B, P] without a token to predict.
    has_static_masks: Whether the records say what is masked.
    has_next_sentence: Whether batches have the column next_sentence_label.
    mask: Masks a row of records without static masks.
    gather: Where its labels go.
  """

  records: Records
  max_length: int
  vocab_size: int
  ignore_index: int
  has_static_masks: bool
  has_next_sentence: bool
  mask: Mask
  gather: Gathered

  def __len__(self) -> int:
    return len(self.records)

  def lengths(self) -> Int[np.ndarray, 'N']:
    """Returns `max_length` for each row; it takes no memory."""
    return np.broadcast_to(np.int64(self.max_length), len(self))

  def tokens(self, row: int) -> Int[np.ndarray, 'S']:
    """Reads the tokens of one row as they were before any masking."""
    return self.texts(np.array([row]))[0]

  def texts(self, rows: Int[np.ndarray, 'B']) -> list[Int[np.ndarray, 'S']]:
    """Reads the tokens of some rows as they were before any masking."""
    with _Blame(self.records, rows):
      columns = self._columns(rows)
    read = []
    for i, size in enumerate(columns['lengths'].tolist()):
      ids = columns['input_ids'][i].copy()
      if self.has_static_masks:
        counts = columns['weights'][i] > 0
        ids[columns['positions'][i][counts]] = columns['targets'][i][counts]
      read.append(ids[:size])
    return read

  def batch(
    self,
    rows: Int[np.ndarray, 'B'],
    length: int,
    real: int | None = None,
    *,
    seed: int = 0,
    epoch: int = EVALUATION,
  ) -> NumpyBatch:
    """Reads one batch.

    Args:
      rows: Indices of the records.
      length: Must be `max_length`.
      real: As in `Features.batch`; so are seed and epoch.
      seed: Of the masking.
      epoch: Of the masking.

    Returns:
      input_ids, token_type_ids and attention_mask int32 [B, S],
      masked_positions and labels int32 [B, P], weights float32 [B], and
      next_sentence_label int32 [B] if `has_next_sentence`.

    Raises:
      InputError: A file is damaged, or a record has other features, lengths
        or ids than it may have; the message names the file and the record.
    """
    if length != self.max_length:
      raise ValueError(f'rows have {self.max_length} positions, not {length}')
    with _Blame(self.records, rows):
      columns = self._columns(rows)
    inside = np.arange(length) < columns['lengths'][:, None]
    batch: NumpyBatch = {
      'input_ids': columns['input_ids'],
      'token_type_ids': columns['token_type_ids'],
      'attention_mask': inside.astype(np.int32),
    }
    batch |= (
      self._static(columns)
      if self.has_static_masks
      else self._dynamic(columns, rows, seed, epoch)
    )
    if self.has_next_sentence:
      batch['next_sentence_label'] = columns['next_sentence'][:, 0]
    return batch | {'weights': row_weights(len(rows), real)}

  def _static(self, columns: dict[str, np.ndarray]) -> NumpyBatch:
    counts = columns['weights'] > 0
    return {
      'masked_positions': np.where(counts, columns['positions'], 0),
      'labels': np.where(counts, columns['targets'], self.ignore_index),
    }

  def _dynamic(
    self,
    columns: dict[str, np.ndarray],
    rows: Int[np.ndarray, 'B'],
    seed: int,
    epoch: int,
  ) -> NumpyBatch:
    seen = columns['input_ids'].copy()
    labels = np.full_like(seen, self.ignore_index)
    for i, (row, size) in enumerate(zip(rows, columns['lengths'], strict=True)):
      seen[i, :size], labels[i, :size] = self.mask(
        columns['input_ids'][i, :size], seed, epoch, int(row)
      )
    width = self.gather.width(self.max_length)
    gathered = self.gather.gather(labels, self.ignore_index, width)
    return {'input_ids': seen, **gathered}

  def _columns(self, rows: Int[np.ndarray, 'B']) -> dict[str, np.ndarray]:
    """Reads the records' features as int32, checked.

    Raises:
      ExampleError: A record is wrong; `args[1]` is its index in `rows`.
    """
    size = self.max_length
    examples = Examples(self.records.read(rows))
    ids_name, types_name = id_names(examples.names())
    mask = examples.integers('input_mask', size)
    columns = {
      'input_ids': examples.integers(ids_name, size),
      'token_type_ids': examples.integers(types_name, size),
      'lengths': mask.sum(axis=1),
    }
    starts = np.arange(size) < columns['lengths'][:, None]
    _require((mask == starts).all(axis=1), 'has an input_mask with gaps')
    self._require_ids(columns['input_ids'], ids_name)
    types = columns['token_type_ids']
    _require(
      ((types >= 0) & (types < 2)).all(axis=1), f'has {types_name} beyond 0, 1'
    )
    if self.has_static_masks:
      columns |= self._masks(examples, columns['lengths'])
    if self.has_next_sentence:
      labels = examples.integers(_NEXT_SENTENCE, 1)
      is_label = ((labels == 0) | (labels == 1)).all(axis=1)
      _require(is_label, f'has {_NEXT_SENTENCE} that are neither 0 nor 1')
      columns['next_sentence'] = labels
    return {
      k: v if v.dtype == np.float32 else v.astype(np.int32)
      for k, v in columns.items()
    }

  def _masks(
    self, examples: Examples, lengths: Int[np.ndarray, 'B']
  ) -> dict[str, np.ndarray]:
    weights = examples.floats('masked_lm_weights')
    positions = examples.integers(_POSITIONS, weights.shape[1])
    targets = examples.integers('masked_lm_ids', weights.shape[1])
    inside = (positions >= 0) & (positions < lengths[:, None])
    _require(
      (inside | (weights == 0)).all(axis=1), f'has {_POSITIONS} beyond its text'
    )
    _require(
      np.isin(weights, (0, 1)).all(axis=1),
      'has masked_lm_weights that are neither 0 nor 1',
    )
    self._require_ids(targets, 'masked_lm_ids')
    return {'weights': weights, 'positions': positions, 'targets': targets}

  def _require_ids(self, ids: Int[np.ndarray, 'B n'], name: str):
    _require(
      ((ids >= 0) & (ids < self.vocab_size)).all(axis=1),
      f'has {name} beyond the {self.vocab_size} tokens of the tokenizer',
    )


def id_names(names: Sequence[str]) -> tuple[str, str]:
  """Returns the names of the features of tokens and of their types."""
  if 'input_word_ids' in names:
    return 'input_word_ids', 'input_type_ids'
  return 'input_ids', 'segment_ids'


AnyFeatures = Features | StoredFeatures


@dataclasses.dataclass(frozen=True)
class Form:
  """What the first records of the files tell about all.

  Attributes:
    max_length: Positions of a row.
    first_token: The id at position 0, [CLS].
    predictions: Tokens to predict, at most; None if it does not say what is
      masked.
    has_next_sentence: Whether it has a label of next-sentence prediction.
    ids_name: What it calls its tokens.
  """

  max_length: int
  first_token: int
  predictions: int | None
  has_next_sentence: bool
  ids_name: str

  @classmethod
  def of(cls, records: Records) -> 'Form':
    """Reads the first record of each file.

    The files of a prepared data set are alike, and one is read.

    Raises:
      InputError: It is no pre-training example, or of another form than that
        of the first file.
    """
    rows = records.starts()
    if records.manifest is not None:
      rows = rows[:1]
    first = cls._of_row(records, rows[0])
    for row in rows[1:]:
      other = cls._of_row(records, row)
      for field in dataclasses.fields(cls):
        expected, actual = (getattr(x, field.name) for x in (first, other))
        if actual != expected:
          raise InputError(
            f'{records.place(row)} is of another form than that of the first '
            f'file, {records.sources[0].name}: {field.name} is {actual}, not '
            f'{expected}; put files of one form alone in a directory.'
          )
    return first

  @classmethod
  def _of_row(cls, records: Records, row: int) -> 'Form':
    rows = np.array([row])
    with _Blame(records, rows):
      examples = Examples(records.read(rows))
      names = examples.names()
      ids_name = id_names(names)[0]
      ids = examples.integers(ids_name)
      _require(np.array([ids.size > 0]), 'has no tokens')
      is_static = _POSITIONS in names
      return cls(
        max_length=ids.shape[1],
        first_token=int(ids[0, 0]),
        predictions=examples.integers(_POSITIONS).size if is_static else None,
        has_next_sentence=_NEXT_SENTENCE in names,
        ids_name=ids_name,
      )


def _require(is_right: Any, what: str):
  """Raises an `ExampleError` for the first row that is not right."""
  if not is_right.all():
    raise ExampleError(what, int(np.argmin(is_right)))


class _Blame:
  """Adds the file and the record to what is wrong with an example."""

  def __init__(self, records: Records, rows: Int[np.ndarray, 'B']):
    self._records, self._rows = records, rows

  def __enter__(self):
    return None

  def __exit__(self, kind: object, error: BaseException | None, trace: object):
    if isinstance(error, ExampleError):
      what, index = error.args
      place = self._records.place(int(self._rows[index]))
      raise InputError(
        f'{place} {what}; expected an example of BERT pre-training.'
      ) from None
