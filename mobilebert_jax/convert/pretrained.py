"""Loads and saves models: `from_pretrained`, `save_pretrained`.

Loading finds the weights, converts them and draws what they lack.
"""

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mobilebert_jax import models
from mobilebert_jax.config import model_json, taken_layers
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.convert import (
  label_names,
  mapping,
  names,
  narrowing,
  save,
)
from mobilebert_jax.convert import source as sources
from mobilebert_jax.convert.formats import foreign
from mobilebert_jax.convert.mapping import LoadReport
from mobilebert_jax.models.typing import Params
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

Path = str | os.PathLike[str]

# The heads whose size is the number of labels.
_LABELLED = ('classifier', 'qa_outputs')
# The classes whose labels have names.
_NAMED = (
  models.MobileBertForSequenceClassification,
  models.MobileBertForTokenClassification,
)
# What is done with a head for other labels: draw it anew, or refuse it.
OtherLabels = Literal['redraw', 'refuse']

_log = logging.getLogger(__name__)


class LoadResult(NamedTuple):
  """A model, its parameters as NumPy arrays, and what loading found out."""

  model: nn.Module
  params: Params
  report: LoadReport


def load_pretrained(
  model_class: type[nn.Module] | None,
  name_or_path: Path,
  *,
  config: MobileBertConfig | None = None,
  dtype: str = 'float32',
  param_dtype: str = 'float32',
  remat: str = 'none',
  layers: str = 'scan',
  attention: str = 'xla',
  attention_dropout: str = 'random',
  norms: str = 'separate',
  gradients: str = 'jax',
  add_pooling_layer: bool | None = None,
  revision: str | None = None,
  token: str | bool | None = None,
  cache_dir: Path | None = None,
  local_files_only: bool = False,
  subfolder: str = '',
  ignore_mismatched_sizes: bool = False,
  other_labels: OtherLabels = 'redraw',
  key: jax.Array | None = None,
  **config_overrides: Any,
) -> LoadResult:
  """Loads a model; the parameters stay in host memory.

  A head that the checkpoint lacks is drawn anew and reported, and so is one
  for other labels than an override names; one for the same labels in another
  order follows their names (`convert.label_names`). Anything else that is
  missing, unused or mis-shaped is an error. Semantics of the options are
  those of transformers' `from_pretrained`.

  Args:
    model_class: one of the eight model classes; None is the class that the
      checkpoint was saved from.
    name_or_path: a name on the Hugging Face hub, a transformers directory, a
      `.safetensors` or `.bin` file, an index of several, or a TensorFlow 1
      checkpoint of google-research (with its config JSON beside it).
    config: used instead of the one beside the weights.
    dtype: dtype to compute in; see `models.Compute`.
    param_dtype: dtype of the parameters, or 'auto' for the stored ones.
    remat: see `models.Compute`.
    layers: see `models.Compute`.
    attention: see `models.Compute`.
    attention_dropout: see `models.Compute`.
    norms: see `models.Compute`; the parameters are not folded.
    gradients: see `models.Compute`.
    add_pooling_layer: for `MobileBertModel` only.
    revision: branch, tag or commit on the hub.
    token: the hub's access token.
    cache_dir: where downloads are kept.
    local_files_only: never use the network.
    subfolder: directory inside the model.
    ignore_mismatched_sizes: draw every mis-shaped parameter anew.
    other_labels: what becomes of a head for other labels than those that are
      wanted: 'redraw' draws it anew and says so, 'refuse' is an error.
    key: random key for new parameters; `jax.random.key(0)` unless given.
    **config_overrides: fields of `MobileBertConfig`, for example `num_labels`.

  Returns:
    The model, nested dicts of numpy arrays, and a report.

  Raises:
    InputError: nothing readable there, or weights that do not fit.
  """
  source = sources.find(
    name_or_path,
    revision=revision,
    token=token,
    cache_dir=cache_dir,
    local_files_only=local_files_only,
    subfolder=subfolder,
  )
  is_kept = param_dtype == 'auto'
  compute = models.Compute(
    dtype=dtype,
    param_dtype='float32' if is_kept else param_dtype,
    remat=remat,
    layers=layers,
    attention=attention,
    attention_dropout=attention_dropout,
    norms=norms,
    gradients=gradients,
  )
  stored = config or _stored_config(source)
  tensors, notes = _read(source)
  if config is None:
    stored = _with_labels_of_head(
      stored, source, tensors, model_class, config_overrides, notes
    )
  wanted = _overridden(stored, config_overrides)
  model = _build(
    model_class, source, tensors, wanted, compute, add_pooling_layer
  )
  labels = _match_labels(
    type(model), source, tensors, stored, wanted, other_labels, notes
  )
  flat, report = mapping.to_params(
    tensors,
    flatten_dict(models.abstract_params(model), sep='/'),
    wanted,
    key_format=source.key_format,
    where=f'{source.name} does not fit {type(model).__name__}',
    resizable=_LABELLED if wanted.num_labels != stored.num_labels else (),
    redrawn=(label_names.HEAD,) if labels.kind == 'other' else (),
    ignore_mismatched_sizes=ignore_mismatched_sizes,
  )
  if not is_kept:
    flat, said = narrowing.narrow(flat, compute.param_dtype, source.name)
    notes += said
  report = dataclasses.replace(report, notes=tuple(notes))
  # New parameters get the dtype of those that are there.
  some = next(iter(flat.values())).dtype if flat else np.dtype(np.float32)
  drawn = models.init_some(model, report.newly_initialised, key)
  for path, value in drawn.items():
    flat[path] = np.asarray(value).astype(some)
  _log_report(source.name, report)
  params = unflatten_dict(flat, sep='/')
  if labels.kind == 'reordered':
    params = label_names.with_order(params, labels.order)
  return LoadResult(model, params, report)


