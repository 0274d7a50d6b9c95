"""From ids back to tokens and text."""

from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer.special_tokens import SpecialTokens

# transformers' clean-up of English spacing, in its order.
_CLEAN_UP = (
  (' .', '.'),
  (' ?', '?'),
  (' !', '!'),
  (' ,', ','),
  (" ' ", "'"),
  (" n't", "n't"),
  (" 'm", "'m"),
  (" 's", "'s"),
  (" 've", "'ve"),
  (" 're", "'re"),
)


class Decoding(SpecialTokens):
  """The part of a tokenizer that turns ids into tokens and text."""

  clean_up_tokenization_spaces: bool

  def convert_ids_to_tokens(
    self, ids: Any, skip_special_tokens: bool = False
  ) -> Any:
    """Returns the token of an id, or the tokens of a list or array of ids.

    Args:
      ids: an integer, or integers in a list or one-dimensional array.
      skip_special_tokens: leave out special tokens of a list.

    Returns:
      A token or a list of tokens; None for an id beyond the vocabulary.

    Raises:
      InputError: a negative id, or something that is no integer.
    """
    listed = _as_ids(ids)
    if isinstance(listed, int):
      return self._tokenizer.id_to_token(listed)
    skipped = set(self.all_special_ids) if skip_special_tokens else set()
    return [self._tokenizer.id_to_token(i) for i in listed if i not in skipped]

  def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
    """Joins tokens to text."""
    return self._tokenizer.decoder.decode(list(tokens))

  def decode(
    self,
    token_ids: Any,
    skip_special_tokens: bool = False,
    clean_up_tokenization_spaces: bool | None = None,
  ) -> Any:
    """Turns ids into text; the ids of several rows into a list of texts.

    Ids beyond the vocabulary are left out, as in transformers.

    Args:
      token_ids: an integer, a list or array of them, or rows of those; a
        mapping is read at `input_ids`.
      skip_special_tokens: leave out special tokens.
      clean_up_tokenization_spaces: also join English contractions; None means
        the tokenizer's own setting. The space before punctuation goes in
        either case.

    Returns:
      A string, or a list of strings for rows.

    Raises:
      InputError: a negative id (labels with -100, say), or no integer.
    """
    if isinstance(token_ids, Mapping):
      token_ids = token_ids['input_ids']
    if _is_rows(token_ids):
      return [
        self.decode(row, skip_special_tokens, clean_up_tokenization_spaces)
        for row in token_ids
      ]
    ids = _as_ids(token_ids)
    text = self._tokenizer.decode(
      [ids] if isinstance(ids, int) else ids,
      skip_special_tokens=skip_special_tokens,
    )
    if clean_up_tokenization_spaces is None:
      clean_up_tokenization_spaces = self.clean_up_tokenization_spaces
    if clean_up_tokenization_spaces:
      text = self.clean_up_tokenization(text)
    return text

  def batch_decode(
    self,
    sequences: Any,
    skip_special_tokens: bool = False,
    clean_up_tokenization_spaces: bool | None = None,
  ) -> list[str]:
    """Decodes each row as `decode` does; always returns a list.

    Unlike `decode`, an iterable of single ids is a list of one-id rows only
    in transformers 4; here, as in 5, it is one row.

    Raises:
      InputError: as `decode`.
    """
    text = self.decode(
      sequences, skip_special_tokens, clean_up_tokenization_spaces
    )
    return [text] if isinstance(text, str) else text

  @staticmethod
  def clean_up_tokenization(text: str) -> str:
    """Joins punctuation and English contractions to the word before."""
    for loose, tight in _CLEAN_UP:
      text = text.replace(loose, tight)
    return text


def _is_rows(ids: Any) -> bool:
  if getattr(ids, 'ndim', 0) > 1:
    return True
  return (
    isinstance(ids, (list, tuple))
    and len(ids) > 0
    and (isinstance(ids[0], (list, tuple)) or getattr(ids[0], 'ndim', 0) > 0)
  )


def _as_ids(ids: Any) -> Any:
  """Returns an int or a list of ints, checked."""
  if hasattr(ids, 'tolist'):
    ids = ids.tolist()
  if isinstance(ids, (list, tuple)):
    return [_as_id(value, f'id {i}') for i, value in enumerate(ids)]
  return _as_id(ids, 'the id')


def _as_id(value: Any, where: str) -> int:
  if hasattr(value, 'tolist'):
    value = value.tolist()
  if isinstance(value, bool) or not isinstance(value, int):
    raise InputError(f'{where} is {value!r}; it must be an integer.')
  if not 0 <= value < 2**32:
    raise InputError(
      f'{where} is {value}; ids are not negative (replace the label -100 '
      'before decoding).'
    )
  return value
