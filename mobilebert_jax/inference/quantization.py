"""Integers in place of floats: which tensors, on which grid.

A grid is a scale, a zero point and a number of bits; a value is rounded to the
nearest of its points, which are scale * (integer - zero point). Weights of
products have a scale for each channel that they write and no zero point;
activations one scale for a tensor, from the ranges of real texts. Classifiers
stay float: they are small, nothing after them evens out errors, and their
logits are not cut off anywhere. So does what norms with statistics (LayerNorm)
compute, which no integer runtime has, and what the head for masked words
computes, whose weights are integers of 8 bits.

Everything here is by the names of `graph`, so that a training run that rounds
(`round_values` has a gradient), a LiteRT file and an ONNX file round alike.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mobilebert_jax.inference.graph import Graph, Hook
from mobilebert_jax.inference.ranges import Ranges


class Scheme(NamedTuple):
  """How many bits.

  Attributes:
    weight_bits: of the weights of products.
    activation_bits: of everything else; 16 have no zero point.
  """

  weight_bits: int
  activation_bits: int


SCHEMES: Mapping[str, Scheme] = {
  'int8': Scheme(8, 8),
  'int8x16': Scheme(8, 16),
  'int4x8': Scheme(4, 8),
}
_TABLES = (
  'embeddings/words', 'embeddings/positions', 'embeddings/token_types'
)  # fmt: skip
# Tables are looked up, which costs nothing with more bits.
_TABLE_BITS = 8
# By their names: classifiers and what they give, the head for masked words.
_FLOAT = re.compile(r'classifier|outputs/|masked_lm/')


class Grid(NamedTuple):
  """The points that values are rounded to.

  Attributes:
    scale: float32, [] or [channels].
    zero_point: the integer of 0.
    bits: of the integers, which have a sign.
    axis: of the channels; None: there is one scale.
    narrow: whether the lowest integer is left out, as weights have it.
  """

  scale: np.ndarray | np.floating
  zero_point: int
  bits: int
  axis: int | None = None
  narrow: bool = False

  @property
  def limits(self) -> tuple[int, int]:
    """The lowest and the highest integer."""
    half = 2 ** (self.bits - 1)
    return -half + self.narrow, half - 1

  def steps(self, axes: int, numbers: Any = np) -> Any:
    """Returns the scale in the shape that values of so many axes take.

    Args:
      axes: number of axes.
      numbers: `numpy`, or `jax.numpy`.
    """
    if self.axis is None:
      return numbers.asarray(self.scale)
    others = [i for i in range(axes) if i != self.axis]
    return numbers.expand_dims(self.scale, others)

  def integers(self, value: np.ndarray) -> np.ndarray:
    """Returns the integers of a weight, as int8 (or int16)."""
    scale = self.steps(np.ndim(value))
    whole = np.round(np.asarray(value, np.float32) / scale) + self.zero_point
    kind = np.int8 if self.bits <= 8 else np.int16
    return np.clip(whole, *self.limits).astype(kind)


class Quantization(NamedTuple):
  """How a served model is rounded.

  Attributes:
    scheme: a key of `SCHEMES`.
    tensors: the grids of activations, by name; a tensor without one is float.
    mask_value: what hides a key (`ranges.Ranges`).
  """

  scheme: str
  tensors: Mapping[str, Grid]
  mask_value: float

  def to_json(self) -> dict[str, Any]:
    """Returns the same as JSON values."""
    tensors = {
      name: [float(grid.scale), grid.zero_point, grid.bits]
      for name, grid in self.tensors.items()
    }
    return {
      'scheme': self.scheme, 'mask_value': self.mask_value, 'tensors': tensors
    }  # fmt: skip

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> 'Quantization':
    """Returns what `to_json` was called on."""
    tensors = {
      name: Grid(np.float32(scale), zero_point, bits)
      for name, (scale, zero_point, bits) in values['tensors'].items()
    }
    return cls(values['scheme'], tensors, values['mask_value'])


def calibrate(graph: Graph, scheme: str, ranges: Ranges) -> Quantization:
  """Returns how a model is rounded, by the ranges of its tensors.

  Args:
    graph: the model.
    scheme: a key of `SCHEMES`.
    ranges: measured on it (`ranges.measure`).
  """
  bits = SCHEMES[scheme].activation_bits
  tensors = {}
  for name, measured in ranges.tensors.items():
    if not is_rounded(name) or _is_fused(graph, name):
      continue
    low, high = measured.whole
    if name.endswith('/probabilities'):
      tensors[name] = _unit(bits)
    elif name == 'pooled' and graph.config.classifier_activation:
      # A tanh.
      tensors[name] = Grid(np.float32(1 / 2 ** (bits - 1)), 0, bits)
    else:
      tensors[name] = _grid_of(low, high, bits)
  tensors['mask_bias'] = _grid_of(ranges.mask_value, 0.0, bits)
  return Quantization(scheme, tensors, ranges.mask_value)


def is_rounded(name: str) -> bool:
  """Returns whether a tensor is of integers, or a kernel multiplies such."""
  return not _FLOAT.match(name)


def _is_fused(graph: Graph, name: str) -> bool:
  """Returns whether runtimes never round a tensor: they compute the next one.

  Products that end in a ReLU, cut off at 6 or not, give its values.
  """
  fused = graph.config.hidden_act in ('relu', 'relu6')
  return fused and name.endswith('/intermediate')


def weight_grid(
  graph: Graph, name: str, value: Any, scheme: str, numbers: Any = np
) -> Grid | None:
  """Returns the grid of a weight; None: it stays float.

  Kernels [in, out] have a scale for each column (`largest_of_two`), the tables
  that ids and positions look up one scale, the table that scores the vocabulary
  one for each word if it is another. Biases stay: runtimes add them as integers
  of 32 bits.

  Args:
    graph: the model.
    name: of the weight.
    value: the weight.
    scheme: a key of `SCHEMES`.
    numbers: `numpy`, or `jax.numpy` where the value is traced; the scale is
      then one of its arrays.
  """
  bits = _TABLE_BITS
  if name in _TABLES or name.endswith('/stream_scale'):
    largest, axis = numbers.abs(value).max(), None
  elif name == 'masked_lm/words':
    largest, axis = numbers.abs(value).max(1), 0
  elif name.endswith('/kernel') and not name.startswith('classifier'):
    largest, axis = numbers.abs(value).max(0), 1
    if not name.startswith('masked_lm/'):
      bits = SCHEMES[scheme].weight_bits
      if SCHEMES[scheme] == SCHEMES['int8']:
        largest = largest_of_two(value, numbers)
  else:
    return None
  most = 2 ** (bits - 1) - 1
  scale = numbers.where(largest > 0, largest, 1.0) / most
  return Grid(scale.astype(np.float32), 0, bits, axis, True)


def largest_of_two(kernel: Any, numbers: Any = np) -> Any:
  """Returns what 127 steps have to reach in each column of a kernel.

  Processors multiply 8 bits without a sign by 8 bits with one. Those that have
  no instruction for the whole add the products of two neighbours in 16 bits:
  with 255 * (127 + 127) that overflows. If 127 steps reach the sum of any two
  neighbours, their integers sum up to 128 at most, and 255 * 128 < 2^15.

  Args:
    kernel: [in, out].
    numbers: `numpy`, or `jax.numpy` where the kernel is traced.

  Returns:
    [out], the largest absolute value of a weight, or of a sum of two.
  """
  sums = numbers.abs(kernel[1:] + kernel[:-1]).max(0, initial=0)
  return numbers.maximum(numbers.abs(kernel).max(0), sums)


def round_values(value: Any, grid: Grid) -> Any:
  """Returns values on a grid; the gradient is that of the limits alone.

  Straight through: rounding has the gradient of the identity, and values beyond
  the limits have none (Bengio, Leonard and Courville 2013, 'Estimating or
  propagating gradients through stochastic neurons').

  Args:
    value: a jax array.
    grid: where to.
  """
  scale = jax.lax.stop_gradient(grid.steps(value.ndim, jnp))
  low, high = (limit - grid.zero_point for limit in grid.limits)
  # A weight's scale follows from its largest value: none is beyond, and a tie
  # with the limit would halve the gradient.
  inside = value if grid.narrow else jnp.clip(value, low * scale, high * scale)
  rounded = jnp.clip(jnp.round(value / scale), low, high) * scale
  return inside + jax.lax.stop_gradient(rounded - inside)


def hook(graph: Graph, quantization: Quantization) -> Hook:
  """Returns the hook of `graph.apply` that rounds, with JAX's operations.

  Args:
    graph: the model; its `mask_value` is that of the quantization.
    quantization: how.
  """

  def rounded(name: str, value: Any) -> Any:
    if name in graph.weights:
      grid = weight_grid(graph, name, value, quantization.scheme, jnp)
    else:
      grid = quantization.tensors.get(name)
    return value if grid is None else round_values(value, grid)

  return rounded


def _grid_of(low: float, high: float, bits: int) -> Grid:
  """Returns a grid from low to high, with 0 on it."""
  low, high = min(low, 0.0), max(high, 0.0)
  half = 2 ** (bits - 1)
  if bits > 8:
    return Grid(np.float32(max(-low, high, 1e-8) / (half - 1)), 0, bits)
  scale = np.float32(max(high - low, 1e-8) / (2 * half - 1))
  return Grid(
    scale, int(np.clip(round(-half - low / scale), -half, half - 1)), bits
  )


def _unit(bits: int) -> Grid:
  """Returns the grid of probabilities that runtimes give a softmax."""
  if bits > 8:
    return Grid(np.float32(1 / 2 ** (bits - 1)), 0, bits)
  return Grid(np.float32(1 / 2**bits), -(2 ** (bits - 1)), bits)
