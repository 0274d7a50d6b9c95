"""Finds weights by a name, reads them, and tells which class they are of."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import numpy as np

from mobilebert_jax import models
from mobilebert_jax.convert import names as convert_names
from mobilebert_jax.convert.formats import (
  foreign,
  safetensors,
  shards,
  tf1,
  torch_bin,
)
from mobilebert_jax.runtime import files, hub, local_copies
from mobilebert_jax.runtime.errors import InputError

Format = Literal['safetensors', 'bin', 'tf1']

# In the order in which transformers prefers them.
WEIGHTS: dict[str, Format] = {
  'model.safetensors': 'safetensors',
  'model.safetensors.index.json': 'safetensors',
  'pytorch_model.bin': 'bin',
  'pytorch_model.bin.index.json': 'bin',
}
_INDEX = '.index.json'
# Where TensorFlow writes which checkpoint is the last.
_LATEST = 'checkpoint'
_NO_CONFIG = ('tokenizer.json', 'tokenizer_config.json',
              'special_tokens_map.json', 'added_tokens.json')  # fmt: skip
_SUFFIXES: dict[str, Format] = {'.safetensors': 'safetensors', '.bin': 'bin',
                                '.pt': 'bin', '.pth': 'bin'}  # fmt: skip
# The files of TensorFlow checkpoints, and the configs beside them.
_TF1 = re.compile(r'.*\.(index|meta|data-\d+-of-\d+|json|ckpt)|checkpoint')
_READERS: dict[Format, Callable[[Any], dict[str, np.ndarray]]] = {
  'safetensors': safetensors.read,
  'bin': torch_bin.read,
  'tf1': tf1.read,
}
MODEL_CLASSES: Mapping[str, type[nn.Module]] = {
  cls.__name__: cls
  for cls in (
    models.MobileBertModel,
    models.MobileBertForPreTraining,
    models.MobileBertForMaskedLM,
    models.MobileBertForNextSentencePrediction,
    models.MobileBertForSequenceClassification,
    models.MobileBertForMultipleChoice,
    models.MobileBertForTokenClassification,
    models.MobileBertForQuestionAnswering,
  )
}
# Heads in a checkpoint, by the tensor that only they have -> the class.
_BY_HEADS = {
  ('predictions', 'seq_relationship'): models.MobileBertForPreTraining,
  ('predictions',): models.MobileBertForMaskedLM,
  ('seq_relationship',): models.MobileBertForNextSentencePrediction,
  ('qa_outputs',): models.MobileBertForQuestionAnswering,
  (): models.MobileBertModel,
}
_MARKS = {
  'hf': {
    'predictions': 'cls.predictions.bias',
    'seq_relationship': 'cls.seq_relationship.bias',
    'qa_outputs': 'qa_outputs.bias',
    'classifier': 'classifier.bias',
  },
  'tf1': {
    'predictions': 'cls/predictions/output_bias',
    'seq_relationship': 'cls/seq_relationship/output_bias',
    'qa_outputs': 'cls/squad/output_bias',
    'classifier': 'output_bias',
  },
}


@dataclasses.dataclass(frozen=True)
class Source:
  """Weights that were found.

  Attributes:
    name: what the user called it.
    format: how they are stored.
    files: the files (for TensorFlow: the one prefix).
    index: the index of a sharded source.
    config: the config file beside them, if there is one.
    notes: sentences for the user, such as which of several was taken.
  """

  name: str
  format: Format
  files: tuple[pathlib.Path, ...]
  index: pathlib.Path | None = None
  config: pathlib.Path | None = None
  notes: tuple[str, ...] = ()

  @property
  def key_format(self) -> convert_names.KeyFormat:
    """Whose names the tensors have: transformers' or google-research's."""
    return 'tf1' if self.format == 'tf1' else 'hf'

  def read(self) -> dict[str, np.ndarray]:
    """Reads all tensors, in their stored dtypes.

    Raises:
      InputError: a damaged file, or an index that does not match its files.
    """
    tensors: dict[str, np.ndarray] = {}
    for file in self.files:
      tensors.update(_READERS[_kind(file, self.format)](file))
    if self.index is not None:
      listed = set(shards.read_index(self.index))
      lost = sorted(listed - set(tensors))
      if lost:
        raise InputError(
          f'{self.index} lists tensors that its files do not hold: '
          f'{", ".join(lost)}.'
        )
    return tensors


def _kind(file: pathlib.Path, named: Format) -> Format:
  """Returns how a file is stored, whatever its name says.

  Raises:
    InputError: it is something else altogether.
  """
  if named == 'tf1':
    return named
  by_content = foreign.kind(file)
  if by_content is None and (what := foreign.describe(file)) is not None:
    raise InputError(f'{file} is {what}.')
  return by_content or named


def find(name_or_path: str | os.PathLike[str], **options: Any) -> Source:
  """Finds the weights and the config behind a name.

  Args:
    name_or_path: a name on the hub; or, here or on gs://, a transformers
      directory, a weights file
      (`.safetensors`, `.bin`, an index), or a TensorFlow checkpoint: its
      prefix, one of its files, or a directory that holds a single one.
    **options: `revision, token, cache_dir, local_files_only, subfolder` as for
      `hub.resolve`.

  Raises:
    InputError: nothing there, nothing readable, or more than one checkpoint.
  """
  name = os.fspath(name_or_path)
  directory = hub.local_directory(name, options.get('subfolder', ''))
  path = files.path(name)
  if directory is not None and not path.is_dir():
    return _single(name, path, directory)
  for file, kind in WEIGHTS.items():
    result = hub.resolve(name, [file], **options).get(file)
    if result is None:
      continue
    config = hub.resolve(name, ['config.json'], **options).get('config.json')
    if not file.endswith(_INDEX):
      return Source(name, kind, (result,), config=config)
    parts = sorted(set(shards.read_index(result).values()))
    paths = hub.resolve(name, parts, **options)
    return _sharded(name, kind, result, parts, paths, config)
  if directory is not None:
    if (directory / 'model_config.json').is_file():
      raise InputError(
        f'{directory} is the workdir of a run; name its best weights, '
        f'{directory / "model"}.'
      )
    directory = _with_tf1(directory)
    prefix, notes = _tf1_prefix(directory)
    if prefix is not None and foreign.kind(prefix) == 'bin':
      # A .ckpt of PyTorch Lightning.
      config = hub.resolve(directory, ['config.json']).get('config.json')
      return Source(name, 'bin', (prefix,), config=config)
    if prefix is not None:
      config = _tf1_config(directory)
      return Source(name, 'tf1', (prefix,), config=config, notes=notes)
    others = [*directory.iterdir()]
  else:
    others = [*hub.resolve(name, foreign.CANDIDATES, **options).values()]
  known, what = foreign.among(others) or (None, '')
  raise InputError(
    f'{name} holds none of {", ".join(WEIGHTS)} and no TensorFlow checkpoint'
    + (
      f', only {known.name}, which cannot be read: it is {what}'
      if known
      else ''
    )
    + '.'
  )


def _sharded(
  name: str,
  kind: Format,
  index: pathlib.Path,
  parts: list[str],
  paths: dict[str, pathlib.Path],
  config: pathlib.Path | None,
) -> Source:
  lost = [part for part in parts if part not in paths]
  if lost:
    raise InputError(
      f'{index} lists files that are missing: {", ".join(lost)}.'
    )
  files = tuple(paths[part] for part in parts)
  return Source(name, kind, files, index, config)


def _single(name: str, path: pathlib.Path, directory: pathlib.Path) -> Source:
  """Returns the source that one given file or prefix belongs to."""
  config = hub.resolve(directory, ['config.json']).get('config.json')
  if path.name.endswith(_INDEX):
    kind = _SUFFIXES.get(pathlib.PurePath(path.name[: -len(_INDEX)]).suffix)
    if kind is None:
      raise InputError(f'{path} is no index of .safetensors or .bin files.')
    path = local_copies.file(path)
    parts = sorted(set(shards.read_index(path).values()))
    paths = hub.resolve(directory, parts)
    return _sharded(name, kind, path, parts, paths, config)
  kind = _SUFFIXES.get(path.suffix)
  if kind is None and path.is_file():
    # Such as a .ckpt of PyTorch Lightning.
    kind = foreign.kind(local_copies.file(path))
  if kind is not None:
    return Source(name, kind, (local_copies.file(path),), config=config)
  # The files of one TensorFlow checkpoint: X.index, X.meta, X.data-...
  prefix = re.sub(r'\.(index|meta|data-\d+-of-\d+)$', '', path.name)
  directory = _with_tf1(directory)
  if path.name == _LATEST:
    prefix = _latest(directory / _LATEST)
  if (directory / f'{prefix}.index').is_file() or '.ckpt' in path.name:
    return Source(
      name, 'tf1', (directory / prefix,), config=_tf1_config(directory)
    )
  if path.is_file() and (what := foreign.describe(path)) is not None:
    raise InputError(f'{path} is {what}.')
  raise InputError(
    f'{path} is no weights file; readable are .safetensors, .bin, their '
    '.index.json, and TensorFlow checkpoints (.ckpt, .index).'
  )


def _with_tf1(directory: pathlib.Path) -> pathlib.Path:
  """Returns a local directory with the TensorFlow checkpoints of this one."""
  if not any(_TF1.fullmatch(file.name) for file in directory.iterdir()):
    return directory
  return local_copies.directory(
    directory, lambda name: _TF1.fullmatch(name) is not None
  )


def _latest(file: pathlib.Path) -> str:
  """Returns the prefix that TensorFlow's file `checkpoint` names, in its place.

  Raises:
    InputError: it names none.
  """
  text = file.read_bytes().decode(errors='replace')
  line = re.search(
    r'^\s*model_checkpoint_path:\s*"([^"]+)"', text, re.MULTILINE
  )
  if line is None:
    raise InputError(
      f'{file} names no model_checkpoint_path; give the prefix of a checkpoint.'
    )
  # Written on another machine, perhaps, or before the directory was moved.
  return pathlib.PurePosixPath(line[1].replace('\\', '/')).name


def _tf1_prefix(
  directory: pathlib.Path,
) -> tuple[pathlib.Path | None, tuple[str, ...]]:
  """Returns the prefix of the TensorFlow checkpoint in a directory, and notes.

  Of several, the one that the file `checkpoint` names.
  """
  prefixes = sorted({
      *(file.with_suffix('') for file in directory.glob('*.index')),
      *directory.glob('*.ckpt'),
    })  # fmt: skip
  latest = directory / _LATEST
  if len(prefixes) > 1 and latest.is_file():
    prefix = directory / _latest(latest)
    if prefix not in prefixes:
      raise InputError(
        f'{latest} names {prefix.name}, which is not there; name one of: '
        f'{", ".join(map(str, prefixes))}.'
      )
    return prefix, (
      f'of {len(prefixes)} checkpoints in {directory}, {prefix.name} is taken, '
      f'which the file {_LATEST!r} names.',
    )
  if len(prefixes) > 1:
    raise InputError(
      f'{directory} holds several TensorFlow checkpoints, name one of: '
      f'{", ".join(map(str, prefixes))}.'
    )
  return (prefixes[0] if prefixes else None), ()


def _tf1_config(directory: pathlib.Path) -> pathlib.Path | None:
  """Finds the config of a TensorFlow checkpoint: by name, or the only one."""
  for name in ('config.json', 'bert_config.json', 'mobilebert_config.json'):
    if (directory / name).is_file():
      return directory / name
  others = sorted(
    file for file in directory.glob('*.json') if file.name not in _NO_CONFIG
  )
  if len(others) > 1:
    raise InputError(
      f'{directory} holds several JSON files: '
      f'{", ".join(file.name for file in others)}; call the one that is the '
      'config bert_config.json.'
    )
  return others[0] if others else None


def detect_class(
  source: Source, tensors: Mapping[str, Any]
) -> tuple[type[nn.Module], dict[str, Any]]:
  """Returns the class that the config names, else the one of the tensors.

  Args:
    source: where the tensors come from.
    tensors: all its tensors.

  Returns:
    The class, and what else its constructor needs.

  Raises:
    InputError: the config does not say which class, and the tensors fit
      several.
  """
  result = convert_names.normalise_keys(tensors, source.key_format, source.name)
  cls = class_in_config(source) or _class_of_tensors(source, result)
  if cls is models.MobileBertModel:
    pooler = {'hf': 'pooler.dense.bias', 'tf1': 'bert/pooler/dense/bias'}
    return cls, {'add_pooling_layer': pooler[source.key_format] in result}
  return cls, {}


def class_in_config(source: Source) -> type[nn.Module] | None:
  """Returns the class that a source's config names; None: none of ours."""
  if source.config is None:
    return None
  values = files.read_json(source.config, 'a config')
  names = values.get('architectures') or [None]
  return MODEL_CLASSES.get(names[0])


def _class_of_tensors(
  source: Source, result: Mapping[str, Any]
) -> type[nn.Module]:
  marks = _MARKS[source.key_format]
  heads = tuple(head for head, name in marks.items() if name in result)
  if heads == ('classifier',) and source.key_format == 'tf1':
    # google-research has no other model with a classifier.
    return models.MobileBertForSequenceClassification
  if heads not in _BY_HEADS:
    raise InputError(
      f'{source.name} has the heads {", ".join(heads)}, which fit several '
      f'classes, and no config that names one; choose one of '
      f'{", ".join(MODEL_CLASSES)}.'
    )
  return _BY_HEADS[heads]