def _read(
  source: sources.Source,
) -> tuple[Mapping[str, np.ndarray], list[str]]:
  """Reads the tensors, and says what of them is left out.

  Raises:
    InputError: see `Source.read`; or an adapter.
  """
  tensors: Mapping[str, np.ndarray] = source.read()
  notes = [*source.notes]
  if source.key_format == 'tf1':
    left = names.leftovers(tensors)
    if left:
      notes.append(
        f'{source.name}: left out what training kept beside the weights: '
        f'{left}.'
      )
    return tensors, notes
  if foreign.is_adapter(tensors):
    raise InputError(f'{source.name} is {foreign.ADAPTER}.')
  tensors, removed = names.without_wrapper(tensors)
  if removed:
    notes.append(
      f'{source.name}: all names begin with {removed!r}, which a wrapper has '
      'put there; it is taken off.'
    )
  return tensors, notes


def _stored_config(source: sources.Source) -> MobileBertConfig:
  if source.config is None:
    raise InputError(
      f'{source.name} has no config.json (bert_config.json for TensorFlow) '
      'beside its weights; add it, or pass config=.'
    )
  return model_json.load_config(source.config)


def _overridden(
  stored: MobileBertConfig, overrides: Mapping[str, Any]
) -> MobileBertConfig:
  """Applies overrides; the number of labels that there is keeps their names."""
  changes = dict(overrides)
  is_named = 'id2label' in changes or 'label2id' in changes
  if not is_named and changes.get('num_labels') == stored.num_labels:
    del changes['num_labels']
  return stored.replace(**changes)


def _with_labels_of_head(
  config: MobileBertConfig,
  source: sources.Source,
  tensors: Mapping[str, np.ndarray],
  model_class: type[nn.Module] | None,
  overrides: Mapping[str, Any],
  notes: list[str],
) -> MobileBertConfig:
  """Sets the number of labels where a config does not know its head's.

  google-research's configs have no labels at all.

  Raises:
    InputError: the config names labels, but fewer or more than the head has.
  """
  rows = _head_rows(source, tensors)
  if rows is None or rows == config.num_labels:
    return config
  if source.key_format == 'tf1':
    return config.replace(num_labels=rows)
  if not issubclass(model_class or sources.detect_class(source, tensors)[0],
                    _NAMED):  # fmt: skip
    return config
  stored = tuple(config.id2label.values())
  if label_names.is_generic(stored):
    notes.append(
      f'{source.config} has {len(stored)} labels without names, but the head '
      f'of {source.name} has {rows} rows: its rows count, LABEL_0 to '
      f'LABEL_{rows - 1}.'
    )
    return config.replace(num_labels=rows)
  if not {'num_labels', 'id2label', 'label2id'} & overrides.keys():
    raise InputError(
      f'{source.config} names {len(stored)} labels '
      f'({label_names.listed(stored)}), but the head of {source.name} has '
      f'{rows} rows; write all {rows} names into id2label, or pass id2label.'
    )
  return config


