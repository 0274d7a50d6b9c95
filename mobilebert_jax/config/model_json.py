"""Reads and writes configs in the two JSON formats that exist.

transformers' `config.json` and google-research's `*.json` share their field
names, but a missing key means something else in each: transformers fills in
MobileBERT's values, google-research fills in BERT's.
"""

import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mobilebert_jax.config import fields
from mobilebert_jax.config.model import FrozenMap, MobileBertConfig
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError

JsonFormat = Literal['transformers', 'google']
Path = str | os.PathLike[str]

# What google-research's BertConfig means by a missing key; None: hidden_size.
_GOOGLE_DEFAULTS: Mapping[str, Any] = {
  'hidden_size': 768,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'intermediate_size': 3072,
  'hidden_act': 'gelu',
  'hidden_dropout_prob': 0.1,
  'attention_probs_dropout_prob': 0.1,
  'max_position_embeddings': 512,
  'type_vocab_size': 16,
  'initializer_range': 0.02,
  'embedding_size': None,
  'trigram_input': False,
  'use_bottleneck': False,
  'intra_bottleneck_size': None,
  'use_bottleneck_attention': False,
  'key_query_shared_bottleneck': False,
  'num_feedforward_networks': 1,
  'normalization_type': 'layer_norm',
  'classifier_activation': True,
}
# google-research's gelu is the tanh approximation; transformers' is exact.
_GOOGLE_TO_OURS_ACT = {'gelu': 'gelu_new'}
_OURS_TO_GOOGLE_ACT = {'gelu_new': 'gelu', 'gelu_pytorch_tanh': 'gelu'}
_GOOGLE_ACTS = ('linear', 'relu', 'relu6', 'gelu', 'tanh')

# Only transformers writes these; one of them tells the format.
_TRANSFORMERS_KEYS = ('model_type', 'architectures', 'transformers_version')
# Keys of every transformers config that say nothing about the architecture.
_NEUTRAL_KEYS = frozenset({
  *_TRANSFORMERS_KEYS, '_name_or_path', '_attn_implementation_autoset',
  'attn_implementation', 'bos_token_id',
  'chunk_size_feed_forward', 'cross_attention_hidden_size',
  'decoder_start_token_id', 'dtype', 'eos_token_id', 'finetuning_task',
  'gradient_checkpointing',
  'output_attentions', 'output_hidden_states', 'output_past',
  'prefix', 'return_dict', 'sep_token_id',
  'tf_legacy_loss', 'tokenizer_class', 'torch_dtype',
  'torchscript', 'true_hidden_size', 'use_bfloat16', 'use_cache',
})  # fmt: skip
# Settings that would give other numbers, and are not here -> what they may be.
_ABSENT: Mapping[str, tuple[Any, ...]] = {
  'add_cross_attention': (False, None),
  'is_decoder': (False, None),
  'is_encoder_decoder': (False, None),
  'position_embedding_type': ('absolute', None),
  'pruned_heads': ({}, [], None),
  'quantization_config': (None,),
}
_FIELDS = tuple(field.name for field in dataclasses.fields(MobileBertConfig))

_log = logging.getLogger(__name__)


def detect_format(values: Mapping[str, Any]) -> JsonFormat:
  """Which program wrote this JSON object."""
  known = any(key in values for key in _TRANSFORMERS_KEYS)
  return 'transformers' if known else 'google'


def from_dict(
  values: Mapping[str, Any],
  json_format: JsonFormat | None = None,
  *,
  where: str = 'the config',
) -> MobileBertConfig:
  """Builds a config from a JSON object.

  Args:
    values: the decoded JSON object.
    json_format: who wrote it; None detects it from the keys.
    where: what to call the source in errors, for example the file's name.

  Returns:
    The config; the format's own defaults stand for missing keys.

  Raises:
    InputError: another model's config, an unknown format, a wrong value.
  """
  if json_format is None:
    json_format = detect_format(values)
  if json_format not in ('transformers', 'google'):
    raise InputError(
      f"json_format is {json_format!r}, but must be 'transformers' or 'google'."
    )
  model_type = values.get('model_type', 'mobilebert')
  if model_type != 'mobilebert':
    raise InputError(
      f"{where} has model_type {model_type!r}, but must be 'mobilebert'."
    )
  for name, allowed in _ABSENT.items():
    if name in values and values[name] not in allowed:
      raise InputError(
        f'{where}: {name} is {fields.show(values[name])}, which is not '
        'supported here and would give other numbers; it must be '
        f'{fields.show(allowed[0])}.'
      )
  settings = {name: values[name] for name in _FIELDS if name in values}
  _settle_labels(settings, where)
  unknown = sorted(set(values) - set(_FIELDS) - _NEUTRAL_KEYS - {*_ABSENT})
  if unknown:
    _log.warning('%s: ignored unknown keys %s', where, ', '.join(unknown))
  if json_format == 'google':
    if 'vocab_size' not in values:
      raise InputError(f'{where} lacks vocab_size, which has no default.')
    settings = {**_GOOGLE_DEFAULTS, **settings}
    for name in ('embedding_size', 'intra_bottleneck_size'):
      if settings[name] is None:
        settings[name] = settings['hidden_size']
    act = settings['hidden_act']
    if isinstance(act, str):
      settings['hidden_act'] = _GOOGLE_TO_OURS_ACT.get(act, act)
  elif 'id2label' in settings or 'label2id' in settings:
    # The names decide: transformers ignores a contradicting num_labels too.
    settings.pop('num_labels', None)
  try:
    return MobileBertConfig(**settings)
  except InputError as error:
    raise InputError(f'{where}: {error}') from None


