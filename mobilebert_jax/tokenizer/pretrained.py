"""Loading and saving: the files that transformers writes and reads."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Self

from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import comparison, construction, contradictions
from mobilebert_jax.tokenizer.comparison import KnownVocabulary
from mobilebert_jax.tokenizer.encoding import BackendLock
from mobilebert_jax.tokenizer.special_tokens import (
  EXTRA_NAMES,
  NAMES,
  SpecialTokens,
)
from mobilebert_jax.tokenizer.vocabulary import added_token

VOCAB = 'vocab.txt'
TOKENIZER = 'tokenizer.json'
CONFIG = 'tokenizer_config.json'
SPECIAL = 'special_tokens_map.json'
ADDED = 'added_tokens.json'
# The key of `CONFIG` with the digest of the base vocabulary; transformers
# leaves it alone.
DIGEST = 'vocabulary_digest'
# Settings that the files and the constructor share by name.
_SETTINGS: dict[str, Any] = {
  'do_lower_case': bool,
  'do_basic_tokenize': bool,
  'never_split': list,
  'tokenize_chinese_chars': bool,
  'strip_accents': bool,
  'clean_up_tokenization_spaces': bool,
  'split_special_tokens': bool,
  'model_max_length': (int, float),
  'padding_side': str,
  'truncation_side': str,
  'model_input_names': list,
}

# Classes of transformers that split a text as BERT does.
_CLASSES = (
  'AutoTokenizer', 'BertTokenizer', 'ConvBertTokenizer', 'DistilBertTokenizer',
  'ElectraTokenizer', 'LayoutLMTokenizer', 'LxmertTokenizer',
  'MobileBertTokenizer', 'PreTrainedTokenizer', 'RetriBertTokenizer',
  'SqueezeBertTokenizer', 'TokenizersBackend',
)  # fmt: skip

_TOKEN_FIELDS = (
  'content',
  'lstrip',
  'normalized',
  'rstrip',
  'single_word',
  'special',
)


class Pretrained(SpecialTokens):
  """The part of a tokenizer that reads and writes files."""

  _lock: BackendLock

  @classmethod
  def from_pretrained(
    cls,
    name_or_path: str | os.PathLike,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
    subfolder: str = '',
    **overrides: Any,
  ) -> Self:
    """Loads what transformers 4 and 5, Google or `save_pretrained` wrote.

    Args:
      name_or_path: a directory, a `vocab.txt` or `tokenizer.json` alone, a
        checkpoint with these beside it, all also on gs://, or a name on the
        Hugging Face hub.
      revision: branch, tag or commit on the hub.
      token: access token of the hub.
      cache_dir: where downloads are kept.
      local_files_only: use downloaded files only.
      subfolder: directory inside the model.
      **overrides: arguments of the constructor that overrule the files; None
        is what they say.

    Returns:
      The tokenizer.

    Raises:
      InputError: nothing there, a corrupt file, a setting of a wrong type or
        one that is not supported, or files that contradict each other.
    """
    path = files.path(name_or_path)
    if path.suffix in ('.txt', '.json') and not path.is_dir():
      kind = 'vocab_file' if path.suffix == '.txt' else 'tokenizer_file'
      return cls(**{kind: path, **overrides})
    # Only here: a vocabulary alone needs nothing of the hub.
    from mobilebert_jax.runtime import hub

    result = hub.resolve(
      name_or_path,
      (VOCAB, TOKENIZER, CONFIG, SPECIAL, ADDED),
      revision=revision,
      token=token,
      cache_dir=cache_dir,
      local_files_only=local_files_only,
      subfolder=subfolder,
    )
    if VOCAB not in result and TOKENIZER not in result:
      raise InputError(
        f'{name_or_path} has neither {TOKENIZER} nor {VOCAB}; one is needed '
        'to make a tokenizer.'
      )
    arguments = _arguments(result, overrides)
    given = {k: v for k, v in overrides.items() if v is not None}
    tokenizer = cls(**{**arguments, **given})
    _check_digest(tokenizer._base_tokens(), result)
    return tokenizer

  def save_pretrained(
    self, directory: str | os.PathLike
  ) -> tuple[pathlib.Path, ...]:
    """Writes the files that transformers 4 and 5 read with equal results.

    Args:
      directory: made if it is not there.

    Returns:
      The files: `vocab.txt`, `tokenizer.json`, `tokenizer_config.json` and
      `special_tokens_map.json`.

    Raises:
      InputError: `directory` is a file.
    """
    target = files.path(directory)
    if target.exists() and not target.is_dir():
      raise InputError(f'{target} is a file; give a directory.')
    target.mkdir(parents=True, exist_ok=True)
    texts = self.files()
    for name, text in texts.items():
      # Several processes may save a tokenizer in one place.
      files.write_text(target / name, text, unique=True)
    return tuple(target / name for name in texts)

  def files(self) -> dict[str, str]:
    """Returns the texts of those files by name: the whole state."""
    return {
      VOCAB: ''.join(f'{token}\n' for token in self._base_tokens()),
      TOKENIZER: self._backend_json(),
      CONFIG: _to_json(self._config()),
      SPECIAL: _to_json(self._special_tokens_map()),
    }

  def _base_tokens(self) -> list[str]:
    """Returns the base vocabulary in the order of ids."""
    vocab = self._tokenizer.get_vocab(with_added_tokens=False)
    return sorted(vocab, key=vocab.__getitem__)

  def _backend_json(self) -> str:
    """Returns `tokenizer.json` without the last call's truncation, padding."""
    with self._lock:
      self._tokenizer.no_truncation()
      self._tokenizer.no_padding()
      return self._tokenizer.to_str(pretty=True)

  def tokens(self) -> list[str]:
    """Returns every token in the order of ids, those added later as well."""
    vocab = self._tokenizer.get_vocab(with_added_tokens=True)
    return sorted(vocab, key=vocab.__getitem__)

  def _config(self) -> dict[str, Any]:
    """Returns `tokenizer_config.json`, in names that transformers 4, 5 know."""
    added = sorted(self.added_tokens_decoder.items())
    return {
      DIGEST: comparison.digest(self._base_tokens()),
      'added_tokens_decoder': {
        str(index): {name: getattr(token, name) for name in _TOKEN_FIELDS}
        for index, token in added
      },
      'tokenizer_class': 'MobileBertTokenizer',
      **{name: getattr(self, name) for name in _SETTINGS},
      **self._special_tokens_map(),
    }

  def _special_tokens_map(self) -> dict[str, Any]:
    """Returns `special_tokens_map.json`."""
    tokens: dict[str, Any] = dict(self.special_tokens_map)
    if self.extra_special_tokens:
      tokens[EXTRA_NAMES[0]] = self.extra_special_tokens
    return tokens


