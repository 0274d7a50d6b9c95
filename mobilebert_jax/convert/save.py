"""Writes models as transformers directories: whole, or not at all."""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal

import flax.linen as nn
from flax.traverse_util import flatten_dict

from mobilebert_jax import models
from mobilebert_jax.config import model_json
from mobilebert_jax.convert import mapping, narrowing
from mobilebert_jax.convert.formats import safetensors, shards, torch_bin
from mobilebert_jax.runtime import files, object_store
from mobilebert_jax.runtime.errors import InputError

Format = Literal['safetensors', 'bin']
STORED_DTYPES = ('float32', 'bfloat16', 'float16', 'float64')

_FILES: dict[str, tuple[str, Callable[..., None]]] = {
  'safetensors': ('model.safetensors', safetensors.write),
  'bin': ('pytorch_model.bin', torch_bin.write),
}
# Everything that a reader could take for the weights of a directory.
_WEIGHTS = re.compile(
  r'(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?'
)
# Without it there is no model and no run.
_LAST = 'config.json'


@contextlib.contextmanager
def atomic_directory(
  directory: str | os.PathLike[str],
) -> Iterator[pathlib.Path]:
  """Makes a directory that takes the name `directory` once it is complete.

  If `directory` exists, its files are replaced one by one and old weights are
  removed, so that it never holds two models; other files stay. After an
  exception nothing has changed.

  On gs:// the files are uploaded when the block ends, `config.json` last: a
  directory that has it is complete. One that is replaced lacks it meanwhile.

  Args:
    directory: the final name.

  Yields:
    The directory to write into.

  Raises:
    InputError: `directory` is a file, or cannot be written.
  """
  target = files.path(directory)
  if target.exists() and not target.is_dir():
    raise InputError(f'{target} is a file, but must be a directory.')
  if files.is_remote(target):
    with tempfile.TemporaryDirectory() as made:
      yield pathlib.Path(made)
      _upload(pathlib.Path(made), target)
    return
  target = target.absolute()
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    made = tempfile.mkdtemp(prefix=f'.{target.name}.', dir=target.parent)
  except OSError as error:
    raise InputError(f'{target} cannot be written: {error.strerror}.') from None
  partial = pathlib.Path(made)
  try:
    # mkdtemp keeps others out; a directory has the rights that mkdir gives.
    umask = os.umask(0)
    os.umask(umask)
    partial.chmod(0o777 & ~umask)
    yield partial
    if target.exists():
      _move_into(partial, target)
    else:
      partial.rename(target)
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def _move_into(partial: pathlib.Path, target: pathlib.Path) -> None:
  new = {entry.name for entry in partial.iterdir()}
  for name in new:
    if (target / name).is_dir():
      # A directory takes no place that is not empty; partial goes with it.
      os.replace(target / name, partial / f'{name}.replaced')
    os.replace(partial / name, target / name)
  _remove_other_weights(target, new)


def _upload(made: pathlib.Path, target: pathlib.Path) -> None:
  names = [p.relative_to(made) for p in made.rglob('*') if p.is_file()]
  # False sorts before True.
  names.sort(key=lambda name: (name.name == _LAST, name.as_posix()))
  if any(name.name == _LAST for name in names):
    (target / _LAST).unlink(missing_ok=True)
  for name in names:
    if name.as_posix() == _LAST:
      _remove_other_weights(target, {name.name for name in names})
    object_store.upload(made / name, target / name)


def _remove_other_weights(target: pathlib.Path, new: Collection[str]) -> None:
  if any(_WEIGHTS.fullmatch(name) for name in new):
    for file in target.iterdir():
      if _WEIGHTS.fullmatch(file.name) and file.name not in new:
        file.unlink()


def write_model(
  directory: pathlib.Path,
  model: nn.Module,
  params: Mapping[str, Any],
  *,
  format: Format = 'safetensors',
  dtype: str | None = None,
  max_shard_size: int | str = '5GB',
) -> tuple[str, ...]:
  """Writes `config.json` and the weights into an existing directory.

  Args:
    directory: where to.
    model: the model; its class is written into the config.
    params: its parameters.
    format: 'safetensors' or 'bin' (torch's).
    dtype: dtype to store, or None for each parameter's own.
    max_shard_size: more bytes than this are spread over several files.

  Returns:
    Sentences for the user: what is not finite, what became zero.

  Raises:
    InputError: a wrong option; parameters that do not fit the model, or not
      into the dtype.
  """
  if format not in _FILES:
    raise InputError(
      f'format is {format!r}, but must be one of {", ".join(_FILES)}.'
    )
  if dtype is not None and dtype not in STORED_DTYPES:
    raise InputError(
      f'dtype is {dtype!r}, but must be one of {", ".join(STORED_DTYPES)}.'
    )
  max_bytes = shards.parse_size(max_shard_size)
  file, write = _FILES[format]
  expected = flatten_dict(models.abstract_params(model), sep='/')
  flat = flatten_dict(params, sep='/')
  tensors = mapping.to_tensors(
    flat, expected, model.config, tied_copies=format == 'bin'
  )
  notes = narrowing.not_finite(tensors, 'the weights')
  if dtype is not None:
    tensors, said = narrowing.narrow(tensors, dtype, 'the weights')
    notes += said
  groups = shards.split(tensors, max_bytes)
  parts = dict(zip(shards.file_names(file, len(groups)), groups))
  for name, part in parts.items():
    write(directory / name, part)
  if len(parts) > 1:
    shards.write_index(directory / f'{file}.index.json', parts)
  model_json.save_config(
    model.config, directory, architectures=(type(model).__name__,)
  )
  return notes
