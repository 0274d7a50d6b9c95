"""Makes the `tokenizers` pipeline from files and arguments."""

import logging
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers
from tokenizers import pre_tokenizers as splitters

from mobilebert_jax.runtime import files, local_copies
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import letters
from mobilebert_jax.tokenizer.padding_truncation import NO_MAX_LENGTH
from mobilebert_jax.tokenizer.tokenizer_json import read_tokenizer_json
from mobilebert_jax.tokenizer.vocabulary import (
  TokenizerFile,
  added_token,
  as_vocab,
  read_vocab,
)

INPUT_NAMES = ('input_ids', 'token_type_ids', 'attention_mask')
_FLAGS = {
  'do_lower_case': True,
  'do_basic_tokenize': True,
  'tokenize_chinese_chars': True,
  'strip_accents': None,
}
_TOKENS = {
  'unk_token': '[UNK]',
  'sep_token': '[SEP]',
  'pad_token': '[PAD]',
  'cls_token': '[CLS]',
  'mask_token': '[MASK]',
}

_log = logging.getLogger(__name__)


def build_pipeline(
  vocab: Mapping[str, int],
  *,
  unk_token: str,
  do_lower_case: bool,
  tokenize_chinese_chars: bool,
  strip_accents: bool | None,
  do_basic_tokenize: bool,
  max_input_chars_per_word: int,
) -> tokenizers.Tokenizer:
  """Builds BERT's pipeline, without added tokens and template.

  The steps are those of BERT's basic and WordPiece tokenizers: control
  characters go, CJK characters become words; lower case and accents off where
  wanted; a split at spaces and punctuation; greedy longest match.

  Args:
    vocab: token to id.
    unk_token: stands for a word that the vocabulary cannot spell.
    do_lower_case: map to lower case.
    tokenize_chinese_chars: make every CJK character a word of its own.
    strip_accents: remove accents; None means as `do_lower_case`.
    do_basic_tokenize: False leaves text as it is and splits at spaces only.
    max_input_chars_per_word: longer words become `unk_token`.

  Returns:
    The pipeline.
  """
  backend = tokenizers.Tokenizer(
    models.WordPiece(
      dict(vocab),
      unk_token=unk_token,
      max_input_chars_per_word=max_input_chars_per_word,
    )
  )
  if do_basic_tokenize:
    backend.normalizer = normalizers.BertNormalizer(
      clean_text=True,
      handle_chinese_chars=tokenize_chinese_chars,
      strip_accents=strip_accents,
      lowercase=do_lower_case,
    )
    backend.pre_tokenizer = splitters.BertPreTokenizer()
  else:
    # An empty sequence, since transformers 4 reads the normalizer's state.
    backend.normalizer = normalizers.Sequence([])
    backend.pre_tokenizer = splitters.WhitespaceSplit()
  backend.decoder = decoders.WordPiece(prefix='##')
  return backend


def read_source(
  vocab_file: Any, tokenizer_file: Any, vocab: Any
) -> TokenizerFile:
  """Reads the one vocabulary that is given, and what comes with it.

  Args:
    vocab_file: path of a `vocab.txt`, or the vocabulary itself; or None.
    tokenizer_file: path of a `tokenizer.json`, or what was read of one, which
      wins over `vocab_file`; or None.
    vocab: another name of `vocab_file`; or None.

  Raises:
    InputError: none or several sources, or a wrong one.
  """
  if vocab is not None and vocab_file is not None:
    raise InputError('give vocab_file or vocab, which are the same, not both.')
  vocab_file = vocab if vocab is not None else vocab_file
  if isinstance(tokenizer_file, TokenizerFile):
    return tokenizer_file
  if tokenizer_file is not None:
    # With both, as in transformers, tokenizer.json has the whole story.
    return read_tokenizer_json(_path('tokenizer_file', tokenizer_file))
  if vocab_file is None:
    raise InputError(
      'give a vocabulary: vocab_file (a vocab.txt, a dict or a list) or '
      'tokenizer_file (a tokenizer.json), or use from_pretrained().'
    )
  if isinstance(vocab_file, (str, os.PathLike)):
    path = _path('vocab_file', vocab_file)
    return TokenizerFile(read_vocab(path), (), {}, bare=path)
  return TokenizerFile(as_vocab(vocab_file), (), {})


