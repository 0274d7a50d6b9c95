"""Training state and the two compiled steps, as pure functions."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from mobilebert_jax import models, packing, sharding
from mobilebert_jax.gradients import (
  Batch,
  Loss,
  Terms,
  accumulated,
  gradient_fn,
  model_inputs,
  total_weights,
)
from mobilebert_jax.optimizer import Optimizer, Params, global_norm

Metrics = dict[str, Float[Array, '']]


@flax.struct.dataclass
class TrainState:
  """Everything that a step reads and changes, beside the batch.

  Attributes:
    step: completed optimizer steps, int32.
    params: the model's parameters.
    opt_state: the optimizer's moments and count.
    key: base of all dropout keys; it never changes.
  """

  step: Int[Array, '']
  params: Params
  opt_state: optax.OptState
  key: Key[Array, '']


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvalStep = Callable[[Params, Batch], tuple[dict[str, Array], Terms]]


def abstract_state(
  model: nn.Module, tx: Optimizer, mesh: Mesh
) -> tuple[TrainState, TrainState]:
  """What a state of this model looks like, without computing anything.

  Returns:
    The state's shapes and dtypes (each with its sharding), and the shardings.

  Raises:
    InputError: a mesh that does not divide the parameters.
  """

  def boxed_state():
    key = jax.random.key(0)
    return _new_state(models.init_boxed(model, key), tx, key)

  boxed = jax.eval_shape(boxed_state)
  shardings = sharding.state_shardings(boxed, mesh)
  shapes = jax.tree.map(
    lambda leaf, place: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=place
    ),
    nn.unbox(boxed),
    shardings,
  )
  return shapes, shardings


def create_state(
  model: nn.Module,
  tx: Optimizer,
  mesh: Mesh,
  params: Params,
  key: Key[Array, ''],
) -> TrainState:
  """A state at step 0, laid out on the mesh.

  Args:
    model: tells the logical axes of the parameters.
    tx: the optimizer.
    mesh: where the state lives.
    params: drawn (`models.init_params`) or loaded parameters, unboxed.
    key: base of the dropout keys.
  """
  _, places = abstract_state(model, tx, mesh)
  # A copy: the train step donates its state, the caller keeps its parameters.
  params = jax.tree.map(jnp.array, params)
  params = sharding.put_tree(params, places.params)
  new_state = jax.jit(
    lambda params, key: _new_state(params, tx, key), out_shardings=places
  )
  return new_state(params, key)


def _new_state(params: Params, tx: Optimizer, key: Any) -> TrainState:
  return TrainState(jnp.int32(0), params, tx.init(params), key)


def make_train_step(
  model: nn.Module,
  loss: Loss,
  tx: Optimizer,
  mesh: Mesh,
  accumulation_steps: int = 1,
) -> TrainStep:
  """Compiles one optimizer step.

  A batch is cut into `accumulation_steps` micro-batches whose gradients add up
  to exactly that of the whole batch (`gradients.accumulated`). Without dropout
  the result depends neither on their number nor on the mesh, but for rounding;
  with dropout and accumulation, the masks depend on both.

  Args:
    model: the model, with a head.
    loss: (outputs, batch) -> terms; a packed batch comes as
      `packing.per_example` leaves it.
    tx: the optimizer.
    mesh: the mesh that is set when the step is called.
    accumulation_steps: micro-batches; must divide the batch.

  Returns:
    step(state, batch) -> (state, metrics 'loss', 'grad_norm' (before clipping)
    and 'learning_rate', float32 scalars). The old state is donated.
  """
  _, places = abstract_state(model, tx, mesh)
  gradient = gradient_fn(model, loss)
  if accumulation_steps > 1:
    gradient = accumulated(gradient, accumulation_steps, mesh, places.params)

  def step(state: TrainState, batch: Batch):
    key = jax.random.fold_in(state.key, state.step)
    weights = total_weights(model, loss, state.params, batch)
    value, grads = gradient(state.params, batch, weights, key)
    return apply_gradients(state, tx, value, grads)

  return jax.jit(step, donate_argnames='state', out_shardings=(places, None))


def apply_gradients(
  state: TrainState, tx: Optimizer, value: Float[Array, ''], grads: Params
) -> tuple[TrainState, Metrics]:
  """The state behind one optimizer step, and the step's metrics.

  Args:
    state: the state.
    tx: the optimizer.
    value: the loss of the whole batch.
    grads: its gradient (`gradients.gradient_fn`).
  """
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  metrics = {
    'loss': value,
    'grad_norm': global_norm(grads),
    'learning_rate': tx.learning_rate(state.step),
  }
  state = TrainState(
    step=state.step + 1,
    params=optax.apply_updates(state.params, updates),
    opt_state=opt_state,
    key=state.key,
  )
  return state, metrics


def make_eval_step(
  model: nn.Module,
  predict: Callable[[Any, Batch], dict[str, Array]],
  loss: Loss | None,
) -> EvalStep:
  """Compiles one evaluation step, without dropout.

  Args:
    model: the model, with a head.
    predict: (outputs, batch) -> what scoring needs, arrays whose first axis is
      that of the outputs; the batch is as for `loss`.
    loss: as for training; None where there are no labels.

  Returns:
    step(params, batch) -> (predictions, terms of the loss).
  """

  @jax.jit
  def step(params: Params, batch: Batch):
    outputs = model.apply({'params': params}, **model_inputs(batch))
    seen = packing.per_example(batch)
    kept = predict(outputs, seen)
    return kept, () if loss is None else loss(outputs, seen)

  return step
