"""Training state and the two compiled steps, as pure functions."""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from mobilebert_jax import models
from mobilebert_jax.models import packing, partitioning
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training.gradients import (
  Batch,
  Loss,
  Terms,
  accumulated,
  gradient_fn,
  model_inputs,
  total_weights,
)
from mobilebert_jax.training.optimizer import Optimizer, Params, global_norm

# How a state lies on a mesh: by `sharding.RULES`, or whole on every device.
Placement = Literal['sharded', 'replicated']
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


def check_mesh(model: nn.Module, mesh: Mesh, placement: Placement = 'sharded'):
  """Checks that a mesh divides a model, before anything is made.

  Raises:
    InputError: a size of the model that its mesh axis does not divide.
  """
  check_heads(model, mesh)
  if mesh.shape['fsdp'] * mesh.shape['tensor'] > 1:
    parameter_shardings(model, mesh, placement)


def check_heads(
  model: nn.Module, mesh: Mesh, where: str = 'config.model.num_attention_heads'
):
  """Checks that 'tensor' gives every device whole attention heads.

  Args:
    model: the model.
    mesh: the mesh.
    where: what errors call the number of its heads.

  Raises:
    InputError: it does not.
  """
  heads, tensor = model.config.num_attention_heads, mesh.shape['tensor']
  if heads % tensor:
    raise InputError(
      f'config.mesh.tensor is {tensor}, but must divide the {heads} attention '
      f'heads ({where}).'
    )


def parameter_shardings(
  model: nn.Module, mesh: Mesh, placement: Placement
) -> Params:
  """Where a mesh puts a model's parameters.

  Raises:
    InputError: a mesh that does not divide them.
  """
  # The key is made inside: outside, it would ask for devices.
  boxed = jax.eval_shape(lambda: models.init_boxed(model, jax.random.key(0)))
  return shardings_of(boxed, mesh, placement)


def shardings_of(boxed: Any, mesh: Mesh, placement: Placement) -> Any:
  """`sharding.state_shardings`, or one sharding for all leaves."""
  if placement == 'replicated':
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: whole, nn.unbox(boxed))
  return partitioning.state_shardings(boxed, mesh)


def abstract_state(
  model: nn.Module,
  tx: Optimizer,
  mesh: Mesh,
  placement: Placement = 'sharded',
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

  check_heads(model, mesh)
  boxed = jax.eval_shape(boxed_state)
  shardings = shardings_of(boxed, mesh, placement)
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
  params: Params | Key[Array, ''],
  key: Key[Array, ''],
  placement: Placement = 'sharded',
) -> TrainState:
  """A state at step 0, made on the mesh: no device ever holds it whole.

  Args:
    model: tells the logical axes of the parameters.
    tx: the optimizer.
    mesh: where the state lives.
    params: loaded parameters, unboxed, whose parts go from the host to their
      devices; or the key to draw them with, each part on its device. The bits
      are those of `models.init_params(model, params)` on any mesh.
    key: base of the dropout keys.
    placement: whether the mesh divides the state.
  """
  _, places = abstract_state(model, tx, mesh, placement)
  if is_key(params):
    params = models.init_params(model, params, places.params)
  else:
    params = partitioning.put_tree(params, places.params)
  # What could not be made for want of memory must not be donated: on a CPU the
  # next program would wait for it for ever.
  jax.block_until_ready(params)

  @jax.jit(donate_argnums=0, out_shardings=places)
  def new_state(params, key):
    return _new_state(params, tx, key)

  return new_state(params, key)


def is_key(x: Any) -> bool:
  """Whether x is a random key, not parameters."""
  return isinstance(x, jax.Array) and jnp.issubdtype(
    x.dtype, jax.dtypes.prng_key
  )


def _new_state(params: Params, tx: Optimizer, key: Any) -> TrainState:
  return TrainState(jnp.int32(0), params, tx.init(params), key)


def make_train_step(
  model: nn.Module,
  loss: Loss,
  tx: Optimizer,
  mesh: Mesh,
  accumulation_steps: int = 1,
  skip_nonfinite: bool = False,
  placement: Placement = 'sharded',
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
    skip_nonfinite: a step whose loss or gradient is not finite leaves all but
      the step's number as it was.
    placement: whether the mesh divides the state.

  Returns:
    step(state, batch) -> (state, metrics 'loss', 'grad_norm' (before clipping)
    and 'learning_rate', float32 scalars). The old state is donated.
  """
  _, places = abstract_state(model, tx, mesh, placement)
  gradient = gradient_fn(model, loss)
  if accumulation_steps > 1:
    gradient = accumulated(gradient, accumulation_steps, mesh, places.params)

  def step(state: TrainState, batch: Batch):
    key = jax.random.fold_in(state.key, state.step)
    weights = total_weights(model, loss, state.params, batch)
    value, grads = gradient(state.params, batch, weights, key)
    new, metrics = apply_gradients(state, tx, value, grads)
    if skip_nonfinite:
      new = unless_nonfinite(state, new, metrics, tx)
    return new, metrics

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
  updates, opt_state = tx.update(
    grads, state.opt_state, state.params, step=state.step
  )
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


def unless_nonfinite(
  old: TrainState, new: TrainState, metrics: Metrics, tx: Optimizer
) -> TrainState:
  """The new state; where the metrics are not finite, the old one's weights.

  The norm is finite only if every gradient is, so the moments stay clean. The
  number of the step goes on, and with it the data and the dropout. A step that
  only sets the moments to 0 reads no gradient: it is always taken, for without
  it the next one would go on with moments that should be gone.
  """
  is_finite = jnp.isfinite(metrics['loss']) & jnp.isfinite(metrics['grad_norm'])
  is_taken = is_finite | tx.only_resets(old.step)

  def choose(after, before):
    return jax.tree.map(lambda a, b: jnp.where(is_taken, a, b), after, before)

  return TrainState(
    step=new.step,
    params=choose(new.params, old.params),
    opt_state=choose(new.opt_state, old.opt_state),
    key=new.key,
  )


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
