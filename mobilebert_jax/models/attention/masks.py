"""Which keys a query sees: the caller's mask, and examples of packed rows."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from mobilebert_jax.models.packing import same_segment
from mobilebert_jax.runtime.errors import InputError


class Mask(NamedTuple):
  """Which keys a query sees; each part may be None.

  Attributes:
    seen: True = see, [B, S] or four axes that broadcast to [B, H, T, S]; or
      floats with four axes that are added to the scores.
    segment_ids: the examples of packed rows; a query sees its own alone.
  """

  seen: Array | None = None
  segment_ids: Int[Array, 'B S'] | None = None

  def dense(self) -> Array | None:
    """Returns a boolean mask, True = see, or an additive one; four axes."""
    seen, segments = self
    if seen is not None and seen.ndim == 2:
      seen = seen[:, None, None, :]
    if segments is None:
      return seen
    own = same_segment(segments)[:, None]
    if seen is None:
      return own
    if seen.dtype == jnp.bool_:
      return seen & own
    return jnp.where(own, seen, jnp.finfo(seen.dtype).min)


SEES_ALL = Mask()


def make_mask(
  mask: Num[Array | np.ndarray, '...']
  | Bool[Array | np.ndarray, '...']
  | None = None,
  segment_ids: Int[Array | np.ndarray, 'B S'] | None = None,
) -> Mask:
  """Returns every accepted attention mask in one form.

  Args:
    mask: None, or one of
      [B, S]: 1 for keys that all queries may see;
      [B, T, S]: 1 where query t may see key s (transformers 4);
      [B, 1 or H, 1 or T, S]: booleans or integers with the same meaning, or
      floats that are added to the scores (transformers 5).
    segment_ids: the examples of packed rows: 1, 2, ..., 0 for padding.

  Raises:
    InputError: another number of axes.
  """
  segments = None if segment_ids is None else jnp.asarray(segment_ids)
  if mask is None:
    return Mask(None, segments)
  mask = jnp.asarray(mask)
  if mask.ndim not in (2, 3, 4):
    raise InputError(
      f'attention_mask has {mask.ndim} axes, but must have 2 [batch, keys], '
      '3 [batch, queries, keys] or 4 [batch, heads, queries, keys].'
    )
  if mask.ndim == 4 and jnp.issubdtype(mask.dtype, jnp.floating):
    return Mask(mask, segments)
  seen = mask != 0
  return Mask(seen[:, None] if mask.ndim == 3 else seen, segments)


def apply_mask(
  scores: Float[Array, 'B H T S'], mask: Array | None
) -> Float[Array, 'B H T S']:
  """Hides keys from the softmax; a fully hidden row becomes uniform.

  Args:
    scores: before the softmax.
    mask: from `Mask.dense`.
  """
  if mask is None:
    return scores
  return scores + additive(mask, scores.dtype)


def additive(mask: Array, dtype: jnp.dtype) -> Array:
  """Returns what is added to scores, finite.

  Added, not selected: that is what lets gradients pass through a fully hidden
  row as they do in the reference.
  """
  lowest = jnp.finfo(dtype).min
  if mask.dtype == jnp.bool_:
    return jnp.where(mask, 0.0, lowest).astype(dtype)
  # -inf in every key of a row would make its softmax NaN.
  return jnp.maximum(mask, lowest).astype(dtype)
