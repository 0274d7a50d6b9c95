"""The training state and the compiled step that updates it.

Start with `TrainState` and `make_train_step`. `gradient_fn` is what the step
differentiates, `accumulate` adds micro-batches up, `apply_gradients` updates
the state.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from mobilebert_jax import losses, models
from mobilebert_jax.losses import Terms
from mobilebert_jax.models import packing, partitioning
from mobilebert_jax.models.typing import Batch, Metrics, Params
from mobilebert_jax.runtime.compiler_options import compiler_options
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training.mesh import ParamSharding
from mobilebert_jax.training.optimizer import Optimizer, global_norm


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


def create_state(
  model: nn.Module,
  tx: Optimizer,
  mesh: Mesh,
  params: Params | Key[Array, ''],
  key: Key[Array, ''],
  param_sharding: ParamSharding = 'sharded',
) -> TrainState:
  """Makes a state at step 0 on the mesh: no device ever holds it whole.

  Args:
    model: tells the logical axes of the parameters.
    tx: the optimizer.
    mesh: where the state lives.
    params: loaded parameters, unboxed, whose parts go from the host to their
      devices; or the key to draw them with, each part on its device. The bits
      are those of `models.init_params(model, params)` on any mesh.
    key: base of the dropout keys.
    param_sharding: whether the mesh divides the state.
  """
  _, shardings = abstract_state(model, tx, mesh, param_sharding)
  if is_key(params):
    params = models.init_params(model, params, shardings.params)
  else:
    params = device_mesh.put_tree(params, shardings.params)
  # What could not be made for want of memory must not be donated: on a CPU the
  # next program would wait for it for ever.
  jax.block_until_ready(params)

  @jax.jit(donate_argnums=0, out_shardings=shardings)
  def new_state(params, key):
    return _new_state(params, tx, key)

  return new_state(params, key)


def abstract_state(
  model: nn.Module,
  tx: Optimizer,
  mesh: Mesh,
  param_sharding: ParamSharding = 'sharded',
) -> tuple[TrainState, TrainState]:
  """Returns what a state of this model looks like; computes nothing.

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
  shardings = device_mesh.state_shardings(boxed, mesh, param_sharding)
  return abstract_arrays(nn.unbox(boxed), shardings), shardings


def abstract_arrays(shapes: Any, shardings: Any) -> Any:
  """Returns a tree of shapes and dtypes with their shardings."""
  return jax.tree.map(
    lambda leaf, where: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=where
    ),
    shapes,
    shardings,
  )


def parameter_shardings(
  model: nn.Module, mesh: Mesh, param_sharding: ParamSharding = 'sharded'
) -> Params:
  """Returns the shardings of a model's parameters.

  Raises:
    InputError: a mesh that does not divide them.
  """
  # The key is made inside: outside, it would ask for devices.
  boxed = jax.eval_shape(lambda: models.init_boxed(model, jax.random.key(0)))
  return device_mesh.state_shardings(boxed, mesh, param_sharding)


def check_mesh(
  model: nn.Module, mesh: Mesh, param_sharding: ParamSharding = 'sharded'
):
  """Checks that a mesh divides a model, before anything is made.

  Raises:
    InputError: a size of the model that its mesh axis does not divide.
  """
  check_heads(model, mesh)
  if mesh.shape['fsdp'] * mesh.shape['tensor'] > 1:
    parameter_shardings(model, mesh, param_sharding)


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


def is_key(x: Any) -> bool:
  """Returns whether x is a random key, not parameters."""
  return isinstance(x, jax.Array) and jnp.issubdtype(
    x.dtype, jax.dtypes.prng_key
  )


def _new_state(params: Params, tx: Optimizer, key: Any) -> TrainState:
  return TrainState(jnp.int32(0), params, tx.init(params), key)


