"""From tagged sentences to rows of tokens with labels."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.data.readers import iob
from mobilebert_jax.data.readers.conll import Sentence
from mobilebert_jax.losses import IGNORE_INDEX
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.encoding import in_chunks, room_for_text
from mobilebert_jax.tasks.tagging import windows as tagging_windows
from mobilebert_jax.tasks.task import Progress

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
  tokenizer: Any,
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
    tokenizer: Called as transformers' tokenizers are.
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
      f'tokens; use at most {capacity - 1}'
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
    raise InputError('the tokenizer leaves no token of any sentence')
  return _features(rows, tokenizer, max_length)


def _pieces(
  encoded: Any, index: int, count: int, capacity: int
) -> list[list[int]]:
  """The tokens of each word, as many as a row holds."""
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
  """The number of a continuation's tag, which the data need not have."""
  if tag not in labels:
    raise InputError(
      f'{sentence.place(place)}: config.options.label_all_subtokens needs the '
      'tag '
      f'{tag} for the tokens behind the first one; add it to '
      'config.options.labels'
    )
  return labels.index(tag)


def _rows(
  words: Sequence[_Word], capacity: int, stride: int
) -> Iterator[list[_Word]]:
  """The words of each row; those that another row decides are unlabelled."""
  lengths = [len(word.tokens) for word in words]
  windows = tagging_windows.split(lengths, capacity, stride)
  decider = tagging_windows.deciders(lengths, windows)
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
  rows: Sequence[Sequence[_Word]], tokenizer: Any, max_length: int
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
