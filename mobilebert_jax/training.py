"""Training state and the two compiled steps, as pure functions."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from mobilebert_jax import losses, models, packing, sharding
from mobilebert_jax.optimizer import Optimizer, Params, global_norm

Batch = Mapping[str, Array]
Terms = tuple[losses.Term, ...]
Loss = Callable[[Any, Batch], Terms]
Metrics = dict[str, Float[Array, '']]

# The columns of a batch that the model reads; the others are the loss's.
MODEL_INPUTS = (
  'input_ids',
  'attention_mask',
  'token_type_ids',
  'segment_ids',
  'cls_positions',
)


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
  params = jax.device_put(params, places.params)
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
  to exactly that of the whole batch: each is divided by the weight of the whole
  batch, which is known from the labels alone.

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

  def micro_loss(params, batch, weights, key):
    outputs = model.apply(
      {'params': params},
      **model_inputs(batch),
      deterministic=False,
      rngs={'dropout': key},
    )
    terms = loss(outputs, packing.per_example(batch))
    whole = (term._replace(weight=w) for term, w in zip(terms, weights))
    return losses.total(tuple(whole))

  grad = jax.value_and_grad(micro_loss)

  def gradients(state: TrainState, batch: Batch):
    key = jax.random.fold_in(state.key, state.step)
    weights = total_weights(model, loss, state.params, batch)
    if accumulation_steps == 1:
      return grad(state.params, batch, weights, key)

    def add(sums, inputs):
      index, micro = inputs
      micro_key = jax.random.fold_in(key, index)
      new = grad(state.params, micro, weights, micro_key)
      return jax.tree.map(jnp.add, sums, new), None

    abstract = jax.eval_shape(grad, state.params, batch, weights, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), abstract)
    micros = jax.tree.map(lambda x: _split(x, accumulation_steps), dict(batch))
    indices = jnp.arange(accumulation_steps)
    return jax.lax.scan(add, zeros, (indices, micros))[0]

  def step(state: TrainState, batch: Batch):
    value, grads = gradients(state, batch)
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

  return jax.jit(step, donate_argnames='state', out_shardings=(places, None))


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


def model_inputs(batch: Batch) -> dict[str, Any]:
  """The columns that the model reads."""
  return {name: batch[name] for name in MODEL_INPUTS if name in batch}


def total_weights(
  model: nn.Module, loss: Loss, params: Params, batch: Batch
) -> tuple[Float[Array, ''], ...]:
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


def _split(x: Array, parts: int) -> Array:
  """[B, ...] to [parts, B / parts, ...].

  Part i has rows i, i + parts, ...: so every device keeps its own rows when
  the batch is divided among devices.
  """
  return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)