# (outputs, batch) -> terms.
Loss = Callable[[Any, Batch], Terms]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
# The weight of each term of a loss over a whole batch.
TermWeights = tuple[Float[Array, ''], ...]
# (params, rows, weights of the whole batch, dropout key) -> (the rows' part of
# the loss, its gradient).
GradientFn = Callable[
  [Params, Batch, TermWeights, Key[Array, '']],
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


def make_train_step(
  model: nn.Module,
  loss: Loss,
  tx: Optimizer,
  mesh: Mesh,
  accumulation_steps: int = 1,
  skip_nonfinite: bool = False,
  param_sharding: ParamSharding = 'sharded',
) -> TrainStep:
  """Compiles one optimizer step.

  A batch is cut into `accumulation_steps` micro-batches whose gradients add up
  to exactly that of the whole batch (`accumulate`). Without dropout the result
  depends neither on their number nor on the mesh, but for rounding; with
  dropout and accumulation, the masks depend on both.

  Args:
    model: the model, with a head.
    loss: (outputs, batch) -> terms; a packed batch comes as
      `packing.per_example` leaves it.
    tx: the optimizer.
    mesh: the mesh that is set when the step is called.
    accumulation_steps: micro-batches; must divide the batch.
    skip_nonfinite: a step whose loss or gradient is not finite leaves all but
      the step's number as it was.
    param_sharding: whether the mesh divides the state.

  Returns:
    step(state, batch) -> (state, metrics 'loss', 'grad_norm' (before clipping)
    and 'learning_rate', float32 scalars). The old state is donated.
  """
  _, shardings = abstract_state(model, tx, mesh, param_sharding)
  gradient = gradient_fn(model, loss)
  if accumulation_steps > 1:
    gradient = accumulate(gradient, accumulation_steps, mesh, shardings.params)

  def step(state: TrainState, batch: Batch):
    key = jax.random.fold_in(state.key, state.step)
    weights = total_weights(model, loss, state.params, batch)
    value, grads = gradient(state.params, batch, weights, key)
    new, metrics = apply_gradients(state, tx, value, grads)
    if skip_nonfinite:
      new = unless_nonfinite(state, new, metrics, tx)
    return new, metrics

  return jax.jit(
    step,
    donate_argnames='state',
    out_shardings=(shardings, None),
    compiler_options=compiler_options(
      mesh.devices.flat[0].platform, model.compute.dtype
    ),
  )


def model_inputs(batch: Batch) -> dict[str, Any]:
  """Returns the columns that the model reads."""
  return {name: batch[name] for name in MODEL_INPUTS if name in batch}


def gradient_fn(model: nn.Module, loss: Loss) -> GradientFn:
  """Returns the gradient of what some rows contribute to a batch's loss.

  A loss is a mean, and means of parts do not add up; a part's sum divided by
  the weight of the whole does. With terms i of scale a_i, rows r of part p and
  the whole batch B,

    loss_p = sum_i a_i (sum_{r in p} value_ir) / (sum_{r in B} weight_ir),

  so that the loss of B is the sum of loss_p over its parts. Contributions of
  micro-batches, replicas or `pmap`'s devices are simply added: with
  `jax.lax.psum`, for instance, of `total_weights` before and of the gradients
  after.

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
    return losses.total(tuple(whole))

  return jax.value_and_grad(part_of_loss)


def total_weights(
  model: nn.Module, loss: Loss, params: Params, batch: Batch
) -> TermWeights:
  """Returns the weight of each term of the loss over a whole batch.

  Weights depend on labels alone, so the loss of outputs that are all zero has
  the right ones; the compiler drops everything else that it computes.
  """
  outputs = jax.eval_shape(
    lambda p, b: model.apply({'params': p}, **model_inputs(b)), params, batch
  )
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), outputs)
  terms = loss(zeros, packing.per_example(batch))
  return tuple(jnp.asarray(term.weight) for term in terms)


def apply_gradients(
  state: TrainState, tx: Optimizer, value: Float[Array, ''], grads: Params
) -> tuple[TrainState, Metrics]:
  """Returns the state after one optimizer step, and the step's metrics.

  Args:
    state: the state.
    tx: the optimizer.
    value: the loss of the whole batch.
    grads: its gradient (`gradient_fn`).
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
  """Returns the new state; where metrics are not finite, the old weights.

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


def accumulate(
  gradient: GradientFn, steps: int, mesh: Mesh, shardings: Params
) -> GradientFn:
  """Returns the same gradient, by micro-batches one after another in a scan.

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
    shardings: of the parameters.

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
    return values, jax.tree.map(_pin_replicas, grads, shardings)

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


def _pin_replicas(x: Array, own: NamedSharding) -> Array:
  """Pins [data, ...], a value of each replica, which divides it as `own`."""
  apart = NamedSharding(own.mesh, PartitionSpec('data', *own.spec))
  return jax.lax.with_sharding_constraint(x, apart)
