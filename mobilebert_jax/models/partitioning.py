"""Names of array axes, and the one table that divides them over devices.

Modules name the axes of their parameters and activations; `RULES` says which
mesh axis, if any, divides each of them. To shard differently, change `RULES`.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import PartitionSpec

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
# reads its bottleneck, 0.8 of MobileBERT's 25 million; the vocabulary, since
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
  spec = activation_spec(*axes)
  return x if spec is None else jax.lax.with_sharding_constraint(x, spec)


def activation_spec(*axes: str | None) -> PartitionSpec | None:
  """Returns where an activation is within `jit`; None: no mesh is set.

  None as well where the mesh that is set has other axes than this project's.
  """
  spec = partition_spec(axes)
  if jax.sharding.get_abstract_mesh().axis_names != MESH_AXES:
    return None
  if _is_within_replica.get():
    spec = PartitionSpec(*(_without_data(entry) for entry in spec))
  return spec


def _without_data(entry: str | tuple[str, ...] | None) -> Any:
  names = (entry,) if isinstance(entry, str) else entry or ()
  return tuple(name for name in names if name != 'data') or None
