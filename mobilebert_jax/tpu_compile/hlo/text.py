"""Reads the text of a compiled XLA program (`compiled.as_text()`).

The grammar is XLA's own (openxla.org, "HLO text", and `hlo_parser.cc`), as far
as counting needs it: computations, instructions, shapes with their layouts.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

# Bits of an element; 'token' and 'opaque' hold nothing.
_BITS = {
  'pred': 8, 's2': 2, 'u2': 2, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8, 's16': 16,
  'u16': 16, 's32': 32, 'u32': 32, 's64': 64, 'u64': 64, 'bf16': 16, 'f16': 16,
  'f32': 32, 'f64': 64, 'c64': 64, 'c128': 128, 'f8e4m3fn': 8, 'f8e5m2': 8,
  'f8e4m3': 8, 'f8e4m3b11fnuz': 8, 'f8e5m2fnuz': 8, 'f8e4m3fnuz': 8,
  'token': 0, 'opaque': 0,
}  # fmt: skip
_ARRAY = re.compile(r'([a-z][a-z0-9]*)\[([^\]]*)\](?:\{([^}]*)\})?')
_HEADER = re.compile(r'(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$')
_START = re.compile(r'\s+(ROOT )?%?([\w.\-]+) = ')
_CALLED = re.compile(
  r'(?:calls|to_apply|body|condition|branch_computations|true_computation'
  r'|false_computation|called_computations)=(\{[^}]*\}|%?[\w.\-]+)'
)


class HloError(ValueError):
  """A program's text that cannot be read or counted."""


