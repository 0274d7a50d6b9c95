"""The tokenizer's call: texts in, named rows of integers out."""

import logging
from collections.abc import Sequence
from typing import Any

from tokenizers import Encoding

from mobilebert_jax.tokenizer.batch import BatchEncoding
from mobilebert_jax.tokenizer.encoding import BackendLock, encode_rows
from mobilebert_jax.tokenizer.padding import pad_rows
from mobilebert_jax.tokenizer.special_tokens import SpecialTokens
from mobilebert_jax.tokenizer.strategies import Strategy, resolve
from mobilebert_jax.tokenizer.text_input import as_batch

_LOG = logging.getLogger(__name__)


class Calling(SpecialTokens):
  """The part of a tokenizer that encodes texts and pads rows."""

  _lock: BackendLock
  model_max_length: int
  padding_side: str
  truncation_side: str
  model_input_names: list[str]
  split_special_tokens: bool

  def __call__(
    self,
    text: Any,
    text_pair: Any = None,
    *,
    add_special_tokens: bool = True,
    padding: bool | str = False,
    truncation: bool | str | None = None,
    max_length: int | None = None,
    stride: int = 0,
    is_split_into_words: bool = False,
    pad_to_multiple_of: int | None = None,
    padding_side: str | None = None,
    return_tensors: str | None = None,
    return_token_type_ids: bool | None = None,
    return_attention_mask: bool | None = None,
    return_overflowing_tokens: bool = False,
    return_special_tokens_mask: bool = False,
    return_offsets_mapping: bool = False,
    return_length: bool = False,
    split_special_tokens: bool | None = None,
    verbose: bool = True,
  ) -> BatchEncoding:
    """Encodes a text, a pair, or a list of either.

    Args:
      text: a string, a list of strings, or a list of pairs.
      text_pair: the second text, or one for each of the list.
      add_special_tokens: frame rows with [CLS] and [SEP].
      padding: False, True or 'longest' (longest row), or 'max_length'.
      truncation: False, True or 'longest_first', 'only_first', 'only_second'.
        None means False, or True if `max_length` is given without padding.
      max_length: tokens of a row with special tokens; None means
        `model_max_length`.
      stride: tokens that an overflowing part repeats of the one before.
      is_split_into_words: a text is a list of words.
      pad_to_multiple_of: rounds padded lengths up.
      padding_side: overrides the attribute.
      return_tensors: None (lists), 'np' or 'jax' (int32, always a batch).
      return_token_type_ids: None means as `model_input_names` says.
      return_attention_mask: likewise.
      return_overflowing_tokens: return the parts cut off as further rows, and
        `overflow_to_sample_mapping`.
      return_special_tokens_mask: 1 at special tokens and padding.
      return_offsets_mapping: characters [start, end) of every token.
      return_length: the rows' lengths.
      split_special_tokens: overrides the attribute.
      verbose: warn about rows longer than `model_max_length`.

    Returns:
      A mapping with `input_ids`, `token_type_ids`, `attention_mask` and what
      else was asked for. Lists have no batch axis for a single text, unless
      the overflow is returned.

    Raises:
      InputError: a text of another type (with its index), or an argument that
        is wrong or cannot be met.
    """
    rows, is_batch = as_batch(text, text_pair, is_split_into_words)
    strategy = resolve(
      padding=padding,
      truncation=truncation,
      max_length=max_length,
      stride=stride,
      pad_to_multiple_of=pad_to_multiple_of,
      padding_side=padding_side or self.padding_side,
      model_max_length=self.model_max_length,
    )
    encodings = self._encode_rows(
      rows,
      strategy,
      add_special_tokens=add_special_tokens,
      is_split_into_words=is_split_into_words,
      split_special_tokens=(
        self.split_special_tokens
        if split_special_tokens is None
        else split_special_tokens
      ),
    )
    samples = list(range(len(encodings)))
    if return_overflowing_tokens:
      parts = [(i, p) for i, e in enumerate(encodings) for p in _parts(e)]
      samples = [i for i, _ in parts]
      encodings = [part for _, part in parts]
    data = self._columns(
      encodings,
      token_type_ids=return_token_type_ids,
      attention_mask=return_attention_mask,
      special_tokens_mask=return_special_tokens_mask,
      offset_mapping=return_offsets_mapping,
      length=return_length,
    )
    if return_overflowing_tokens:
      data['overflow_to_sample_mapping'] = samples
    if verbose and strategy.max_length is None:
      self._warn_if_too_long(encodings)
    keeps_batch = is_batch or return_tensors or return_overflowing_tokens
    if not keeps_batch:
      # transformers leaves the length in its list.
      data = {k: v if k == 'length' else v[0] for k, v in data.items()}
    return BatchEncoding(data, encodings, return_tensors)

  def encode(self, text: Any, text_pair: Any = None, **kwargs: Any) -> Any:
    """The `input_ids` alone; arguments as for a call."""
    return self(text, text_pair, **kwargs)['input_ids']

  def tokenize(
    self,
    text: Any,
    pair: Any = None,
    add_special_tokens: bool = False,
    **kwargs: Any,
  ) -> list[str]:
    """The tokens of one text (or pair) as strings."""
    encoded = self(text, pair, add_special_tokens=add_special_tokens, **kwargs)
    return encoded.tokens()

  def pad(
    self,
    encoded_inputs: Any,
    padding: bool | str = True,
    max_length: int | None = None,
    pad_to_multiple_of: int | None = None,
    padding_side: str | None = None,
    return_attention_mask: bool | None = None,
    return_tensors: str | None = None,
    verbose: bool = True,
  ) -> BatchEncoding:
    """Pads rows that are encoded already, as a collate function does.

    Args:
      encoded_inputs: a mapping of names to rows, or a list of mappings with
        one row each; `input_ids`, `token_type_ids`, `attention_mask` and
        `special_tokens_mask` are padded, other names are kept as they are.
      padding: as in a call.
      max_length: as in a call.
      pad_to_multiple_of: as in a call.
      padding_side: as in a call.
      return_attention_mask: make a mask where there is none; None means as
        `model_input_names` says.
      return_tensors: as in a call.
      verbose: accepted for transformers' sake.

    Returns:
      The padded rows.

    Raises:
      InputError: `input_ids` missing, rows that do not belong together, or a
        row longer than `max_length`.
    """
    strategy = resolve(
      padding=padding,
      truncation=False,
      max_length=max_length if padding == 'max_length' else None,
      stride=0,
      pad_to_multiple_of=pad_to_multiple_of,
      padding_side=padding_side or self.padding_side,
      model_max_length=self.model_max_length,
    )
    if return_attention_mask is None:
      return_attention_mask = 'attention_mask' in self.model_input_names
    fillers = {
      'input_ids': self.pad_token_id,
      'token_type_ids': self.pad_token_type_id,
      'attention_mask': 0,
      'special_tokens_mask': 1,
    }
    padded = pad_rows(encoded_inputs, strategy, fillers, return_attention_mask)
    return BatchEncoding(padded, None, return_tensors)

  def _encode_rows(
    self, rows: Sequence[Any], strategy: Strategy, **options: bool
  ) -> list[Encoding]:
    with self._lock:
      return encode_rows(
        self._tokenizer,
        rows,
        strategy,
        truncation_side=self.truncation_side,
        padding={
          'pad_id': self.pad_token_id,
          'pad_token': self.pad_token,
          'pad_type_id': self.pad_token_type_id,
        },
        **options,
      )

  def _columns(
    self, encodings: Sequence[Encoding], **wanted: bool | None
  ) -> dict[str, list]:
    """The named lists, in transformers' order."""
    attributes = {
      'token_type_ids': 'type_ids',
      'attention_mask': 'attention_mask',
      'special_tokens_mask': 'special_tokens_mask',
      'offset_mapping': 'offsets',
    }
    data: dict[str, list] = {'input_ids': [e.ids for e in encodings]}
    for name, attribute in attributes.items():
      want = wanted[name]
      if want is None:
        want = name in self.model_input_names
      if want:
        data[name] = [getattr(e, attribute) for e in encodings]
    if wanted['length']:
      data['length'] = [len(e.ids) for e in encodings]
    return data

  def _warn_if_too_long(self, encodings: Sequence[Encoding]) -> None:
    longest = max((len(e.ids) for e in encodings), default=0)
    if longest > self.model_max_length:
      _LOG.warning(
        'a row has %d tokens, but the model takes %d; use truncation=True',
        longest,
        self.model_max_length,
      )


def _parts(encoding: Encoding) -> list[Encoding]:
  """A row and the parts that were cut off it."""
  return [encoding, *encoding.overflowing]
