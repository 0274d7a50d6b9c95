"""The operations of a served model as nodes of ONNX, on integers.

`DynamicInt8` needs no ranges: activations are quantised as they come.
`StaticIntegers` rounds what a `Quantization` names: products, sums and whatever
moves values are of integers from one end to the other.
"""

from typing import Any, NamedTuple

import numpy as np

from mobilebert_jax.export.onnx_operations import OnnxOperations
from mobilebert_jax.inference.graph import Graph
from mobilebert_jax.inference.quantization import (
  SCHEMES,
  Grid,
  Quantization,
  largest_of_two,
  weight_grid,
)
from mobilebert_jax.runtime.errors import InputError


class DynamicInt8(OnnxOperations):
  """Operations whose products of weights are of integers.

  A weight is q * scale with q in 8 bits and a scale for each channel that it
  writes; for the word table, for each word, so that a table that also scores
  the vocabulary stands once. What it is multiplied with gets a scale and a zero
  point when it is there. Classifiers stay float: they are small, and nothing
  after them evens out errors.

  q has a sign, since that is what processors have an instruction for, and two
  neighbours of it may be added in 16 bits (`quantization.largest_of_two`).
  """

  def __init__(self, onnx: Any, dtype: Any):
    super().__init__(onnx, dtype)
    self._values: dict[str, np.ndarray] = {}
    self._quantized: dict[str, tuple[str, str, str]] = {}

  def weight(self, name, value):
    # Written by what reads it, as float or as integers.
    self._values[name] = np.asarray(value, self._dtype)
    return name

  def take(self, table, ids):
    if table != 'embeddings/words':
      return super().take(table, ids)
    integers, scales, _ = self._integers(table, axis=0)
    rows = self._node('Gather', integers, ids, axis=0)
    scale = self._node('Gather', scales, ids, axis=0)
    scale = self._node('Unsqueeze', scale, self._ints(2))
    return self.multiply(self._cast(rows, self._dtype), scale)

  def linear(self, x, kernel):
    if kernel.startswith('classifier'):
      return super().linear(x, kernel)
    return self._product(x, *self._integers(kernel, axis=1))

  def linear_transposed(self, x, table):
    integers, scales, zero = self._integers(table, axis=0)
    turned = self._node('Transpose', integers, perm=[1, 0])
    return self._product(x, turned, scales, zero)

  def _product(self, x: str, integers: str, scales: str, zero: str) -> str:
    # These nodes in this order are what onnxruntime makes one of.
    if x not in self._quantized:
      rows = self._node('DynamicQuantizeLinear', x)
      more = (f'{rows}_scale', f'{rows}_zero_point')
      self.nodes[-1].output.extend(more)
      self._quantized[x] = (rows, *more)
    rows, scale, offset = self._quantized[x]
    whole = self._node('MatMulInteger', rows, integers, offset, zero)
    whole = self._cast(whole, self._dtype)
    return self.multiply(whole, self.multiply(scale, scales))

  def _integers(self, name: str, axis: int) -> tuple[str, str, str]:
    """Returns a weight's integers, scales along an axis, and zero point."""
    value = np.moveaxis(self._values[name], axis, 1)
    largest = largest_of_two(value)
    scales = np.where(largest > 0, largest, 1) / 127
    integers = np.round(value / scales).astype(np.int8)
    return (
      self._constant(f'{name}_quantized', np.moveaxis(integers, 1, axis)),
      self._constant(f'{name}_scale', scales.astype(self._dtype)),
      self._constant('/zero_point', np.asarray(0, np.int8)),
    )

  def _node(self, kind, *inputs, **attributes):
    for name in inputs:
      if name in self._values:
        self._constant(name, self._values[name])
    return super()._node(kind, *inputs, **attributes)


class _Scaling(NamedTuple):
  """How integers of the file become floats.

  Attributes:
    step: the scale, or those of channels.
    scale: its name in the file.
    zero_point: the name of the integer of 0; '': it is 0.
    axis: of the channels; None: there is one scale.
  """

  step: np.ndarray
  scale: str
  zero_point: str = ''
  axis: int | None = None


