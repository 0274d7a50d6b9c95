"""How long a step takes at least, by what it computes, moves and sends.

A roofline (Williams et al. 2009; for TPUs: "How to Scale Your Model", of the
JAX team): the matrix units at their bfloat16 peak, HBM at its bandwidth, the
links between chips at theirs. The chip computes while it reads memory, so the
longer of the two counts; communication that the program waits for comes on top,
and so does a Pallas kernel, beside which nothing else of the program runs.
"""

import dataclasses
import math

from mobilebert_jax.tpu_compile.hlo.counts import Collective, Counts, Operation
from mobilebert_jax.tpu_compile.topology import Slice

# Chips along an axis at which its ends are linked too: v5e and v6e have a ring
# of 16 only; v4 and v5p join cubes of 4x4x4.
_RING_2D, _RING_3D = 16, 4


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Seconds of one step on each chip.

  Attributes:
    compute: matrix products at the peak, without those of kernels.
    memory: HBM traffic at its bandwidth, without that of kernels.
    waiting: communication that the program waits for.
    hidden: communication beside which the program computes for as long.
    kernel_compute: kernels that are bound by their products.
    kernel_memory: kernels that are bound by their HBM traffic.
    serial: all operations one after the other, each as long as the longer of
      its products and its traffic, and beside them what the program moves ahead
      of time. More than `step` where operations are bound by different things,
      less where copies run beside kernels.
  """

  compute: float
  memory: float
  waiting: float
  hidden: float
  kernel_compute: float = 0.0
  kernel_memory: float = 0.0
  serial: float = 0.0

  @property
  def kernels(self) -> float:
    """All kernels."""
    return self.kernel_compute + self.kernel_memory

  @property
  def step(self) -> float:
    """The whole step, at least."""
    beside = max(self.compute, self.memory, self.hidden)
    return beside + self.kernels + self.waiting

  @property
  def bound(self) -> str:
    """What takes longest."""
    parts = {
      'compute': self.compute + self.kernel_compute,
      'HBM': self.memory + self.kernel_memory,
      'interconnect': self.waiting + self.hidden,
    }
    return max(parts, key=parts.__getitem__)


def estimate(counts: Counts, where: Slice) -> Estimate:
  """Returns the roofline of a program that was compiled for a slice."""
  awaited = hidden = 0.0
  for collective in counts.collectives:
    awaited += waiting(collective, where)
    hidden += collective.times * communication(collective, where)
  hidden -= awaited
  flops, moved = counts.flops, counts.bytes
  kernels = {'compute': 0.0, 'HBM': 0.0}
  for kernel in counts.kernels:
    kernels[operation_bound(kernel, where)] += kernel.times * operation_seconds(
      kernel, where
    )
    flops -= kernel.times * kernel.flops
    moved -= kernel.times * kernel.bytes
  serial = sum(
    one.times * operation_seconds(one, where)
    for one in counts.operations
    if not one.is_beside
  )
  all_traffic = counts.bytes / where.chip.hbm_bandwidth
  return Estimate(
    compute=flops / where.chip.peak_flops,
    memory=moved / where.chip.hbm_bandwidth,
    waiting=awaited,
    hidden=hidden,
    kernel_compute=kernels['compute'],
    kernel_memory=kernels['HBM'],
    serial=max(serial, all_traffic, hidden) + awaited,
  )


def operation_seconds(operation: Operation, where: Slice) -> float:
  """Returns how long one execution of an operation takes at least."""
  return max(
    operation.flops / where.chip.peak_flops,
    operation.bytes / where.chip.hbm_bandwidth,
  )


def operation_bound(operation: Operation, where: Slice) -> str:
  """Returns what bounds an operation: 'compute' or 'HBM'."""
  compute = operation.flops / where.chip.peak_flops
  memory = operation.bytes / where.chip.hbm_bandwidth
  return 'compute' if compute >= memory else 'HBM'


def communication(collective: Collective, where: Slice) -> float:
  """Returns the seconds of one execution of a collective, without latency.

  Rings in both directions of every axis that its chips span: an all-gather or
  a reduce-scatter sends (n - 1) / n of the array through each chip, an
  all-reduce is one after the other.
  """
  group = collective.group or where.size
  if group == 1:
    return 0.0
  share = (group - 1) / group
  passes = {'all-reduce': 2.0}.get(collective.kind, 1.0)
  return passes * share * collective.bytes / bandwidth(where, group)


def waiting(collective: Collective, where: Slice) -> float:
  """Returns the seconds of a step that a program waits for a collective.

  For one that is asynchronous, that is what is left of it when the program has
  done what stands between its start and its end.
  """
  once = communication(collective, where)
  if collective.is_async:
    beside = max(
      collective.flops_beside / where.chip.peak_flops,
      collective.bytes_beside / where.chip.hbm_bandwidth,
    )
    once = max(0.0, once - beside)
  return collective.times * once


def bandwidth(where: Slice, group: int) -> float:
  """Returns the bytes per second that each chip of a group sends along rings.

  A group takes whole axes of the slice, the longest first. An axis with linked
  ends carries a ring in each direction; one without carries a single ring,
  which goes forth and back.
  """
  directions, spanned = 0, 1
  for size in sorted(where.shape, reverse=True):
    if spanned >= group or size == 1:
      break
    spanned *= size
    directions += 2 if is_ring(where, size) else 1
  return max(1, directions) * where.chip.link_bandwidth


def is_ring(where: Slice, size: int) -> bool:
  """Returns whether the ends of an axis with so many chips are linked."""
  if len(where.shape) == 2:
    return size == _RING_2D
  cubes = all(length % _RING_3D == 0 for length in where.shape)
  return cubes and math.prod(where.shape) >= _RING_3D**3
