"""What counts as text: one, many, pairs, words; each mistake is located."""

from collections.abc import Sequence
from typing import Any

from mobilebert_jax.runtime.errors import InputError

# A text is a string, or a list of words if split already.
Text = str | Sequence[str]


def as_batch(
  text: Any, text_pair: Any, is_split_into_words: bool
) -> tuple[list[Any], bool]:
  """Brings the forms that transformers accepts to a list of rows.

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
    raise InputError('text is None; give a string or a list of strings')
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
      f'got {_kind(text_pair)}'
    )
  if len(text) != len(text_pair):
    raise InputError(
      f'text has {len(text)} items, but text_pair {len(text_pair)}'
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
          f'{error.start}, which is no valid Unicode'
        ) from error


def _is_batch(text: Any, is_split_into_words: bool) -> bool:
  if not isinstance(text, (list, tuple)):
    return False
  if not is_split_into_words:
    return True
  return bool(text) and isinstance(text[0], (list, tuple))


def _row(item: Any, where: str, is_split_into_words: bool) -> Any:
  """A text, or a pair of texts given as a tuple or list of two."""
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
      raise InputError(f'{where} is {_kind(text)}; a text must be a string')
    return
  if not isinstance(text, (list, tuple)):
    raise InputError(
      f'{where} is {_kind(text)}; with is_split_into_words=True a text must '
      'be a list of words'
    )
  for i, word in enumerate(text):
    if not isinstance(word, str):
      raise InputError(
        f'{where}[{i}] is {_kind(word)}; a word must be a string'
      )


def _kind(value: Any) -> str:
  """How a message calls a value of the wrong type."""
  if value is None:
    return 'None'
  if isinstance(value, (bool, int, float)):
    return f'the number {value!r}'
  return f'of type {type(value).__name__}'


def _strings(row: Any) -> list[str]:
  if isinstance(row, str):
    return [row]
  return [text for part in row for text in _strings(part)]
