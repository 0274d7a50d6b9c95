"""Gradients of a loss over a batch: whole, in micro-batches, in replicas."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Key

from mobilebert_jax.losses import task
from mobilebert_jax.models import packing, partitioning
from mobilebert_jax.training.optimizer import Params

Batch = Mapping[str, Array]
Terms = tuple[task.Term, ...]
Loss = Callable[[Any, Batch], Terms]
Weights = tuple[Float[Array, ''], ...]
GradientFn = Callable[
  [Params, Batch, Weights, Key[Array, '']],
  tuple[Float[Array, ''], Params],
]

# The columns of a batch that the model reads; the others are the loss's.
MODEL_INPUTS = (
  'input_ids',
  'attention_mask',
  'token_type_ids',
  'segment_ids',
  'cls_positions',
  'masked_positions',
)


def model_inputs(batch: Batch) -> dict[str, Any]:
  """The columns that the model reads."""
  return {name: batch[name] for name in MODEL_INPUTS if name in batch}


def total_weights(
  model: nn.Module, loss: Loss, params: Params, batch: Batch
) -> Weights:
  """The weight of each term of the loss over a whole batch.

  Weights depend on labels alone, so the loss of outputs that are all zero has
  the right ones; the compiler drops everything else that it computes.
  """
  outputs = jax.eval_shape(
    lambda p, b: model.apply({'params': p}, **model_inputs(b)), params, batch
  )
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), outputs)
  terms = loss(zeros, packing.per_example(batch))
  return tuple(jnp.asarray(term.weight) for term in terms)


def gradient_fn(model: nn.Module, loss: Loss) -> GradientFn:
  """The gradient of what some rows contribute to a batch's loss.

  A loss is a mean, and means of parts do not add up; a part's sum divided by
  the weight of the whole does. So contributions of micro-batches, replicas or
  `pmap`'s devices are simply added: with `jax.lax.psum`, for instance, of
  `total_weights` before and of the gradients after.

  Args:
    model: the model, with a head.
    loss: (outputs, batch) -> terms; a packed batch comes as
      `packing.per_example` leaves it.

  Returns:
    (params, rows, weights of the whole batch, dropout key) -> (the rows' part
    of the loss, its gradient).
  """

  def part_of_loss(params, batch, weights, key):
    outputs = model.apply(
      {'params': params},
      **model_inputs(batch),
      deterministic=False,
      rngs={'dropout': key},
    )
    terms = loss(outputs, packing.per_example(batch))
    whole = (term._replace(weight=w) for term, w in zip(terms, weights))
    return task.total(tuple(whole))

  return jax.value_and_grad(part_of_loss)


def accumulated(
  gradient: GradientFn, steps: int, mesh: Mesh, places: Params
) -> GradientFn:
  """The same gradient by micro-batches, one after the other in a scan.

  On several replicas (mesh axis 'data') each adds up its own rows' gradients,
  and the replicas' sums are added once, behind the scan: a sum inside would
  send the whole gradient in every micro-batch. The replicas are an axis of a
  `vmap` that lies along 'data' (`spmd_axis_name`); every device holds its own
  sum, as large as its part of the parameters. What 'fsdp' divides is still
  reduced in every micro-batch, for no device could hold it whole.

  Dropout draws anew in each micro-batch, and then in each replica: its masks,
  and nothing else, depend on `steps` and on the mesh's 'data'.

  Args:
    gradient: from `gradient_fn`.
    steps: micro-batches.
    mesh: the mesh that is set when this is called.
    places: shardings of the parameters.

  Returns:
    A function like `gradient`. Its batch has a multiple of steps x data x fsdp
    rows.
  """
  replicas = mesh.shape['data']

  def of_part(params, micro, weights, key):
    if replicas == 1:
      return gradient(params, micro, weights, key)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(replicas))
    of_each = jax.vmap(
      gradient, in_axes=(None, 0, None, 0), spmd_axis_name='data'
    )
    with partitioning.within_replica():
      values, grads = of_each(params, micro, weights, keys)
    return values, jax.tree.map(_pin_replicas, grads, places)

  def of_batch(params, batch, weights, key):
    def add(sums, inputs):
      index, micro = inputs
      micro_key = jax.random.fold_in(key, index)
      new = of_part(params, micro, weights, micro_key)
      return jax.tree.map(jnp.add, sums, new), None

    micros = {
      name: _micro_batches(x, steps, replicas) for name, x in batch.items()
    }
    abstract = jax.eval_shape(
      lambda: of_part(
        params, {name: x[0] for name, x in micros.items()}, weights, key
      )
    )
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), abstract)
    sums = jax.lax.scan(add, zeros, (jnp.arange(steps), micros))[0]
    if replicas == 1:
      return sums
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), sums)

  return of_batch


def _micro_batches(x: Array, steps: int, replicas: int) -> Array:
  """[B, ...] to [steps, B / steps, ...], or to [steps, replicas, rows, ...].

  Micro-batch i has rows i, i + steps, ...: so every device keeps its own rows
  when the batch is divided among devices.
  """
  if replicas == 1:
    return _split(x, steps)
  apart = x.reshape(replicas, -1, *x.shape[1:])
  micros = jax.vmap(lambda x: _split(x, steps), out_axes=1)(apart)
  return _pin_micro_batches(micros)


def _split(x: Array, parts: int) -> Array:
  return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)


def _pin_micro_batches(x: Array) -> Array:
  """Pins [steps, data, rows, ...]: no row leaves its device."""
  spec = PartitionSpec(None, 'data', 'fsdp')
  return jax.lax.with_sharding_constraint(x, spec)


def _pin_replicas(x: Array, place: NamedSharding) -> Array:
  """Pins [data, ...], a value of each replica, which divides it as `place`."""
  apart = NamedSharding(place.mesh, PartitionSpec('data', *place.spec))
  return jax.lax.with_sharding_constraint(x, apart)
