"""What of a training state a checkpoint holds, and in which form."""

from typing import Any

import jax
import jax.numpy as jnp

from mobilebert_jax.training.step import TrainState


def filled(tree: Any) -> Any:
  """Without arrays of no elements, which Orbax refuses to save.

  The language model's head has one where embeddings are as wide as the body.
  """
  return jax.tree.map(lambda leaf: leaf if leaf.size else None, tree)


def with_empty(abstract: Any, read: Any) -> Any:
  """Puts them back."""
  return jax.tree.map(
    lambda leaf, value: (
      jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)
      if value is None
      else value
    ),
    abstract,
    read,
  )


def rest(state: TrainState) -> dict[str, Any]:
  """All but the parameters; the random key as plain numbers."""
  key = jax.random.key_data(state.key)
  return {'step': state.step, 'opt_state': state.opt_state, 'key': key}


def abstract_rest(abstract: TrainState) -> dict[str, Any]:
  """The same for shapes, which keep their shardings."""
  key = jax.eval_shape(jax.random.key_data, abstract.key)
  place = abstract.key.sharding
  return {
    'step': abstract.step,
    'opt_state': abstract.opt_state,
    'key': jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=place),
  }


def shapes(tree: Any) -> dict[str, str]:
  """Shape and dtype of each array, by its path joined with slashes."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): (
      f'{tuple(leaf.shape)} {leaf.dtype}'
    )
    for path, leaf in jax.tree.leaves_with_path(tree)
  }
