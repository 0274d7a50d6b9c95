"""Counts what a compiled XLA program computes, moves and communicates.

XLA's own `cost_analysis()` counts the body of a loop once. Here every loop
counts as often as it runs, and what a fusion or a called computation holds is
counted where it is called. Everything is per device: the text of a partitioned
program is that of one of its devices.

  counts = hlo.count(compiled.as_text())
  counts.flops, counts.bytes, counts.collective_bytes('all-reduce')

Matrix products are 'dot' or 'convolution' (the TPU compiler writes all of them
as convolutions); their FLOPs are counted, two for each multiplication with its
addition, and nothing else is: additions and exponentials do not run on the
matrix unit and are a few percent of this model. What a Pallas kernel computes
is not in the text: it counts as the kernel's own `cost_estimate` says. Needs no
jax.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Sequence

from mobilebert_jax.tpu_compile.hlo import memory_traffic
from mobilebert_jax.tpu_compile.hlo.loops import trip_count
from mobilebert_jax.tpu_compile.hlo.products import product_flops
from mobilebert_jax.tpu_compile.hlo.text import (
  Computation,
  HloError,
  Instruction,
  Program,
  elements,
  parse,
  parse_arrays,
)

COLLECTIVES = (
  'all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all',
  'collective-permute', 'collective-broadcast', 'ragged-all-to-all',
)  # fmt: skip
# Custom calls that compute no matrix product.
_WITHOUT_FLOPS = frozenset({
  'AllocateBuffer', 'ConcatBitcast', 'AssumeGatherIndicesInBound',
  'GatherScatterIndicesBitpacked', 'AsyncCollectiveStart',
  'AsyncCollectiveDone', 'PrepareAsyncCallStart', 'PrepareAsyncCallDone',
})  # fmt: skip
# Kernels written in Pallas.
_KERNEL = 'tpu_custom_call'
_DECLARED = re.compile(r'"cost_estimate":\{([^}]*)\}')
# XLA's own kernel, in place of a softmax and its product with values.
_SOFTMAX = 'online-softmax'
# The result of these holds the operands beside what arrives.
_ECHOES = frozenset({'all-gather-start', 'collective-permute-start'})


@dataclasses.dataclass(frozen=True)
class Product:
  """One matrix product of the program.

  Attributes:
    op_name: the JAX operation that it comes from.
    dtypes: of the two operands and the result, such as ('bf16', 'bf16',
      'f32').
    flops: of one execution on one device.
    times: how often it runs.
  """

  op_name: str
  dtypes: tuple[str, str, str]
  flops: int
  times: int


@dataclasses.dataclass(frozen=True)
class Collective:
  """One communication of the program.

  Attributes:
    kind: one of `COLLECTIVES`.
    bytes: what one device holds of it in one execution: the larger of operand
      and result, so the whole array of an all-gather or a reduce-scatter.
    dtypes: of the arrays.
    group: number of devices that talk with one another; 0: all of them.
    times: how often it runs.
    op_name: the JAX operation that it comes from.
    loops: the loops around it, from the outermost, each with its trip count.
    is_async: whether the program goes on meanwhile.
    flops_beside: FLOPs that the program executes meanwhile.
    bytes_beside: bytes of the main memory that it moves meanwhile.
  """

  kind: str
  bytes: int
  dtypes: tuple[str, ...]
  group: int
  times: int
  op_name: str
  loops: tuple[tuple[str, int], ...]
  is_async: bool = False
  flops_beside: int = 0
  bytes_beside: int = 0


@dataclasses.dataclass(frozen=True)
class Operation:
  """One instruction of the program with all that is fused into it.

  Attributes:
    name: of the instruction.
    op_name: the JAX operation that it comes from.
    flops: of its matrix products in one execution on one device.
    bytes: bytes of the main memory that one execution reads and writes.
    times: how often it runs.
    is_kernel: whether it is a Pallas kernel, whose `flops` are those that it
      declares, as executed.
    is_beside: whether its traffic runs beside other work, as that of a copy
      which is started here and awaited later, or belongs to communication.
  """

  name: str
  op_name: str
  flops: int
  bytes: int
  times: int
  is_kernel: bool = False
  is_beside: bool = False


@dataclasses.dataclass(frozen=True)
class Counts:
  """What one execution of a program does on one device.

  Attributes:
    products: its matrix products, without those of kernels.
    bytes: bytes read from and written to the main memory, kernels' too.
    collectives: its communication.
    loops: trip count of each loop by its name, nested ones after theirs.
    uncounted: targets of custom calls, whose FLOPs nobody knows.
    operations: what computes or moves something, in the program's order.
  """

  products: tuple[Product, ...]
  bytes: int
  collectives: tuple[Collective, ...]
  loops: tuple[tuple[str, int], ...]
  uncounted: tuple[str, ...]
  operations: tuple[Operation, ...] = ()

  @property
  def kernels(self) -> tuple[Operation, ...]:
    """Its Pallas kernels."""
    return tuple(o for o in self.operations if o.is_kernel)

  @property
  def flops(self) -> int:
    """FLOPs of all matrix products as they are executed, kernels' too."""
    products = sum(p.flops * p.times for p in self.products)
    return products + sum(k.flops * k.times for k in self.kernels)

  def flops_by_dtypes(self) -> dict[tuple[str, str, str], int]:
    """Returns FLOPs by the dtypes of operands and result."""
    total: collections.Counter[tuple[str, str, str]] = collections.Counter()
    for product in self.products:
      total[product.dtypes] += product.flops * product.times
    return dict(total)

  def collective_bytes(self, kind: str | None = None) -> int:
    """Returns the bytes of one kind of communication, or of all."""
    return sum(
      c.bytes * c.times for c in self.collectives if kind in (None, c.kind)
    )


