"""The training state: what it holds, how it is made, where a mesh has it."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key

from mobilebert_jax import models
from mobilebert_jax.models.typing import Params
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training.mesh import ParamSharding
from mobilebert_jax.training.optimizer import Optimizer


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
