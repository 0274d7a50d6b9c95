"""Tagged sentences as rows of tokens; a long one is cut into windows.

Each word is decided by one of its windows.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.data.examples.chunks import (
  Progress,
  in_chunks,
  room_for_text,
)
from mobilebert_jax.data.readers.conll import Sentence
from mobilebert_jax.losses import IGNORE_INDEX
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.tagging import iob
from mobilebert_jax.tokenizer import MobileBertTokenizer


def split_words(
  lengths: Sequence[int], capacity: int, stride: int
) -> list[range]:
  """Cuts a sentence at the borders of words.

  Each window is as full as it can be, and begins with the last words of the
  one before it, as many as fit in `stride` tokens and leave room for the next
  new word.

  Args:
    lengths: Tokens of each word, at most `capacity`; words without tokens cost
      nothing.
    capacity: Tokens that a window holds, at least 1.
    stride: Tokens that a window may repeat, less than `capacity`.

  Returns:
    The words of each window. Every word is in one window at least.
  """
  windows: list[range] = []
  start = end = 0
  while end < len(lengths):
    # The overlap must leave room for the first word that is new.
    room = min(stride, capacity - lengths[end])
    start, used = end, 0
    while windows and start > 0 and used + lengths[start - 1] <= room:
      start -= 1
      used += lengths[start]
    while end < len(lengths) and used + lengths[end] <= capacity:
      used += lengths[end]
      end += 1
    windows.append(range(start, end))
  return windows


def deciders(
  lengths: Sequence[int], windows: Sequence[range]
) -> Int[np.ndarray, 'words']:
  """Returns for each word the window that sees most on both sides.

  The rule of BERT's SQuAD script: the smaller one of the tokens to the left
  and to the right counts; the earlier window wins a tie.
  """
  ends = np.cumsum(lengths)
  begins = ends - np.asarray(lengths)
  best = np.full(len(lengths), -1, np.int64)
  decider = np.zeros(len(lengths), np.int64)
  for number, window in enumerate(windows):
    words = slice(window.start, window.stop)
    left = begins[words] - begins[window.start]
    right = ends[window.stop - 1] - ends[words]
    context = np.minimum(left, right)
    better = context > best[words]
    decider[words][better] = number
    best[words][better] = context[better]
  return decider


# The column that says which word's tag is read at a position: the word's
# number among all words of the split, or -1.
WORDS = 'words'
_SPECIAL = 2


class _Word(NamedTuple):
  """A word's tokens, the label of each, and the word's number."""

  tokens: list[int]
  labels: list[int]
  number: int


def encode(
  labels: Sequence[str],
  examples: Sequence[Sentence],
  tokenizer: MobileBertTokenizer,
  max_length: int,
  progress: Progress | None = None,
  *,
  label_all_subtokens: bool,
  stride: int,
) -> Features:
  """Tokenises sentences; one that is too long becomes several rows.

  Every word that has tokens is labelled and read in exactly one row: the one
  that sees most on both of its sides. A word longer than a row is cut, and a
  sentence without any token has no row.

  Args:
    labels: The tags in IOB2, in the order of the logits.
    examples: Sentences with known tags.
    tokenizer: Makes the tokens.
    max_length: Longest row, special tokens included.
    progress: Called with the sentences done and all of them.
    label_all_subtokens: See `TaggingOptions`.
    stride: See `TaggingOptions`.

  Returns:
    Sequence columns input_ids, token_type_ids, labels (-100: none) and words.

  Raises:
    InputError: `max_length` leaves no room, the stride does not fit, or the
      tokenizer leaves nothing of any sentence.
  """
  capacity = room_for_text(max_length, _SPECIAL)
  if stride >= capacity:
    raise InputError(
      f'config.options.stride is {stride}, but a row has room for {capacity} '
      f'tokens; use at most {capacity - 1}.'
    )
  rows: list[list[_Word]] = []
  number = 0
  for _, chunk in in_chunks(examples, progress):
    encoded = tokenizer(
      [list(sentence.words) for sentence in chunk],
      is_split_into_words=True,
      add_special_tokens=False,
      truncation=False,
      padding=False,
      verbose=False,
    )
    for index, sentence in enumerate(chunk):
      pieces = _pieces(encoded, index, len(sentence.words), capacity)
      words = _words(sentence, pieces, labels, number, label_all_subtokens)
      rows += _rows(words, capacity, stride)
      number += len(words)
  if not rows:
    raise InputError('the tokenizer leaves no token of any sentence.')
  return _features(rows, tokenizer, max_length)


def _pieces(
  encoded: Any, index: int, count: int, capacity: int
) -> list[list[int]]:
  """Returns the tokens of each word, as many as a row holds."""
  pieces: list[list[int]] = [[] for _ in range(count)]
  ids, words = encoded['input_ids'][index], encoded.word_ids(index)
  for token, word in zip(ids, words, strict=True):
    if len(pieces[word]) < capacity:
      pieces[word].append(token)
  return pieces


def _words(
  sentence: Sentence,
  pieces: Sequence[list[int]],
  labels: Sequence[str],
  number: int,
  label_all: bool,
) -> list[_Word]:
  words = []
  tags = iob.to_iob2(sentence.tags)
  for place, (tokens, tag) in enumerate(zip(pieces, tags, strict=True)):
    rest = (
      _label(labels, iob.continued(tag), sentence, place)
      if label_all and len(tokens) > 1
      else IGNORE_INDEX
    )
    own = [labels.index(tag), *(rest for _ in tokens[1:])]
    words.append(_Word(tokens, own[: len(tokens)], number + place))
  return words


def _label(
  labels: Sequence[str], tag: str, sentence: Sentence, place: int
) -> int:
  """Returns the index of a continuation's tag, which labels may lack."""
  if tag not in labels:
    raise InputError(
      f'{sentence.place(place)}: config.options.label_all_subtokens needs the '
      'tag '
      f'{tag} for the tokens behind the first one; add it to '
      'config.options.labels.'
    )
  return labels.index(tag)


