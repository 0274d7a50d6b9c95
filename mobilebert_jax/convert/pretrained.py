"""`from_pretrained`, `save_pretrained` and what users need beside them."""

import os
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from mobilebert_jax import models
from mobilebert_jax.convert import save
from mobilebert_jax.convert.load import LoadResult as LoadResult
from mobilebert_jax.convert.load import Params
from mobilebert_jax.convert.load import load_pretrained as load_pretrained
from mobilebert_jax.convert.mapping import LoadReport as LoadReport
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

Path = str | os.PathLike[str]


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
    save.write_model(
      partial,
      model,
      params,
      format=format,
      dtype=dtype,
      max_shard_size=max_shard_size,
    )
    if tokenizer is not None:
      tokenizer.save_pretrained(partial)


def resize_token_embeddings(
  model: nn.Module,
  params: Mapping[str, Any],
  new_num_tokens: int,
  key: jax.Array | None = None,
) -> tuple[nn.Module, Params]:
  """Adds or cuts off tokens at the end of the vocabulary.

  Resizes the word table, and with an MLM head its decoder, the matrix beside
  it, and the biases (transformers' method of the same name).

  Args:
    model: the model.
    params: its parameters.
    new_num_tokens: the new `vocab_size`.
    key: random key for new word vectors; `jax.random.key(0)` unless given.

  Returns:
    A model with the new config, and new parameters; new word vectors are
    normal with `initializer_range`, new biases zero.

  Raises:
    InputError: a size that no config may have.
  """
  config = model.config.replace(vocab_size=new_num_tokens)
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
