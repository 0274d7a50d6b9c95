"""Reads and writes torch's `.bin` files.

The only module that imports torch. Files are read with `weights_only=True`
alone: a pickle that would run code is refused, not run.
"""

import os
import pathlib
import pickle
import types
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from mobilebert_jax.runtime.errors import InputError

# What PyTorch Lightning, DeepSpeed and others call the state dict inside.
_AROUND = ('state_dict', 'model_state_dict', 'model', 'module')


def _torch() -> types.ModuleType:
  try:
    import torch
  except ImportError:
    raise InputError(
      'a .bin file needs torch, which is not installed: run `pip install '
      "'mobilebert_jax[torch]'`, or use the safetensors format."
    ) from None
  return torch


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads all tensors of a state dict, in their stored dtypes.

  Args:
    path: a file that `torch.save` wrote.

  Returns:
    name -> array.

  Raises:
    InputError: torch is missing; the file is missing or damaged, would run
      code, or holds something else than named tensors.
  """
  torch = _torch()
  if not pathlib.Path(path).is_file():
    raise InputError(f'{path} does not exist.')
  try:
    state = torch.load(path, map_location='cpu', weights_only=True)
  except pickle.UnpicklingError:
    raise InputError(
      f'{path} holds more than tensors, and reading it could run code, so it '
      'is refused; ask its author for a safetensors file.'
    ) from None
  except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    raise InputError(f'{path} is no intact torch file ({reason}).') from None
  state = _unwrapped(state, torch)
  if not _is_state_dict(state, torch):
    raise InputError(
      f'{path} is no state dict: it must map names to tensors and nothing else.'
    )
  return {name: _to_numpy(tensor) for name, tensor in state.items()}


def _is_state_dict(state: Any, torch: types.ModuleType) -> bool:
  return isinstance(state, Mapping) and all(
    isinstance(name, str) and isinstance(tensor, torch.Tensor)
    for name, tensor in state.items()
  )


def _unwrapped(state: Any, torch: types.ModuleType) -> Any:
  """Returns the state dict in what a training program saves around it."""
  if not isinstance(state, Mapping) or _is_state_dict(state, torch):
    return state
  for name in _AROUND:
    if state.get(name) and _is_state_dict(state[name], torch):
      return state[name]
  return state


def write(
  path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]
) -> None:
  """Writes a state dict.

  Args:
    path: the file to write.
    tensors: name -> array; one array under two names stays one in the file.

  Raises:
    InputError: torch is missing.
  """
  torch = _torch()
  converted = {id(array): _to_torch(array) for array in tensors.values()}
  state = {name: converted[id(array)] for name, array in tensors.items()}
  torch.save(state, path)


def _to_numpy(tensor) -> np.ndarray:
  torch = _torch()
  tensor = tensor.detach().contiguous()
  if tensor.dtype == torch.bfloat16:
    return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
  return tensor.numpy()


def _to_torch(array: np.ndarray):
  torch = _torch()
  if array.dtype == ml_dtypes.bfloat16:
    # A scalar cannot change its dtype in place in either library's view.
    bits = torch.from_numpy(array.reshape(-1).view(np.int16).copy())
    return bits.view(torch.bfloat16).reshape(array.shape)
  return torch.from_numpy(array.copy())