def _rows(
  words: Sequence[_Word], capacity: int, stride: int
) -> Iterator[list[_Word]]:
  """Yields the words of each row; those that others decide are unlabelled."""
  lengths = [len(word.tokens) for word in words]
  windows = split_words(lengths, capacity, stride)
  decider = deciders(lengths, windows)
  for number, window in enumerate(windows):
    row = [
      word
      if decider[place] == number
      else _Word(word.tokens, [IGNORE_INDEX] * len(word.tokens), -1)
      for place, word in zip(window, words[window.start : window.stop])
    ]
    if any(word.tokens and word.number >= 0 for word in row):
      yield row


def _features(
  rows: Sequence[Sequence[_Word]],
  tokenizer: MobileBertTokenizer,
  max_length: int,
) -> Features:
  def column(first: int, last: int, of: Any) -> Ragged:
    return Ragged.from_rows(
      [first, *(value for word in row for value in of(word)), last]
      for row in rows
    )

  def numbers(word: _Word) -> list[int]:
    return [word.number, *(-1 for _ in word.tokens[1:])][: len(word.tokens)]

  ids = column(
    tokenizer.cls_token_id, tokenizer.sep_token_id, lambda word: word.tokens
  )
  return Features(
    sequences={
      'input_ids': ids,
      'token_type_ids': Ragged(np.zeros_like(ids.values), ids.offsets),
      'labels': column(IGNORE_INDEX, IGNORE_INDEX, lambda word: word.labels),
      WORDS: column(-1, -1, numbers),
    },
    scalars={},
    pad={
      'input_ids': tokenizer.pad_token_id,
      'token_type_ids': 0,
      'labels': IGNORE_INDEX,
      WORDS: -1,
    },
    max_length=max_length,
  )