def known_vocabulary(
  name_or_path: str | os.PathLike, **options: Any
) -> KnownVocabulary | None:
  """Returns what is known of the vocabulary that a model was trained with.

  Args:
    name_or_path: the model, as `from_pretrained` takes it.
    **options: those of `from_pretrained` that say where to look.

  Returns:
    Its tokens, or their digest where the files of its tokenizer are lost or
    cannot be read; None: neither.
  """
  from mobilebert_jax.runtime import hub
  from mobilebert_jax.tokenizer.tokenizer import MobileBertTokenizerFast

  name = str(name_or_path)
  result = hub.resolve(name, (VOCAB, TOKENIZER, CONFIG), **options)
  if VOCAB in result or TOKENIZER in result:
    try:
      tokenizer = MobileBertTokenizerFast.from_pretrained(name, **options)
      return KnownVocabulary(name, tuple(tokenizer.tokens()))
    except InputError:
      # Another tokenizer may be named for just this reason.
      pass
  written = _digest_in(result)
  return None if written is None else KnownVocabulary(name, digest=written)


def _digest_in(result: Mapping[str, pathlib.Path]) -> str | None:
  if CONFIG not in result:
    return None
  written = files.read_json(result[CONFIG], f"a tokenizer's {CONFIG}")
  value = written.get(DIGEST)
  return value if isinstance(value, str) else None


