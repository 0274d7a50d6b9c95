"""Files of one tokenizer that say different things.

Where it changes ids, nobody knows which of them the model was trained with:
that is an error. Arguments that the caller gives settle it.
"""

import logging
import pathlib
from collections.abc import Mapping
from typing import Any

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import comparison
from mobilebert_jax.tokenizer.special_tokens import NAMES
from mobilebert_jax.tokenizer.vocabulary import TokenizerFile, read_vocab

# The arguments that decide how a text is split, in tokenizer_config.json and,
# under other names, in tokenizer.json.
_SETTINGS = (
  'do_lower_case',
  'strip_accents',
  'tokenize_chinese_chars',
  'do_basic_tokenize',
)

_log = logging.getLogger(__name__)


def check_vocabularies(
  vocab_file: pathlib.Path, tokenizer_file: pathlib.Path, source: TokenizerFile
):
  """Compares `vocab.txt` with `tokenizer.json`, which is the one that counts.

  Args:
    vocab_file: the one.
    tokenizer_file: the other.
    source: what the other holds.

  Raises:
    InputError: a token with two ids, or two tokens with one.
  """
  added = {token.content: index for index, token in source.added}
  ids = {**source.vocab, **added}
  tokens = sorted(ids, key=ids.__getitem__)
  listed = list(read_vocab(vocab_file))
  problem, replaced = comparison.compare(tokens, listed)
  if problem is None and replaced:
    problem = f'{replaced} tokens of it are unused places in the other'
  if problem is not None:
    raise InputError(
      f'{vocab_file} is another vocabulary than {tokenizer_file.name} beside '
      f'it: {problem}; delete the one that is out of date.'
    )
  if len(listed) > len(tokens):
    _log.warning(
      '%s has %d tokens more than %s beside it, which counts',
      vocab_file, len(listed) - len(tokens), tokenizer_file.name,
    )  # fmt: skip


def check_added(
  added_file: pathlib.Path,
  added: Mapping[str, Any],
  tokenizer_file: pathlib.Path,
  source: TokenizerFile,
):
  """Compares `added_tokens.json` with `tokenizer.json`, which counts.

  Args:
    added_file: the one.
    added: its content: tokens and their ids.
    tokenizer_file: the other.
    source: what the other holds.

  Raises:
    InputError: a token with two ids, or two tokens with one.
  """
  ids = {**source.vocab, **{t.content: index for index, t in source.added}}
  tokens = {index: token for token, index in ids.items()}
  missing = []
  for token, index in added.items():
    if not isinstance(index, int):
      raise InputError(
        f'{added_file}: the id of {token!r} is {index!r}; expected an integer.'
      )
    if ids.get(token, index) != index or tokens.get(index, token) != token:
      there = f'{token!r} has the id {ids.get(token)}'
      if token not in ids:
        there = f'that id is {tokens[index]!r}'
      raise InputError(
        f'{added_file} says {index} for the id of {token!r}, but in '
        f'{tokenizer_file.name} beside it {there}; delete the one that is out '
        'of date.'
      )
    if token not in ids:
      missing.append(token)
  if missing:
    _log.warning(
      '%s has %d tokens (the first: %r) that %s beside it, which counts, has '
      'not', added_file, len(missing), missing[0], tokenizer_file.name,
    )  # fmt: skip


def check_settings(
  config_file: pathlib.Path,
  tokenizer_file: pathlib.Path,
  source: TokenizerFile,
  arguments: Mapping[str, Any],
  overrides: Mapping[str, Any],
):
  """Compares `tokenizer_config.json` with `tokenizer.json`.

  Args:
    config_file: the one.
    tokenizer_file: the other.
    source: what the other holds.
    arguments: what the one says, by the tokenizer's arguments.
    overrides: arguments that the caller gives.

  Raises:
    InputError: they would give other ids.
  """
  asked = {k: v for k, v in overrides.items() if v is not None}
  said = {k: v for k, v in arguments.items() if k not in asked}
  both = _effective({**source.options, **said, **asked})
  alone = _effective({**source.options, **asked})
  for name in _SETTINGS:
    if both[name] != alone[name]:
      raise _contradiction(
        config_file, tokenizer_file, name, both[name], alone[name]
      )
  for name in NAMES:
    here, there = said.get(name), source.options.get(name)
    if name not in asked and None not in (here, there) and str(here) != there:
      raise _contradiction(config_file, tokenizer_file, name, str(here), there)
  stored = dict(source.added)
  for index, token in (said.get('added_tokens_decoder') or {}).items():
    other = stored.get(int(index)) if str(index).isdecimal() else None
    if isinstance(token, Mapping) and other is not None:
      if token.get('content') != other.content:
        raise _contradiction(
          config_file, tokenizer_file, f'the added token {index}',
          token.get('content'), other.content,
        )  # fmt: skip


def check_special(
  config_file: pathlib.Path | None,
  config: Mapping[str, Any],
  map_file: pathlib.Path | None,
  tokens: Mapping[str, Any],
  source: TokenizerFile,
  overrides: Mapping[str, Any],
):
  """Compares the special tokens of two files, of which the first counts.

  Args:
    config_file: `tokenizer_config.json`.
    config: its content.
    map_file: `special_tokens_map.json`.
    tokens: its content.
    source: the vocabulary.
    overrides: arguments that the caller gives.

  Raises:
    InputError: they name two tokens of the vocabulary for one part.
  """
  if config_file is None or map_file is None:
    return
  ids = {*source.vocab, *(token.content for _, token in source.added)}
  for name in NAMES:
    here, there = _content(config.get(name)), _content(tokens.get(name))
    if None in (here, there) or here == there:
      continue
    are_known = all(isinstance(x, str) and x in ids for x in (here, there))
    if are_known and overrides.get(name) is None:
      raise _contradiction(config_file, map_file, name, here, there)


def _content(token: Any) -> Any:
  return token.get('content') if isinstance(token, Mapping) else token


def _effective(options: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the settings with what a missing one means."""
  values = {name: options.get(name) for name in _SETTINGS}
  for name in ('do_lower_case', 'tokenize_chinese_chars', 'do_basic_tokenize'):
    values[name] = True if values[name] is None else values[name]
  if not values['do_basic_tokenize']:
    # Nothing else is read then.
    return dict.fromkeys(_SETTINGS, False)
  if values['strip_accents'] is None:
    values['strip_accents'] = values['do_lower_case']
  return values


def _contradiction(
  one: pathlib.Path, other: pathlib.Path, name: str, here: Any, there: Any
) -> InputError:
  return InputError(
    f'{one} says {here!r} for {name}, but {other.name} beside it {there!r}, '
    'which gives other ids; make them agree, or pass the argument.'
  )
