"""Names of array axes, and the one table that lays them out on devices.

Modules name the axes of their parameters and activations; `RULES` says which
mesh axis, if any, divides each of them. To shard differently, change `RULES`.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mobilebert_jax.runtime.errors import InputError

MESH_AXES = ('data', 'fsdp', 'tensor')

# Logical axis -> mesh axis or axes; None means: not divided.
#
# 'tensor' gives each device some attention heads and some of the feed-forward
# width (Shoeybi et al., "Megatron-LM", arXiv 1909.08053): a block then needs
# one sum over the devices behind either. 'fsdp' divides the other axis of every
# matrix, and devices collect a layer's matrices when they reach it (Rajbhandari
# et al., "ZeRO", arXiv 1910.02054). What two names with and without '_out' tell
# apart is one size: an array's axes cannot be divided by one mesh axis twice.
#
# Whole stay: vectors (see `parameter_spec`); keys and queries of a block that
# reads its bottleneck, 0.8 of the student's 25 million; the vocabulary, since
# 30522 = 2 x 3 x 5087 has no divisor that a mesh would have, and rows added to
# fill it up would be in every checkpoint.
RULES: Mapping[str, str | tuple[str, ...] | None] = {
  'batch': ('data', 'fsdp'),
  'sequence': None,
  'layers': None,
  'vocab': None,
  'position': None,
  'token_type': None,
  'embedding': 'fsdp',
  'trigram': None,
  'hidden': 'fsdp',
  'hidden_out': None,
  'hidden_rest': 'fsdp',
  'bottleneck': None,
  'block': 'fsdp',
  'heads': 'tensor',
  'intermediate': 'tensor',
  'label': None,
  'activation': None,
}
AXES = tuple(RULES)
# The settings that decide how long the divided axes are.
_FIELDS = {
  'embedding': 'embedding_size',
  'hidden': 'hidden_size',
  'hidden_rest': 'hidden_size - config.model.embedding_size',
  'block': 'intra_bottleneck_size',
  'intermediate': 'intermediate_size',
}


def partition_spec(axes: tuple[str | None, ...]) -> PartitionSpec:
  """Where `RULES` puts an array whose axes have these logical names.

  Raises:
    InputError: a name that `RULES` does not have (a misspelt name would
      otherwise leave its axis undivided in silence).
  """
  for axis in axes:
    if axis is not None and axis not in RULES:
      raise InputError(
        f'{axis!r} is no logical axis; the axes are {", ".join(AXES)}.'
      )
  return PartitionSpec(
    *(None if axis is None else RULES[axis] for axis in axes)
  )


def parameter_spec(axes: tuple[str | None, ...]) -> PartitionSpec:
  """Where a parameter and its moments are: `RULES`, but vectors are whole.

  Biases and norms are a thousandth of the parameters: to collect them before
  each use would cost more messages than it saves memory. 'tensor' divides them
  all the same, since it divides what they are added to.
  """
  spec = partition_spec(axes)
  if len([axis for axis in axes if axis != 'layers']) > 1:
    return spec
  return PartitionSpec(*(None if entry == 'fsdp' else entry for entry in spec))


def partitioned(init: Any, axes: tuple[str | None, ...]) -> Any:
  """Attaches logical axis names to a parameter's initializer."""
  partition_spec(axes)
  return nn.with_logical_partitioning(init, axes)


# Whether the code that is being traced sees one replica's rows alone.
_is_within_replica = contextvars.ContextVar('is_within_replica', default=False)


@contextlib.contextmanager
def within_replica() -> Iterator[None]:
  """Around a `vmap` over replicas with `spmd_axis_name='data'`.

  There the replicas' axis lies along 'data', so that `constrain` must not
  divide the rows of one replica by it again. To be entered inside the function
  that `jit` traces: around a call, it would be too late for a cached trace.
  """
  token = _is_within_replica.set(True)
  try:
    yield
  finally:
    _is_within_replica.reset(token)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
  """Pins an activation's layout inside `jit`.

  Does nothing unless a mesh with this project's axes is set by
  `jax.set_mesh`, so that modules also run alone, under vmap and under pmap.
  """
  spec = partition_spec(axes)
  if jax.sharding.get_abstract_mesh().axis_names != MESH_AXES:
    return x
  if _is_within_replica.get():
    spec = PartitionSpec(*(_without_data(entry) for entry in spec))
  return jax.lax.with_sharding_constraint(x, spec)


def _without_data(entry: str | tuple[str, ...] | None) -> Any:
  names = (entry,) if isinstance(entry, str) else entry or ()
  return tuple(name for name in names if name != 'data') or None


def make_mesh(
  data: int = -1,
  fsdp: int = 1,
  tensor: int = 1,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """A mesh over all devices, to be set with `jax.set_mesh`.

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


def state_shardings(boxed: Any, mesh: Mesh) -> Any:
  """Shardings for a tree of arrays or shapes that modules have named.

  Args:
    boxed: the result of `jax.eval_shape` on an init function; leaves without
      names are replicated. The optimizer's moments carry their parameters'
      names.
    mesh: the mesh.

  Returns:
    The same tree with a NamedSharding for each (unboxed) leaf.

  Raises:
    InputError: an axis that its mesh axes do not divide.
  """

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
  """What every batch size must be a multiple of."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Divides the first axis of every array of a batch."""
  return NamedSharding(mesh, partition_spec(('batch',)))


def host_parts(mesh: Mesh) -> tuple[int, tuple[int, ...]]:
  """Which rows of a batch this process's devices hold.

  They need not be neighbours, and processes that 'tensor' joins have the same.

  Returns:
    The number of equal parts that the mesh cuts a batch into, and the numbers
    of this process's parts, ascending.
  """
  count = batch_divisor(mesh)
  places = batch_sharding(mesh).addressable_devices_indices_map((count,))
  parts = {index[0].start or 0 for index in places.values() if index}
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


def put_tree(tree: Any, places: Any) -> Any:
  """Lays arrays that every process has out on the mesh, each part at once.

  Args:
    tree: arrays on the host, or on this process's default device.
    places: the same tree of shardings.

  Returns:
    Global arrays that share no memory with `tree`: they may be donated.
  """

  # `jax.device_put` would share memory with a part that is there already, and
  # would send everything around to see that it is the same on all hosts.
  def put(value: Any, place: NamedSharding) -> jax.Array:
    host = np.asarray(value)
    return jax.make_array_from_callback(
      host.shape, place, lambda index: np.array(host[index])
    )

  return jax.tree.map(put, tree, places)


def fetch_tree(tree: Any) -> Any:
  """Whole copies of global arrays, on the host of every process.

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
