"""Documents as sequences of tokens that are masked anew in each epoch."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.data.batching.gathering import Gathered
from mobilebert_jax.data.examples.masking import Masking
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.losses import IGNORE_INDEX
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.encoding import room_for_text
from mobilebert_jax.tasks.task import Progress

# Lines given to the tokenizer at once.
_CHUNK = 1000
_SPECIAL = 2


@dataclasses.dataclass(frozen=True, eq=False)
class MaskSequences:
  """`Features.transform`: masks each row and adds the column 'labels'."""

  masking: Masking

  def __call__(
    self,
    columns: Mapping[str, Ragged],
    rows: Int[np.ndarray, 'B'],
    seed: int,
    epoch: int,
  ) -> dict[str, Ragged]:
    ids = columns['input_ids']
    seen, labels = np.empty_like(ids.values), np.empty_like(ids.values)
    for i, row in enumerate(rows):
      part = slice(ids.offsets[i], ids.offsets[i + 1])
      seen[part], labels[part] = self.masking(
        ids.values[part], seed, epoch, int(row)
      )
    masked = {
      'input_ids': Ragged(seen, ids.offsets),
      'labels': Ragged(labels, ids.offsets),
    }
    return {**columns, **masked}


def encode(
  examples: Sequence[Document],
  tokenizer: Any,
  max_length: int,
  progress: Progress | None = None,
  **settings: Any,
) -> Features:
  """Cuts the documents into sequences, which are masked anew in each epoch.

  A sequence that has unknown and special tokens alone has nothing to learn
  and is left out.

  Args:
    examples: The documents.
    tokenizer: Called as transformers' tokenizers are.
    max_length: Longest sequence, special tokens included.
    progress: Called with the documents done and all of them.
    **settings: How to mask: `Masking`'s probability, whole_word, most.

  Returns:
    Columns input_ids, token_type_ids and, by the transform, labels, which
    batches have at their positions alone (masked_positions); the scalar
    column 'document' has the index of each sequence's document.

  Raises:
    InputError: `max_length` leaves no room for text, or no sequence is left.
  """
  room = room_for_text(max_length, _SPECIAL)
  masking = Masking.of(tokenizer, **settings)
  ids, owners = _sequences(examples, tokenizer, masking, room, progress)
  types = Ragged(np.zeros_like(ids.values), ids.offsets)
  return masked_features(
    ids, types, {'document': owners}, tokenizer, masking, max_length, _SPECIAL
  )


def masked_features(
  ids: Ragged,
  types: Ragged,
  scalars: Mapping[str, np.ndarray],
  tokenizer: Any,
  masking: Masking,
  max_length: int,
  special: int,
) -> Features:
  """Sequences that are masked anew in each epoch.

  Args:
    ids: Their tokens.
    types: Their token types.
    scalars: Columns with a number for each.
    tokenizer: Tells the id of [PAD].
    masking: What chooses the tokens to predict.
    max_length: The longest sequence, special tokens included.
    special: Special tokens that each sequence has at least.
  """
  return Features(
    sequences={'input_ids': ids, 'token_type_ids': types},
    scalars=scalars,
    pad={
      'input_ids': tokenizer.pad_token_id,
      'token_type_ids': 0,
      'labels': IGNORE_INDEX,
    },
    max_length=max_length,
    transform=MaskSequences(masking),
    gather=gathered(masking, max_length, special),
  )


def nothing_to_learn(examples: Sequence[Document]) -> InputError:
  """What to raise where every sequence has been left out."""
  return InputError(
    f'the text, {examples[0].id} and others, has no token that the tokenizer '
    'knows; use a tokenizer for its language'
  )


def gathered(masking: Masking, max_length: int, special: int) -> Gathered:
  """Labels at the masked positions alone.

  Args:
    masking: what chooses them.
    max_length: the longest sequence, special tokens included.
    special: special tokens that each sequence has at least.
  """
  sizes = range(max_length + 1)
  return Gathered(tuple(masking.limit(max(n - special, 0)) for n in sizes))


def _sequences(
  examples: Sequence[Document],
  tokenizer: Any,
  masking: Masking,
  room: int,
  progress: Progress | None,
) -> tuple[Ragged, Int[np.ndarray, 'N']]:
  """The sequences' tokens and the index of each one's document."""
  rows: list[np.ndarray] = []
  owners: list[int] = []
  first, last = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
  for index, tokens in enumerate(_tokenised(examples, tokenizer)):
    for start in range(0, len(tokens), room):
      part = tokens[start : start + room]
      if not masking.is_special[part].all():
        rows.append(np.concatenate([first, part, last], dtype=np.int32))
        owners.append(index)
    if progress:
      progress(index + 1, len(examples))
  if not rows:
    raise nothing_to_learn(examples)
  offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
  return Ragged(np.concatenate(rows), offsets), np.array(owners, np.int32)


def _tokenised(
  examples: Sequence[Document], tokenizer: Any
) -> Iterator[Int[np.ndarray, 'tokens']]:
  """Each document's tokens; many lines go to the tokenizer at once."""
  lines = (
    (index, line)
    for index, example in enumerate(examples)
    for line in example.lines()
  )
  parts: list[list[int]] = []
  current = 0
  for chunk in _chunks(lines):
    encoded = tokenizer(
      [line for _, line in chunk], add_special_tokens=False, padding=False
    )
    for (index, _), ids in zip(chunk, encoded['input_ids'], strict=True):
      if index != current:
        yield _joined(parts)
        parts, current = [], index
      parts.append(ids)
  if examples:
    yield _joined(parts)


def _joined(parts: list[list[int]]) -> Int[np.ndarray, 'tokens']:
  return np.array([i for part in parts for i in part], np.int32)


def _chunks(lines: Iterator[tuple[int, str]]) -> Iterator[Any]:
  while chunk := list(itertools.islice(lines, _CHUNK)):
    yield chunk
