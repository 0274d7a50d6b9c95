"""Reads and checks vocabularies: token to id, without gaps."""

import dataclasses
import logging
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import AddedToken

from mobilebert_jax.runtime.errors import InputError

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TokenizerFile:
  """What a file says about a WordPiece tokenizer.

  Attributes:
    vocab: the base vocabulary, token to id.
    added: the added tokens with their ids, in order of ids.
    options: those arguments of the tokenizer that the file fixes.
    bare: the `vocab.txt` that all of this is from, which says nothing of
      capitals and accents; None: another file, or none.
  """

  vocab: dict[str, int]
  added: tuple[tuple[int, AddedToken], ...]
  options: dict[str, Any]
  bare: pathlib.Path | None = None


def read_vocab(path: pathlib.Path) -> dict[str, int]:
  """Reads a `vocab.txt`: one token per line, the line number is the id.

  As in transformers, a blank line and one whose token comes again further down
  take an id that nothing has. They are counted and logged. Blank lines at the
  end are none.

  Raises:
    InputError: no such file, not UTF-8, or empty.
  """
  try:
    # Only the usual line ends count: U+2028 and others may be tokens.
    with path.open(encoding='utf-8-sig') as lines:
      tokens = [line.removesuffix('\n') for line in lines]
  except OSError as error:
    raise InputError(
      f'{path}: cannot read the vocabulary: {error.strerror}.'
    ) from error
  except UnicodeDecodeError as error:
    raise InputError(
      f'{path}: not a vocabulary in UTF-8 (byte {error.start}).'
    ) from error
  while tokens and not tokens[-1]:
    del tokens[-1]
  if not tokens:
    raise InputError(f'{path}: the vocabulary is empty.')
  last = {token: index for index, token in enumerate(tokens)}
  gaps = [i for i, token in enumerate(tokens) if not token or last[token] != i]
  if gaps:
    shown = ', '.join(str(index + 1) for index in gaps[:5])
    _log.warning(
      '%s: %d lines are blank or come again further down (%s%s); as in '
      'transformers nothing has their ids, and those of other tokens stay',
      path, len(gaps), shown, ', ...' if len(gaps) > 5 else '',
    )  # fmt: skip
  for index in gaps:
    tokens[index] = placeholder(index)
  return {token: index for index, token in enumerate(tokens)}


def placeholder(index: int) -> str:
  """Returns what stands at an id that no token has; no text contains it.

  Texts are split at spaces before they are looked up.
  """
  return f'[no token {index}]'


def without_gaps(vocab: Mapping[str, Any], where: str) -> dict[str, Any]:
  """Fills ids that nothing has, as of a vocabulary with repeated lines.

  A vocabulary in which they are many is left as it is.

  Args:
    vocab: token to id.
    where: what to call it in the log.
  """
  filled = dict(vocab)
  if '' in filled and isinstance(filled[''], int):
    filled[placeholder(filled.pop(''))] = vocab['']
  ids = {value for value in filled.values() if isinstance(value, int)}
  size = max(ids, default=-1) + 1
  if not 0 < size - len(ids) <= len(filled) // 2 or min(ids) < 0:
    return filled
  gaps = sorted(set(range(size)) - ids)
  _log.warning(
    '%s: nothing has %d of its ids, as %d', where, len(gaps), gaps[0]
  )
  return filled | {placeholder(index): index for index in gaps}


def check_tokens(tokens: Iterable[str], where: str):
  """Checks that tokens are valid Unicode.

  Raises:
    InputError: half of a surrogate pair.
  """
  for token in tokens:
    if not is_unicode(token):
      raise InputError(
        f'{where} has the token {token!r}, which is no valid Unicode.'
      )


def is_unicode(text: str) -> bool:
  """Returns whether a string has no half of a surrogate pair."""
  try:
    text.encode()
  except UnicodeEncodeError:
    return False
  return True


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
  check_tokens(vocab, 'the vocabulary')
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
      if value.get(key) is not None
    }
    for key, flag in fields.items():
      if not isinstance(flag, bool):
        raise InputError(f'{where}: {key} of a token is {flag!r}, no bool.')
    defaults, value = {**defaults, **fields}, value.get('content')
  if not isinstance(value, str) or not value or not is_unicode(value):
    raise InputError(
      f'{where}: a token must be a string that is not empty, got {value!r}.'
    )
  return AddedToken(value, **defaults)
