"""Integers in LiteRT files, as a calibration has them.

Two programs make smaller files (`litert_tools.KINDS`). The quantiser takes a
float file and needs nothing else. The converter takes a graph whose tensors are
marked, each with its grid (`hook`); what is not marked stays float, and so do
inputs and outputs. What such a file computes is what `quantization.hook`
computes, but for the rounding of ties.
"""

import re
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from mobilebert_jax.export import litert_tools
from mobilebert_jax.export.litert_operations import fake_quantize
from mobilebert_jax.inference import quantization as grids
from mobilebert_jax.inference.graph import Graph, Hook
from mobilebert_jax.inference.quantization import Grid, Quantization
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.requirements import load

WORDS = 'embeddings/words_taken'
# XNNPACK's products take less than this of input scale * weight scale / output
# scale, and a file with one that does not is not loaded at all.
_LARGEST_RATIO = 256.0
_HALF = np.finfo(np.float16)
# What the quantiser makes float16 of: products and look-ups.
_HALVED = re.compile(r'.*/kernel$|embeddings/(words|token_types)$|.*/words$')
_ADVICE = 'equalise the channels of the model before it is calibrated'


def check(graph: Graph, kind: str | None, calibration: Quantization | None):
  """Refuses what cannot be made, before anything is.

  Args:
    graph: the served model.
    kind: a key of `litert_tools.KINDS`; None: float32.
    calibration: how its tensors are rounded.

  Raises:
    InputError: there is no such kind, its calibration is missing or another
      one's, or a weight is too large for float16.
  """
  if kind is None:
    return
  if kind not in litert_tools.KINDS:
    known = ', '.join(litert_tools.KINDS)
    raise InputError(f'no quantisation is called {kind}: {known}.')
  if is_calibrated(kind):
    if calibration is None:
      raise InputError(
        f'{kind} needs the ranges of tensors: give the calibration.'
      )
    if calibration.scheme != kind:
      raise InputError(
        f'{kind} was asked for, and the calibration is of {calibration.scheme}.'
      )
  if kind == 'float16':
    for name, weight in graph.weights.items():
      largest = float(np.abs(weight).max(initial=0))
      # Above it the nearest half is infinite.
      if is_halved(name) and largest >= float(_HALF.max) + 16:
        raise InputError(
          f'{name} has a value of {largest:.3g}, and float16 ends at '
          f'{_HALF.max:.0f}: equalise the channels of the model first.'
        )


def is_calibrated(kind: str | None) -> bool:
  """Returns whether a kind rounds tensors by their ranges."""
  return kind in grids.SCHEMES


def is_halved(name: str) -> bool:
  """Returns whether a weight has 16 bits in a float16 file."""
  return _HALVED.match(name) is not None


def hook(graph: Graph, quantization: Quantization) -> Hook:
  """Returns the hook of `graph.apply` that marks tensors for the converter.

  Args:
    graph: the model; its `mask_value` is that of the quantization.
    quantization: the grids; tensors without one are left.
  """
  is_wide = grids.SCHEMES[quantization.scheme].activation_bits > 8

  def marked(name: str, value: Any) -> Any:
    if name in graph.weights:
      return _mark_weight(graph, name, value, quantization.scheme, is_wide)
    grid = quantization.tensors.get(name)
    if grid is None or (
      is_wide and name == WORDS and graph.config.trigram_input
    ):
      return value
    return fake_quantize(value, grid)

  return marked


def _mark_weight(
  graph: Graph, name: str, value: Any, scheme: str, is_wide: bool
) -> Any:
  weight = graph.weights[name]
  grid = grids.weight_grid(graph, name, weight, scheme)
  if grid is None:
    return value
  if name == 'embeddings/positions':
    # Constants on a grid that the converter rounds again, to that of the tensor
    # they become: no copy of them is made when the file runs.
    return jnp.asarray(grid.integers(weight) * grid.scale)
  if name.endswith('/stream_scale') and is_wide:
    # Both factors have 16 bits there: the same points, on a finer grid.
    value = jnp.asarray(grid.integers(weight) * grid.scale)
    grid = Grid(grid.scale / np.float32(256), 0, 16)
  return fake_quantize(value, grid)


def finish(data: bytes, calibration: Quantization) -> bytes:
  """Returns the converter's file in the form that runtimes are fast with.

  Args:
    data: a file that was made of a marked graph.
    calibration: its grids, to name tensors by.

  Raises:
    InputError: LiteRT would refuse to load it; with the tensor's name.
  """
  flatbuffers = load('flatbuffers', 'litert')
  schema = load('ai_edge_litert.schema_py_generated', 'litert')
  model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(data), 0))
  file = _File(model, schema)
  _check_products(file, calibration)
  if file.use_integer_weights() | file.use_float_attention():
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), file_identifier=b'TFL3')
    data = bytes(builder.Output())
  runtime = load('ai_edge_litert.interpreter', 'litert')
  try:
    runtime.Interpreter(model_content=data).allocate_tensors()
  except (ValueError, RuntimeError) as error:
    reason = str(error).splitlines()[0]
    raise InputError(
      f'LiteRT does not load the file of {calibration.scheme} ({reason}): '
      f'{_ADVICE}.'
    ) from None
  return data


