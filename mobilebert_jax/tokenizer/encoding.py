"""Encodes texts: accepted forms of input, then the backend."""

import threading
from collections.abc import Sequence
from typing import Any

import tokenizers

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer.padding_truncation import Strategy, check_room

# A text is a string, or a list of words if split already.
Text = str | Sequence[str]


def as_batch(
  text: Any, text_pair: Any, is_split_into_words: bool
) -> tuple[list[Any], bool]:
  """Brings every form of input that transformers accepts to a list of rows.

  Args:
    text: a string, a list of strings, or a list of pairs; with
      `is_split_into_words` a list of words, or a list of those (or of pairs).
    text_pair: the second texts in the same form, or None.
    is_split_into_words: whether a text is a list of words.

  Returns:
    The rows (texts, or tuples of two texts) and whether `text` was a batch.

  Raises:
    InputError: anything else; names the place of the first wrong item.
  """
  if text is None:
    raise InputError('text is None; give a string or a list of strings.')
  if not _is_batch(text, is_split_into_words):
    _check_text(text, 'text', is_split_into_words)
    # As in transformers, an empty second text is none for a single input.
    if not text_pair:
      return [text], False
    _check_text(text_pair, 'text_pair', is_split_into_words)
    return [(text, text_pair)], False
  if text_pair is None:
    return [
      _row(item, f'text[{i}]', is_split_into_words)
      for i, item in enumerate(text)
    ], True
  if not isinstance(text_pair, (list, tuple)):
    raise InputError(
      f'text is a list of {len(text)}, so text_pair must be one too, '
      f'got {_kind(text_pair)}.'
    )
  if len(text) != len(text_pair):
    raise InputError(
      f'text has {len(text)} items, but text_pair {len(text_pair)}.'
    )
  for i, (first, second) in enumerate(zip(text, text_pair)):
    _check_text(first, f'text[{i}]', is_split_into_words)
    _check_text(second, f'text_pair[{i}]', is_split_into_words)
  return list(zip(text, text_pair)), True


def name_unencodable(rows: Sequence[Any]) -> None:
  """Finds the text that cannot be written in UTF-8.

  Raises:
    InputError: always if there is one, with its place.
  """
  for i, row in enumerate(rows):
    for text in _strings(row):
      try:
        text.encode('utf-8')
      except UnicodeEncodeError as error:
        raise InputError(
          f'text[{i}] has half of a surrogate pair at character '
          f'{error.start}, which is no valid Unicode.'
        ) from error


def _is_batch(text: Any, is_split_into_words: bool) -> bool:
  if not isinstance(text, (list, tuple)):
    return False
  if not is_split_into_words:
    return True
  return bool(text) and isinstance(text[0], (list, tuple))


def _row(item: Any, where: str, is_split_into_words: bool) -> Any:
  """Returns a text, or a pair of texts given as a tuple or list of two."""
  whole = (list, tuple)
  if is_split_into_words:
    is_pair = (
      isinstance(item, whole) and len(item) == 2 and isinstance(item[0], whole)
    )
  else:
    is_pair = isinstance(item, whole) and len(item) == 2
  if is_pair:
    for text in item:
      _check_text(text, where, is_split_into_words)
    return tuple(item)
  _check_text(item, where, is_split_into_words)
  return item


def _check_text(text: Any, where: str, is_split_into_words: bool) -> None:
  if not is_split_into_words:
    if not isinstance(text, str):
      raise InputError(f'{where} is {_kind(text)}; a text must be a string.')
    return
  if not isinstance(text, (list, tuple)):
    raise InputError(
      f'{where} is {_kind(text)}; with is_split_into_words=True a text must '
      'be a list of words.'
    )
  for i, word in enumerate(text):
    if not isinstance(word, str):
      raise InputError(
        f'{where}[{i}] is {_kind(word)}; a word must be a string.'
      )


def _kind(value: Any) -> str:
  """Returns what a message calls a value of the wrong type."""
  if value is None:
    return 'None'
  if isinstance(value, (bool, int, float)):
    return f'the number {value!r}'
  return f'of type {type(value).__name__}'


def _strings(row: Any) -> list[str]:
  if isinstance(row, str):
    return [row]
  return [text for part in row for text in _strings(part)]