def count(text: str) -> Counts:
  """Counts a compiled program.

  Args:
    text: what `jax.stages.Compiled.as_text()` gives.

  Raises:
    HloError: the text is not understood, or does not tell how often a loop
      runs.
  """
  program = parse(text)
  return _count(program, program.computations[program.entry], ())


def _count(
  program: Program,
  computation: Computation,
  loops: tuple[tuple[str, int], ...],
  is_fused: bool = False,
) -> Counts:
  """Counts a computation and all that it calls; `loops` are around it."""
  parts: list[Counts] = []
  for instruction in computation.instructions.values():
    own = _own(computation, instruction, loops)
    opcode = instruction.opcode
    inner: list[Counts] = []
    if opcode == 'while':
      trips = trip_count(program, computation, instruction)
      loop = (instruction.name, trips)
      inner.append(Counts((), 0, (), (loop,), ()))
      body = program.computations[instruction.called('body')[0]]
      inner.append(_count(program, body, (*loops, loop), is_fused))
    elif opcode == 'conditional':
      branches = [
        _count(program, program.computations[name], loops, is_fused)
        for name in instruction.called()
      ]
      inner.append(max(branches, key=lambda c: (c.flops, c.bytes)))
    elif opcode in ('fusion', 'call', 'async-start'):
      called = program.computations[instruction.called()[0]]
      inside = is_fused or opcode == 'fusion'
      inner.append(_count(program, called, loops, inside))
    whole = _sum([own, *inner])
    # A fusion counts at its border alone.
    if not is_fused:
      whole = _at_border(program, computation, instruction, loops, whole)
    parts.append(whole)
  if not is_fused:
    parts = _beside(program, computation, parts)
  return _sum(parts)


