"""ONNX: the served graph as nodes, and onnxruntime.

A file has dynamic batch and length, int64 inputs, transformers' names of inputs
and outputs, and each weight once, under the name that `graph` gives it. So has
each tensor: a node's output is called 'layer_3/ffn_1/output', not 'Add_127'.

With `int8=True` the kernels and the word table are integers of 8 bits, and so
are their products: activations are quantised as they come ('dynamic'). That is
a quarter of the size and needs no calibration; transformers.js calls such a
file 'q8' and looks for `QUANTIZED` beside `MODEL`.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mobilebert_jax.export.requirements import load
from mobilebert_jax.inference import graph as graphs
from mobilebert_jax.inference.graph import Graph
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError

# LayerNormalization is from 17 on.
OPSET = 17
# What a reader of opset 17 understands, whatever version of onnx writes.
_IR_VERSION = 8
# What optimum and transformers.js call the files, in a directory `onnx`.
MODEL = 'model.onnx'
QUANTIZED = 'model_quantized.onnx'
_LONGEST = 'max_position_embeddings'


def build(
  graph: Graph,
  names: graphs.Names = graphs.NAMES['transformers'],
  *,
  int8: bool = False,
) -> Any:
  """Returns a model as an `onnx.ModelProto`.

  Args:
    graph: the served model; the dtype of its weights is that of the outputs.
    names: what inputs and outputs are called.
    int8: whether products are of integers.

  Raises:
    InputError: `onnx` is not installed.
  """
  onnx = load('onnx', 'onnx')
  helper, types = onnx.helper, onnx.TensorProto
  dtype = next(iter(graph.weights.values())).dtype
  operations = (DynamicInt8 if int8 else OnnxOperations)(onnx, dtype)
  has_choices = graph.head == 'MobileBertForMultipleChoice'
  axes = ['batch', *(['choices'] if has_choices else []), 'length']
  outputs = graphs.apply(
    graph, operations, dict(zip(graphs.INPUTS, names.inputs)), operations.rename
  )
  results = [
    operations.output(outputs[name], name)
    for name in names.outputs or graph.output_names
  ]
  kind = helper.np_dtype_to_tensor_dtype(dtype)
  model = helper.make_model(
    helper.make_graph(
      operations.nodes,
      graph.head,
      [
        helper.make_tensor_value_info(name, types.INT64, axes)
        for name in names.inputs
      ],
      [
        helper.make_tensor_value_info(name, kind, axes_of(graph, name))
        for name in results
      ],
      operations.initializers,
    ),
    opset_imports=[helper.make_opsetid('', OPSET)],
    ir_version=_IR_VERSION,
    producer_name='mobilebert_jax',
  )
  longest = str(graph.config.max_position_embeddings)
  helper.set_model_props(model, {_LONGEST: longest})
  onnx.checker.check_model(model)
  return model


def axes_of(graph: Graph, output: str) -> list[str | int]:
  """Returns the axes of an output: names of those that vary, or sizes."""
  c = graph.config
  rows = 'batch'
  if graph.head == 'MobileBertForMultipleChoice':
    rows = 'batch * choices'
    if output == 'logits':
      return ['batch', 'choices']
  if output.startswith('attentions.'):
    return [rows, c.num_attention_heads, 'length', 'length']
  if output == 'last_hidden_state' or output.startswith('hidden_states.'):
    return [rows, 'length', c.hidden_size]
  if output == 'pooler_output':
    return [rows, c.hidden_size]
  if output in ('start_logits', 'end_logits'):
    return [rows, 'length']
  if output == 'prediction_logits' or graph.head == 'MobileBertForMaskedLM':
    return [rows, 'length', c.vocab_size]
  if graph.head == 'MobileBertForTokenClassification':
    return [rows, 'length', c.num_labels]
  if graph.head == 'MobileBertForSequenceClassification':
    return [rows, c.num_labels]
  return [rows, 2]


def save(
  graph: Graph,
  path: pathlib.Path,
  names: graphs.Names = graphs.NAMES['transformers'],
  *,
  int8: bool = False,
):
  """Writes a file, which appears only when it is whole.

  Args:
    graph: the served model.
    path: where to.
    names: what inputs and outputs are called.
    int8: whether products are of integers.

  Raises:
    InputError: `onnx` is not installed.
  """
  model = build(graph, names, int8=int8)
  with files.replacing(path) as partial:
    partial.write_bytes(model.SerializeToString())


class Loaded:
  """A file in onnxruntime, on the CPU.

  Args:
    path: the file.
    names: what its inputs are called.
    threads: how many compute; 0: as many as there are cores.

  Raises:
    InputError: `onnxruntime` is not installed, or it does not read the file.
  """

  def __init__(
    self,
    path: pathlib.Path,
    names: graphs.Names = graphs.NAMES['transformers'],
    *,
    threads: int = 0,
  ):
    runtime = load('onnxruntime', 'onnx')
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
      self._session = runtime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider']
      )
    except Exception as error:
      raise InputError(
        f'{path} is no ONNX that onnxruntime {runtime.__version__} reads: '
        f'{str(error).splitlines()[0]}.'
      ) from None
    self._inputs = names.inputs
    self._outputs = [output.name for output in self._session.get_outputs()]
    notes = self._session.get_modelmeta().custom_metadata_map
    self._longest = int(notes.get(_LONGEST, np.iinfo(np.int64).max))

  def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs by name for inputs by transformers' names.

    Raises:
      InputError: the sequences are longer than the model has positions.
    """
    length = np.shape(inputs['input_ids'])[-1]
    if length > self._longest:
      raise InputError(
        f'the sequences have {length} tokens, more than the {self._longest} '
        'positions of the model: truncate them.'
      )
    feeds = {
      named: np.asarray(inputs[name], np.int64)
      for name, named in zip(graphs.INPUTS, self._inputs)
    }
    return dict(zip(self._outputs, self._session.run(None, feeds)))


