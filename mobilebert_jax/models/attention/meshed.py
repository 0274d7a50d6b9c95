"""The kernel on every device of a mesh, each with its own rows and heads."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, UInt32

from mobilebert_jax.models.attention import fused
from mobilebert_jax.models.attention.kernel import KernelMask
from mobilebert_jax.models.attention.masks import Mask
from mobilebert_jax.models.partitioning import activation_spec


def divisors() -> tuple[int, int]:
  """Returns into how many parts the mesh divides the rows, and the heads."""
  spec = activation_spec('batch', 'heads')
  sizes = jax.sharding.get_abstract_mesh().shape
  by_rows, by_heads = (
    math.prod(sizes[name] for name in _names(entry))
    for entry in spec or (None, None)
  )
  return by_rows, by_heads


def attend(
  q: Float[Array, 'B S C'],
  k: Float[Array, 'B S C'],
  v: Float[Array, 'B S C'],
  mask: Mask,
  head_mask: Float[Array, ' H'] | None,
  seed: UInt32[Array, ' 2'] | None,
  *,
  heads: int,
  rate: float,
  interpret: bool = False,
) -> Float[Array, 'B S C']:
  """Mixes the values that each query sees.

  Args:
    q: queries, head after head.
    k: keys.
    v: values.
    mask: which keys a query sees.
    head_mask: a factor for each head's probabilities, or None.
    seed: dropout's; None: no dropout.
    heads: how many there are.
    rate: how likely a probability is dropped.
    interpret: run on any device, operation by operation.
  """
  in_kernel = fused.kernel_mask(mask)
  spec = activation_spec('batch', 'sequence', 'heads')
  if spec is None:
    context = fused.attend(
      q, k, v, in_kernel, seed, heads=heads, rate=rate, interpret=interpret
    )
  else:
    local = functools.partial(
      _attend_local, spec=spec, heads=heads, rate=rate, interpret=interpret
    )
    context = jax.shard_map(
      local,
      in_specs=(
        spec,
        spec,
        spec,
        _mask_specs(in_kernel, spec),
        PartitionSpec(),
      ),
      out_specs=spec,
      check_vma=False,
    )(q, k, v, in_kernel, seed)
  if head_mask is None:
    return context
  factors = jnp.repeat(head_mask.astype(context.dtype), q.shape[-1] // heads)
  return context * factors.reshape(1, 1, -1)


def _attend_local(
  q: Array,
  k: Array,
  v: Array,
  mask: KernelMask,
  seed: Array | None,
  *,
  spec: PartitionSpec,
  heads: int,
  **options: Any,
) -> Array:
  """Runs the kernel with this device's numbers of the first row and head."""
  rows, _, of_heads = spec
  own_heads = heads // _shards(of_heads)
  return fused.attend(
    q,
    k,
    v,
    mask,
    seed,
    heads=own_heads,
    first_row=_index(rows) * q.shape[0],
    first_head=_index(of_heads) * own_heads,
    **options,
  )


def _names(entry: Any) -> tuple[str, ...]:
  return (entry,) if isinstance(entry, str) else tuple(entry or ())


def _shards(entry: Any) -> int:
  return math.prod(jax.lax.axis_size(name) for name in _names(entry))


def _index(entry: Any) -> Any:
  """Returns which part along these mesh axes this device has."""
  names = _names(entry)
  return jax.lax.axis_index(names) if names else 0


def _mask_specs(mask: KernelMask, spec: PartitionSpec) -> Any:
  """Returns how a mask is divided: as queries are, unless it is broadcast."""
  rows, _, of_heads = spec

  def divided(x: Array) -> PartitionSpec:
    by_heads = of_heads if x.ndim == 4 and x.shape[1] > 1 else None
    return PartitionSpec(rows if x.shape[0] > 1 else None, by_heads)

  return jax.tree.map(divided, mask)