def _beside(
  program: Program, computation: Computation, parts: list[Counts]
) -> list[Counts]:
  """Adds to asynchronous communication what runs between start and end.

  A program is scheduled: its instructions run in the order of the text.

  Args:
    program: the program.
    computation: a computation outside of fusions.
    parts: what each of its instructions computes.
  """
  instructions = list(computation.instructions.values())
  result = list(parts)
  for place, part in enumerate(parts):
    if instructions[place].opcode in ('while', 'call', 'conditional'):
      continue
    if not any(one.is_async for one in part.collectives):
      continue
    end = _end(program, instructions, place)
    between = _sum(parts[place + 1 : end])
    result[place] = dataclasses.replace(
      part,
      collectives=tuple(
        dataclasses.replace(
          one,
          flops_beside=between.flops // one.times,
          bytes_beside=between.bytes // one.times,
        )
        if one.is_async
        else one
        for one in part.collectives
      ),
    )
  return result


def _end(
  program: Program,
  instructions: Sequence[Instruction],
  start: int,
) -> int:
  """Returns the place of the instruction that awaits what `start` starts."""
  chain = _chain(program, instructions[start])
  name = instructions[start].name
  end = start + 1
  for place in range(start + 1, len(instructions)):
    later = instructions[place]
    if chain is not None and _chain(program, later) == chain:
      end = place
    elif chain is None and name in later.operands:
      # What waits for it, or hands it on to that.
      return place
  return end


def _chain(program: Program, instruction: Instruction) -> str | None:
  """Returns the number of the spread collective that a fusion is part of."""
  if instruction.opcode != 'fusion':
    return None
  called = program.computations[instruction.called('calls')[0]]
  for inner in called.instructions.values():
    match = re.search(r'chain_id="?(\d+)', inner.attributes)
    if match:
      return match.group(1)
  return None


def _own(
  computation: Computation,
  instruction: Instruction,
  loops: tuple[tuple[str, int], ...],
) -> Counts:
  """Counts one instruction, without its memory and what it calls."""
  times = math.prod(trips for _, trips in loops)
  products: tuple[Product, ...] = ()
  if instruction.opcode in ('dot', 'convolution'):
    sources = computation.operands(instruction)
    arrays = (sources[0].array, sources[1].array, instruction.array)
    products = (
      Product(
        instruction.op_name,
        (arrays[0].dtype, arrays[1].dtype, arrays[2].dtype),
        product_flops(computation, instruction),
        times,
      ),
    )
  uncounted: tuple[str, ...] = ()
  if instruction.opcode == 'custom-call':
    target = _target(instruction)
    is_known = target in _WITHOUT_FLOPS or _cost(computation, instruction)
    uncounted = () if is_known else (target,)
  result = _collective(computation, instruction, loops)
  collectives = () if result is None else (result,)
  return Counts(products, 0, collectives, (), uncounted)


def _at_border(
  program: Program,
  computation: Computation,
  instruction: Instruction,
  loops: tuple[tuple[str, int], ...],
  inside: Counts,
) -> Counts:
  """Adds what an instruction moves, and names it as an operation.

  Args:
    program: the program.
    computation: where the instruction stands; not that of a fusion.
    instruction: the instruction.
    loops: those around it.
    inside: what it computes with all that it calls.
  """
  times = math.prod(trips for _, trips in loops)
  moved = memory_traffic.moved(program, computation, instruction)
  flops = 0
  if instruction.opcode in ('dot', 'convolution', 'fusion'):
    flops = sum(product.flops for product in inside.products)
  is_kernel = _target(instruction) == _KERNEL
  if is_kernel:
    declared = _cost(computation, instruction)
    flops = declared.get('flops', 0)
    # What it reads more than once, beyond what crosses its border.
    arrays = [a for i in computation.operands(instruction) for a in i.arrays]
    once = sum(array.bytes for array in (*arrays, *instruction.arrays))
    moved += max(0, declared.get('bytes_accessed', 0) - once)
  if not (flops or moved or is_kernel):
    return inside
  operation = Operation(
    instruction.name,
    instruction.op_name,
    flops,
    moved,
    times,
    is_kernel,
    is_beside=instruction.opcode.endswith('-start')
    or instruction.opcode in COLLECTIVES,
  )
  return dataclasses.replace(
    inside,
    bytes=inside.bytes + times * moved,
    operations=(*inside.operations, operation),
  )


