"""Dynamic masking of tokens, as BERT's masked language model is trained.

Devlin et al. 2019, section 3.1: 15% of the tokens are to be predicted; of
these 80% become [MASK], 10% a random token, and 10% stay. Which ones is drawn
anew in every epoch (Liu et al. 2019, section 4.1). With whole words (Google's
BERT, May 2019) the pieces of a word are chosen together.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from mobilebert_jax.data.batching.features import Features, Gathered, Ragged
from mobilebert_jax.data.examples.chunks import Progress, room_for_text
from mobilebert_jax.data.random_streams import Stream, philox, unit_interval
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.losses import IGNORE_INDEX
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizer

_CONTINUATION = '##'
_MASKED, _MASKED_OR_RANDOM = 0.8, 0.9
# Pieces of a word at most: BERT's tokenizer makes longer ones [UNK].
_LONGEST_WORD = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Masking:
  """Chooses and replaces the tokens that are to be predicted.

  Attributes:
    mask_id: The id of [MASK].
    is_special: [V], tokens that are neither predicted nor drawn.
    tokens: The vocabulary, by id.
    probability: Share of the tokens to predict.
    whole_word: Choose all pieces of a word together.
    most: Tokens to predict in one sequence at most; None: no limit.
  """

  mask_id: int
  is_special: Bool[np.ndarray, 'V']
  tokens: tuple[str, ...]
  probability: float = 0.15
  whole_word: bool = False
  most: int | None = None

  @classmethod
  def of(cls, tokenizer: MobileBertTokenizer, **settings: Any) -> 'Masking':
    """Makes the masking of a tokenizer's vocabulary."""
    size = len(tokenizer)
    special = np.zeros(size, bool)
    special[list(tokenizer.all_special_ids)] = True
    tokens = tokenizer.convert_ids_to_tokens(list(range(size)))
    return cls(tokenizer.mask_token_id, special, tuple(tokens), **settings)

  @functools.cached_property
  def is_continuation(self) -> Bool[np.ndarray, 'V']:
    """Which tokens go on with a word ('##')."""
    return np.array([token.startswith(_CONTINUATION) for token in self.tokens])

  def __call__(
    self, ids: Int[np.ndarray, 'S'], seed: int, epoch: int, row: int
  ) -> tuple[Int[np.ndarray, 'S'], Int[np.ndarray, 'S']]:
    """Masks one sequence.

    The number of tokens to predict is `probability` of all that are not
    special, rounded, at least 1 and at most `most`. Whole words are taken in
    a random order as far as they fit; where none fits, the shortest one is
    taken if `most` allows it (and if it has 100 pieces at most, as any word of
    BERT's tokenizer has).

    Args:
      ids: The tokens, special ones included, without padding.
      seed: Seed of the run, at least 0.
      epoch: Number of the epoch from 0; -1 for evaluation.
      row: Number of the sequence. The result depends on these four alone.

    Returns:
      What the model sees, and the labels: the old id at the chosen tokens,
      -100 elsewhere; both int32.
    """
    generator = philox(Stream.MASKING, seed, epoch + 1, row)
    order, fate, drawn = generator.random_raw(3 * len(ids)).reshape(3, len(ids))
    chosen = self._choose(ids, order)
    labels = np.full(len(ids), IGNORE_INDEX, np.int32)
    labels[chosen] = ids[chosen]
    share = unit_interval(fate[chosen])
    ordinary = np.flatnonzero(~self.is_special)
    others = ordinary[drawn[chosen] % np.uint64(len(ordinary))]
    seen = ids.astype(np.int32)
    seen[chosen] = np.where(
      share < _MASKED,
      self.mask_id,
      np.where(share < _MASKED_OR_RANDOM, others, ids[chosen]),
    )
    return seen, labels

  def limit(self, ordinary: int) -> int:
    """Returns the largest number of tokens predicted among `ordinary` ones.

    It never falls when there are more. Whole words exceed the share of
    `probability` where none fits it; see `__call__`.
    """
    if not ordinary:
      return 0
    goal = self._goal(ordinary)
    return max(goal, self._longest(ordinary)) if self.whole_word else goal

  def _goal(self, ordinary: int) -> int:
    goal = max(1, round(self.probability * ordinary))
    return goal if self.most is None else min(goal, self.most)

  def _longest(self, ordinary: int) -> int:
    """Returns the most pieces of a word that may exceed the goal."""
    longest = min(ordinary, _LONGEST_WORD)
    return longest if self.most is None else min(longest, self.most)

  def _choose(
    self, ids: Int[np.ndarray, 'S'], order: Int[np.ndarray, 'S']
  ) -> Int[np.ndarray, 'chosen']:
    """Chooses the positions of the tokens to predict."""
    positions = np.flatnonzero(~self.is_special[ids])
    if not len(positions):
      return positions
    goal = self._goal(len(positions))
    if not self.whole_word:
      return positions[np.argsort(order[positions], kind='stable')[:goal]]
    words = self._words(ids, positions)
    words = [words[i] for i in np.argsort([order[w[0]] for w in words])]
    chosen: list[np.ndarray] = []
    left = goal
    for word in words:
      if len(word) <= left:
        chosen.append(word)
        left -= len(word)
      if not left:
        break
    if not chosen:
      shortest = min(words, key=len)
      fits = len(shortest) <= self._longest(len(positions))
      return shortest if fits else positions[:0]
    return np.concatenate(chosen)

  def _words(
    self, ids: Int[np.ndarray, 'S'], positions: Int[np.ndarray, 'P']
  ) -> list[Int[np.ndarray, 'pieces']]:
    """Returns the positions of each word's pieces."""
    follows = np.diff(positions, prepend=-1) == 1
    starts = ~(self.is_continuation[ids[positions]] & follows)
    starts[0] = True
    return np.split(positions, np.flatnonzero(starts)[1:])


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


