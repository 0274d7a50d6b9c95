"""Weights spread over several files, joined by an index in JSON.

The layout is transformers': `model-00001-of-00003.safetensors` and
`model.safetensors.index.json`, whose `weight_map` says where a tensor is.
"""

import os
import pathlib
import re
from collections.abc import Mapping

import numpy as np

from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError

_UNITS = {'': 1, 'KB': 10**3, 'MB': 10**6, 'GB': 10**9,
          'KIB': 2**10, 'MIB': 2**20, 'GIB': 2**30}  # fmt: skip


def parse_size(size: int | str) -> int:
  """Returns the bytes in a size such as 1000000, '500MB' or '2GiB'.

  Raises:
    InputError: not a positive size.
  """
  match = re.fullmatch(r'(\d+)\s*([a-zA-Z]*)', str(size).strip())
  unit = _UNITS.get(match[2].upper()) if match else None
  if match is None or unit is None or not int(match[1]):
    raise InputError(
      f'max_shard_size is {size!r}, but must be a number of bytes or a size '
      "such as '500MB' or '5GB'."
    )
  return int(match[1]) * unit


def split(
  tensors: Mapping[str, np.ndarray], max_bytes: int
) -> list[dict[str, np.ndarray]]:
  """Returns groups of at most `max_bytes`, or of a single larger tensor.

  Tensors that are one array under two names stay together, and count once.
  """
  together: dict[int, dict[str, np.ndarray]] = {}
  for name, tensor in tensors.items():
    together.setdefault(id(tensor), {})[name] = tensor
  groups: list[dict[str, np.ndarray]] = [{}]
  used = 0
  for same in together.values():
    size = next(iter(same.values())).nbytes
    if groups[-1] and used + size > max_bytes:
      groups.append({})
      used = 0
    groups[-1].update(same)
    used += size
  return groups


def file_names(file: str, count: int) -> list[str]:
  """Returns the names of `count` parts of 'stem.suffix'; itself if one."""
  if count == 1:
    return [file]
  stem, suffix = file.rsplit('.', 1)
  return [
    f'{stem}-{part:05d}-of-{count:05d}.{suffix}' for part in range(1, count + 1)
  ]


def write_index(
  path: str | os.PathLike[str],
  parts: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
  """Writes the index of parts.

  Args:
    path: the `.index.json` to write.
    parts: file name -> the tensors in it.
  """
  unique = {id(t): t for part in parts.values() for t in part.values()}
  index = {
    'metadata': {'total_size': sum(t.nbytes for t in unique.values())},
    'weight_map': {
      name: file for file, part in parts.items() for name in sorted(part)
    },
  }
  files.write_json(pathlib.Path(path), index)


def read_index(path: str | os.PathLike[str]) -> dict[str, str]:
  """Reads where each tensor is: name -> file name beside the index.

  Raises:
    InputError: no JSON, no `weight_map` in it, or a file elsewhere than
      beside the index.
  """
  index = files.read_json(pathlib.Path(path), 'an index of weights')
  weight_map = index.get('weight_map')
  if not isinstance(weight_map, dict) or not weight_map:
    raise InputError(
      f"{path} has no 'weight_map', which must give the file of each tensor."
    )
  for name, file in weight_map.items():
    if not isinstance(file, str) or pathlib.PurePath(file).name != file:
      raise InputError(
        f'{path}: {name} is said to be in {file!r}, which must be the name of '
        'a file beside the index.'
      )
  return weight_map
