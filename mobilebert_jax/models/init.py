"""Initialises parameters, all or some; tells their shapes."""

import functools
from collections.abc import Collection
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from mobilebert_jax.models.heads import MobileBertForMultipleChoice
from mobilebert_jax.models.typing import Params


def init_boxed(model: nn.Module, key: jax.Array) -> Params:
  """Draws parameters that carry the logical names of their axes."""
  return _traced_init(model)(key)


@functools.cache
def _traced_init(model: nn.Module) -> Any:
  # Kept, so that equal models are traced once, whether it is for the shapes or
  # for the values; inlined, so that a caller's program is as without it.
  # Parameters do not depend on the input's size: two tokens are enough.
  shape = (
    (1, 1, 2) if isinstance(model, MobileBertForMultipleChoice) else (1, 2)
  )
  return jax.jit(
    lambda key: model.init(key, jnp.zeros(shape, jnp.int32))['params'],
    inline=True,
  )


@functools.cache
def _jitted_init(model: nn.Module, flat_shardings: Any, tree: Any) -> Any:
  # Kept, so that equal models share one compilation.
  out = None if tree is None else jax.tree.unflatten(tree, flat_shardings)
  return jax.jit(
    lambda key: nn.unbox(init_boxed(model, key)), out_shardings=out
  )


def init_params(
  model: nn.Module, key: jax.Array, shardings: Any = None
) -> Params:
  """Draws a model's parameters as plain nested dicts of arrays.

  Weights are normal with `initializer_range`, biases zero, norms one and
  zero, the padding word vector zero (transformers' `_init_weights`).

  Args:
    model: a model of this package.
    key: a random key.
    shardings: a tree that says where each parameter is to be; every device
      then draws its own part. None: on the default device. The bits do not
      depend on it.
  """
  flat_shardings, tree = jax.tree.flatten(shardings)
  init = _jitted_init(
    model, tuple(flat_shardings), tree if flat_shardings else None
  )
  return init(key)


def init_some(
  model: nn.Module, paths: Collection[str], key: jax.Array | None
) -> dict[str, jax.Array]:
  """Draws some of a model's parameters, as `init_params` draws them.

  Args:
    model: a model of this package.
    paths: which parameters, with '/' in their paths.
    key: a random key; None: `jax.random.key(0)`.

  Returns:
    path -> array.
  """
  if not paths:
    return {}

  def some(key: jax.Array) -> dict[str, jax.Array]:
    every = flatten_dict(nn.unbox(init_boxed(model, key)), sep='/')
    return {path: every[path] for path in paths}

  # The compiler drops what is not returned, so that this is quick.
  return jax.jit(some)(jax.random.key(0) if key is None else key)


def abstract_params(model: nn.Module) -> Params:
  """Returns shapes and dtypes of the parameters, without computing any."""
  return nn.unbox(jax.eval_shape(lambda: init_boxed(model, jax.random.key(0))))


def count_params(params: Params) -> int:
  """Returns the number of parameters in a tree of arrays or shapes."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))