def _head_rows(
  source: sources.Source, tensors: Mapping[str, np.ndarray]
) -> int | None:
  """Returns how many outputs a classifier has; None: there is none."""
  normal = names.normalise_keys(tensors, source.key_format, source.name)
  name = 'classifier.bias' if source.key_format == 'hf' else 'output_bias'
  return int(normal[name].size) if name in normal else None


def _match_labels(
  model_class: type[nn.Module],
  source: sources.Source,
  tensors: Mapping[str, np.ndarray],
  stored: MobileBertConfig,
  wanted: MobileBertConfig,
  other: OtherLabels,
  notes: list[str],
) -> label_names.Match:
  """Finds the wanted labels in the source's head; says what becomes of it.

  Raises:
    InputError: they are others, and `other` is 'refuse'.
  """
  here = tuple(stored.id2label.values())
  there = tuple(wanted.id2label.values())
  rows = _head_rows(source, tensors)
  if not issubclass(model_class, _NAMED) or rows is None:
    return label_names.Match('same', tuple(range(len(there))))
  written = sources.class_in_config(source)
  # A quantised run's class inherits from the one that it has written.
  if written is not None and not issubclass(model_class, written):
    matched = label_names.Match('other')
    problem = (
      f'{source.name} has the head of {written.__name__}, and not that of '
      f'{model_class.__name__}'
    )
    notes.append(f'{problem}: the head is drawn anew, train it before use.')
  else:
    matched = label_names.match(here, there)
    problem = label_names.difference(here, there, source.name)
    said = label_names.describe(matched, here, there, source.name)
    if said is not None:
      notes.append(said)
  if matched.kind == 'other' and other == 'refuse':
    raise InputError(f'{problem}; use a model that was trained for them.')
  return matched


def _build(
  model_class: type[nn.Module] | None,
  source: sources.Source,
  tensors: Mapping[str, np.ndarray],
  config: MobileBertConfig,
  compute: models.Compute,
  add_pooling_layer: bool | None,
) -> nn.Module:
  options: dict[str, Any] = {}
  if model_class is None:
    model_class, options = sources.detect_class(source, tensors)
  if add_pooling_layer is not None:
    options['add_pooling_layer'] = add_pooling_layer
  if options and model_class is not models.MobileBertModel:
    raise InputError(
      f'add_pooling_layer is for MobileBertModel, not {model_class.__name__}.'
    )
  return model_class(config, compute=compute, **options)


def _log_report(name: str, report: LoadReport) -> None:
  for note in report.notes:
    _log.warning('%s', note)
  if report.newly_initialised:
    _log.warning(
      '%s: newly initialised, train before use: %s',
      name,
      ', '.join(report.newly_initialised),
    )
  if report.mismatched:
    _log.warning(
      '%s: of these, stored in another shape: %s',
      name,
      ', '.join(report.mismatched),
    )
  if report.unused:
    _log.info('%s: not used: %s', name, ', '.join(report.unused))


def from_pretrained(
  model_class: type[nn.Module] | None, name_or_path: Path, **options: Any
) -> tuple[nn.Module, Params]:
  """Loads a model and puts its parameters on the default device.

  ```python
  model, params = from_pretrained(
    MobileBertForMaskedLM, 'google/mobilebert-uncased', dtype='bfloat16'
  )
  logits = model.apply({'params': params}, **batch).logits
  ```

  Args:
    model_class: one of the eight model classes, or None.
    name_or_path: a hub name, a directory or a file.
    **options: all those of `load_pretrained`.

  Returns:
    The model, and nested dicts of jax arrays. Parameters that the checkpoint
    lacks are newly initialised, and a warning names them.

  Raises:
    InputError: as `load_pretrained`; also float64 parameters kept by
      `param_dtype='auto'` where `jax_enable_x64` is off.
  """
  model, params, _ = load_pretrained(model_class, name_or_path, **options)
  for path, value in flatten_dict(params, sep='/').items():
    if jax.dtypes.canonicalize_dtype(value.dtype) != value.dtype:
      raise InputError(
        f'{name_or_path}: {path} is stored as float64, which needs '
        "jax.config.update('jax_enable_x64', True) or param_dtype='float32'."
      )
  return model, jax.tree.map(jnp.asarray, params)


