"""Reads and writes single safetensors files.

The only module that imports safetensors.
"""

import json
import os
import pathlib
from collections.abc import Mapping

import ml_dtypes
import numpy as np

from mobilebert_jax.convert.formats import foreign
from mobilebert_jax.runtime.errors import InputError

# numpy itself has no bfloat16, so safetensors' own numpy reader lacks it.
_DTYPES: Mapping[str, type] = {
  'F64': np.float64,
  'F32': np.float32,
  'F16': np.float16,
  'BF16': ml_dtypes.bfloat16,
  'I64': np.int64,
  'I32': np.int32,
  'I16': np.int16,
  'I8': np.int8,
  'U8': np.uint8,
  'BOOL': np.bool_,
}


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads all tensors of a file, in their stored dtypes.

  Args:
    path: a `.safetensors` file.

  Returns:
    name -> read-only array.

  Raises:
    InputError: no such file, a damaged one, or a dtype that is unknown here.
  """
  import safetensors

  try:
    content = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise InputError(f'{path} cannot be read: {error.strerror}.') from None
  try:
    stored = safetensors.deserialize(content)
  except safetensors.SafetensorError as error:
    raise InputError(
      f'{path} is no intact safetensors file ({error}); fetch or write it anew.'
    ) from None
  writer = _metadata(content).get('format')
  if writer in foreign.WRITERS:
    raise InputError(f'{path} was {foreign.WRITERS[writer]}.')
  tensors = {}
  for name, tensor in stored:
    dtype = _DTYPES.get(tensor['dtype'])
    if dtype is None:
      raise InputError(
        f'{path}: {name} is stored as {tensor["dtype"]}; readable are '
        f'{", ".join(_DTYPES)}.'
      )
    array: np.ndarray = np.frombuffer(tensor['data'], dtype=dtype)
    try:
      tensors[name] = array.reshape(tensor['shape'])
    except (ValueError, OverflowError):
      raise InputError(
        f'{path}: {name} has the shape {tensor["shape"]}, which is none.'
      ) from None
  return tensors


def _metadata(content: bytes) -> dict[str, str]:
  """Returns what a file that has been read says of itself."""
  size = int.from_bytes(content[:8], 'little')
  return json.loads(content[8 : 8 + size]).get('__metadata__') or {}


def write(
  path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]
) -> None:
  """Writes a file as transformers does, with the metadata `format: pt`.

  Args:
    path: the file to write.
    tensors: name -> array, of any layout in memory.
  """
  import safetensors.numpy

  # safetensors writes the memory as it lies, transposed arrays too.
  laid_out = {
    name: np.asarray(value, order='C') for name, value in tensors.items()
  }
  safetensors.numpy.save_file(laid_out, path, metadata={'format': 'pt'})
