"""Encoded examples on disk, found again by all that they were made from.

A file's name is a hash of the examples themselves, the tokenizer's whole
state, every setting of the task and its data, and the source code of this
package. So nothing is ever out of date: whatever changes has another name.
Old files are not needed by anything and may be deleted at any time.

Encoding is parallel already: the `tokenizers` library spreads each call over
the cores, which is four fifths of the work. Processes of our own were slower:
on two busy cores 67,000 pairs took 10.5 s with two of them, 6.5 s without.
"""

import dataclasses
import functools
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

import mobilebert_jax
from mobilebert_jax.data.batching.features import (
  Features,
  Gathered,
  Ragged,
  Transform,
)
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizer

_LOG = logging.getLogger(__name__)

# Examples hashed at once.
_CHUNK = 1000
Encode = Callable[[Sequence[Any]], Features]


def encode(
  directory: str | os.PathLike[str],
  function: Encode,
  examples: Sequence[Any],
  tokenizer: MobileBertTokenizer,
  settings: Mapping[str, Any],
) -> Features:
  """Returns `function(examples)`, from disk if it was computed before.

  Several processes may do this at once: each writes a file of its own and
  puts it in place in one step.

  Args:
    directory: where the files are; made if it is not there.
    function: encodes examples with the tokenizer and the settings. The
      features' `transform` may depend on those two alone.
    examples: dataclasses of strings, numbers, arrays and sequences of those.
    tokenizer: a `MobileBertTokenizer`.
    settings: JSON values; all else that the result depends on.

  Raises:
    InputError: the directory cannot be made; or whatever `function` raises.
  """
  folder = files.make_directory(directory, 'config.data.cache_dir')
  key = key_of(examples, tokenizer, settings)
  path = folder / f'{key}.npz'
  features = None
  if path.exists():
    # A damaged archive can raise nearly anything.
    try:
      features = load(path, key, lambda: _transform(function, examples))
    except Exception as error:
      _LOG.warning(
        '%s is damaged (%s) and is made again',
        path,
        ' '.join(str(error).split()),
      )
  if features is None:
    features = function(examples)
    try:
      save(path, key, features)
    except OSError as error:
      _LOG.warning('%s cannot be written (%s)', path, error.strerror)
  return features


def key_of(
  examples: Sequence[Any],
  tokenizer: MobileBertTokenizer,
  settings: Mapping[str, Any],
) -> str:
  """Returns the hash that names the features: 64 hexadecimal digits.

  Raises:
    TypeError: an example holds something else than text, numbers, arrays,
      dataclasses, or sequences and mappings of those.
  """
  digest = hashlib.sha256()

  def add(value: Any):
    digest.update(_stable(value))
    digest.update(b'\n')

  add([_code(), tokenizers.__version__, np.__version__])
  add(settings)
  add(tokenizer.files())
  add(len(examples))
  for start in range(0, len(examples), _CHUNK):
    add(examples[start : start + _CHUNK])
  return digest.hexdigest()


def save(path: pathlib.Path, key: str, features: Features):
  """Writes features; the file appears only when it is complete."""
  about = {
    'key': key,
    'sequences': list(features.sequences),
    'scalars': list(features.scalars),
    'pad': {name: int(value) for name, value in features.pad.items()},
    'choices': features.choices,
    'max_length': features.max_length,
    'has_transform': features.transform is not None,
    'gather': features.gather and dataclasses.asdict(features.gather),
  }
  arrays: dict[str, Any] = {
    'about': np.frombuffer(json.dumps(about).encode(), np.uint8),
    # All sequences have the same lengths.
    'offsets': features.sequences['input_ids'].offsets,
  }
  for number, ragged in enumerate(features.sequences.values()):
    arrays[f'sequence_{number}'] = ragged.values
  for number, values in enumerate(features.scalars.values()):
    arrays[f'scalar_{number}'] = values
  with (
    files.replacing(path, unique=True) as partial,
    partial.open('xb') as file,
  ):
    np.savez(file, **arrays)


def load(
  path: pathlib.Path, key: str, transform: Callable[[], Transform | None]
) -> Features:
  """Reads what `save` wrote.

  Args:
    path: the file.
    key: what it must have been saved under.
    transform: gives the function that cannot be saved, if there was one.

  Raises:
    Exception: of many kinds, if the file is damaged.
  """
  # Opened here: NumPy leaves a file open that is no archive.
  with path.open('rb') as file, np.load(file, allow_pickle=False) as arrays:
    about = json.loads(arrays['about'].tobytes())
    if about['key'] != key:
      raise ValueError('it holds other data')
    offsets = arrays['offsets']
    sequences = {
      name: Ragged(arrays[f'sequence_{number}'], offsets)
      for number, name in enumerate(about['sequences'])
    }
    scalars = {
      name: arrays[f'scalar_{number}']
      for number, name in enumerate(about['scalars'])
    }
  gather = about['gather']
  if gather is not None:
    gather = Gathered(**{**gather, 'most': tuple(gather['most'])})
  return Features(
    sequences=sequences,
    scalars=scalars,
    pad=about['pad'],
    choices=about['choices'],
    max_length=about['max_length'],
    transform=transform() if about['has_transform'] else None,
    gather=gather,
  )


def _transform(function: Encode, examples: Sequence[Any]) -> Transform | None:
  """Makes the features' transform from as few examples as possible."""
  count = 1
  while True:
    try:
      return function(examples[:count]).transform
    except InputError:
      # The first text may be one that nothing can be made of.
      if count >= len(examples):
        raise
      count *= 2


def _stable(value: Any) -> bytes:
  """Serialises a value to the same bytes in every process."""
  return json.dumps(value, default=_plain, sort_keys=True).encode()


def _plain(value: Any) -> Any:
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    names = (field.name for field in dataclasses.fields(value))
    values = {name: getattr(value, name) for name in names}
    return [type(value).__qualname__, values]
  if isinstance(value, np.ndarray):
    if value.dtype.hasobject:
      raise TypeError('an array of objects has no stable form')
    return ['array', value.dtype.str, value.shape, value.tobytes().hex()]
  if isinstance(value, np.generic):
    return ['number', value.dtype.str, value.tobytes().hex()]
  if isinstance(value, Mapping):
    return dict(value)
  raise TypeError(f'{type(value).__name__} has no stable form')


@functools.cache
def _code() -> str:
  """Hashes this package's source, which decides the features too."""
  digest = hashlib.sha256()
  root = pathlib.Path(mobilebert_jax.__file__).parent
  for path in sorted(root.rglob('*.py')):
    text = path.read_bytes()
    name = path.relative_to(root).as_posix()
    digest.update(f'{name}\n{len(text)}\n'.encode() + text)
  return digest.hexdigest()