class OnnxOperations:
  """Operations that write nodes; values are names.

  Args:
    onnx: the module.
    dtype: of weights and values.
  """

  def __init__(self, onnx: Any, dtype: Any):
    self._onnx, self._dtype = onnx, np.dtype(dtype)
    self.nodes: list[Any] = []
    self.initializers: list[Any] = []
    self._constants: set[str] = set()
    self._names: set[str] = set()

  def rename(self, name: str, value: str) -> str:
    """Gives what the last node computes a name; a hook of `graph.apply`."""
    if not self.nodes or value != self.nodes[-1].output[0]:
      return value
    if name in self._names or not value.startswith('/'):
      return value
    self._names.add(name)
    self.nodes[-1].output[0] = name
    self.nodes[-1].name = name
    return name

  def output(self, value: str, name: str) -> str:
    """Returns the name of an output of the graph."""
    self.nodes.append(
      self._onnx.helper.make_node('Identity', [value], [name], name)
    )
    return name

  def weight(self, name, value):
    return self._constant(name, np.asarray(value, self._dtype))

  def number(self, value):
    return self._constant(f'/{value!r}', np.asarray(value, self._dtype))

  def take(self, table, ids):
    return self._node('Gather', table, ids, axis=0)

  def positions(self, table, ids):
    length = self._node('Shape', ids, start=-1)
    return self._node('Slice', table, self._ints(0), length, self._ints(0))

  def trigram(self, words):
    edge = self._ints(0, 1, 0, 0, 1, 0)
    padded = self._node('Pad', words, edge)
    axis, last = self._ints(1), self._ints(np.iinfo(np.int64).max)
    following = self._node('Slice', padded, self._ints(2), last, axis)
    previous = self._node('Slice', padded, self._ints(0), self._ints(-2), axis)
    return self._node('Concat', following, words, previous, axis=-1)

  def rows(self, x):
    return self._node('Flatten', x, axis=2)

  def tokens(self, x, ids):
    return self._reshape(x, self._node('Shape', ids), -1)

  def scalars(self, x, ids):
    return self._node('Reshape', x, self._node('Shape', ids))

  def first(self, x):
    zero = self._constant('/first', np.asarray(0, np.int64))
    return self._node('Gather', x, zero, axis=1)

  def split(self, x, size, whole):
    if size == whole:
      return x, None
    axis = self._ints(1)
    narrow = self._node('Slice', x, self._ints(0), self._ints(size), axis)
    rest = self._node('Slice', x, self._ints(size), self._ints(whole), axis)
    return narrow, rest

  def merge_choices(self, ids):
    return self._node('Flatten', ids, axis=2)

  def split_choices(self, logits, ids):
    return self._node('Reshape', logits, self._node('Shape', ids, end=2))

  def split_heads(self, x, ids, heads):
    split = self._reshape(x, self._node('Shape', ids), heads, -1)
    return self._node('Transpose', split, perm=[0, 2, 1, 3])

  def merge_heads(self, x):
    return self.rows(self._node('Transpose', x, perm=[0, 2, 1, 3]))

  def scores(self, q, k):
    return self._node(
      'MatMul', q, self._node('Transpose', k, perm=[0, 1, 3, 2])
    )

  def mix(self, probabilities, v):
    return self._node('MatMul', probabilities, v)

  def mask_bias(self, mask, value):
    seen = self._node('Cast', mask, to=self._onnx.TensorProto.BOOL)
    value = float(np.finfo(self._dtype).min) if value is None else value
    bias = self._node('Where', seen, self.number(0.0), self.number(value))
    return self._node('Unsqueeze', bias, self._ints(1, 2))

  def softmax(self, x):
    return self._node('Softmax', x, axis=-1)

  def linear(self, x, kernel):
    return self._node('MatMul', x, kernel)

  def linear_transposed(self, x, table):
    return self._node('Gemm', x, table, transB=1)

  def layer_norm(self, x, eps, scale, bias):
    return self._node('LayerNormalization', x, scale, bias, epsilon=eps)

  def add(self, x, y):
    return self._node('Add', x, y)

  def subtract(self, x, y):
    return self._node('Sub', x, y)

  def multiply(self, x, y):
    return self._node('Mul', x, y)

  def maximum(self, x, y):
    return self._node('Max', x, y)

  def relu(self, x):
    # A node of its own, which runtimes fuse.
    return self._node('Relu', x)

  def minimum(self, x, y):
    return self._node('Min', x, y)

  def where_positive(self, x, yes, no):
    is_positive = self._node('Greater', x, self.number(0.0))
    return self._node('Where', is_positive, yes, no)

  def tanh(self, x):
    return self._node('Tanh', x)

  def erf(self, x):
    return self._node('Erf', x)

  def sigmoid(self, x):
    return self._node('Sigmoid', x)

  def exp(self, x):
    return self._node('Exp', x)

  def log1p(self, x):
    return self._node('Log', self.add(x, self.number(1.0)))

  def expm1(self, x):
    return self.subtract(self._node('Exp', x), self.number(1.0))

  def sqrt(self, x):
    return self._node('Sqrt', x)

  def _reshape(self, x: str, shape: str, *more: int) -> str:
    whole = self._node('Concat', shape, self._ints(*more), axis=0)
    return self._node('Reshape', x, whole)

  def _ints(self, *values: int) -> str:
    name = f'/{"_".join(map(str, values))}'
    return self._constant(name, np.asarray(values, np.int64))

  def _constant(self, name: str, value: np.ndarray) -> str:
    if name not in self._constants:
      self._constants.add(name)
      self.initializers.append(self._onnx.numpy_helper.from_array(value, name))
    return name

  def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
    # Until it is renamed; weights and inputs do not begin with a slash.
    name = f'/{kind}_{len(self.nodes)}'
    self.nodes.append(
      self._onnx.helper.make_node(
        kind, list(inputs), [name], name, **attributes
      )
    )
    return name


