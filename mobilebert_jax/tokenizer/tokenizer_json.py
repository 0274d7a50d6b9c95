"""Reads `tokenizer.json`: what it says is done, or refused by its name.

The format describes many tokenizers. One that is not BERT's WordPiece, or has a
setting that would give other ids than ours, is an error that names the part.
"""

import logging
import pathlib
from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken

from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer.vocabulary import (
  TokenizerFile,
  added_token,
  check_ids,
  check_tokens,
  without_gaps,
)

_PARTS = {
  'version', 'truncation', 'padding', 'added_tokens', 'normalizer',
  'pre_tokenizer', 'post_processor', 'decoder', 'model',
}  # fmt: skip
_MODEL = {
  'type', 'vocab', 'unk_token', 'continuing_subword_prefix',
  'max_input_chars_per_word',
}  # fmt: skip
_MOST_CHARS = 2**31

_log = logging.getLogger(__name__)


def read_tokenizer_json(path: pathlib.Path) -> TokenizerFile:
  """Reads a `tokenizer.json` that describes a BERT tokenizer.

  Raises:
    InputError: no JSON object, another kind of tokenizer (byte-pair encoding,
      say), a part or a setting of it that is not BERT's, or a vocabulary with
      gaps.
  """
  content = files.read_json(path, 'a tokenizer.json')
  model = content.get('model')
  if not isinstance(model, dict):
    raise InputError(f'{path}: has no model; this is no tokenizer.json.')
  vocab = _vocab(path, model)
  added = _added_tokens(path, content.get('added_tokens'))
  options = {
    **_normalizer_options(path, content),
    **_side_options(path, content),
    **_model_options(path, model),
  }
  ids = {**vocab, **{token.content: index for index, token in added}}
  options |= _frame(path, content.get('post_processor'), ids)
  unknown = sorted({*content} - _PARTS)
  if unknown:
    _log.warning('%s: ignored unknown keys %s', path, ', '.join(unknown))
  decoder = content.get('decoder')
  if isinstance(decoder, dict) and decoder.get('type') != 'WordPiece':
    _log.warning(
      '%s: its decoder %s is not used: ids become text as in BERT',
      path, decoder.get('type'),
    )  # fmt: skip
  return TokenizerFile(vocab, tuple(added), options)


def _vocab(path: pathlib.Path, model: Mapping[str, Any]) -> dict[str, int]:
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
  where = f'{path}: model.vocab'
  vocab = without_gaps(vocab, where)
  check_ids(vocab, where)
  check_tokens(vocab, where)
  return vocab


def _model_options(
  path: pathlib.Path, model: Mapping[str, Any]
) -> dict[str, Any]:
  for name in sorted({*model} - _MODEL):
    if model[name] not in (None, False):
      raise InputError(
        f'{path}: model.{name} is {model[name]!r}, which is no setting of '
        "BERT's WordPiece; it may change ids, so the file is refused."
      )
  unk, longest = model.get('unk_token'), model.get('max_input_chars_per_word')
  longest = 100 if longest is None else longest
  if unk is not None and not isinstance(unk, str):
    raise InputError(
      f'{path}: model.unk_token is {unk!r}, but must be a token.'
    )
  if (
    isinstance(longest, bool)
    or not isinstance(longest, int)
    or not 0 < longest < _MOST_CHARS
  ):
    raise InputError(
      f'{path}: model.max_input_chars_per_word is {longest!r}, but must be a '
      'positive integer.'
    )
  options = {'max_input_chars_per_word': longest}
  return options if unk is None else {**options, 'unk_token': unk}


def _added_tokens(
  path: pathlib.Path, tokens: Any
) -> list[tuple[int, AddedToken]]:
  """Returns the added tokens with their ids, in order of ids."""
  where = f'{path}: added_tokens'
  if tokens is not None and not isinstance(tokens, list):
    raise InputError(f'{where} must be a list, got {tokens!r}.')
  added = []
  for token in tokens or ():
    index = token.get('id') if isinstance(token, dict) else None
    if isinstance(index, bool) or not isinstance(index, int):
      raise InputError(f'{where}: {token!r} has no integer id.')
    added.append((index, added_token(token, where)))
  return sorted(added, key=lambda item: item[0])