class _File:
  """The tables of a file.

  Args:
    model: the root.
    schema: the module that read it.
  """

  def __init__(self, model: Any, schema: Any):
    self.model, self.schema = model, schema
    self.operators = schema.BuiltinOperator

  def code(self, operator: Any) -> int:
    """Returns which operation it is."""
    return self.model.operatorCodes[operator.opcodeIndex].builtinCode

  def constant(self, tensor: Any) -> bool:
    """Returns whether a tensor has its values in the file."""
    return self.model.buffers[tensor.buffer].data is not None

  def products(self) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yields both operands, the bias or None, and the output of products."""
    wanted = (self.operators.FULLY_CONNECTED, self.operators.BATCH_MATMUL)
    for subgraph in self.model.subgraphs:
      for operator in subgraph.operators:
        if self.code(operator) in wanted:
          tensors = subgraph.tensors
          x, y, bias = [*operator.inputs, -1][:3]
          yield (
            tensors[x],
            tensors[y],
            tensors[bias] if bias >= 0 else None,
            tensors[operator.outputs[0]],
          )

  def use_integer_weights(self) -> bool:
    """Lets float products and look-ups read weights as the integers they are.

    The converter makes floats of them first, in full: of the word table four
    times its size. Products then round their input as they run, row by row, as
    those of dynamic files do.

    Returns:
      Whether there was one.
    """
    readers = (self.operators.FULLY_CONNECTED, self.operators.EMBEDDING_LOOKUP)
    changed = False
    for subgraph in self.model.subgraphs:
      integers = {
        operator.outputs[0]: operator.inputs[0]
        for operator in subgraph.operators
        if self.code(operator) == self.operators.DEQUANTIZE
        and self.constant(subgraph.tensors[operator.inputs[0]])
      }
      for operator in subgraph.operators:
        if self.code(operator) in readers and operator.inputs[1] in integers:
          operator.inputs[1] = integers[operator.inputs[1]]
          changed = True
      read = {i for operator in subgraph.operators for i in operator.inputs}
      subgraph.operators = [
        operator
        for operator in subgraph.operators
        if operator.outputs[0] not in integers or operator.outputs[0] in read
      ]
    return changed

  def use_float_attention(self) -> bool:
    """Lets attention of 8 bits compute in floats between the same integers.

    XNNPACK has neither products of two activations nor a softmax in integers;
    the interpreter's own are slow, and cut all else in pieces.

    Returns:
      Whether there was one.
    """
    moved = (self.operators.SOFTMAX, self.operators.BATCH_MATMUL)
    kind = self.schema.TensorType.INT8
    changed = False
    for subgraph in self.model.subgraphs:
      operators = []
      for operator in subgraph.operators:
        [result] = operator.outputs
        if (
          self.code(operator) not in moved
          or subgraph.tensors[result].type != kind
        ):
          operators.append(operator)
          continue
        changed = True
        floats = [self._add_float(subgraph, i) for i in operator.inputs]
        for source, value in zip(operator.inputs, floats):
          code = self.operators.DEQUANTIZE
          operators.append(self._operator(code, source, value))
        operator.inputs = floats
        operator.outputs = [self._add_float(subgraph, result)]
        operators.append(operator)
        code = self.operators.QUANTIZE
        operators.append(self._operator(code, operator.outputs[0], result))
      subgraph.operators = operators
    return changed

  def _add_float(self, subgraph: Any, index: int) -> int:
    """Adds a tensor like another one, of floats; returns its index."""
    like, tensor = subgraph.tensors[index], self.schema.TensorT()
    tensor.name = like.name + b'/float%d' % len(subgraph.tensors)
    tensor.shape, tensor.hasRank = like.shape, True
    tensor.type, tensor.buffer = self.schema.TensorType.FLOAT32, 0
    subgraph.tensors.append(tensor)
    return len(subgraph.tensors) - 1

  def _operator(self, code: int, source: int, result: int) -> Any:
    codes = self.model.operatorCodes
    known = [entry.builtinCode for entry in codes]
    if code not in known:
      entry = self.schema.OperatorCodeT()
      entry.builtinCode = entry.deprecatedBuiltinCode = code
      entry.version = 2
      codes.append(entry)
      known.append(code)
    operator = self.schema.OperatorT()
    operator.opcodeIndex = known.index(code)
    operator.inputs, operator.outputs = [source], [result]
    return operator


def _check_products(file: _File, calibration: Quantization):
  """Refuses products that XNNPACK refuses, and sums that overflow.

  Raises:
    InputError: with the name of what the product gives.
  """
  names = {
    (float(grid.scale), grid.zero_point): name
    for name, grid in calibration.tensors.items()
  }
  for x, y, bias, output in file.products():
    scales: list[Any] = [
      None if tensor.quantization is None else tensor.quantization.scale
      for tensor in (x, y, output)
    ]
    if any(scale is None for scale in scales):
      continue
    own, other, result = scales
    ratio = float(own[0] * np.max(other) / result[0])
    zero = int(output.quantization.zeroPoint[0])
    name = names.get((float(result[0]), zero), output.name.decode())
    if ratio >= _LARGEST_RATIO and x.type == file.schema.TensorType.INT8:
      raise InputError(
        f'{name} has steps {ratio:.0f} times finer than those of what it is '
        f'computed from, and LiteRT loads no file with {_LARGEST_RATIO:.0f} '
        f'or more: {_ADVICE}.'
      )
    if bias is not None and bias.type == file.schema.TensorType.INT32:
      data = bytes(file.model.buffers[bias.buffer].data)
      # The converter cuts off what is larger.
      largest = np.abs(np.frombuffer(data, np.int32).astype(np.int64)).max()
      if largest >= np.iinfo(np.int32).max:
        raise InputError(
          f'the bias of {name} is too large for its steps: {_ADVICE}.'
        )
