"""Special tokens: attributes, added tokens, the frame around ids."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer.vocabulary import added_token

# In transformers' order, which `all_special_tokens` shows.
NAMES = ('unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token')
# transformers 4 and 5 call the further ones differently.
EXTRA_NAMES = ('additional_special_tokens', 'extra_special_tokens')


class _Token:
  """The text of a named special token."""

  def __set_name__(self, owner: type, name: str):
    self._name = name

  def __get__(self, instance: 'SpecialTokens', owner: type) -> str:
    return str(instance._named[self._name])

  def __set__(self, instance: 'SpecialTokens', value: Any):
    instance._assign(self._name, value)


class _TokenId:
  """The id of a named special token."""

  def __set_name__(self, owner: type, name: str):
    self._name = name.removesuffix('_id')

  def __get__(self, instance: 'SpecialTokens', owner: type) -> int:
    token = instance._named[self._name]
    return instance.convert_tokens_to_ids(str(token))

  def __set__(self, instance: 'SpecialTokens', value: int):
    token = instance._tokenizer.id_to_token(value)
    if token is None:
      raise InputError(f'{self._name}_id: no token has the id {value!r}.')
    instance._assign(self._name, token)


class SpecialTokens:
  """The part of a tokenizer that knows special and added tokens.

  The five named tokens always exist. Assigning to one (`pad_token = '<p>'`)
  makes another token of the vocabulary play its part.
  """

  model_max_length: int
  _tokenizer: tokenizers.Tokenizer
  _named: dict[str, AddedToken]
  _extra: list[AddedToken]

  unk_token = _Token()
  sep_token = _Token()
  pad_token = _Token()
  cls_token = _Token()
  mask_token = _Token()
  unk_token_id = _TokenId()
  sep_token_id = _TokenId()
  pad_token_id = _TokenId()
  cls_token_id = _TokenId()
  mask_token_id = _TokenId()
  pad_token_type_id = 0

  def add_tokens(
    self,
    new_tokens: str | AddedToken | Sequence[str | AddedToken],
    special_tokens: bool = False,
  ) -> int:
    """Appends tokens to the vocabulary; those in it keep their ids.

    The model's word table must grow with it:
    `resize_token_embeddings(model, params, len(tokenizer))`.

    Args:
      new_tokens: one or several tokens.
      special_tokens: match before normalization and skip when decoding.

    Returns:
      How many are matched whole from now on: new tokens, and those of the
      base vocabulary that were not added before (as in transformers).

    Raises:
      InputError: something that is no token.
    """
    if isinstance(new_tokens, (str, AddedToken)):
      new_tokens = [new_tokens] if str(new_tokens) else []
    tokens = [_plain(t, f'new_tokens[{i}]') for i, t in enumerate(new_tokens)]
    add = (
      self._tokenizer.add_special_tokens
      if special_tokens
      else self._tokenizer.add_tokens
    )
    return add(tokens)

  def add_special_tokens(
    self,
    special_tokens_dict: Mapping[str, Any],
    replace_extra_special_tokens: bool = True,
  ) -> int:
    """Adds special tokens and lets them play the named parts.

    Args:
      special_tokens_dict: a token for any of `unk_token`, `sep_token`,
        `pad_token`, `cls_token`, `mask_token`, and a list of tokens for
        `additional_special_tokens` (also `extra_special_tokens`).
      replace_extra_special_tokens: whether that list replaces the present one
        or extends it.

    Returns:
      How many tokens were added, counted as in `add_tokens`.

    Raises:
      InputError: another name, or something that is no token.
    """
    named: dict[str, AddedToken] = {}
    extra: list[AddedToken] = []
    for name, value in special_tokens_dict.items():
      if name in NAMES:
        named[name] = special_token(value, name)
      elif name in EXTRA_NAMES:
        extra += special_list(value, name)
      else:
        allowed = ', '.join((*NAMES, EXTRA_NAMES[0]))
        raise InputError(
          f'{name!r} is no special token; choose from {allowed}.'
        )
    new = [t for t in extra if str(t) not in self.extra_special_tokens]
    count = self._tokenizer.add_special_tokens([*named.values(), *extra])
    if extra:
      self._extra = extra if replace_extra_special_tokens else self._extra + new
    for name, token in named.items():
      self._assign(name, token)
    return count

  @property
  def special_tokens_map(self) -> dict[str, str]:
    """The five named tokens."""
    return {name: str(self._named[name]) for name in NAMES}

  @property
  def extra_special_tokens(self) -> list[str]:
    """Special tokens without a name."""
    return [str(token) for token in self._extra]

  @property
  def additional_special_tokens(self) -> list[str]:
    """`extra_special_tokens` under its name in transformers 4."""
    return self.extra_special_tokens

  @property
  def all_special_tokens(self) -> list[str]:
    """Named and further special tokens, each once."""
    tokens = [*self.special_tokens_map.values(), *self.extra_special_tokens]
    return list(dict.fromkeys(tokens))

  @property
  def all_special_ids(self) -> list[int]:
    """The ids of `all_special_tokens`."""
    return [self.convert_tokens_to_ids(t) for t in self.all_special_tokens]

  @property
  def added_tokens_decoder(self) -> dict[int, AddedToken]:
    """Id to token, for special tokens and those added later."""
    return self._tokenizer.get_added_tokens_decoder()

  @property
  def added_tokens_encoder(self) -> dict[str, int]:
    """Token to id, for special tokens and those added later."""
    added = sorted(self.added_tokens_decoder.items())
    return {token.content: index for index, token in added}

  def get_added_vocab(self) -> dict[str, int]:
    """Returns `added_tokens_encoder`."""
    return self.added_tokens_encoder

  def convert_tokens_to_ids(self, tokens: Any) -> Any:
    """Returns the id of a token, or the ids of a list; [UNK]'s if unknown.

    Raises:
      InputError: something that is no string.
    """
    if isinstance(tokens, str):
      index = self._tokenizer.token_to_id(tokens)
      if index is None:
        index = self._tokenizer.token_to_id(str(self._named['unk_token']))
      return index
    if not isinstance(tokens, Iterable):
      raise InputError(f'a token must be a string, got {tokens!r}.')
    return [self.convert_tokens_to_ids(token) for token in tokens]

  def num_special_tokens_to_add(self, pair: bool = False) -> int:
    """Returns the number of special tokens of a row: 2, or 3 for a pair."""
    return self._tokenizer.num_special_tokens_to_add(pair)

  @property
  def max_len_single_sentence(self) -> int:
    """Tokens of a text that fit beside the special tokens."""
    return self.model_max_length - self.num_special_tokens_to_add(False)

  @property
  def max_len_sentences_pair(self) -> int:
    """Tokens of a pair that fit beside the special tokens."""
    return self.model_max_length - self.num_special_tokens_to_add(True)

  def build_inputs_with_special_tokens(
    self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
  ) -> list[int]:
    """Returns the ids `[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]`."""
    first = [self.cls_token_id, *token_ids_0, self.sep_token_id]
    if token_ids_1 is None:
      return first
    return [*first, *token_ids_1, self.sep_token_id]

  def create_token_type_ids_from_sequences(
    self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
  ) -> list[int]:
    """Returns 0 for each of `[CLS] A [SEP]` and 1 for each of `B [SEP]`."""
    first = [0] * (len(token_ids_0) + 2)
    if token_ids_1 is None:
      return first
    return first + [1] * (len(token_ids_1) + 1)

  def get_special_tokens_mask(
    self,
    token_ids_0: Sequence[int],
    token_ids_1: Sequence[int] | None = None,
    already_has_special_tokens: bool = False,
  ) -> list[int]:
    """Returns 1 at special tokens, of framed ids or of ids to be framed.

    Raises:
      InputError: a second text beside ids that are framed already.
    """
    if not already_has_special_tokens:
      mask = [1, *(0 for _ in token_ids_0), 1]
      if token_ids_1 is None:
        return mask
      return [*mask, *(0 for _ in token_ids_1), 1]
    if token_ids_1 is not None:
      raise InputError(
        'already_has_special_tokens=True takes one row of ids, not two.'
      )
    special = set(self.all_special_ids)
    return [int(int(index) in special) for index in token_ids_0]

  def _assign_all(
    self,
    named: Mapping[str, Any],
    additional_special_tokens: Sequence[str | AddedToken],
  ) -> None:
    """Lets tokens of the vocabulary play the five parts; adds further ones.

    Raises:
      InputError: a token that the vocabulary lacks, or that is no token.
    """
    tokens = {name: str(special_token(named[name], name)) for name in NAMES}
    # WordPiece itself writes the unknown one: an added token will not do.
    ids = {
      name: self._tokenizer.model.token_to_id(token)
      if name == 'unk_token'
      else self._tokenizer.token_to_id(token)
      for name, token in tokens.items()
    }
    missing = [
      f'{tokens[name]!r} ({name})' for name in NAMES if ids[name] is None
    ]
    if missing:
      raise InputError(
        f'the vocabulary of {self._tokenizer.get_vocab_size()} tokens lacks '
        f'{", ".join(missing)}; add a line for each or name the tokens that '
        "play these parts (cls_token='<s>', say)."
      )
    for name in NAMES:
      self._assign(name, named[name])
    extra = special_list(additional_special_tokens, 'additional_special_tokens')
    if extra:
      self.add_special_tokens({'additional_special_tokens': extra})

  def _assign(self, name: str, value: Any) -> None:
    """Lets a token of the vocabulary play a named part."""
    token = special_token(value, name)
    if self._tokenizer.token_to_id(str(token)) is None:
      raise InputError(
        f'{name}: {str(token)!r} is not in the vocabulary of '
        f'{self._tokenizer.get_vocab_size()} tokens; add it with '
        f'add_special_tokens({{{name!r}: ...}}).'
      )
    self._named[name] = token
    # Known as special already, it would lose its place among added tokens.
    known = self.added_tokens_decoder.values()
    if not any(t.content == token.content and t.special for t in known):
      self._tokenizer.add_special_tokens([token])
    if name == 'unk_token':
      self._tokenizer.model.unk_token = str(token)
    if {'cls_token', 'sep_token'} <= set(self._named):
      self._tokenizer.post_processor = template(
        self.cls_token, self.cls_token_id, self.sep_token, self.sep_token_id
      )


def special_token(value: Any, where: str) -> AddedToken:
  """Makes a special token of a string, an AddedToken or its JSON form.

  Raises:
    InputError: anything else.
  """
  return added_token(value, where, special=True, normalized=False)


def special_list(values: Any, where: str) -> list[AddedToken]:
  """Makes a list of special tokens.

  Raises:
    InputError: no list, or an item that is no token.
  """
  if isinstance(values, Mapping):
    # transformers 4.49 writes an empty mapping where 5 writes a list.
    values = list(values.values())
  if not isinstance(values, (list, tuple)):
    raise InputError(f'{where} must be a list of tokens, got {values!r}.')
  return [special_token(v, f'{where}[{i}]') for i, v in enumerate(values)]


def template(
  cls_token: str, cls_token_id: int, sep_token: str, sep_token_id: int
) -> TemplateProcessing:
  """Returns the frame: `[CLS] A [SEP]`, or `[CLS] A [SEP] B [SEP]`."""
  return TemplateProcessing(
    single=[f'{cls_token}:0', '$A:0', f'{sep_token}:0'],
    pair=[
      f'{cls_token}:0',
      '$A:0',
      f'{sep_token}:0',
      '$B:1',
      f'{sep_token}:1',
    ],
    special_tokens=[(cls_token, cls_token_id), (sep_token, sep_token_id)],
  )


def _plain(token: Any, where: str) -> str | AddedToken:
  if isinstance(token, (str, AddedToken)) and str(token):
    return token
  raise InputError(f'{where}: a token must be a string, got {token!r}.')