@dataclasses.dataclass(frozen=True)
class Array:
  """One array: its shape, and how it lies in memory.

  Attributes:
    dtype: XLA's name of the dtype, such as 'bf16'.
    dims: its size along each axis.
    minor_to_major: the axes, the one that varies fastest first.
    tile: the first tile of the layout; () where it is not tiled.
    space: XLA's memory space; 0 is the main memory (HBM on a TPU), the
      others are on the core (1: vector memory).
  """

  dtype: str
  dims: tuple[int, ...]
  minor_to_major: tuple[int, ...] = ()
  tile: tuple[int, ...] = ()
  space: int = 0

  @property
  def size(self) -> int:
    """Number of elements."""
    return math.prod(self.dims)

  @property
  def bytes(self) -> int:
    """Size of its elements in bytes."""
    return -(-self.size * _BITS[self.dtype] // 8)

  @property
  def laid_out_bytes(self) -> int:
    """Its bytes in memory: the fastest axes are filled up to whole tiles."""
    sizes = [self.dims[axis] for axis in self.minor_to_major]
    for place, tile in enumerate(reversed(self.tile)):
      if place == len(sizes):
        sizes.append(1)
      sizes[place] = -(-sizes[place] // tile) * tile
    size = math.prod(sizes) if sizes else self.size
    return -(-size * _BITS[self.dtype] // 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: unique in its computation.
    opcode: such as 'dot' or 'all-reduce'.
    shape: the text of the result's shape.
    operands: names of instructions, or the text of a literal.
    attributes: the text behind the operands.
  """

  name: str
  opcode: str
  shape: str
  operands: tuple[str, ...]
  attributes: str

  @functools.cached_property
  def arrays(self) -> tuple[Array, ...]:
    """The arrays of the result, tuples flattened."""
    return tuple(parse_arrays(self.shape))

  @property
  def array(self) -> Array:
    """The result of an instruction that has one array."""
    return self.arrays[0]

  def attribute(self, name: str) -> str | None:
    """Returns the text of `name=...` up to a comma outside of brackets."""
    result = re.search(rf'(?:^|[ ,]){re.escape(name)}=', self.attributes)
    if not result:
      return None
    rest, depth = self.attributes[result.end() :], 0
    for end, letter in enumerate(rest):
      depth += (letter in '{[(') - (letter in '}])')
      if letter == ',' and depth == 0:
        return rest[:end]
    return rest

  def called(self, attribute: str | None = None) -> tuple[str, ...]:
    """Returns the computations it calls, or those of one attribute."""
    if attribute is not None:
      text = self.attribute(attribute) or ''
      return tuple(re.findall(r'[\w.\-]+', text))
    texts = _CALLED.findall(self.attributes)
    return tuple(n for text in texts for n in re.findall(r'[\w.\-]+', text))

  @property
  def op_name(self) -> str:
    """The JAX operation that it comes from."""
    result = re.search(r'op_name="([^"]*)"', self.attributes)
    return result.group(1) if result else ''


@dataclasses.dataclass
class Computation:
  """A function of a program: instructions in their order, and the last."""

  name: str
  instructions: dict[str, Instruction] = dataclasses.field(default_factory=dict)
  root: str = ''

  def operand(self, instruction: Instruction, index: int) -> Instruction:
    """Returns the instruction that makes an operand."""
    return self.instructions[instruction.operands[index]]

  def operands(self, instruction: Instruction) -> list[Instruction]:
    """Returns the instructions that make its operands."""
    return [self.instructions[name] for name in instruction.operands]

  @functools.cached_property
  def parameters(self) -> dict[int, str]:
    """Name of each parameter by its number."""
    return {
      int(i.operands[0]): i.name
      for i in self.instructions.values()
      if i.opcode == 'parameter'
    }

  @functools.cached_property
  def users(self) -> Mapping[str, list[Instruction]]:
    """Which instructions read each instruction's result."""
    result: dict[str, list[Instruction]] = {n: [] for n in self.instructions}
    for instruction in self.instructions.values():
      for name in set(instruction.operands) & result.keys():
        result[name].append(instruction)
    return result


@dataclasses.dataclass
class Program:
  """All computations of a program by name, and which one is the entry."""

  computations: dict[str, Computation]
  entry: str


def parse(text: str) -> Program:
  """Reads a program.

  Args:
    text: what `jax.stages.Compiled.as_text()` gives.

  Raises:
    HloError: the text has no entry computation, or a line is not understood.
  """
  computations: dict[str, Computation] = {}
  entry, current = '', None
  for line in text.splitlines():
    if current is None:
      header = _HEADER.match(line)
      if header:
        current = Computation(header.group(2))
        computations[current.name] = current
        entry = current.name if header.group(1) else entry
    elif line.startswith('}'):
      current = None
    elif line.strip():
      _add(line, current)
  if not entry:
    raise HloError('the text has no ENTRY computation: is it compiled HLO?')
  return Program(computations, entry)


def parse_arrays(shape: str) -> Iterator[Array]:
  """Yields the arrays in the text of a shape."""
  for dtype, dims, layout in _ARRAY.findall(shape):
    if dtype not in _BITS:
      raise HloError(f'unknown dtype {dtype!r} in the shape {shape[:80]!r}.')
    order, _, rest = layout.partition(':')
    tile = re.search(r'T\(([\d,]+)\)', rest)
    space = re.search(r'S\((\d+)\)', rest)
    yield Array(
      dtype,
      tuple(int(n.removeprefix('<=')) for n in dims.split(',') if n),
      tuple(int(n) for n in order.split(',') if n),
      tuple(map(int, tile.group(1).split(','))) if tile else (),
      int(space.group(1)) if space else 0,
    )


def elements(shape: str) -> list[str]:
  """Returns the texts of a tuple's elements; of an array, its own."""
  shape = re.sub(r'/\*.*?\*/', '', shape).strip()
  if not shape.startswith('('):
    return [shape]
  result, depth, start = [], 0, 1
  for place, letter in enumerate(shape):
    depth += (letter in '([{') - (letter in ')]}')
    if (letter == ',' and depth == 1) or (letter == ')' and depth == 0):
      result.append(shape[start:place].strip())
      start = place + 1
  return [text for text in result if text]


def _add(line: str, computation: Computation):
  start = _START.match(line)
  if not start:
    raise HloError(f'not an instruction: {line.strip()[:80]!r}.')
  begin = start.end()
  end = _closing(line, begin) if line[begin] == '(' else line.index(' ', begin)
  shape, rest = line[begin:end], line[end:].lstrip()
  opcode, _, _ = rest.partition('(')
  last = _closing(rest, len(opcode))
  operands = rest[len(opcode) + 1 : last - 1]
  names = re.findall(r'%([\w.\-]+)', operands)
  if not names and operands:
    names = [operands.strip()]
  attributes = rest[last:].lstrip(', ')
  name = start.group(2)
  computation.instructions[name] = Instruction(
    name, opcode, shape, tuple(names), attributes
  )
  if start.group(1):
    computation.root = name


def _closing(text: str, start: int) -> int:
  """Returns the place behind the bracket that closes the one at `start`."""
  depth = 0
  for result in re.finditer(r'[()]', text[start:]):
    depth += 1 if result.group() == '(' else -1
    if depth == 0:
      return start + result.end()
  raise HloError(f'brackets do not match: {text[:80]!r}.')
