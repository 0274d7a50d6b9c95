"""Draws the parameters that a checkpoint lacks, and only those."""

from collections.abc import Collection

import flax.linen as nn
import jax
from flax.traverse_util import flatten_dict

from mobilebert_jax import models


def draw(
  model: nn.Module, paths: Collection[str], key: jax.Array | None
) -> dict[str, jax.Array]:
  """Some of a model's parameters, as `models.init_params` draws them.

  Args:
    model: the model.
    paths: which parameters, with '/' in their paths.
    key: random key; `jax.random.key(0)` unless given.

  Returns:
    path -> array.
  """
  if not paths:
    return {}

  def some(key: jax.Array) -> dict[str, jax.Array]:
    params = nn.unbox(models.init_boxed(model, key))
    every = flatten_dict(params, sep='/')
    return {path: every[path] for path in paths}

  # The compiler drops what is not returned, so that this is quick.
  return jax.jit(some)(jax.random.key(0) if key is None else key)
