"""Reading and checking vocabularies: `vocab.txt` and `tokenizer.json`."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import AddedToken

from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class TokenizerFile:
  """What a `tokenizer.json` says about a WordPiece tokenizer.

  Attributes:
    vocab: the base vocabulary, token to id.
    added: the added tokens with their ids, in order of ids.
    options: those arguments of the tokenizer that the file fixes.
  """

  vocab: dict[str, int]
  added: tuple[tuple[int, AddedToken], ...]
  options: dict[str, Any]


def read_vocab(path: pathlib.Path) -> dict[str, int]:
  """Reads a `vocab.txt`: one token per line, the line number is the id.

  Raises:
    InputError: no such file, not UTF-8, empty, a blank line, or a token on
      two lines (with the line's number).
  """
  try:
    # Only the usual line ends count: U+2028 and others may be tokens.
    with path.open(encoding='utf-8') as lines:
      tokens = [line.removesuffix('\n') for line in lines]
  except OSError as error:
    raise InputError(
      f'{path}: cannot read the vocabulary: {error.strerror}.'
    ) from error
  except UnicodeDecodeError as error:
    raise InputError(
      f'{path}: not a vocabulary in UTF-8 (byte {error.start}).'
    ) from error
  vocab: dict[str, int] = {}
  for number, token in enumerate(tokens, start=1):
    if not token:
      raise InputError(f'{path}:{number}: blank line; give one token per line.')
    if token in vocab:
      raise InputError(
        f'{path}:{number}: {token!r} is already on line {vocab[token] + 1}; '
        'a token must be there once.'
      )
    vocab[token] = number - 1
  if not vocab:
    raise InputError(f'{path}: the vocabulary is empty.')
  return vocab


def as_vocab(tokens: Any) -> dict[str, int]:
  """Checks a vocabulary given as a mapping or a sequence of tokens.

  Raises:
    InputError: not strings, a token twice, or ids other than 0..n-1.
  """
  if isinstance(tokens, Mapping):
    vocab = dict(tokens)
  elif isinstance(tokens, Iterable):
    listed = list(tokens)
    vocab = {token: index for index, token in enumerate(listed)}
    if len(vocab) != len(listed):
      twice = next(t for i, t in enumerate(listed) if vocab[t] != i)
      raise InputError(f'the vocabulary has the token {twice!r} twice.')
  else:
    raise InputError(
      'the vocabulary must be a file name, a dict or a list, '
      f'got {type(tokens).__name__}.'
    )
  for token in vocab:
    if not isinstance(token, str) or not token:
      raise InputError(
        f'the vocabulary has the token {token!r}; tokens must be strings '
        'that are not empty.'
      )
  check_ids(vocab, 'the vocabulary')
  return vocab


def check_ids(vocab: Mapping[str, Any], where: str) -> None:
  """Checks that ids are integers without gaps and repetitions.

  Raises:
    InputError: the ids are not exactly 0..n-1.
  """
  for token, index in vocab.items():
    if isinstance(index, bool) or not isinstance(index, int):
      raise InputError(
        f'{where}: the id of {token!r} is {index!r}, no integer.'
      )
  missing = set(range(len(vocab))) - set(vocab.values())
  if missing or not vocab:
    raise InputError(
      f'{where}: the ids of {len(vocab)} tokens must be 0 to '
      f'{len(vocab) - 1} without gaps, {min(missing, default=0)} is missing.'
    )


def read_tokenizer_json(path: pathlib.Path) -> TokenizerFile:
  """Reads a `tokenizer.json` that describes a BERT tokenizer.

  Raises:
    InputError: no JSON object, another kind of tokenizer (byte-pair encoding,
      say), or a vocabulary with gaps.
  """
  content = files.read_json(path, 'a tokenizer.json')
  model = content.get('model')
  if not isinstance(model, dict):
    raise InputError(f'{path}: has no model; this is no tokenizer.json.')
  vocab = model.get('vocab')
  if not isinstance(vocab, dict):
    raise InputError(f'{path}: model.vocab must map tokens to ids.')
  kind = model.get('type', 'WordPiece')
  if kind != 'WordPiece' or model.get('continuing_subword_prefix') != '##':
    raise InputError(
      f'{path}: the model is {kind} with prefix '
      f'{model.get("continuing_subword_prefix")!r}; MobileBERT needs '
      "WordPiece with '##'."
    )
  check_ids(vocab, f'{path}: model.vocab')
  options = {
    **_normalizer_options(path, content),
    **_side_options(content),
    'unk_token': model.get('unk_token', '[UNK]'),
    'max_input_chars_per_word': model.get('max_input_chars_per_word', 100),
  }
  added = sorted(
    (
      _added_token(path, token) for token in (content.get('added_tokens') or ())
    ),
    key=lambda item: item[0],
  )
  return TokenizerFile(vocab, tuple(added), options)


def added_token(value: Any, where: str, **defaults: bool) -> AddedToken:
  """Makes an added token of a string, an AddedToken or its JSON form.

  Raises:
    InputError: anything else, or an empty string.
  """
  if isinstance(value, AddedToken):
    return value
  if isinstance(value, Mapping):
    fields = {
      key: value[key]
      for key in ('lstrip', 'rstrip', 'single_word', 'normalized', 'special')
      if isinstance(value.get(key), bool)
    }
    defaults, value = {**defaults, **fields}, value.get('content')
  if not isinstance(value, str) or not value:
    raise InputError(
      f'{where}: a token must be a string that is not empty, got {value!r}.'
    )
  return AddedToken(value, **defaults)


def _added_token(path: pathlib.Path, token: Any) -> tuple[int, AddedToken]:
  where = f'{path}: added_tokens'
  if not isinstance(token, dict) or not isinstance(token.get('id'), int):
    raise InputError(f'{where}: {token!r} has no integer id.')
  return token['id'], added_token(token, where)


def _normalizer_options(
  path: pathlib.Path, content: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the basic tokenization's options; two shapes are accepted."""
  normalizer = content.get('normalizer') or {}
  splitter = (content.get('pre_tokenizer') or {}).get('type')
  kind = normalizer.get('type')
  if kind == 'BertNormalizer' and splitter == 'BertPreTokenizer':
    return {
      'do_lower_case': normalizer.get('lowercase', True),
      'strip_accents': normalizer.get('strip_accents'),
      'tokenize_chinese_chars': normalizer.get('handle_chinese_chars', True),
    }
  if kind in (None, 'Sequence') and splitter == 'WhitespaceSplit':
    return {'do_basic_tokenize': False}
  raise InputError(
    f'{path}: normalizer {kind} with pre-tokenizer {splitter} is not how BERT '
    'tokenizes; it must be BertNormalizer with BertPreTokenizer.'
  )


def _side_options(content: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the sides in a saved state of padding and truncation."""
  sides = {}
  for entry, option in (
    ('padding', 'padding_side'),
    ('truncation', 'truncation_side'),
  ):
    direction = (content.get(entry) or {}).get('direction')
    if direction is not None:
      sides[option] = direction.lower()
  return sides