def save_pretrained(
  directory: Path,
  model: nn.Module,
  params: Mapping[str, Any],
  tokenizer: MobileBertTokenizerFast | None = None,
  *,
  max_shard_size: int | str = '5GB',
  format: save.Format = 'safetensors',
  dtype: str | None = None,
) -> None:
  """Writes a directory that transformers loads unchanged.

  Args:
    directory: appears only when it is complete; in one that exists, files of
      the same names and all other weights are replaced.
    model: the model.
    params: its parameters.
    tokenizer: written beside the weights, by its `save_pretrained`.
    max_shard_size: more bytes than this are spread over several files with an
      index; a number, or a size such as '500MB'.
    format: 'safetensors', or 'bin' for torch's (needs torch).
    dtype: dtype to store, or None for each parameter's own.

  Raises:
    InputError: a wrong option, or parameters that do not fit the model.
  """
  with save.atomic_directory(directory) as partial:
    notes = save.write_model(
      partial,
      model,
      params,
      format=format,
      dtype=dtype,
      max_shard_size=max_shard_size,
    )
    for note in notes:
      _log.warning('%s: %s', directory, note)
    if tokenizer is not None:
      tokenizer.save_pretrained(partial)
      _check_tables(model.config, tokenizer)


def _check_tables(
  config: MobileBertConfig, tokenizer: MobileBertTokenizerFast | None
):
  """Refuses a tokenizer whose ids are beyond the tables of its model."""
  if tokenizer is not None and len(tokenizer) > config.vocab_size:
    raise InputError(
      f'the tokenizer has {len(tokenizer)} tokens, but the model only '
      f'{config.vocab_size}, so that ids would have no word vector; use its '
      'own tokenizer, or resize_token_embeddings().'
    )


def resize_token_embeddings(
  model: nn.Module,
  params: Mapping[str, Any],
  new_num_tokens: int,
  key: jax.Array | None = None,
  tokenizer: MobileBertTokenizerFast | None = None,
) -> tuple[nn.Module, Params]:
  """Adds or cuts off tokens at the end of the vocabulary.

  Resizes the word table, and with an MLM head its decoder, the matrix beside
  it, and the biases (transformers' method of the same name).

  Args:
    model: the model.
    params: its parameters.
    new_num_tokens: the new `vocab_size`.
    key: random key for new word vectors; `jax.random.key(0)` unless given.
    tokenizer: whose tokens must keep their vectors, [MASK] among them.

  Returns:
    A model with the new config, and new parameters; new word vectors are
    normal with `initializer_range`, new biases zero.

  Raises:
    InputError: a size that no config may have, or fewer tokens than the
      tokenizer has.
  """
  config = model.config.replace(vocab_size=new_num_tokens)
  _check_tables(config, tokenizer)
  resized = model.clone(config=config)
  flat = flatten_dict(params, sep='/')
  shapes = flatten_dict(models.abstract_params(resized), sep='/')
  changed = [
    path for path, old in flat.items() if shapes[path].shape != old.shape
  ]
  for path, new in models.init_some(resized, changed, key).items():
    old = jnp.asarray(flat[path])
    both = tuple(slice(min(n, m)) for n, m in zip(old.shape, new.shape))
    flat[path] = new.astype(old.dtype).at[both].set(old[both])
  return resized, unflatten_dict(flat, sep='/')


def take_layers(
  model: nn.Module, params: Mapping[str, Any], layers: taken_layers.Layers
) -> tuple[nn.Module, Params]:
  """Takes some of a model's blocks, with embeddings and heads as they are.

  What a smaller model is begun with, before it is trained further
  (`config.init_layers`).

  Args:
    model: the model.
    params: its parameters; blocks are stacked on axis 0.
    layers: how many blocks, spread evenly from the first to the last one
      (`config.taken_layers.spread`); or their numbers from 0, in the order in
      which they are to run.

  Returns:
    A model with fewer blocks, and its parameters.

  Raises:
    InputError: no blocks, one twice, or one that the model has not.
  """
  count = model.config.num_hidden_layers
  chosen = taken_layers.resolve(layers, count, 'the model', where='layers')
  smaller = model.clone(
    config=model.config.replace(num_hidden_layers=len(chosen))
  )
  flat = flatten_dict(params, sep='/')
  for path, value in flat.items():
    if path.removeprefix(f'{names.HEADED}/').startswith(f'{names.LAYERS}/'):
      flat[path] = value[np.array(chosen)]
  return smaller, unflatten_dict(flat, sep='/')
