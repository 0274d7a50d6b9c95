"""Rows that hold several examples: what each token may know of the others.

A packed row has a segment number for each position, `segment_ids`: equal
numbers side by side are one example, 0 belongs to nobody. Each example then is
computed as if it were alone in its row (Krell et al., "Efficient sequence
packing without cross-contamination", arXiv 2107.02027, for attention and
positions; the trigram input is MobileBERT's own).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mobilebert_jax.runtime.errors import InputError

SegmentIds = Int[Array | np.ndarray, 'B S'] | None
# [R, E], or [R, E, N] with choices.
ClsPositions = Int[Array | np.ndarray, '...'] | None


def check_segments(
  shape: tuple[int, ...],
  segment_ids: SegmentIds,
  cls_positions: ClsPositions,
  *,
  is_pooled: bool,
) -> None:
  """Checks what describes a packed batch.

  Args:
    shape: the shape of the batch, [B, S].
    segment_ids: see `MobileBertModel`.
    cls_positions: see `MobileBertModel`.
    is_pooled: whether the model needs to know where examples begin.

  Raises:
    InputError: one without the other, or a wrong shape.
  """
  if segment_ids is None:
    if cls_positions is not None:
      raise InputError(
        'cls_positions are given without segment_ids: a packed batch needs '
        'both.'
      )
    return
  if segment_ids.shape != shape:
    raise InputError(
      f'segment_ids have shape {segment_ids.shape}, but the input has '
      f'[batch, tokens] = {shape}.'
    )
  if cls_positions is None:
    if is_pooled:
      raise InputError(
        'segment_ids are given without cls_positions, but the pooled output '
        'needs them: [rows, examples], where each example begins.'
      )
    return
  if cls_positions.ndim not in (2, 3) or cls_positions.shape[0] != shape[0]:
    raise InputError(
      f'cls_positions have shape {cls_positions.shape}, but must have '
      f'[rows, examples] or [rows, examples, choices] with {shape[0]} rows.'
    )


def segment_positions(segment_ids: Int[Array, 'B S']) -> Int[Array, 'B S']:
  """Positions that begin anew at 0 with every segment; 0 for nobody's."""
  index = jnp.broadcast_to(jnp.arange(segment_ids.shape[1]), segment_ids.shape)
  before = jnp.pad(segment_ids[:, :-1], ((0, 0), (1, 0)))
  starts = jnp.where(segment_ids != before, index, 0)
  position = index - jax.lax.cummax(starts, axis=1)
  return jnp.where(segment_ids > 0, position, 0)


def same_segment(segment_ids: Int[Array, 'B S']) -> Bool[Array, 'B T S']:
  """Which keys belong to a query's example; nobody's positions see nothing."""
  own = segment_ids[:, :, None] == segment_ids[:, None, :]
  return own & (segment_ids > 0)[:, None, :]


def within_segment(
  neighbour: Float[Array, 'B S E'],
  segment_ids: Int[Array, 'B S'],
  offset: int,
) -> Float[Array, 'B S E']:
  """Zeroes the neighbours that belong to another segment.

  Args:
    neighbour: for each position the vector `offset` positions further.
    segment_ids: the segments.
    offset: 1 or -1.
  """
  pad = (0, 1) if offset > 0 else (1, 0)
  kept = segment_ids[:, 1:] if offset > 0 else segment_ids[:, :-1]
  # 0 past the ends, which equals no example's number.
  theirs = jnp.pad(kept, ((0, 0), pad))
  return jnp.where((theirs == segment_ids)[..., None], neighbour, 0)


def take_tokens(
  x: Float[Array, 'R S D'], positions: Int[Array | np.ndarray, '...']
) -> Float[Array, 'RE D']:
  """The vectors at these positions of each row, row after row.

  Args:
    x: vectors.
    positions: [R, E] or [R, E, N].

  Returns:
    [R * E (* N), D].
  """
  index = jnp.asarray(positions).reshape(x.shape[0], -1)
  return tokens_at(x, index).reshape(-1, x.shape[-1])


def tokens_at(
  x: Float[Array, 'R S D'], positions: Int[Array | np.ndarray, 'R P']
) -> Float[Array, 'R P D']:
  """The vectors at these positions of each row.

  Each row is read by itself, so that devices which divide the rows have
  nothing to tell one another.
  """
  index = jnp.asarray(positions)[..., None]
  return jnp.take_along_axis(x, index, axis=1)