def resolve_flags(
  source: TokenizerFile, **arguments: bool | None
) -> dict[str, Any]:
  """Returns the basic tokenization's flags: argument, else file, else default.

  For a bare `vocab.txt` of which nothing is said, what its tokens tell.

  Raises:
    InputError: an argument that is not a bool.
  """
  chosen = {}
  options = dict(source.options)
  if source.bare is not None:
    deduced, reason = letters.deduce(source.vocab)
    said = {
      name: arguments[name] for name in ('do_lower_case', 'strip_accents')
    }
    if any(value is not None for value in said.values()):
      if said['do_lower_case'] and not deduced.get('do_lower_case', True):
        _log.warning(
          '%s: texts are lower-cased, as do_lower_case says, though many of '
          'its tokens have capitals and are never used', source.bare,
        )  # fmt: skip
    elif reason is not None:
      options |= deduced
      _log.warning(
        '%s: %s; set do_lower_case and strip_accents if that is not so',
        source.bare, reason,
      )  # fmt: skip
  for name, value in arguments.items():
    if value is None:
      value = options.get(name, _FLAGS[name])
    if not isinstance(value, bool) and (
      value is not None or _FLAGS[name] is not None
    ):
      raise InputError(f'{name} must be True or False, got {value!r}.')
    chosen[name] = value
  return chosen


def resolve_tokens(
  source: TokenizerFile, **arguments: str | AddedToken | None
) -> dict[str, str | AddedToken]:
  """Returns the named special tokens: argument, else file, else BERT's."""
  return {
    name: source.options.get(name, _TOKENS[name]) if value is None else value
    for name, value in arguments.items()
  }


def check_max_length(value: Any) -> int:
  """Returns `model_max_length` as an integer, `NO_MAX_LENGTH` for None.

  Raises:
    InputError: no positive number.
  """
  if value is None:
    return NO_MAX_LENGTH
  # JSON files of old transformers versions hold 1e30.
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  if isinstance(value, bool) or not isinstance(value, int) or value < 1:
    raise InputError(
      f'model_max_length must be a positive integer, got {value!r}.'
    )
  return value


def build_backend(
  source: TokenizerFile,
  flags: Mapping[str, Any],
  unk_token: str | AddedToken,
  added_tokens_decoder: Mapping[Any, Any] | None,
  never_split: Iterable[str] | None,
) -> tokenizers.Tokenizer:
  """Builds the pipeline with the tokens that files and arguments add to it.

  Args:
    source: the vocabulary, its added tokens and options.
    flags: from `resolve_flags`.
    unk_token: stands for a word that the vocabulary cannot spell.
    added_tokens_decoder: further added tokens, id to token; or None.
    never_split: words that basic tokenization leaves whole; or None.

  Raises:
    InputError: an added token whose id does not continue the vocabulary, or
      a word of `never_split` that is not in it.
  """
  backend = build_pipeline(
    source.vocab,
    unk_token=str(unk_token),
    max_input_chars_per_word=source.options.get(
      'max_input_chars_per_word', 100
    ),
    **flags,
  )
  added = dict(source.added)
  for index, token in (added_tokens_decoder or {}).items():
    added[_as_index(index)] = added_token(token, 'added_tokens_decoder')
  for index, token in sorted(added.items(), key=lambda item: item[0]):
    backend.add_tokens([token])
    if backend.token_to_id(token.content) != index:
      raise InputError(
        f'the added token {token.content!r} has the id {index}, but it gets '
        f'{backend.token_to_id(token.content)}: added tokens must follow the '
        f'vocabulary of {len(source.vocab)} tokens without gaps.'
      )
  # Like its basic tokenization, never_split ends with it in transformers 4.
  words = never_split if flags['do_basic_tokenize'] else None
  for word in words or ():
    if backend.token_to_id(word) is None:
      raise InputError(
        f'never_split: {word!r} is not in the vocabulary; add it with '
        'add_tokens().'
      )
    if word not in {token.content for token in added.values()}:
      backend.add_tokens([AddedToken(word, single_word=True, normalized=False)])
  return backend


def _as_index(index: Any) -> int:
  try:
    return int(index)
  except (TypeError, ValueError) as error:
    raise InputError(
      f'added_tokens_decoder: {index!r} is no id; keys must be integers.'
    ) from error


def _path(name: str, value: Any) -> pathlib.Path:
  if not isinstance(value, (str, os.PathLike)) or not str(value):
    raise InputError(f'{name} must be the path of a file, got {value!r}.')
  path = files.path(value)
  if not path.is_file():
    raise InputError(f'{name}: {path} is no file.')
  return local_copies.file(path)