class BackendLock:
  """Guards the one truncation and padding state that a backend has.

  Threads of a data loader may share a tokenizer. Copies and pickles get a
  lock of their own.
  """

  def __init__(self):
    self._lock = threading.Lock()

  def __enter__(self):
    self._lock.acquire()

  def __exit__(self, *error):
    self._lock.release()

  def __reduce__(self):
    return (BackendLock, ())


def encode_rows(
  backend: tokenizers.Tokenizer,
  rows: Sequence[Any],
  strategy: Strategy,
  *,
  add_special_tokens: bool,
  is_split_into_words: bool,
  split_special_tokens: bool,
  truncation_side: str,
  padding: dict[str, Any],
) -> list[tokenizers.Encoding]:
  """Encodes rows; the caller holds the backend's lock.

  Args:
    backend: the pipeline; its truncation and padding state is overwritten.
    rows: texts, or tuples of two texts.
    strategy: how to cut and pad.
    add_special_tokens: frame the rows with [CLS] and [SEP].
    is_split_into_words: a text is a list of words.
    split_special_tokens: treat '[MASK]' and the like as ordinary text.
    truncation_side: where tokens are cut off.
    padding: `pad_id`, `pad_token` and `pad_type_id`.

  Returns:
    One encoding per row; overflowing parts hang on it.

  Raises:
    InputError: no valid Unicode, or a truncation that cannot be done.
  """
  backend.encode_special_tokens = split_special_tokens
  backend.no_truncation()
  backend.no_padding()
  if strategy.truncation is not None:
    # `resolve` drops a truncation whose length nobody knows.
    assert strategy.max_length is not None
    _check_truncation(
      backend, rows, strategy, add_special_tokens, is_split_into_words
    )
    backend.enable_truncation(
      strategy.max_length,
      stride=strategy.stride,
      strategy=strategy.truncation,
      direction=truncation_side,
    )
  if strategy.padding is not None:
    backend.enable_padding(
      length=strategy.max_length if strategy.padding == 'max_length' else None,
      direction=strategy.padding_side,
      pad_to_multiple_of=strategy.pad_to_multiple_of,
      **padding,
    )
  return _encode(
    backend, rows, add_special_tokens, is_split_into_words, strategy
  )


def _encode(
  backend: tokenizers.Tokenizer,
  rows: Sequence[Any],
  add_special_tokens: bool,
  is_split_into_words: bool,
  strategy: Strategy | None = None,
) -> list[tokenizers.Encoding]:
  try:
    return backend.encode_batch(
      list(rows),
      add_special_tokens=add_special_tokens,
      is_pretokenized=is_split_into_words,
    )
  except TypeError:
    name_unencodable(rows)
    raise
  except Exception as error:
    # The library raises a bare Exception, with these words.
    message = str(error)
    if strategy is not None and 'Second sequence not provided' in message:
      raise InputError(
        "truncation='only_second' needs a second text, but a row has none; "
        "give text_pair or use 'only_first'."
      ) from error
    if strategy is not None and 'too short to respect' in message:
      raise InputError(
        f'truncation={strategy.truncation!r} cannot bring a row to '
        f'max_length={strategy.max_length}, since its other text alone is '
        "too long; use 'longest_first'."
      ) from error
    raise


def _check_truncation(
  backend: tokenizers.Tokenizer,
  rows: Sequence[Any],
  strategy: Strategy,
  add_special_tokens: bool,
  is_split_into_words: bool,
) -> None:
  """Finds what the backend would answer with a panic or ignore."""
  # A row of words is a list, so only tuples with two texts are pairs.
  text = (list, tuple) if is_split_into_words else str
  pairs = [
    row
    for row in rows
    if isinstance(row, tuple) and len(row) == 2 and isinstance(row[0], text)
  ]
  special = 0
  if add_special_tokens:
    special = backend.num_special_tokens_to_add(bool(pairs))
  lengths: list[tuple[int, int]] = []
  if strategy.stride and pairs:
    first, second = (
      [
        len(encoding.ids)
        for encoding in _encode(
          backend, [row[i] for row in pairs], False, is_split_into_words
        )
      ]
      for i in (0, 1)
    )
    lengths = list(zip(first, second))
  check_room(strategy, special, lengths)
