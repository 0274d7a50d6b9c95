"""How often the loops of a compiled program run."""

import re

from mobilebert_jax.tpu_compile.hlo.text import (
  Computation,
  HloError,
  Instruction,
  Program,
)

# Instructions behind which a loop's counter is the same value.
_PASSED_ON = frozenset({'copy', 'bitcast', 'convert', 'copy-done'})
_TURNED = {'GT': 'LT', 'GE': 'LE'}


def trip_count(
  program: Program, computation: Computation, loop: Instruction
) -> int:
  """Returns how often a loop's body runs.

  Where XLA has noted a loop's trip count, that is taken (backends for CPU and
  GPU do, the one for TPU does not); otherwise it follows from the loop's
  counter: its first value, its step and the limit in the condition.

  Args:
    program: the program.
    computation: where the loop stands.
    loop: a 'while' instruction.

  Raises:
    HloError: the text does not tell.
  """
  noted = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes)
  if noted:
    return int(noted.group(1))
  condition = program.computations[loop.called('condition')[0]]
  body = program.computations[loop.called('body')[0]]
  place, limit, is_inclusive = _condition(condition, loop)
  start = _constant(computation, _element(computation, loop, place))
  step = _step(body, place)
  if limit is None or start is None or step is None or step < 1:
    raise HloError(
      f'the loop {loop.name} does not tell how often it runs: its counter '
      f'goes from {start} by {step} to {limit}.'
    )
  return max(0, -(-(limit + is_inclusive - start) // step))


def _condition(
  condition: Computation, loop: Instruction
) -> tuple[int, int | None, bool]:
  """Returns (the counter's place in the carried tuple, limit, inclusive)."""
  compare = condition.instructions[condition.root]
  direction = compare.attribute('direction') or ''
  sides = [_source(condition, name) for name in compare.operands]
  if direction in _TURNED:
    sides, direction = sides[::-1], _TURNED[direction]
  if (
    compare.opcode != 'compare'
    or direction not in ('LT', 'LE')
    or sides[0].opcode != 'get-tuple-element'
  ):
    raise HloError(
      f'the loop {loop.name} ends by {compare.opcode} {direction}, not when a '
      'counter reaches a limit.'
    )
  place = int(sides[0].attribute('index') or 0)
  return place, _constant(condition, sides[1].name), direction == 'LE'


def _source(computation: Computation, name: str) -> Instruction:
  """Returns what a value is, behind copies."""
  instruction = computation.instructions[name]
  while instruction.opcode in _PASSED_ON:
    instruction = computation.operand(instruction, 0)
  return instruction


def _constant(computation: Computation, name: str) -> int | None:
  source = _source(computation, name)
  if source.opcode != 'constant':
    return None
  return int(source.operands[0])


def _element(computation: Computation, loop: Instruction, place: int) -> str:
  carried = _source(computation, loop.operands[0])
  if carried.opcode != 'tuple':
    raise HloError(f'the loop {loop.name} begins with {carried.opcode}.')
  return carried.operands[place]


def _step(body: Computation, place: int) -> int | None:
  """Returns by how much the body raises the counter."""
  root = body.instructions[body.root]
  if root.opcode != 'tuple':
    return None
  added = _source(body, root.operands[place])
  if added.opcode != 'add':
    return None
  steps = [_constant(body, name) for name in added.operands]
  return next((step for step in steps if step is not None), None)
