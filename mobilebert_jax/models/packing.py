"""Examples inside packed rows: the part of packing that the device does.

A packed batch has several examples in each row. Its columns are:

  input_ids, token_type_ids, attention_mask and the other sequence columns:
    [R, S];
  masked_positions, labels: [R, P], if only some positions have a label: those
    positions in the row, 0 behind the last of them, and the labels there;
  segment_ids: [R, S], which example a position belongs to: 1, 2, ... from left
    to right in each row (each choice is a segment of its own), 0 for nobody;
  cls_positions: [R, E], where the example in each slot begins ([R, E, N] with
    N choices); 0 for an empty slot;
  weights and the scalar columns: [R, E, ...]; an empty slot has weight 0.

`per_example` gives the scalar columns the shape that losses know, [R * E].
The host's part is `data.packing`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from mobilebert_jax.models.typing import Batch


def is_packed(batch: Batch) -> bool:
  """Whether rows of the batch hold several examples."""
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
  """The weight of each label: that of its example; 0 for nobody's.

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
  found = jnp.take_along_axis(by_slot, slot, axis=1)
  return jnp.where(segments > 0, found, 0)


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
  places = jnp.asarray(batch['masked_positions'])
  nothing = jnp.zeros(batch['input_ids'].shape, values.dtype)
  return jax.vmap(lambda row, at, value: row.at[at].add(value))(
    nothing, places, values
  )


def example_logits(
  logits: Float[Array, 'R S'], batch: Batch
) -> Float[Array, 'B S']:
  """One logit for each position of each example, counted from its [CLS].

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