def _target(instruction: Instruction) -> str:
  """Returns which custom call it is; '' of another instruction."""
  return (instruction.attribute('custom_call_target') or '').strip('"')


def _cost(computation: Computation, instruction: Instruction) -> dict[str, int]:
  """Returns what a kernel says that it costs; empty where nobody knows."""
  if instruction.op_name == _SOFTMAX:
    scores, values = (i.array for i in computation.operands(instruction))
    return {'flops': 2 * scores.size * values.dims[-1]}
  match = _DECLARED.search(instruction.attributes)
  if not match:
    return {}
  return {
    name: int(value)
    for name, value in re.findall(r'"(\w+)":"?(\d+)', match.group(1))
  }


def _sum(parts: list[Counts]) -> Counts:
  return Counts(
    tuple(x for part in parts for x in part.products),
    sum(part.bytes for part in parts),
    tuple(x for part in parts for x in part.collectives),
    tuple(x for part in parts for x in part.loops),
    tuple(sorted({x for part in parts for x in part.uncounted})),
    tuple(x for part in parts for x in part.operations),
  )


def _collective(
  computation: Computation,
  instruction: Instruction,
  loops: tuple[tuple[str, int], ...],
) -> Collective | None:
  kind = instruction.opcode.removesuffix('-start')
  if kind not in COLLECTIVES:
    return None
  # The TPU compiler spreads a collective over several fusions, so that they
  # compute meanwhile; it begins in the one that starts it.
  is_spread = 'chain_id=' in instruction.attributes
  if is_spread and not _starts(computation, instruction):
    return None
  result = list(instruction.arrays)
  if instruction.opcode in _ECHOES:
    result = list(parse_arrays(elements(instruction.shape)[1]))
  operands = [a for i in computation.operands(instruction) for a in i.arrays]
  sizes = [sum(array.bytes for array in side) for side in (operands, result)]
  return Collective(
    kind,
    max(sizes),
    tuple(sorted({array.dtype for array in result})),
    group_size(_groups(instruction)),
    math.prod(trips for _, trips in loops),
    instruction.op_name,
    loops,
    is_spread or instruction.opcode.endswith('-start'),
  )


def _starts(computation: Computation, instruction: Instruction) -> bool:
  return any(
    'AsyncCollectiveStart' in user.attributes
    for user in computation.users[instruction.name]
  )


def _groups(instruction: Instruction) -> str:
  """Returns the groups' text; a mesh may have its devices' order inside."""
  whole = re.search(
    r'replica_groups=(@?mesh\[[^{]*\{[^}]*\})', instruction.attributes
  )
  if whole:
    return whole.group(1)
  return instruction.attribute('replica_groups') or ''


def group_size(groups: str) -> int:
  """Returns the number of devices in each group; 0: all devices are one group.

  Args:
    groups: XLA's text, one of '{{0,1},{2,3}}', '[2,2]<=[4]',
      "mesh['data'=2,'fsdp'=2] {'data'}" and
      "mesh['data'=2,'fsdp'=2], device_ids=([2,2]T(1,0)) {'data'}".

  Raises:
    HloError: another text.
  """
  if groups in ('', '{}'):
    return 0
  mesh = re.match(r'@?mesh\[(.*?)\][^{]*\{(.*)\}', groups)
  if mesh:
    sizes = dict(re.findall(r"'([^']*)'=(\d+)", mesh.group(1)))
    part = re.findall(r"'([^']*)'(?::\(\d+\)(\d+))?", mesh.group(2))
    return math.prod(int(size or sizes[name]) for name, size in part)
  table = re.match(r'\[(\d+),(\d+)\]<=', groups)
  if table:
    return int(table.group(2))
  first = re.match(r'\{\{([\d,]*)\}', groups)
  if first:
    return first.group(1).count(',') + 1
  raise HloError(f'unknown replica groups {groups!r}.')