class DynamicInt8(OnnxOperations):
  """Operations whose products of weights are of integers.

  A weight is (q - 128) * scale with q in 8 bits and a scale for each channel
  that it writes; for the word table, for each word, so that a table that also
  scores the vocabulary stands once. What it is multiplied with gets a scale and
  a zero point when it is there. Classifiers stay float: they are small, and
  nothing after them evens out errors.

  q is unsigned because onnxruntime adds pairs of products in 16 bits where a
  CPU has no instruction for more; signed weights would overflow them.
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
    integers, scales, zero = self._integers(table, axis=0)
    rows = self._node('Gather', integers, ids, axis=0)
    centred = self._node('Sub', self._cast(rows), self._cast(zero))
    scale = self._node('Gather', scales, ids, axis=0)
    return self.multiply(centred, self._node('Unsqueeze', scale, self._ints(2)))

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
    return self.multiply(self._cast(whole), self.multiply(scale, scales))

  def _integers(self, name: str, axis: int) -> tuple[str, str, str]:
    """Returns a weight's integers, scales along an axis, and zero point."""
    value = self._values[name]
    largest = np.abs(value).max(axis=1 - axis, keepdims=True)
    scales = np.where(largest > 0, largest, 1) / 127
    integers = np.round(value / scales).astype(np.int16) + 128
    return (
      self._constant(f'{name}_quantized', integers.astype(np.uint8)),
      self._constant(f'{name}_scale', scales.astype(self._dtype).reshape(-1)),
      self._constant('/zero_point', np.asarray(128, np.uint8)),
    )

  def _cast(self, x: str) -> str:
    kind = self._onnx.helper.np_dtype_to_tensor_dtype(self._dtype)
    return self._node('Cast', x, to=kind)

  def _node(self, kind, *inputs, **attributes):
    for name in inputs:
      if name in self._values:
        self._constant(name, self._values[name])
    return super()._node(kind, *inputs, **attributes)
