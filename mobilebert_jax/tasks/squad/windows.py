"""Questions and their texts as windows that fit the model.

A row is [CLS] question [SEP] window [SEP]. The next window of a long text
begins `doc_stride` tokens later, as in google-research's run_squad (the
`stride` of transformers' tokenizers is the overlap instead), until one holds
the end of the text.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from mobilebert_jax.config.task_options import SpanOptions
from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.data.examples.chunks import Progress, in_chunks
from mobilebert_jax.data.readers.squad import Question
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizer

# Columns of the features that only the search for answers reads.
BEGINS = 'answer_begins'
ENDS = 'answer_ends'
EXAMPLE = 'example'

_SPECIAL = 3
_NOWHERE = -1


class Tokens(NamedTuple):
  """A text's tokens: ids, and characters [begins, ends) of each; int32 [T]."""

  ids: Int[np.ndarray, 'T']
  begins: Int[np.ndarray, 'T']
  ends: Int[np.ndarray, 'T']


class Window(NamedTuple):
  """One window; see `encode` for the columns."""

  columns: dict[str, Int[np.ndarray, 'S']]
  target: tuple[int, int]


def encode(
  options: SpanOptions,
  examples: Sequence[Question],
  tokenizer: MobileBertTokenizer,
  max_length: int,
  progress: Progress | None = None,
) -> Features:
  """Cuts each text into windows and finds the answer's tokens in them.

  Args:
    options: how to cut.
    examples: the questions.
    tokenizer: makes the tokens.
    max_length: tokens of a window with its question and 3 special tokens.
    progress: called with the questions done and all of them.

  Returns:
    One row per window, the windows of a question side by side. Sequence
    columns: input_ids; token_type_ids (1 for the text); answer_begins: the
    character of the text where an answer begins that begins at this token, -1
    where none may begin: outside the text, or where another window shows more
    of what stands around the token; answer_ends: the character behind an
    answer that ends here, -1 outside the text. Scalar columns, int32: example
    (the index of the question), and, if all questions have known answers,
    start_positions and end_positions: the tokens of `Question.span`, or 0,
    [CLS], where the window does not hold all of it or there is none.

  Raises:
    InputError: `max_length` leaves no room for the text.
  """
  _check_room(options, max_length)
  rows: list[Window] = []
  numbers: list[int] = []
  known: dict[str, Tokens] = {}
  for start, chunk in in_chunks(examples, progress):
    asked = [example.question for example in chunk]
    queries = tokenizer(asked, add_special_tokens=False, verbose=False)
    _tokenize_contexts(chunk, tokenizer, known)
    for number, (example, query) in enumerate(
      zip(chunk, queries['input_ids']), start
    ):
      query = query[: options.max_query_length]
      windows = list(
        _rows(example, query, known[example.context], tokenizer, options,
              max_length)
      )  # fmt: skip
      rows += windows
      numbers += [number] * len(windows)
  return _features(examples, rows, numbers, tokenizer, max_length)


def _check_room(options: SpanOptions, max_length: int) -> None:
  if max_length <= options.max_query_length + _SPECIAL:
    raise InputError(
      f'config.data.max_length is {max_length}, but a question may take '
      f'{options.max_query_length} tokens (config.options.max_query_length) '
      'and '
      f'{_SPECIAL} go to special tokens, which leaves none for the text; use '
      f'at least {options.max_query_length + _SPECIAL + 1}.'
    )


