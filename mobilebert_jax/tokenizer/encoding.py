"""From rows of text to encodings, with truncation and padding."""

import threading
from collections.abc import Sequence
from typing import Any

import tokenizers

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer.strategies import Strategy, check_room
from mobilebert_jax.tokenizer.text_input import name_unencodable


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
        "give text_pair or use 'only_first'"
      ) from error
    if strategy is not None and 'too short to respect' in message:
      raise InputError(
        f'truncation={strategy.truncation!r} cannot bring a row to '
        f'max_length={strategy.max_length}, since its other text alone is '
        "too long; use 'longest_first'"
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
