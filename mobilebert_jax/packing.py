"""Examples inside packed rows: the part of packing that the device does.

A packed batch has several examples in each row. Its columns are:

  input_ids, token_type_ids, attention_mask and the other sequence columns:
    [R, S];
  segment_ids: [R, S], which example a position belongs to: 1, 2, ... from left
    to right in each row (each choice is a segment of its own), 0 for nobody;
  cls_positions: [R, E], where the example in each slot begins ([R, E, N] with
    N choices); 0 for an empty slot;
  weights and the scalar columns: [R, E, ...]; an empty slot has weight 0.

`per_example` gives the scalar columns the shape that losses know, [R * E].
The host's part is `data.packing`.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

Batch = Mapping[str, Array]


def is_packed(batch: Batch) -> bool:
  """Whether rows of the batch hold several examples."""
  return 'cls_positions' in batch


def per_example(batch: Batch) -> dict[str, Array]:
  """Gives a packed batch's scalar columns one row per slot: [R * E, ...].

  Scalar columns are those that have the first two axes of 'cls_positions',
  which no sequence column has: a row has fewer slots than positions. They
  stay divided by rows until here, so that micro-batches and devices can cut
  all columns alike. Other batches stay as they are.
  """
  if not is_packed(batch):
    return dict(batch)
  slots = batch['cls_positions'].shape[:2]
  return {
    name: value.reshape(-1, *value.shape[2:])
    if name != 'cls_positions' and value.shape[:2] == slots
    else value
    for name, value in batch.items()
  }


def token_weights(batch: Batch) -> Float[Array, 'B S']:
  """The weight of each position: that of its example; 0 for nobody's.

  What a loss of tags or masked tokens multiplies with
  (`losses.token_loss(logits, batch['labels'], token_weights(batch))`), in any
  kind of batch.

  Args:
    batch: a batch as `Task.loss` gets it.
  """
  weights, shape = batch['weights'], batch['input_ids'].shape
  if not is_packed(batch):
    return jnp.broadcast_to(weights[:, None], shape)
  segments = batch['segment_ids']
  by_slot = weights.reshape(shape[0], -1)
  slot = jnp.clip(segments - 1, 0, by_slot.shape[1] - 1)
  found = jnp.take_along_axis(by_slot, slot, axis=1)
  return jnp.where(segments > 0, found, 0)


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
