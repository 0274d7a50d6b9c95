"""How many bytes of main memory an instruction reads and writes.

As XLA's own cost analysis does, a fusion counts by what crosses its border, and
a slice of a large array by the slice. On a TPU only what lies in HBM counts,
with the padding of its tiles; what the compiler keeps in the core's own memory
costs no bandwidth.
"""

from mobilebert_jax.tpu_compile.hlo.text import (
  Array,
  Computation,
  Instruction,
  Program,
  elements,
  parse_arrays,
)

# They name or pass on memory and move none. What a loop, a call or an
# asynchronous wrapper moves is counted in the computation that it calls.
_FREE = frozenset({
  'parameter', 'constant', 'get-tuple-element', 'tuple', 'bitcast', 'while',
  'call', 'conditional', 'after-all', 'opt-barrier', 'partition-id',
  'replica-id', 'async-start', 'async-update', 'domain', 'add-dependency',
})  # fmt: skip
_FREE_TARGETS = frozenset({
  'AllocateBuffer', 'ConcatBitcast', 'AssumeGatherIndicesInBound',
})  # fmt: skip
# Their result is what arrives, alone.
_WHOLE_STARTS = frozenset({'all-reduce-start'})
_ALIASES = frozenset({'bitcast', 'get-tuple-element', 'copy-done'})


def moved(
  program: Program, computation: Computation, instruction: Instruction
) -> int:
  """Returns the bytes of main memory that one execution reads and writes."""
  opcode = instruction.opcode
  if opcode in _FREE or opcode.endswith('-done'):
    return 0
  if opcode == 'custom-call':
    target = instruction.attribute('custom_call_target') or ''
    if target.strip('"') in _FREE_TARGETS:
      return 0
  sources = [
    array for i in computation.operands(instruction) for array in i.arrays
  ]
  if opcode == 'fusion':
    return _fusion(program, computation, instruction)
  if opcode.endswith('-start') and opcode not in _WHOLE_STARTS:
    # The result is a tuple of operand, copy and handles, in whatever order.
    parts = [list(parse_arrays(e)) for e in elements(instruction.shape)]
    copy = parts[0] if opcode == 'copy-start' else parts[1]
    if opcode == 'slice-start':
      return _like(copy[0], sources[0].space) + _main(*copy)
    return _main(*sources, *copy)
  result = instruction.arrays
  if opcode in ('dynamic-slice', 'slice'):
    return _like(result[0], sources[0].space) + _main(*result)
  if opcode == 'gather':
    return _like(result[0], sources[0].space) + _main(sources[1], *result)
  if opcode == 'dynamic-update-slice':
    return _like(sources[1], result[0].space) + _main(sources[1])
  if opcode == 'scatter':
    updates = sources[-1]
    return 2 * _like(updates, result[0].space) + _main(sources[-2], updates)
  return _main(*sources, *result)


def _main(*arrays: Array) -> int:
  return sum(array.laid_out_bytes for array in arrays if array.space == 0)


def _like(part: Array, space: int) -> int:
  """Returns the bytes of a part of an array that lies in this memory."""
  return part.laid_out_bytes if space == 0 else 0


def _fusion(
  program: Program, computation: Computation, fusion: Instruction
) -> int:
  if _is_alias(program, fusion):
    return 0
  inner = program.computations[fusion.called('calls')[0]]
  total = 0
  for index, operand in enumerate(computation.operands(fusion)):
    whole = _main(*operand.arrays)
    part = _read(program, inner, inner.parameters[index])
    total += whole if part is None else min(whole, part)
  written = _written(program, inner, inner.root)
  for array, part in zip(fusion.arrays, written):
    if array.space == 0:
      total += array.laid_out_bytes if part is None else part
  return total


def _is_alias(program: Program, instruction: Instruction) -> bool:
  """Returns whether a fusion only names its operand anew.

  The TPU compiler writes another tiling of the same memory as a copy in place.
  """
  if instruction.opcode != 'fusion':
    return False
  inner = program.computations[instruction.called('calls')[0]]
  root = inner.instructions[inner.root]
  in_place = 'output_to_operand_aliasing' in instruction.attributes
  while root.opcode == 'bitcast' or (in_place and root.opcode == 'copy'):
    root = inner.operand(root, 0)
  return root.opcode == 'parameter'


def _read(program: Program, inner: Computation, name: str) -> int | None:
  """Returns the bytes of an operand that a fusion reads; None: all."""
  total = 0
  for user in inner.users[name]:
    is_first = user.operands[0] == name and user.operands.count(name) == 1
    part: int | None
    if user.opcode in ('dynamic-slice', 'slice', 'gather') and is_first:
      part = user.array.laid_out_bytes
    elif user.opcode == 'dynamic-update-slice' and is_first:
      part = 0
    elif user.opcode == 'tuple':
      # Handed on as it is.
      part = 0
    elif user.opcode in _ALIASES or _is_alias(program, user):
      part = _read(program, inner, user.name)
    elif user.opcode == 'fusion':
      nested = program.computations[user.called('calls')[0]]
      positions = [i for i, o in enumerate(user.operands) if o == name]
      parts = [_read(program, nested, nested.parameters[i]) for i in positions]
      known = [p for p in parts if p is not None]
      part = sum(known) if len(known) == len(parts) else None
    else:
      part = None
    if part is None:
      return None
    total += part
  return total


def _written(
  program: Program, inner: Computation, name: str
) -> list[int | None]:
  """Returns the bytes of each result that a fusion writes; None: all."""
  root = inner.instructions[name]
  if root.opcode == 'tuple':
    return [_written(program, inner, n)[0] for n in root.operands]
  if root.opcode == 'parameter':
    return [0]
  if root.opcode == 'bitcast':
    return _written(program, inner, root.operands[0])
  if root.opcode == 'dynamic-update-slice':
    return [inner.operand(root, 1).array.laid_out_bytes]
  if root.opcode == 'fusion':
    nested = program.computations[root.called('calls')[0]]
    return _written(program, nested, nested.root)
  return [None] * len(root.arrays)
