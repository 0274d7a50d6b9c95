"""Attention as one TPU kernel (Pallas): no scores or probabilities in HBM.

A step of the kernel has whole rows of scores in VMEM: of some queries, one head
after another, over all keys. All arrays of scores are transposed, [keys,
queries], so that what belongs to a query (maximum, sum, dropout's word) is a
row vector, and sums over keys need nothing across lanes. Queries, keys and
values stay [positions, heads x head_dim], as the projections give them: heads
of 32 share a tile of 128 lanes, where one head's queries are multiplied with
all lanes of the keys while the other heads' are set to 0.

The forward pass keeps each query's maximum m and r = 1 / sum_s 2^(x_s - m),
where x are scores times log2(e). The backward pass computes e = 2^(x - m) again
and, with g = dO r / (1 - rate) and dropout's mask D,

  dV = (D e)^T g
  dX = e (D (g V^T) - r rowsum(dO O))
  dQ = scale dX K,  dK = scale dX^T Q

so that r and the rate touch vectors of head_dim numbers, not of S.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int, UInt32

from mobilebert_jax.models.attention import dropout
from mobilebert_jax.models.attention.masks import Mask, additive

_LANES = 128
_SUBLANES = 8
_LOG2E = math.log2(math.e)
_LOWEST = float(np.finfo(np.float32).min)
# Scores of one head that are in VMEM at once, and tokens of one step.
_SCORES = 512 * 512
_TOKENS = 1024
_PART = 256
_VMEM_BYTES = 48 * 2**20


class KernelMask(NamedTuple):
  """What hides keys, in the kernel's form; each part may be None.

  Attributes:
    bias: added to the scores of a key, times log2(e); 0, or lower.
    key_ids: a query sees the keys whose number is its own.
    query_ids: the queries' numbers.
    whole: added to the scores of [key, query], times log2(e).
  """

  bias: Float[Array, 'b 1 S'] | None = None
  key_ids: Int[Array, 'B 1 S'] | None = None
  query_ids: Int[Array, 'B 1 T'] | None = None
  whole: Float[Array, 'b h S t'] | None = None


@dataclasses.dataclass(frozen=True)
class _Plan:
  """Everything about a call that is known when it is traced.

  Attributes:
    rows: sequences.
    length: positions, filled up to a multiple of 128.
    filled: positions that were added.
    heads: of this device.
    head_dim: width of each.
    rate: dropout.
    queries: of a step of the kernel.
    rows_at_once: sequences of a step.
    interpret: run on any device, operation by operation.
  """

  rows: int
  length: int
  filled: int
  heads: int
  head_dim: int
  rate: float
  queries: int
  rows_at_once: int
  interpret: bool

  @property
  def width(self) -> int:
    return self.heads * self.head_dim

  @property
  def scale(self) -> float:
    return self.head_dim**-0.5

  def parts(self) -> Iterator[slice]:
    """Yields parts of a step's queries, whose scores fit the registers."""
    for first in range(0, self.queries, _PART):
      yield slice(first, first + _PART)

  def tiles(self) -> Iterator[tuple[slice, tuple[int, ...]]]:
    """Yields parts of the width and their heads.

    Heads that divide a tile of 128 lanes share it, and others have one each if
    they begin with one; else all of the width is one part.
    """
    together = max(1, _LANES // self.head_dim)
    wide = together * self.head_dim
    if wide % _LANES or self.heads % together:
      together, wide = self.heads, self.width
    for first in range(0, self.heads, together):
      lanes = slice(first * self.head_dim, first * self.head_dim + wide)
      yield lanes, tuple(range(first, first + together))


def _make_plan(
  shape: tuple[int, int, int], heads: int, rate: float, interpret: bool
) -> _Plan:
  """Returns how a call is cut into steps."""
  rows, length, width = shape
  filled = -length % _LANES
  length += filled
  queries = length
  while queries * length > _SCORES and queries % (2 * _LANES) == 0:
    queries //= 2
  at_once = 1
  while (
    queries == length
    and rows % (2 * at_once) == 0
    and 2 * at_once * length <= _TOKENS
  ):
    at_once *= 2
  return _Plan(
    rows, length, filled, heads, width // heads, rate, queries, at_once,
    interpret,
  )  # fmt: skip


def _dot(a: Array, b: Array, *axes: int) -> Array:
  """Multiplies along one axis of each, in float32."""
  one, other = axes
  return jax.lax.dot_general(
    a, b, (((one,), (other,)), ((), ())), preferred_element_type=jnp.float32
  )


def _words(plan: _Plan, scalars: Any, row: Array, which: int, first: Array):
  """Returns dropout's words of positions from `first` on: [heads, count].

  Heads are filled up to whole tiles of 8.
  """
  count = plan.queries if which == 0 else plan.length
  shape = (-(-plan.heads // _SUBLANES) * _SUBLANES, count)
  head = jax.lax.broadcasted_iota(jnp.int32, shape, 0) + scalars[3]
  position = jax.lax.broadcasted_iota(jnp.int32, shape, 1) + first
  seed = jnp.full(shape, scalars[which])
  row = jnp.full(shape, scalars[2] + row)
  words = [
    jax.lax.bitcast_convert_type(x, jnp.uint32)
    for x in (seed, row, head, position)
  ]
  return dropout.word(*words)


def _column(x: Array) -> Array:
  """Returns [k, n] as [n, k], for few k."""
  rows = x.shape[0]
  filled = jnp.pad(x, ((0, -rows % _LANES), (0, 0)))
  return jnp.transpose(filled)[:, :rows]


class _Step:
  """What both passes compute of one sequence, head by head."""

  def __init__(
    self, plan: _Plan, scalars: Any, refs: dict, at: tuple[Any, Any], r: Any
  ):
    self.plan, self.refs, self.r = plan, refs, r
    if plan.rate:
      row = at[0] * plan.rows_at_once + r
      self.query_words = _words(plan, scalars, row, 0, at[1] * plan.queries)
      key_words = _words(plan, scalars, row, 1, jnp.int32(0))
      as_ints = jax.lax.bitcast_convert_type(key_words, jnp.int32)
      self.key_words = jax.lax.bitcast_convert_type(
        _column(as_ints), jnp.uint32
      )
    self.bias = self.key_ids = None
    if 'bias' in refs:
      self.bias = _column(self._row_of('bias'))
    if 'key_ids' in refs:
      self.key_ids = _column(self._row_of('key_ids'))
      self.query_ids = self._row_of('query_ids')

  def _row_of(self, name: str) -> Array:
    ref = self.refs[name]
    return ref[0 if ref.shape[0] == 1 else self.r]

  def load(self, name: str) -> Array:
    return self.refs[name][self.r]

  def of_head(self, transposed: Array, index: int, count: int) -> Array:
    """Returns a part's [lanes, n] with 0 where another head is."""
    if count == 1:
      return transposed
    lane = jax.lax.broadcasted_iota(jnp.int32, (transposed.shape[0], 1), 0)
    low = index * self.plan.head_dim
    own = (lane >= low) & (lane < low + self.plan.head_dim)
    return jnp.where(own, transposed, jnp.zeros((), transposed.dtype))

  def rows_of(self, transposed: Array, index: int) -> Array:
    """Returns one head's rows of a part's [lanes, n]."""
    d = self.plan.head_dim
    return transposed[index * d : (index + 1) * d]

  def scores(self, k: Array, q: Array, head: int, part: slice) -> Array:
    """Returns masked scores times log2(e), [keys, queries of a part]."""
    x = _dot(k, q, 1, 0) * (self.plan.scale * _LOG2E)
    if self.bias is not None:
      x = x + self.bias
    if 'whole' in self.refs:
      ref = self.refs['whole']
      whole = ref[0 if ref.shape[0] == 1 else self.r]
      whole = whole[0 if whole.shape[0] == 1 else head]
      x = x + (whole if whole.shape[1] == 1 else whole[:, part])
    if self.key_ids is not None:
      x = jnp.where(self.key_ids == self.query_ids[:, part], x, _LOWEST)
    if self.plan.filled:
      # Not even a query that sees nothing sees these.
      key = jax.lax.broadcasted_iota(jnp.int32, (x.shape[0], 1), 0)
      x = jnp.where(key < self.plan.length - self.plan.filled, x, -jnp.inf)
    return x

  def each(
    self, k: Array, q: Array, heads: tuple[int, ...], *, is_ahead: bool
  ) -> Iterator[tuple[int, slice, Array]]:
    """Yields each head's index, a part of the queries, and their scores.

    Args:
      k: keys, [keys, lanes].
      q: queries, [lanes, queries].
      heads: their numbers.
      is_ahead: begin the next product before this one's scores are used, so
        that they overlap. By the compiler's schedules that takes 15% off the
        forward pass, and adds 9% to the backward pass, which has too many
        values at once.
    """
    own = [self.of_head(q, i, len(heads)) for i in range(len(heads))]
    units = [(i, p) for i in range(len(heads)) for p in self.plan.parts()]

    def begin(index: int, part: slice) -> Array:
      return self.scores(k, own[index][:, part], heads[index], part)

    if not is_ahead:
      for index, part in units:
        yield index, part, begin(index, part)
      return
    x = begin(*units[0])
    for (index, part), following in itertools.zip_longest(units, units[1:]):
      ahead = None if following is None else begin(*following)
      yield index, part, x
      x = ahead

  def drop(self, x: Array, head: int, part: slice) -> Array:
    """Sets to 0 what dropout drops."""
    if not self.plan.rate:
      return x
    kept = dropout.is_kept(
      self.query_words[head : head + 1, part],
      self.key_words[:, head : head + 1],
      self.plan.rate,
    )
    return jnp.where(kept, x, 0.0)


def _over_rows(plan: _Plan, body: Any) -> None:
  if plan.rows_at_once == 1:
    body(0)
    return

  def step(r, carry):
    body(r)
    return carry

  jax.lax.fori_loop(0, plan.rows_at_once, step, 0)


def _transpose(x: Array) -> Array:
  """Transposes in float32, which every TPU's compiler can."""
  return jnp.transpose(x.astype(jnp.float32)).astype(x.dtype)


def _forward(plan: _Plan, names: tuple[str, ...], scalars: Any, *args: Any):
  refs = dict(zip(names, args))
  # Not inside the loop over rows, where the interpreter does not know it.
  at = pl.program_id(0), pl.program_id(1)

  def one_row(r):
    step = _Step(plan, scalars, refs, at, r)
    maxima, inverses = [], []
    for lanes, heads in plan.tiles():
      q, k, v = (step.load(name)[:, lanes] for name in ('q', 'k', 'v'))
      q, v = _transpose(q), _transpose(v)
      parts = [[] for _ in heads]
      for index, part, x in step.each(k, q, heads, is_ahead=True):
        m = jnp.max(x, axis=0, keepdims=True)
        e = jnp.exp2(x - m)
        inverse = 1 / jnp.sum(e, axis=0, keepdims=True)
        e = step.drop(e, heads[index], part).astype(v.dtype)
        o = _dot(step.rows_of(v, index), e, 1, 0)
        parts[index].append((o * (inverse / (1 - plan.rate)), m, inverse))
      outputs = []
      for of_head in parts:
        o, m, inverse = (jnp.concatenate(x, axis=1) for x in zip(*of_head))
        outputs.append(o)
        maxima.append(m)
        inverses.append(inverse)
      o = jnp.concatenate(outputs, axis=0)
      refs['o'][r, :, lanes] = jnp.transpose(o).astype(refs['o'].dtype)
    refs['statistics'][r] = jnp.concatenate([*maxima, *inverses], axis=0)

  _over_rows(plan, one_row)


def _backward(plan: _Plan, names: tuple[str, ...], scalars: Any, *args: Any):
  refs = dict(zip(names, args))
  # Not inside the loop over rows, where the interpreter does not know it.
  at = pl.program_id(0), pl.program_id(1)
  blocks = plan.length // plan.queries
  if blocks > 1:

    @pl.when(at[1] == 0)
    def _():
      for name in ('sum_dk', 'sum_dv'):
        refs[name][...] = jnp.zeros(refs[name].shape, jnp.float32)

  def one_row(r):
    step = _Step(plan, scalars, refs, at, r)
    statistics = step.load('statistics')
    for lanes, heads in plan.tiles():
      q, k, v, o, do = (
        step.load(name)[:, lanes] for name in ('q', 'k', 'v', 'o', 'do')
      )
      dtype = q.dtype
      qt, kt = _transpose(q), _transpose(k)
      dot = jnp.transpose(do.astype(jnp.float32))
      products = dot * jnp.transpose(o.astype(jnp.float32))
      inverses = [
        statistics[plan.heads + head : plan.heads + head + 1] for head in heads
      ]
      g = jnp.concatenate(
        [
          step.rows_of(dot, index) * (inverse / (1 - plan.rate))
          for index, inverse in enumerate(inverses)
        ],
        axis=0,
      )
      gt = g.astype(dtype)
      deltas = [
        inverse * jnp.sum(step.rows_of(products, i), axis=0, keepdims=True)
        for i, inverse in enumerate(inverses)
      ]
      own_g = [step.of_head(gt, i, len(heads)) for i in range(len(heads))]
      dqs = [[] for _ in heads]
      dks, dvs = [0.0] * len(heads), [0.0] * len(heads)
      for index, part, x in step.each(k, qt, heads, is_ahead=False):
        head = heads[index]
        e = jnp.exp2(x - statistics[head : head + 1, part])
        dp = step.drop(_dot(v, own_g[index][:, part], 1, 0), head, part)
        dx = (e * (dp - deltas[index][:, part])).astype(dtype)
        e = step.drop(e, head, part).astype(dtype)
        # One head's rows times scores: a quarter of the products that scores
        # times all lanes would be.
        dvs[index] += _dot(step.rows_of(gt, index)[:, part], e, 1, 1)
        dks[index] += _dot(step.rows_of(qt, index)[:, part], dx, 1, 1)
        dqs[index].append(_dot(step.rows_of(kt, index), dx, 1, 0))
      dqs = [jnp.concatenate(x, axis=1) for x in dqs]
      dq, dk, dv = (
        jnp.transpose(jnp.concatenate(x, axis=0)) for x in (dqs, dks, dvs)
      )
      dk = dk * plan.scale
      refs['dq'][r, :, lanes] = (dq * plan.scale).astype(dtype)
      if blocks == 1:
        refs['dk'][r, :, lanes] = dk.astype(dtype)
        refs['dv'][r, :, lanes] = dv.astype(dtype)
      else:
        refs['sum_dk'][:, lanes] += dk
        refs['sum_dv'][:, lanes] += dv

  _over_rows(plan, one_row)
  if blocks > 1:

    @pl.when(at[1] == blocks - 1)
    def _():
      refs['dk'][0] = refs['sum_dk'][...].astype(refs['dk'].dtype)
      refs['dv'][0] = refs['sum_dv'][...].astype(refs['dv'].dtype)


def _specs(plan: _Plan) -> dict[str, pl.BlockSpec]:
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


def _mask_spec(plan: _Plan, name: str, shape: tuple[int, ...]) -> pl.BlockSpec:
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
  plan: _Plan,
  kernel: Any,
  scalars: Array,
  arrays: dict[str, Array],
  mask: KernelMask,
  outputs: tuple[str, ...],
  products: int,
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
  lanes = max(plan.head_dim, min(_LANES, plan.width))
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
      flops=2 * scores * lanes * products,
      bytes_accessed=read + written,
      transcendentals=scores,
    ),
    interpret=plan.interpret,
    name='attention_backward' if 'dq' in outputs else 'attention_forward',
  )(scalars, *arrays.values(), *masks.values())


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(plan: _Plan, scalars, q, k, v, mask: KernelMask) -> Array:
  return _attend_forward(plan, scalars, q, k, v, mask)[0]


def _attend_forward(plan, scalars, q, k, v, mask):
  o, statistics = _call(
    plan, _forward, scalars, {'q': q, 'k': k, 'v': v}, mask,
    ('o', 'statistics'), 2,
  )  # fmt: skip
  return o, (scalars, q, k, v, mask, o, statistics)


def _attend_backward(plan, kept, do):
  scalars, q, k, v, mask, o, statistics = kept
  arrays = {
    'q': q, 'k': k, 'v': v, 'o': o, 'do': do, 'statistics': statistics
  }  # fmt: skip
  dq, dk, dv = _call(
    plan, _backward, scalars, arrays, mask, ('dq', 'dk', 'dv'), 5
  )
  return None, dq, dk, dv, None


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
  return jnp.maximum(added * _LOG2E, _LOWEST)


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
  plan = _make_plan(q.shape, heads, rate, interpret)
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
