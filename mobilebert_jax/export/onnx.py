"""ONNX: the served graph as nodes, and onnxruntime.

A file has dynamic batch and length, int64 inputs, transformers' names of inputs
and outputs, and each weight once, under the name that `graph` gives it. So has
each tensor: a node's output is called 'layer_3/ffn_1/output', not 'Add_127'.

There are five kinds of smaller files. In 'float16' weights and arithmetic have
16 bits. In 'dynamic' the kernels and the word table are integers of 8 bits, and
so are their products; activations are quantised as they come, which needs no
ranges. In those of `quantization.SCHEMES` whatever has a grid is of integers.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mobilebert_jax.export.onnx_operations import Float16, OnnxOperations
from mobilebert_jax.export.onnx_quantized import DynamicInt8, StaticIntegers
from mobilebert_jax.inference import graph as graphs
from mobilebert_jax.inference.graph import Graph
from mobilebert_jax.inference.quantization import SCHEMES, Quantization
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.requirements import load

# Kind of file -> its name in a directory `onnx`. transformers.js finds the
# first four by the dtypes 'fp32', 'fp16', 'q8' and 'int8'; optimum the first.
FILES: Mapping[str | None, str] = {
  None: 'model.onnx',
  'float16': 'model_fp16.onnx',
  'dynamic': 'model_quantized.onnx',
  **{scheme: f'model_{scheme}.onnx' for scheme in SCHEMES},
}
# What readers of an opset understand, whatever version of onnx writes.
_IR_VERSIONS = {17: 8, 21: 10}
_LONGEST = 'max_position_embeddings'


def build(
  graph: Graph,
  names: graphs.Names = graphs.NAMES['transformers'],
  kind: str | None = None,
  quantization: Quantization | None = None,
) -> Any:
  """Returns a model as an `onnx.ModelProto`.

  Args:
    graph: the served model; the dtype of its weights is that of the outputs.
      float16 and integers want one whose channels are equally large.
    names: what inputs and outputs are called.
    kind: a key of `FILES`; None: floats, as the weights are.
    quantization: how the model is rounded, of a kind in `SCHEMES`.

  Raises:
    InputError: `onnx` is not installed, there is no such kind, the quantization
      is of another kind or model, or a weight is beyond the range of float16.
  """
  onnx = load('onnx', 'onnx')
  helper, types = onnx.helper, onnx.TensorProto
  if quantization is not None:
    graph = graph._replace(mask_value=quantization.mask_value)
  operations = _operations(onnx, graph, kind, quantization)
  has_choices = graph.head == 'MobileBertForMultipleChoice'
  axes = ['batch', *(['choices'] if has_choices else []), 'length']
  outputs = graphs.apply(
    graph, operations, dict(zip(graphs.INPUTS, names.inputs)), operations.hook
  )
  results = [
    operations.output(outputs[name], name)
    for name in names.outputs or graph.output_names
  ]
  if isinstance(operations, StaticIntegers):
    operations.finish()
  model = helper.make_model(
    helper.make_graph(
      operations.nodes,
      graph.head,
      [
        helper.make_tensor_value_info(name, types.INT64, axes)
        for name in names.inputs
      ],
      [
        helper.make_tensor_value_info(
          name, operations.output_type, axes_of(graph, name)
        )
        for name in results
      ],
      operations.initializers,
    ),
    opset_imports=[helper.make_opsetid('', operations.opset)],
    ir_version=_IR_VERSIONS[operations.opset],
    producer_name='mobilebert_jax',
  )
  longest = str(graph.config.max_position_embeddings)
  helper.set_model_props(model, {_LONGEST: longest})
  onnx.checker.check_model(model)
  return model


def _operations(
  onnx: Any, graph: Graph, kind: str | None, quantization: Quantization | None
) -> OnnxOperations:
  """Returns the operations that write a kind of file."""
  if kind not in FILES:
    raise InputError(
      f'{kind} is no kind of ONNX file; there are '
      f'{", ".join(str(known) for known in FILES)}.'
    )
  scheme = None if quantization is None else quantization.scheme
  if (kind if kind in SCHEMES else None) != scheme:
    raise InputError(
      f'a file of the kind {kind} is written with a quantization of '
      f'{kind if kind in SCHEMES else None}, not of {scheme}.'
    )
  if quantization is not None:
    return StaticIntegers(onnx, graph, quantization)
  if kind == 'float16':
    return Float16(onnx)
  dtype = next(iter(graph.weights.values())).dtype
  return (OnnxOperations if kind is None else DynamicInt8)(onnx, dtype)


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
  kind: str | None = None,
  quantization: Quantization | None = None,
):
  """Writes a file, which appears only when it is whole.

  Args:
    graph: the served model.
    path: where to; `FILES` has the names that other programs look for.
    names: what inputs and outputs are called.
    kind: see `build`.
    quantization: see `build`.

  Raises:
    InputError: see `build`.
  """
  model = build(graph, names, kind, quantization)
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