def _settle_labels(settings: dict[str, Any], where: str):
  """Drops a `label2id` that is not the inverse of `id2label`, and says so."""
  names, ids = settings.get('id2label'), settings.get('label2id')
  if not isinstance(names, Mapping) or not isinstance(ids, Mapping):
    return
  if any(
    ids.get(name) not in (index, _number(index))
    for index, name in names.items()
    if isinstance(name, str)
  ):
    _log.warning(
      '%s: label2id contradicts id2label, which counts: %s',
      where, ', '.join(f'{i} {name}' for i, name in list(names.items())[:5]),
    )  # fmt: skip
    del settings['label2id']


def _number(text: Any) -> Any:
  return int(text) if isinstance(text, str) and text.isdecimal() else text


def to_dict(
  config: MobileBertConfig, architectures: Sequence[str] = ()
) -> dict[str, Any]:
  """The config as transformers' `config.json` has it.

  Args:
    config: the config.
    architectures: names of the classes whose weights lie beside it.
  """
  values: dict[str, Any] = {'model_type': 'mobilebert'}
  if architectures:
    values['architectures'] = list(architectures)
  for name in _FIELDS:
    value = getattr(config, name)
    values[name] = dict(value) if isinstance(value, FrozenMap) else value
  # transformers derives num_labels from id2label, and writes the width that
  # it recomputes on loading.
  del values['num_labels']
  values['id2label'] = {str(i): name for i, name in config.id2label.items()}
  values['true_hidden_size'] = config.true_hidden_size
  for name in ('problem_type', 'task_specific_params'):
    if values[name] is None:
      del values[name]
  return dict(sorted(values.items()))


def to_google_dict(config: MobileBertConfig) -> dict[str, Any]:
  """The config as google-research's JSON has it, every key written.

  Raises:
    InputError: a value that google-research's code cannot express.
  """
  act = _OURS_TO_GOOGLE_ACT.get(config.hidden_act, config.hidden_act)
  if act not in _GOOGLE_ACTS or config.hidden_act == 'gelu':
    raise InputError(
      f'hidden_act is {config.hidden_act!r}, which google-research does not '
      'have; its names are linear, relu, relu6, tanh and gelu (gelu_new here).'
    )
  if not config.tie_word_embeddings:
    raise InputError(
      'tie_word_embeddings is False, but google-research always ties.'
    )
  values = {name: getattr(config, name) for name in _GOOGLE_DEFAULTS}
  values['hidden_act'] = act
  values['vocab_size'] = config.vocab_size
  return dict(sorted(values.items()))


def load_config(
  path: Path, json_format: JsonFormat | None = None
) -> MobileBertConfig:
  """Reads a config file in either format.

  Args:
    path: a JSON file, or a directory that holds `config.json`.
    json_format: who wrote it; None detects it.

  Raises:
    InputError: no such file, no JSON object in it, or a wrong value.
  """
  file = files.path(path)
  if file.is_dir():
    file = file / 'config.json'
  if not file.exists():
    raise InputError(f'{file} does not exist; a config is needed.')
  values = files.read_json(file, "a model's config")
  return from_dict(values, json_format, where=str(file))


def save_config(
  config: MobileBertConfig, path: Path, architectures: Sequence[str] = ()
) -> pathlib.Path:
  """Writes transformers' format; a directory gets a `config.json`.

  Returns:
    The file written.
  """
  file = files.path(path)
  if file.is_dir():
    file = file / 'config.json'
  text = json.dumps(to_dict(config, architectures), indent=2) + '\n'
  return files.write_text(file, text)