def _normalizer_options(
  path: pathlib.Path, content: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the basic tokenization's options; two shapes are accepted."""
  normalizers = _steps(path, content, 'normalizer', 'normalizers')
  splitters = _steps(path, content, 'pre_tokenizer', 'pretokenizers')
  kinds = [step.get('type') for step in normalizers]
  splits = [step.get('type') for step in splitters]
  if kinds == ['BertNormalizer'] and splits == ['BertPreTokenizer']:
    return _bert_options(path, normalizers[0])
  if not kinds and splits == ['WhitespaceSplit']:
    return {'do_basic_tokenize': False}
  named = ', '.join(map(str, kinds)) or 'None'
  raise InputError(
    f'{path}: normalizer {named} with pre-tokenizer '
    f'{", ".join(map(str, splits)) or None} is not how BERT tokenizes; it must '
    'be BertNormalizer with BertPreTokenizer.'
  )


def _steps(
  path: pathlib.Path, content: Mapping[str, Any], part: str, inside: str
) -> list[Mapping[str, Any]]:
  """Returns the steps of a part, each by itself: a sequence may hold some."""
  value = content.get(part)
  if value is None:
    return []
  if not isinstance(value, dict):
    raise InputError(f'{path}: {part} is {value!r}, but must be an object.')
  if value.get('type') != 'Sequence':
    return [value]
  steps = value.get(inside)
  if not isinstance(steps, list) or not all(isinstance(s, dict) for s in steps):
    raise InputError(f'{path}: {part}.{inside} must be a list of objects.')
  return steps


def _bert_options(
  path: pathlib.Path, normalizer: Mapping[str, Any]
) -> dict[str, Any]:
  if normalizer.get('clean_text', True) is not True:
    raise InputError(
      f'{path}: normalizer.clean_text is {normalizer["clean_text"]!r}: texts '
      'whose control characters stay are not supported; it must be true.'
    )
  options = {
    'do_basic_tokenize': True,
    'do_lower_case': normalizer.get('lowercase', True),
    'strip_accents': normalizer.get('strip_accents'),
    'tokenize_chinese_chars': normalizer.get('handle_chinese_chars', True),
  }
  for name, value in options.items():
    if not isinstance(value, bool) and (
      value is not None or name != 'strip_accents'
    ):
      raise InputError(f'{path}: the normalizer has {value!r} for {name}.')
  return options


def _frame(
  path: pathlib.Path, processor: Any, ids: Mapping[str, int]
) -> dict[str, str]:
  """Returns which tokens begin and end a text, if the file says so.

  Raises:
    InputError: a frame that is not `[CLS] A [SEP]`, `[CLS] A [SEP] B [SEP]`.
  """
  if processor is None:
    return {}
  kind = processor.get('type') if isinstance(processor, dict) else processor
  tokens = None
  if kind == 'BertProcessing':
    tokens = _pairs(processor.get('cls'), processor.get('sep'))
  elif kind == 'TemplateProcessing':
    tokens = _template(processor)
  if tokens is None or any(ids.get(name) != index for name, index in tokens):
    raise InputError(
      f'{path}: the post_processor {kind!r} does not frame texts as BERT does, '
      '[CLS] A [SEP] B [SEP], with the ids of these tokens.'
    )
  return {'cls_token': tokens[0][0], 'sep_token': tokens[1][0]}


def _pairs(*values: Any) -> list[tuple[str, int]] | None:
  pairs = []
  for value in values:
    if not isinstance(value, list) or len(value) != 2:
      return None
    token, index = value
    if not isinstance(token, str) or not isinstance(index, int):
      return None
    pairs.append((token, index))
  return pairs


def _template(processor: Mapping[str, Any]) -> list[tuple[str, int]] | None:
  """Returns [CLS] and [SEP] of a template with their ids; None: another one."""
  try:
    single = [_piece(piece) for piece in processor['single']]
    pair = [_piece(piece) for piece in processor['pair']]
    special = processor['special_tokens']
    cls, sep = single[0][1], single[-1][1]
    begin = [('SpecialToken', cls, 0), ('Sequence', 'A', 0),
             ('SpecialToken', sep, 0)]  # fmt: skip
    end = [('Sequence', 'B', 1), ('SpecialToken', sep, 1)]
    if single != begin or pair != begin + end:
      return None
    tokens = []
    for name in (cls, sep):
      (index,) = special[name]['ids']
      (token,) = special[name]['tokens']
      tokens.append([token, index])
  except (KeyError, TypeError, ValueError, IndexError):
    return None
  return _pairs(*tokens)


def _piece(piece: Mapping[str, Any]) -> tuple[str, str, int]:
  ((kind, fields),) = piece.items()
  return kind, fields['id'], fields['type_id']


def _side_options(
  path: pathlib.Path, content: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the sides in a saved state of padding and truncation."""
  sides = {}
  for entry in ('padding', 'truncation'):
    state = content.get(entry)
    if state is None:
      continue
    if not isinstance(state, dict):
      raise InputError(f'{path}: {entry} is {state!r}, but must be an object.')
    direction = state.get('direction')
    if direction is None:
      continue
    if str(direction).lower() not in ('left', 'right'):
      raise InputError(
        f'{path}: {entry}.direction is {direction!r}, but must be Left or '
        'Right.'
      )
    sides[f'{entry}_side'] = direction.lower()
  return sides