def _check_digest(tokens: list[str], result: Mapping[str, pathlib.Path]):
  """Refuses a vocabulary that was put into the place of another one."""
  written = _digest_in(result)
  if written is not None and written != comparison.digest(tokens):
    raise InputError(
      f'{result.get(TOKENIZER, result.get(VOCAB))} holds {len(tokens)} tokens '
      f'that are not those which {result[CONFIG]} was saved with; bring those '
      f'back, or delete {DIGEST!r} there if the model knows these.'
    )


def _arguments(
  result: Mapping[str, pathlib.Path], overrides: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the arguments of the constructor that the files hold.

  Raises:
    InputError: a corrupt file, or files that contradict each other where
      `overrides` does not settle it.
  """

  def read(name: str) -> dict[str, Any]:
    if name not in result:
      return {}
    return files.read_json(result[name], f"a tokenizer's {name}")

  config = read(CONFIG)
  arguments = _settings(result.get(CONFIG), config)
  source = construction.read_source(
    result.get(VOCAB), result.get(TOKENIZER), None
  )
  special = read(SPECIAL)
  contradictions.check_special(
    result.get(CONFIG), config, result.get(SPECIAL), special, source, overrides
  )
  # The configuration is newer than the map where both are written.
  tokens = special | {k: v for k, v in config.items() if v is not None}
  for name in NAMES:
    if tokens.get(name) is not None:
      arguments[name] = added_token(
        tokens[name], f'{result.get(CONFIG)}: {name}', special=True
      )
  extra = next((tokens[name] for name in EXTRA_NAMES if tokens.get(name)), ())
  arguments['additional_special_tokens'] = extra
  if isinstance(config.get('added_tokens_decoder'), dict):
    arguments['added_tokens_decoder'] = config['added_tokens_decoder']
  elif TOKENIZER not in result:
    added = {index: token for token, index in read(ADDED).items()}
    if ADDED in result:
      arguments['added_tokens_decoder'] = added
  if TOKENIZER not in result:
    _check_class(result.get(CONFIG), config)
  elif VOCAB in result:
    contradictions.check_vocabularies(result[VOCAB], result[TOKENIZER], source)
  if TOKENIZER in result and ADDED in result:
    contradictions.check_added(
      result[ADDED], read(ADDED), result[TOKENIZER], source
    )
  if TOKENIZER in result and CONFIG in result:
    contradictions.check_settings(
      result[CONFIG], result[TOKENIZER], source, arguments, overrides
    )
  return {**arguments, 'tokenizer_file': source}


def _check_class(path: pathlib.Path | None, config: Mapping[str, Any]):
  """Refuses a `vocab.txt` that belongs to another kind of tokenizer.

  A `tokenizer.json` would say all itself.
  """
  for name, is_right, allowed in (
    (
      'tokenizer_class',
      lambda value: str(value).removesuffix('Fast') in _CLASSES,
      'one of BERT, such as BertTokenizer',
    ),
    ('clean_text', lambda value: value is True, 'true'),
    ('wordpieces_prefix', lambda value: value == '##', "'##'"),
  ):
    value = config.get(name)
    if value is not None and not is_right(value):
      raise InputError(
        f'{path}: {name} is {value!r}, which is not supported here and would '
        f'give other ids; it must be {allowed}.'
      )


def _settings(
  path: pathlib.Path | None, config: Mapping[str, Any]
) -> dict[str, Any]:
  settings = {}
  for name, kind in _SETTINGS.items():
    value = config.get(name)
    if name == 'model_max_length' and value is None:
      value = config.get('max_len')
    if value is None:
      continue
    if not isinstance(value, kind) or (kind is list and not _are_texts(value)):
      raise InputError(f'{path}: {name} has the wrong type: {value!r}.')
    settings[name] = value
  return settings


def _are_texts(values: list) -> bool:
  return all(isinstance(value, str) for value in values)


def _to_json(value: Mapping[str, Any]) -> str:
  return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + '\n'
