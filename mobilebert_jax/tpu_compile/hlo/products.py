"""FLOPs of a single matrix product of a compiled program."""

import math
import re

from mobilebert_jax.tpu_compile.hlo.text import Computation, Instruction


def product_flops(computation: Computation, instruction: Instruction) -> int:
  """Returns the FLOPs of one 'dot', or of a 'convolution' as TPUs have it.

  Two for each element of the result and each element that is summed over.
  """
  if instruction.opcode == 'dot':
    left = computation.operand(instruction, 0).array
    axes = instruction.attribute('lhs_contracting_dims') or ''
    sizes = (left.dims[int(axis)] for axis in re.findall(r'\d+', axes))
    return 2 * instruction.array.size * math.prod(sizes)
  return _convolution(computation, instruction)


def _convolution(computation: Computation, instruction: Instruction) -> int:
  """Returns FLOPs of a convolution; positions outside of the input are no work.

  The TPU compiler turns a batch dimension into a spatial one with holes
  (dilation) or padding, where all but one position of each window is empty.
  """
  left, right = (i.array for i in computation.operands(instruction)[:2])
  labels = instruction.attribute('dim_labels') or ''
  lhs, rhs, out = re.split(r'_|->', labels)
  window = _window(instruction.attribute('window') or '')
  positions = 1
  for axis in sorted(c for c in lhs if c.isdigit()):
    sizes = (
      left.dims[lhs.index(axis)],
      instruction.array.dims[out.index(axis)],
    )
    fields = {name: values[int(axis)] for name, values in window.items()}
    positions *= valid_positions(*sizes, fields)
  batches = int(instruction.attribute('batch_group_count') or 1)
  batch = left.dims[lhs.index('b')] // batches
  features = right.dims[rhs.index('i')] * right.dims[rhs.index('o')]
  return 2 * positions * batch * features


def _window(text: str) -> dict[str, list[str]]:
  result = re.findall(r'(\w+)=([^\s{}]+)', text)
  return {name: value.split('x') for name, value in result}


def valid_positions(size: int, result: int, window: dict[str, str]) -> int:
  """Counts pairs (place in result, place in window) that meet the input."""
  stride = int(window.get('stride', 1))
  low = int(window.get('pad', '0_0').split('_')[0])
  holes = int(window.get('lhs_dilate', 1))
  spread = int(window.get('rhs_dilate', 1))
  total = 0
  for offset in range(int(window.get('size', 1))):
    for place in range(result):
      at = place * stride - low + offset * spread
      total += at >= 0 and at % holes == 0 and at // holes < size
  return total
