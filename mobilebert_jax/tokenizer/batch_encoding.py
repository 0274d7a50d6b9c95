"""The result of a tokenizer: a mapping that also knows words and offsets."""

import collections
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Encoding

from mobilebert_jax.runtime.errors import InputError


class CharSpan(NamedTuple):
  """Characters [start, end) of the original text."""

  start: int
  end: int


class TokenSpan(NamedTuple):
  """Tokens [start, end) of an encoded sequence."""

  start: int
  end: int


class BatchEncoding(collections.UserDict):
  """What a tokenizer returns (transformers' `BatchEncoding`).

  A mapping from names to lists or arrays: `out['input_ids']`,
  `out.input_ids` and `model.apply(variables, **out)` all work. An integer
  index gives the `tokenizers.Encoding` of that row. It holds `input_ids`,
  `token_type_ids` and `attention_mask`; offsets, special tokens mask, length
  and overflow mapping only when they were asked for, so that a plain call can
  be handed to a model unchanged.
  """

  def __init__(
    self,
    data: dict[str, Any] | None = None,
    encodings: Sequence[Encoding] | None = None,
    tensor_type: str | None = None,
  ):
    """Wraps lists of integers.

    Args:
      data: the named lists, one row per sequence.
      encodings: the rows' encodings, in the same order, if there are any.
      tensor_type: None, 'np' or 'jax'; see `convert_to_tensors`.

    Raises:
      InputError: the rows cannot be made into arrays of `tensor_type`.
    """
    super().__init__(data or {})
    self._encodings = None if encodings is None else list(encodings)
    self.convert_to_tensors(tensor_type)

  def __getitem__(self, item: Any) -> Any:
    if isinstance(item, str):
      return self.data[item]
    if isinstance(item, slice):
      return {key: value[item] for key, value in self.data.items()}
    return self._rows()[item]

  def __getattr__(self, name: str) -> Any:
    # UserDict sets `data` first; copying and pickling ask before it is there.
    if name != 'data' and name in self.__dict__.get('data', {}):
      return self.data[name]
    raise AttributeError(f'BatchEncoding has no {name!r}')

  @property
  def is_fast(self) -> bool:
    """Whether words and offsets are known (not so after `pad`)."""
    return self._encodings is not None

  @property
  def encodings(self) -> list[Encoding] | None:
    """The `tokenizers.Encoding` of every row, or None."""
    return self._encodings

  @property
  def n_sequences(self) -> int | None:
    """1 for single texts, 2 for pairs, None where unknown."""
    return self._encodings[0].n_sequences if self._encodings else None

  def tokens(self, batch_index: int = 0) -> list[str]:
    """Returns the tokens of one row."""
    return self._rows()[batch_index].tokens

  def word_ids(self, batch_index: int = 0) -> list[int | None]:
    """Returns the word of each token of a row; None for special tokens."""
    return self._rows()[batch_index].word_ids

  def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
    """Returns the text, 0 or 1, of each token; None for special tokens."""
    return self._rows()[batch_index].sequence_ids

  def token_to_sequence(self, row: int, token: int | None = None) -> int | None:
    """Returns a token's text, 0 or 1; call with (token) or (row, token)."""
    encoding, index = self._at(row, token, len)
    return encoding.token_to_sequence(index)

  def token_to_word(self, row: int, token: int | None = None) -> int | None:
    """Returns a token's word; call with (token) or (row, token)."""
    encoding, index = self._at(row, token, len)
    word = encoding.token_to_word(index)
    # The library returns (sequence, word) in some versions, word in others.
    return word[1] if isinstance(word, tuple) else word

  def token_to_chars(
    self, row: int, token: int | None = None
  ) -> CharSpan | None:
    """Returns a token's characters; call with (token) or (row, token)."""
    encoding, index = self._at(row, token, len)
    span = encoding.token_to_chars(index)
    if span is None:
      return None
    return CharSpan(*(span[1] if isinstance(span[1], tuple) else span))

  def char_to_token(
    self, row: int, char: int | None = None, sequence_index: int = 0
  ) -> int | None:
    """Returns a character's token; call with (char) or (row, char)."""
    encoding, index = self._at(row, char)
    return encoding.char_to_token(index, sequence_index)

  def char_to_word(
    self, row: int, char: int | None = None, sequence_index: int = 0
  ) -> int | None:
    """Returns a character's word; call with (char) or (row, char)."""
    encoding, index = self._at(row, char)
    return encoding.char_to_word(index, sequence_index)

  def word_to_tokens(
    self, row: int, word: int | None = None, sequence_index: int = 0
  ) -> TokenSpan | None:
    """Returns a word's tokens; call with (word) or (row, word)."""
    encoding, index = self._at(row, word)
    span = encoding.word_to_tokens(index, sequence_index)
    return None if span is None else TokenSpan(*span)

  def word_to_chars(
    self, row: int, word: int | None = None, sequence_index: int = 0
  ) -> CharSpan | None:
    """Returns a word's characters; call with (word) or (row, word)."""
    encoding, index = self._at(row, word)
    span = encoding.word_to_chars(index, sequence_index)
    return None if span is None else CharSpan(*span)

  def convert_to_tensors(
    self, tensor_type: str | None = None, prepend_batch_axis: bool = False
  ) -> 'BatchEncoding':
    """Turns the lists into int32 arrays, in place.

    transformers gives int64; JAX computes with int32 unless told otherwise,
    and the values are the same.

    Args:
      tensor_type: None (leave lists), 'np' or 'jax'.
      prepend_batch_axis: put every list into a batch of one.

    Returns:
      This object.

    Raises:
      InputError: another `tensor_type`, or rows of different lengths.
    """
    if tensor_type is None:
      return self
    as_array = _array_maker(tensor_type)
    for key, value in self.data.items():
      rows = [value] if prepend_batch_axis else value
      try:
        self.data[key] = as_array(np.asarray(rows, dtype=np.int32))
      except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
          f'{key!r} has rows of different lengths or no integers, which make '
          'no array; use padding=True (and truncation=True).'
        ) from error
    return self

  def _rows(self) -> list[Encoding]:
    if self._encodings is None:
      raise InputError(
        'this batch does not come from text, so words, tokens and offsets '
        'are unknown; call the tokenizer itself.'
      )
    return self._encodings

  def _at(
    self,
    row: int,
    index: int | None,
    size: Callable[[Encoding], int] | None = None,
  ) -> tuple[Encoding, int]:
    """Reads the two calling forms; a negative index counts from the end."""
    if index is None:
      row, index = 0, row
    encoding = self._rows()[row]
    if index < 0 and size is not None:
      index += size(encoding)
    return encoding, index


def _array_maker(tensor_type: str) -> Callable[[np.ndarray], Any]:
  """Returns the function that makes an array of that type of a NumPy one."""
  if tensor_type == 'np':
    return lambda array: array
  if tensor_type == 'jax':
    import jax.numpy as jnp  # Only here: tokenizing needs no device.

    return jnp.asarray
  raise InputError(
    f"return_tensors must be None, 'np' or 'jax', got {tensor_type!r}."
  )
