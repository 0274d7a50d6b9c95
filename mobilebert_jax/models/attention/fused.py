"""Attention by the TPU kernel on one device: its call, gradient and masks.

The kernel itself, and the mathematics, are in `kernel`.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, UInt32

from mobilebert_jax.models.attention import dropout
from mobilebert_jax.models.attention.kernel import (
  LANES,
  LOG2E,
  LOWEST,
  KernelMask,
  Plan,
  backward,
  forward,
  make_plan,
)
from mobilebert_jax.models.attention.masks import Mask, additive
from mobilebert_jax.models.remat import KERNEL_RESULTS

_VMEM_BYTES = 48 * 2**20
# Parts of a mask that may have a gradient.
_ADDED = ('bias', 'whole')


def _specs(plan: Plan) -> dict[str, pl.BlockSpec]:
  """Returns which part of each array a step of the kernel reads or writes."""
  n, width = plan.rows_at_once, plan.width
  of_queries = pl.BlockSpec((n, plan.queries, width), lambda i, j, _: (i, j, 0))
  of_keys = pl.BlockSpec((n, plan.length, width), lambda i, j, _: (i, 0, 0))
  statistics = pl.BlockSpec(
    (n, 2 * plan.heads, plan.queries), lambda i, j, _: (i, 0, j)
  )
  return {
    **dict.fromkeys(('q', 'o', 'do', 'dq'), of_queries),
    **dict.fromkeys(('k', 'v', 'dk', 'dv'), of_keys),
    'statistics': statistics,
  }


def _mask_spec(plan: Plan, name: str, shape: tuple[int, ...]) -> pl.BlockSpec:
  n = plan.rows_at_once if shape[0] > 1 or plan.rows == 1 else 1
  is_each = shape[0] > 1

  def row(i):
    return i if is_each else 0

  if name == 'whole':
    queries = plan.queries if shape[-1] > 1 else 1
    return pl.BlockSpec(
      (n, *shape[1:3], queries),
      lambda i, j, _: (row(i), 0, 0, j if queries > 1 else 0),
    )
  if name == 'query_ids':
    return pl.BlockSpec((n, 1, plan.queries), lambda i, j, _: (row(i), 0, j))
  return pl.BlockSpec((n, 1, plan.length), lambda i, j, _: (row(i), 0, 0))


def _call(
  plan: Plan,
  kernel: Any,
  scalars: Array,
  arrays: dict[str, Array],
  mask: KernelMask,
  outputs: tuple[str, ...],
  products: tuple[int, int],
) -> list[Array]:
  dtype = arrays['q'].dtype
  masks = {n: x for n, x in mask._asdict().items() if x is not None}
  specs = _specs(plan)
  whole = jax.ShapeDtypeStruct((plan.rows, plan.length, plan.width), dtype)
  shapes = dict.fromkeys(outputs, whole) | {
    'statistics': jax.ShapeDtypeStruct(
      (plan.rows, 2 * plan.heads, plan.length), jnp.float32
    )
  }
  scratch = {}
  if 'dk' in outputs and plan.length > plan.queries:
    scratch = dict.fromkeys(
      ('sum_dk', 'sum_dv'), pltpu.VMEM((plan.length, plan.width), jnp.float32)
    )
  scores = plan.rows * plan.heads * plan.length**2
  read = sum(x.size * x.dtype.itemsize for x in (arrays | masks).values())
  written = sum(
    math.prod(shapes[n].shape) * shapes[n].dtype.itemsize for n in outputs
  )
  # A head's queries or gradients are multiplied with all lanes of its tile.
  lanes = max(plan.head_dim, min(LANES, plan.width))
  return pl.pallas_call(
    functools.partial(kernel, plan, (*arrays, *masks, *outputs, *scratch)),
    out_shape=[shapes[name] for name in outputs],
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=1,
      grid=(plan.rows // plan.rows_at_once, plan.length // plan.queries),
      in_specs=[
        *(specs[name] for name in arrays),
        *(_mask_spec(plan, name, x.shape) for name, x in masks.items()),
      ],
      out_specs=[specs[name] for name in outputs],
      scratch_shapes=list(scratch.values()),
    ),
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=('parallel', 'arbitrary'),
      vmem_limit_bytes=_VMEM_BYTES,
    ),
    cost_estimate=pl.CostEstimate(
      flops=2 * scores * (products[0] * lanes + products[1] * plan.head_dim),
      bytes_accessed=read + written,
      transcendentals=scores,
    ),
    interpret=plan.interpret,
    name='attention_backward' if 'dq' in outputs else 'attention_forward',
  )(scalars, *arrays.values(), *masks.values())


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(plan: Plan, scalars, q, k, v, mask: KernelMask) -> Array:
  return _attend_forward(plan, scalars, q, k, v, mask)[0]


def _attend_forward(plan, scalars, q, k, v, mask):
  o, statistics = _call(
    plan, forward, scalars, {'q': q, 'k': k, 'v': v}, mask,
    ('o', 'statistics'), (1, 1),
  )  # fmt: skip
  # Policies of rematerialisation may keep them, and so not run it again.
  o, statistics = (checkpoint_name(x, KERNEL_RESULTS) for x in (o, statistics))
  return o, (scalars, q, k, v, mask, o, statistics)


def _attend_backward(plan, kept, do):
  scalars, q, k, v, mask, o, statistics = kept
  arrays = {
    'q': q, 'k': k, 'v': v, 'o': o, 'do': do, 'statistics': statistics
  }  # fmt: skip
  dq, dk, dv = _call(
    plan, backward, scalars, arrays, mask, ('dq', 'dk', 'dv'), (2, 3)
  )
  # Dead code, which the compiler drops, unless the caller's own additive mask
  # is differentiated.
  _, to_mask = jax.vjp(
    lambda added: _plain(plan, scalars, q, k, v, mask._replace(**added)),
    {name: x for name in _ADDED if (x := getattr(mask, name)) is not None},
  )
  numbers = jax.tree.map(_no_gradient, mask)
  return None, dq, dk, dv, numbers._replace(**to_mask(do)[0])


def _no_gradient(x: Array) -> Any:
  """Returns the gradient of what is not differentiated."""
  is_float = jnp.issubdtype(x.dtype, jnp.floating)
  return jnp.zeros_like(x) if is_float else np.zeros(x.shape, jax.dtypes.float0)


def _plain(
  plan: Plan, scalars: Array, q: Array, k: Array, v: Array, mask: KernelMask
) -> Array:
  """Computes what the kernel does, by plain operations."""

  def split(x: Array) -> Array:
    return x.reshape(*x.shape[:2], plan.heads, plan.head_dim)

  x = jnp.einsum(
    'BTHK,BSHK->BHST', split(q), split(k), preferred_element_type=jnp.float32
  ) * (plan.scale * LOG2E)
  if mask.bias is not None:
    x = x + jnp.swapaxes(mask.bias, 1, 2)[:, None]
  if mask.whole is not None:
    x = x + mask.whole
  if mask.key_ids is not None:
    assert mask.query_ids is not None
    own = jnp.swapaxes(mask.key_ids, 1, 2) == mask.query_ids
    x = jnp.where(own[:, None], x, LOWEST)
  key = jnp.arange(plan.length).reshape(1, 1, -1, 1)
  x = jnp.where(key < plan.length - plan.filled, x, -jnp.inf)
  probs = jax.nn.softmax(x / LOG2E, axis=2)
  if plan.rate:
    seed, first_row, first_head = scalars[:2], scalars[2], scalars[3]
    kept = dropout.mask(
      jax.lax.bitcast_convert_type(seed, jnp.uint32),
      (plan.rows, plan.heads, plan.length, plan.length),
      plan.rate,
      first=(first_row, first_head),
    )
    probs = jnp.where(jnp.swapaxes(kept, 2, 3), probs / (1 - plan.rate), 0.0)
  y = jnp.einsum('BHST,BSHK->BTHK', probs.astype(v.dtype), split(v))
  return y.reshape(q.shape)


_attend.defvjp(_attend_forward, _attend_backward)


def kernel_mask(mask: Mask) -> KernelMask:
  """Returns a mask in the kernel's form; arrays of [S, S] only if it has one.

  To be called once for all blocks: none of it depends on them.
  """
  seen, segments = mask
  bias = whole = None
  if seen is not None and (seen.ndim == 2 or seen.shape[1:3] == (1, 1)):
    seen = seen.reshape(seen.shape[0], 1, seen.shape[-1])
    if segments is not None and seen.dtype == jnp.bool_:
      # Padding's number is no query's.
      segments_of_keys = jnp.where(seen, segments[:, None], 0)
    else:
      bias = _exponent(seen)
  elif seen is not None:
    whole = jnp.swapaxes(_exponent(seen), 2, 3)
  if segments is None:
    return KernelMask(bias, whole=whole)
  if bias is not None or seen is None or whole is not None:
    segments_of_keys = segments[:, None]
  queries = jnp.where(segments > 0, segments, -1)[:, None]
  return KernelMask(
    bias,
    segments_of_keys.astype(jnp.int32),
    queries.astype(jnp.int32),
    whole,
  )


def _exponent(seen: Array) -> Float[Array, '*N']:
  """Returns what is added to an exponent of 2."""
  added = additive(seen, jnp.dtype(jnp.float32))
  return jnp.maximum(added * LOG2E, LOWEST)


def attend(
  q: Float[Array, 'B S C'],
  k: Float[Array, 'B S C'],
  v: Float[Array, 'B S C'],
  mask: KernelMask,
  seed: UInt32[Array, ' 2'] | None,
  *,
  heads: int,
  rate: float,
  first_row: Any = 0,
  first_head: Any = 0,
  interpret: bool = False,
) -> Float[Array, 'B S C']:
  """Mixes the values that each query sees, on one device.

  Args:
    q: queries, head after head.
    k: keys.
    v: values.
    mask: from `kernel_mask`.
    seed: dropout's; None: no dropout.
    heads: how many there are.
    rate: how likely a probability is dropped.
    first_row: number of the first row in the whole batch.
    first_head: number of the first head among all.
    interpret: run on any device, operation by operation, for tests.
  """
  length = q.shape[1]
  rate = 0.0 if seed is None else rate
  words = jnp.zeros(2, jnp.uint32) if seed is None else seed
  offsets = jnp.stack([jnp.asarray(first_row), jnp.asarray(first_head)])
  scalars = jnp.concatenate(
    [jax.lax.bitcast_convert_type(words, jnp.int32), offsets.astype(jnp.int32)]
  )
  plan = make_plan(q.shape, heads, rate, interpret)
  if plan.filled:
    mask = KernelMask(
      *(
        None if x is None else _fill(x, plan.filled, axes)
        for x, axes in zip(mask, ((2,), (2,), (2,), (2, 3)))
      )
    )
    q, k, v = (_fill(x, plan.filled, (1,)) for x in (q, k, v))
  return _attend(plan, scalars, q, k, v, mask)[:, :length]


def _fill(x: Array, count: int, axes: tuple[int, ...]) -> Array:
  """Appends zeros along axes that are not broadcast."""
  return jnp.pad(
    x,
    [
      (0, count if axis in axes and size > 1 else 0)
      for axis, size in enumerate(x.shape)
    ],
  )