def cut(length: int, room: int, stride: int) -> list[tuple[int, int]]:
  """Cuts `length` tokens into windows [start, stop), at least one.

  Args:
    length: tokens of the text.
    room: tokens of a window.
    stride: from the start of a window to the next; a stride beyond `room`
      counts as `room`, so that no token is left out.
  """
  step = min(stride, room)
  last = max(0, -(-(length - room) // step))
  return [(i * step, min(i * step + room, length)) for i in range(last + 1)]


def has_max_context(
  windows: Sequence[tuple[int, int]],
) -> list[Bool[np.ndarray, 'T']]:
  """Marks the tokens that no other window shows in more context.

  The context of a token in a window is the smaller number of its neighbours
  on either side, plus a hundredth of the window's length; the first window
  wins a tie. (The rule of run_squad.)
  """
  length = windows[-1][1]
  best = np.full(length, -1.0)
  owner = np.zeros(length, np.int32)
  for number, (start, stop) in enumerate(windows):
    left = np.arange(stop - start)
    context = np.minimum(left, left[::-1]) + 0.01 * (stop - start)
    better = context > best[start:stop]
    best[start:stop][better] = context[better]
    owner[start:stop][better] = number
  return [owner[a:b] == number for number, (a, b) in enumerate(windows)]


def _tokenize_contexts(
  examples: Sequence[Question],
  tokenizer: MobileBertTokenizer,
  known: dict[str, Tokens],
) -> None:
  """Adds the tokens of the texts that are not known yet, each text once."""
  new = [
    c for c in dict.fromkeys(e.context for e in examples) if c not in known
  ]
  if not new:
    return
  encoded = tokenizer(
    new, add_special_tokens=False, return_offsets_mapping=True, verbose=False
  )
  for text, ids, offsets in zip(
    new, encoded['input_ids'], encoded['offset_mapping']
  ):
    pairs = np.array(offsets, np.int32).reshape(-1, 2)
    known[text] = Tokens(np.array(ids, np.int32), pairs[:, 0], pairs[:, 1])


def _rows(
  example: Question,
  query: Sequence[int],
  tokens: Tokens,
  tokenizer: MobileBertTokenizer,
  options: SpanOptions,
  max_length: int,
) -> Iterator[Window]:
  """Yields the windows of one question."""
  room = max_length - len(query) - _SPECIAL
  windows = cut(len(tokens.ids), room, options.doc_stride)
  head = [tokenizer.cls_token_id, *query, tokenizer.sep_token_id]
  target = _tokens_of(example.span(), tokens)
  for (start, stop), is_best in zip(windows, has_max_context(windows)):
    size = stop - start
    text = slice(len(head), len(head) + size)
    ids = np.array([*head, *[0] * size, tokenizer.sep_token_id], np.int32)
    ids[text] = tokens.ids[start:stop]
    types = np.zeros_like(ids)
    types[len(head) :] = 1
    begins, ends = np.full_like(ids, _NOWHERE), np.full_like(ids, _NOWHERE)
    begins[text] = np.where(is_best, tokens.begins[start:stop], _NOWHERE)
    ends[text] = tokens.ends[start:stop]
    place = (0, 0)
    if target and start <= target[0] and target[1] < stop:
      shift = len(head) - start
      place = (target[0] + shift, target[1] + shift)
    columns = {
      'input_ids': ids, 'token_type_ids': types, BEGINS: begins, ENDS: ends
    }  # fmt: skip
    yield Window(columns, place)


def _tokens_of(
  span: tuple[int, int] | None, tokens: Tokens
) -> tuple[int, int] | None:
  """Returns the first and last token that have characters of the span."""
  if span is None:
    return None
  first = int(np.searchsorted(tokens.ends, span[0], side='right'))
  last = int(np.searchsorted(tokens.begins, span[1], side='left')) - 1
  return (first, last) if first <= last else None


def _features(
  examples: Sequence[Question],
  rows: Sequence[Window],
  numbers: Sequence[int],
  tokenizer: MobileBertTokenizer,
  max_length: int,
) -> Features:
  lengths = [len(row.columns['input_ids']) for row in rows]
  offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
  pad = {
    'input_ids': tokenizer.pad_token_id,
    'token_type_ids': 0,
    BEGINS: _NOWHERE,
    ENDS: _NOWHERE,
  }
  empty = np.zeros(0, np.int32)
  sequences = {
    name: Ragged(
      np.concatenate([empty, *(row.columns[name] for row in rows)]), offsets
    )
    for name in pad
  }
  scalars = {EXAMPLE: np.array(numbers, np.int32)}
  if all(example.answers is not None for example in examples):
    targets = np.array([row.target for row in rows], np.int32).reshape(-1, 2)
    scalars['start_positions'] = targets[:, 0]
    scalars['end_positions'] = targets[:, 1]
  return Features(
    sequences=sequences, scalars=scalars, pad=pad, max_length=max_length
  )
