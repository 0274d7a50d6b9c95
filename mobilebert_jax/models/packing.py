"""Rows that hold several examples: what the model and the losses do with them.

A packed batch has several examples in each row. Its columns are:

  input_ids, token_type_ids, attention_mask and the other sequence columns:
    [R, S];
  masked_positions, labels: [R, P], if only some positions have a label: those
    positions in the row, 0 behind the last of them, and the labels there;
  segment_ids: [R, S], which example a position belongs to: 1, 2, ... from left
    to right in each row (each choice is a segment of its own), 0 for padding;
  cls_positions: [R, E], where the example in each slot begins ([R, E, N] with
    N choices); 0 for an empty slot;
  weights and the scalar columns: [R, E, ...]; an empty slot has weight 0.

Each example is computed as if it were alone in its row (Krell et al.,
"Efficient sequence packing without cross-contamination", arXiv 2107.02027, for
attention and positions; the trigram input is MobileBERT's own). `per_example`
gives the scalar columns the shape that losses know, [R * E]. The host's part is
`data.batching.packing`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from mobilebert_jax.models.typing import Batch
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
  """Returns positions that begin at 0 in every segment; 0 at padding."""
  index = jnp.broadcast_to(jnp.arange(segment_ids.shape[1]), segment_ids.shape)
  before = jnp.pad(segment_ids[:, :-1], ((0, 0), (1, 0)))
  starts = jnp.where(segment_ids != before, index, 0)
  position = index - jax.lax.cummax(starts, axis=1)
  return jnp.where(segment_ids > 0, position, 0)


def same_segment(segment_ids: Int[Array, 'B S']) -> Bool[Array, 'B T S']:
  """Returns which keys belong to a query's example; padding sees nothing."""
  same = segment_ids[:, :, None] == segment_ids[:, None, :]
  return same & (segment_ids > 0)[:, None, :]


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
  """Returns the vectors at these positions of each row, row after row.

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
  """Returns the vectors at these positions of each row.

  Each row is read by itself, so that devices which divide the rows have
  nothing to tell one another.
  """
  index = jnp.asarray(positions)[..., None]
  return jnp.take_along_axis(x, index, axis=1)


def is_packed(batch: Batch) -> bool:
  """Returns whether rows of the batch hold several examples."""
  return 'cls_positions' in batch


def per_example(batch: Batch) -> dict[str, Array]:
  """Gives a packed batch's scalar columns one row per slot: [R * E, ...].

  Scalar columns are those that have the first two axes of 'cls_positions',
  which no sequence column has: a row has fewer slots than positions. (Labels
  at 'masked_positions' might.) They stay divided by rows until here, so that
  micro-batches and devices can cut all columns alike. Other batches stay as
  they are.
  """
  if not is_packed(batch):
    return dict(batch)
  slots = batch['cls_positions'].shape[:2]
  whole = {'cls_positions'}
  if 'masked_positions' in batch:
    whole |= {'masked_positions', 'labels'}
  return {
    name: value.reshape(-1, *value.shape[2:])
    if name not in whole and value.shape[:2] == slots
    else value
    for name, value in batch.items()
  }


def token_weights(
  batch: Batch,
) -> Float[Array, 'B S'] | Float[Array, 'B P']:
  """Returns the weight of each label: that of its example, 0 at padding.

  What a loss of tags or masked tokens multiplies with
  (`losses.token_loss(logits, batch['labels'], token_weights(batch))`), in any
  kind of batch.

  Args:
    batch: a batch as `Task.loss` gets it.

  Returns:
    A weight for each position, or for each of 'masked_positions' if the batch
    has them.
  """
  weights, shape = batch['weights'], batch['input_ids'].shape
  positions = batch.get('masked_positions')
  if not is_packed(batch):
    shape = shape if positions is None else positions.shape
    return jnp.broadcast_to(weights[:, None], shape)
  segments = batch['segment_ids']
  if positions is not None:
    segments = jnp.take_along_axis(segments, positions, axis=1)
  by_slot = weights.reshape(shape[0], -1)
  slot = jnp.clip(segments - 1, 0, by_slot.shape[1] - 1)
  result = jnp.take_along_axis(by_slot, slot, axis=1)
  return jnp.where(segments > 0, result, 0)


def at_tokens(
  values: Shaped[Array, 'B P'], batch: Batch
) -> Shaped[Array, 'B S']:
  """Puts values of masked tokens back where the tokens are.

  Args:
    values: one for each of 'masked_positions', 0 where there is no label; or
      one for each position if the batch does not have them.
    batch: a batch as `Task.predict` gets it.

  Returns:
    The values at their positions, 0 at all others.
  """
  if 'masked_positions' not in batch:
    return values
  # Places without a label all point at position 0 and add nothing to it.
  indices = jnp.asarray(batch['masked_positions'])
  nothing = jnp.zeros(batch['input_ids'].shape, values.dtype)
  return jax.vmap(lambda row, at, value: row.at[at].add(value))(
    nothing, indices, values
  )


def example_logits(
  logits: Float[Array, 'R S'], batch: Batch
) -> Float[Array, 'B S']:
  """Returns a logit for each position of each example, from its [CLS] on.

  What is no token of the example (other examples, padding) has the dtype's
  lowest value: a softmax over an example does not depend on how it was
  batched.

  Args:
    logits: a token-level head's scores, such as `start_logits`.
    batch: a batch as `Task.loss` gets it.

  Returns:
    [R * E, S] for a packed batch, in the order of its scalar columns; [B, S]
    for another.
  """
  lowest = jnp.finfo(logits.dtype).min
  is_token = jnp.asarray(batch['attention_mask']) != 0
  if not is_packed(batch):
    return jnp.where(is_token, logits, lowest)
  rows, length = logits.shape
  first = batch['cls_positions']
  position = first[..., None] + jnp.arange(length).reshape(1, 1, -1)
  inside = position < length
  position = jnp.minimum(position, length - 1).reshape(rows, -1)

  def at(x: Any) -> Array:
    return jnp.take_along_axis(x, position, axis=1).reshape(inside.shape)

  segments = batch['segment_ids']
  own = jnp.take_along_axis(segments, first, axis=1)[..., None]
  inside = inside & (at(segments) == own) & at(is_token)
  return jnp.where(inside, at(logits), lowest).reshape(-1, length)
