"""The mesh of devices, and what lies where on it.

Makes the mesh, derives shardings from the axis names that modules have given
(`partitioning`), and moves batches and parameters to and from devices.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mobilebert_jax.models.partitioning import (
  MESH_AXES,
  parameter_spec,
  partition_spec,
)
from mobilebert_jax.runtime.errors import InputError

# `config.mesh.param_sharding`: over the mesh by `partitioning.RULES`, or whole
# on every device.
ParamSharding = Literal['sharded', 'replicated']

# The settings that decide how long the divided axes are.
_FIELDS = {
  'embedding': 'embedding_size',
  'hidden': 'hidden_size',
  'hidden_rest': 'hidden_size - config.model.embedding_size',
  'block': 'intra_bottleneck_size',
  'intermediate': 'intermediate_size',
}


def make_mesh(
  data: int = -1,
  fsdp: int = 1,
  tensor: int = 1,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """Makes a mesh over all devices, to be set with `jax.set_mesh`.

  Args:
    data: data-parallel replicas; -1 takes the devices that are left.
    fsdp: shards of parameters and optimizer state (the batch is divided too).
    tensor: shards of attention heads and feed-forward widths.
    devices: those to use, such as a topology's that is only compiled for;
      None: all devices of this run, over all processes.

  Raises:
    InputError: sizes whose product is not the number of devices.
  """
  sizes = {'data': data, 'fsdp': fsdp, 'tensor': tensor}
  count = jax.device_count() if devices is None else len(devices)
  free = [name for name, size in sizes.items() if size == -1]
  fixed = int(np.prod([size for size in sizes.values() if size != -1]))
  if any(size < 1 for size in sizes.values() if size != -1) or len(free) > 1:
    raise InputError(
      f'mesh is {sizes}, but sizes must be at least 1, one of them may be -1.'
    )
  if count % fixed or (not free and fixed != count):
    raise InputError(
      f'mesh is {sizes}, but the product of its sizes must be the number of '
      f'devices, {count}.'
    )
  for name in free:
    sizes[name] = count // fixed
  shape, types = tuple(sizes.values()), (AxisType.Auto,) * 3
  try:
    return jax.make_mesh(shape, MESH_AXES, axis_types=types, devices=devices)
  except NotImplementedError:
    # 8 x 2 on a slice of 4 x 4; `jax.make_mesh` does that on v5e alone.
    split = {'allow_split_physical_axes': True}
    placed = mesh_utils.create_device_mesh(shape, devices, **split)
    return Mesh(placed, MESH_AXES, axis_types=types)


def state_shardings(
  boxed: Any, mesh: Mesh, param_sharding: ParamSharding = 'sharded'
) -> Any:
  """Returns the shardings of a tree whose axes modules have named.

  Args:
    boxed: the result of `jax.eval_shape` on an init function; leaves without
      names are replicated. The optimizer's moments carry their parameters'
      names.
    mesh: the mesh.
    param_sharding: whether the mesh divides the leaves at all.

  Returns:
    The same tree with a NamedSharding for each (unboxed) leaf.

  Raises:
    InputError: an axis that its mesh axes do not divide.
  """
  if param_sharding == 'replicated':
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: whole, nn.unbox(boxed))

  def to_sharding(path, leaf):
    names = leaf.names if isinstance(leaf, nn.LogicallyPartitioned) else ()
    shape = nn.unbox(leaf).shape
    spec = parameter_spec(tuple(names))
    for axis, size, mesh_axes in zip(names, shape, spec):
      _check_divides(jax.tree_util.keystr(path), axis, size, mesh_axes, mesh)
    return NamedSharding(mesh, spec)

  return jax.tree_util.tree_map_with_path(
    to_sharding, boxed, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
  )


def batch_divisor(mesh: Mesh) -> int:
  """Returns what every batch size must be a multiple of: data x fsdp."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding that divides a batch's arrays along axis 0."""
  return NamedSharding(mesh, partition_spec(('batch',)))


def host_parts(mesh: Mesh) -> tuple[int, tuple[int, ...]]:
  """Returns which rows of a batch this process's devices hold.

  They need not be neighbours, and processes that 'tensor' joins have the same.

  Returns:
    The number of equal parts that the mesh cuts a batch into, and the numbers
    of this process's parts, ascending.
  """
  count = batch_divisor(mesh)
  slices = batch_sharding(mesh).addressable_devices_indices_map((count,))
  parts = {index[0].start or 0 for index in slices.values() if index}
  return count, tuple(sorted(parts))


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
  """Moves this process's rows of a batch to its devices.

  Args:
    batch: arrays of this process's rows (`host_parts`); the first axis is the
      batch.
    mesh: the mesh.

  Returns:
    Global arrays, divided along the batch.
  """
  sharding = batch_sharding(mesh)
  if jax.process_count() == 1:
    return {
      name: jax.make_array_from_process_local_data(sharding, value)
      for name, value in batch.items()
    }
  count, parts = host_parts(mesh)

  def put(value: np.ndarray) -> jax.Array:
    rows = len(value) // len(parts)

    def piece(index: Any) -> np.ndarray:
      at = parts.index((index[0].start or 0) // rows) * rows
      return value[at : at + rows]

    shape = (rows * count, *value.shape[1:])
    return jax.make_array_from_callback(shape, sharding, piece)

  return {name: put(value) for name, value in batch.items()}


def put_tree(tree: Any, shardings: Any) -> Any:
  """Moves arrays that every process has to the mesh, each part at once.

  Args:
    tree: arrays on the host, or on this process's default device.
    shardings: the same tree of shardings.

  Returns:
    Global arrays that share no memory with `tree`: they may be donated.
  """

  # `jax.device_put` would share memory with a part that is there already, and
  # would send everything around to see that it is the same on all hosts.
  def put(value: Any, sharding: NamedSharding) -> jax.Array:
    host = np.asarray(value)
    return jax.make_array_from_callback(
      host.shape, sharding, lambda index: np.array(host[index])
    )

  return jax.tree.map(put, tree, shardings)


def fetch_tree(tree: Any) -> Any:
  """Copies whole global arrays to the host of every process.

  To be called by all processes: they send each other their parts.
  """
  from jax.experimental import multihost_utils

  # One array at a time, so that no device has to hold them all.
  def fetch(leaf: jax.Array) -> np.ndarray:
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
      return jax.device_get(leaf)
    return multihost_utils.process_allgather(leaf, tiled=True)

  return jax.tree.map(fetch, tree)


def _check_divides(where, axis, size, mesh_axes, mesh):
  mesh_axes = (mesh_axes,) if isinstance(mesh_axes, str) else mesh_axes or ()
  shards = int(np.prod([mesh.shape[name] for name in mesh_axes], dtype=int))
  if size % shards:
    by = ' x '.join(f'config.mesh.{name}' for name in mesh_axes)
    field = f' (config.model.{_FIELDS[axis]})' if axis in _FIELDS else ''
    raise InputError(
      f'{by} is {shards}, but parameter {where} has {size} rows along {axis!r}'
      f'{field}; choose a mesh whose {by} divides {size}.'
    )