# These move values and compute nothing: integers stay integers.
_LAYOUT = (
  'Concat', 'Flatten', 'Gather', 'Pad', 'Reshape', 'Slice', 'Transpose',
  'Unsqueeze',
)  # fmt: skip
# No bias has more steps, which are added as integers of 32 bits.
_LARGEST_BIAS = 2.0**30


class StaticIntegers(OnnxOperations):
  """Operations on integers, whose grids are known beforehand.

  A value is a float or the name of integers, and these are dequantised where
  something computes with them: what stands between DequantizeLinear and
  QuantizeLinear is what runtimes make an operation on integers of.

  Activations of 8 bits are stored without a sign, weights with one: see
  `quantization.largest_of_two`. Weights of 4 bits are stored in 4 bits and cast
  to 8 when a file is loaded, because onnxruntime has no product of integers for
  the former. Nor has it one for activations of 16 bits: these files are for
  other chips, and compute the same in floats here.

  Args:
    onnx: the module.
    graph: the model.
    quantization: made for it.
  """

  def __init__(self, onnx: Any, graph: Graph, quantization: Quantization):
    super().__init__(onnx, np.float32)
    self._graph, self._quantization = graph, quantization
    bits = SCHEMES[quantization.scheme]
    self._is_wide = bits.activation_bits > 8
    if self._is_wide or bits.weight_bits < 8:
      # Integers of 16 and of 4 bits are from there on.
      self.opset = 21
    # Of integers, by name; then their floats, and the weights' integers.
    self._scalings: dict[str, _Scaling] = {}
    self._floats: dict[str, str] = {}
    self._written: dict[str, str] = {}
    # The bias that a product has in it, and products of several heads.
    self._biases: dict[str, str] = {}
    self._unmerged: set[str] = set()
    self._missing = set(quantization.tensors)

  def finish(self):
    """Checks that the model computes whatever is rounded.

    Raises:
      InputError: naming what it does not compute.
    """
    if self._missing:
      raise InputError(
        f'the quantization rounds {min(self._missing)}, which this model does '
        'not compute; calibrate it on the graph that is written.'
      )

  def weight(self, name, value):
    # Written by what reads it, as float or as integers.
    del value
    return name

  def hook(self, name, value):
    """Names a value and rounds it, if it has a grid."""
    if name in self._graph.weights:
      return value
    self._missing.discard(name)
    grid = self._quantization.tensors.get(name)
    is_unmerged = value in self._unmerged
    if grid is not None:
      floats = super().hook(name, self._float(value))
      if value in self._scalings:
        self._floats[value] = floats
      value = self._round(name, floats, grid)
    elif value not in self._scalings:
      value = super().hook(name, value)
    return super().merge_heads(value) if is_unmerged else value

  def output(self, value, name):
    return super().output(self._float(value), name)

  def linear(self, x, kernel):
    """Returns x @ kernel; of integers, plus the bias that is added to it."""
    name = f'{kernel.removesuffix("kernel")}bias'
    bias = self._graph.weights.get(name)
    step = self._scalings[x].step if x in self._scalings else None
    least: Any = 0.0
    if step is not None and bias is not None:
      bias = np.asarray(bias, np.float64)
      least = np.abs(bias) / (step * _LARGEST_BIAS)
    # Where the product is one of floats, onnxruntime would round x to 8 bits if
    # it met the weight in this order.
    is_turned = step is None or self._is_wide
    integers = self._weight(kernel, least, is_turned)
    if integers not in self._scalings:
      return super().linear(x, kernel)
    inputs = [x, integers]
    if step is not None and bias is not None:
      steps = step * self._scalings[integers].step
      whole = np.round(bias / steps).astype(np.int32)
      whole = self._constant(f'{name}_quantized', whole)
      scale = self._constant(f'{name}_scale', steps)
      self._scalings[whole] = _Scaling(steps, scale, axis=0)
      inputs.append(whole)
    elif not is_turned:
      return super().linear(x, kernel)
    product = self._node('Gemm', *inputs, transB=int(is_turned))
    if len(inputs) > 2:
      self._biases[product] = name
    return product

  def add(self, x, y):
    return x if self._biases.get(x) == y else super().add(x, y)

  def merge_heads(self, x):
    # Behind the rounding, which then follows the product.
    self._unmerged.add(x)
    return x

  def softmax(self, x):
    # onnxruntime's softmax of integers takes twice as long as one of floats; it
    # is not put here if something stands between.
    if x in self._scalings and not self._is_wide:
      x = self.maximum(x, self.number(float(np.finfo(np.float32).min)))
    return super().softmax(x)

  def _round(self, name: str, value: str, grid: Grid) -> str:
    """Returns the integers of a tensor."""
    kind, offset = (np.int16, 0) if self._is_wide else (np.uint8, 128)
    step = np.asarray(grid.scale, np.float32)
    scale = self._constant(f'{name}_scale', step)
    zero = self._constant(
      f'{name}_zero_point', np.asarray(grid.zero_point + offset, kind)
    )
    whole = super()._node('QuantizeLinear', value, scale, zero)
    whole = super().hook(f'{name}_quantized', whole)
    self._scalings[whole] = _Scaling(step, scale, zero)
    return whole

  def _weight(
    self, name: str, least: Any = 0.0, is_turned: bool = False
  ) -> str:
    """Returns a weight's integers; its floats, if it is not rounded.

    Args:
      name: of the weight.
      least: the scales are no smaller. A column of almost nothing beside its
        bias may be coarse: it does not move what is rounded after it.
      is_turned: whether the integers of a kernel are stored as [out, in].
    """
    if name in self._written:
      return self._written[name]
    value = np.asarray(self._graph.weights[name], np.float32)
    scheme = self._quantization.scheme
    grid = weight_grid(self._graph, name, value, scheme)
    if grid is None:
      self._written[name] = self._constant(name, value)
      return name
    step = np.maximum(grid.scale, least).astype(np.float32)
    whole, axis = grid._replace(scale=step).integers(value), grid.axis
    if is_turned:
      whole, axis = whole.T, 0
    if grid.bits == 4:
      four = self._onnx.TensorProto.INT4
      kind = self._onnx.helper.tensor_dtype_to_np_dtype(four)
      stored = self._constant(f'{name}_quantized', whole.astype(kind))
      stored = super()._node('Cast', stored, to=self._type_of(np.int8))
    else:
      stored = self._constant(f'{name}_quantized', whole)
    size = '_'.join(map(str, step.shape))
    zero = self._constant(f'/zero_points_{size}', np.zeros(step.shape, np.int8))
    scale = self._constant(f'{name}_scale', step)
    self._scalings[stored] = _Scaling(step, scale, zero, axis)
    self._written[name] = stored
    return stored

  def _float(self, name: str) -> str:
    """Returns the floats of a weight, of integers, or of floats."""
    if name in self._graph.weights:
      name = self._weight(name)
    if name not in self._scalings:
      return name
    if name not in self._floats:
      _, scale, zero, axis = self._scalings[name]
      inputs = (name, scale, zero) if zero else (name, scale)
      along = {} if axis is None else {'axis': axis}
      self._floats[name] = super()._node('DequantizeLinear', *inputs, **along)
    return self._floats[name]

  def _node(self, kind, *inputs, **attributes):
    first, *others = inputs
    if first in self._graph.weights:
      first = self._weight(first)
    if first not in self._scalings or kind not in _LAYOUT:
      floats = (self._float(name) for name in inputs)
      return super()._node(kind, *floats, **attributes)
    scaling = self._scalings[first]
    if kind == 'Pad' and self._is_wide:
      # onnxruntime cannot pad them.
      padded = super()._node(kind, self._float(first), *others)
      moved = super()._node(
        'QuantizeLinear', padded, scaling.scale, scaling.zero_point
      )
    else:
      if kind == 'Pad':
        others.append(scaling.zero_point)
      moved = super()._node(kind, first, *others, **attributes)
    self._scalings[moved] = scaling
    return moved