def encode_documents(
  examples: Sequence[Document],
  tokenizer: MobileBertTokenizer,
  max_length: int,
  progress: Progress | None = None,
  **settings: Any,
) -> Features:
  """Cuts the documents into sequences, which are masked anew in each epoch.

  A sequence that has unknown and special tokens alone has nothing to learn
  and is left out.

  Args:
    examples: The documents.
    tokenizer: Makes the tokens.
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
  tokenizer: MobileBertTokenizer,
  masking: Masking,
  max_length: int,
  special: int,
) -> Features:
  """Makes features of sequences that are masked anew in each epoch.

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
    gather=gathered_labels(masking, max_length, special),
  )


def nothing_to_learn(examples: Sequence[Document]) -> InputError:
  """Makes the error to raise where every sequence has been left out."""
  return InputError(
    f'the text, {examples[0].id} and others, has no token that the tokenizer '
    'knows; use a tokenizer for its language.'
  )


def gathered_labels(
  masking: Masking, max_length: int, special: int
) -> Gathered:
  """Makes the `Gathered` of masked labels.

  Args:
    masking: what chooses them.
    max_length: the longest sequence, special tokens included.
    special: special tokens that each sequence has at least.
  """
  sizes = range(max_length + 1)
  return Gathered(tuple(masking.limit(max(n - special, 0)) for n in sizes))


def _sequences(
  examples: Sequence[Document],
  tokenizer: MobileBertTokenizer,
  masking: Masking,
  room: int,
  progress: Progress | None,
) -> tuple[Ragged, Int[np.ndarray, 'N']]:
  """Returns the sequences' tokens and the index of each one's document."""
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
  examples: Sequence[Document], tokenizer: MobileBertTokenizer
) -> Iterator[Int[np.ndarray, 'tokens']]:
  """Yields each document's tokens; many lines are tokenised at once."""
  lines = (
    (index, line)
    for index, example in enumerate(examples)
    for line in example.lines()
  )
  parts: list[list[int]] = []
  current = 0
  for chunk in _chunks(lines):
    encoded = tokenizer(
      [line for _, line in chunk],
      add_special_tokens=False,
      padding=False,
      verbose=False,
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
