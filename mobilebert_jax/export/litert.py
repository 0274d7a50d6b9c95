"""LiteRT (.tflite), what phones run: by jax.export, without TensorFlow.

Shapes are fixed: a file has a signature for each length, of one batch size. All
signatures share the weights. Rows that are shorter are padded, which MobileBERT
sees: its trigram reads the embedding of the [PAD] behind the last token. What a
file computes is what the model computes for rows padded to the file's length.
"""

import math
import pathlib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from mobilebert_jax.export import litert_quantized, litert_tools
from mobilebert_jax.export.litert_operations import (
  LiteRtOperations,
  WideOperations,
)
from mobilebert_jax.inference import graph as graphs
from mobilebert_jax.inference.graph import Graph
from mobilebert_jax.inference.quantization import SCHEMES, Quantization
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.requirements import load

SIGNATURE = 'serving_default'
# Another Python has the file, not the package.
_MAIN = 'import runpy, sys; runpy.run_path(sys.argv[1])["main"](sys.argv[2])'
# Instead of 'logits', where the file ends in a softmax.
PROBABILITIES = 'probabilities'


def build(
  graph: Graph,
  lengths: Sequence[int],
  *,
  batch_size: int = 1,
  choices: int = 2,
  names: graphs.Names = graphs.NAMES['transformers'],
  probabilities: bool = False,
  quantization: str | None = None,
  calibration: Quantization | None = None,
  attached: Mapping[str, bytes] | None = None,
  python: str | None = None,
) -> bytes:
  """Returns the bytes of a file.

  Inputs are int32 and outputs float32, whatever is between them.

  Args:
    graph: the served model.
    lengths: a signature for each; one alone is called 'serving_default',
      several 'serving_default_128' and so on.
    batch_size: rows of every call.
    choices: of a multiple choice model: texts of an example.
    names: what inputs and outputs are called, and their order.
    probabilities: whether a softmax follows the logits, as MediaPipe wants it;
      the output is then called 'probabilities'.
    quantization: 'float16', 'dynamic' and 'weight_only' (integers of 8 bits,
      see `quantize`), or 'int8', 'int4x8' and 'int8x16', for which activations
      are integers as well, as calibrated; None: float32.
    calibration: of the kind that has one (`quantization.calibrate`).
    attached: what readers find in the file, by name (`attach`).
    python: an interpreter that has litert-converter and, where it is needed,
      ai-edge-quantizer; None: this one.

  Raises:
    InputError: a length that the model cannot have, a softmax of a model
      without logits, a kind that the model cannot be, a file that LiteRT would
      not load, or a package that is not installed.
  """
  _check(graph, lengths, batch_size, choices, probabilities)
  litert_quantized.check(graph, quantization, calibration)
  if not litert_quantized.is_calibrated(quantization):
    calibration = None
  wanted = tuple(names.outputs or graph.output_names)
  signatures = {}
  for length in sorted(lengths):
    shape: tuple[int, ...] = (batch_size, length)
    if graph.head == 'MobileBertForMultipleChoice':
      shape = (batch_size, choices, length)
    name = SIGNATURE if len(lengths) == 1 else f'{SIGNATURE}_{length}'
    signatures[name] = _export(graph, shape, wanted, probabilities, calibration)
  if probabilities:
    wanted = tuple(PROBABILITIES if x == 'logits' else x for x in wanted)
  arguments: dict[str, Any] = {
    'signatures': signatures,
    'inputs': names.inputs,
    'outputs': wanted,
    'integers': calibration is not None,
  }
  if python is not None:
    data = _run(python, 'convert', **arguments)
  else:
    load('litert_converter', 'litert')
    data = litert_tools.convert(**arguments)
  if calibration is not None:
    data = litert_quantized.finish(data, calibration)
  # Before the quantiser, which keeps weights where they would get lost.
  for name, content in (attached or {}).items():
    data = attach(data, name, content)
  if quantization is not None and calibration is None:
    data = quantize(data, quantization, python=python)
  return data


def save(
  graph: Graph,
  path: pathlib.Path,
  lengths: Sequence[int],
  **options: Any,
):
  """Writes a file, which appears only when it is whole.

  Args:
    graph: the served model.
    path: where to.
    lengths: see `build`, as are the options.
    **options: of `build`.

  Raises:
    InputError: as `build`.
  """
  data = build(graph, lengths, **options)
  with files.replacing(path) as partial:
    partial.write_bytes(data)


def _check(
  graph: Graph,
  lengths: Sequence[int],
  batch_size: int,
  choices: int,
  probabilities: bool,
):
  longest = graph.config.max_position_embeddings
  if not lengths or len(set(lengths)) < len(lengths):
    raise InputError(f'lengths {list(lengths)}: give each length once.')
  for length in lengths:
    if not 1 <= length <= longest:
      raise InputError(
        f'length {length}: it has to be between 1 and the {longest} positions '
        'of the model.'
      )
  if batch_size < 1 or choices < 1:
    raise InputError(
      f'batch size {batch_size}, choices {choices}: both have to be 1 or more.'
    )
  if probabilities and 'logits' not in graph.output_names:
    raise InputError(
      f'{graph.head} has no output called logits to take probabilities of.'
    )


def _export(
  graph: Graph,
  shape: tuple[int, ...],
  wanted: Sequence[str],
  probabilities: bool,
  calibration: Quantization | None,
) -> bytes:
  """Returns the served model for inputs of a shape, as StableHLO."""
  heads = graph.config.num_attention_heads
  flat = (math.prod(shape[:-1]), shape[-1])
  operations, hook = LiteRtOperations(flat, heads), None
  if calibration is not None:
    graph = graph._replace(mask_value=calibration.mask_value)
    hook = litert_quantized.hook(graph, calibration)
    if SCHEMES[calibration.scheme].activation_bits > 8:
      words = calibration.tensors[litert_quantized.WORDS]
      operations = WideOperations(flat, heads, words)

  def serve(*inputs):
    outputs = graphs.apply(
      graph, operations, dict(zip(graphs.INPUTS, inputs, strict=True)), hook
    )
    if probabilities:
      outputs['logits'] = operations.softmax(outputs['logits'])
    for name in wanted:
      if name.startswith('attentions.'):
        outputs[name] = operations.attentions(outputs[name])
    return tuple(outputs[name] for name in wanted)

  ids = [jax.ShapeDtypeStruct(shape, jnp.int32)] * len(graphs.INPUTS)
  # A file has all inputs, whether the model reads them or not.
  jitted = jax.jit(serve, keep_unused=True)
  exported = jax.export.export(jitted, platforms=('cpu',))(*ids)
  return exported.mlir_module_serialized


def quantize(data: bytes, kind: str, *, python: str | None = None) -> bytes:
  """Returns a file with smaller weights, made of one in float32.

  What is packed behind the file (`mediapipe.append_files`) is lost: quantise
  first.

  Args:
    data: a file in float32.
    kind: 'float16', 'dynamic' or 'weight_only'.
    python: an interpreter that has ai-edge-quantizer; None: this one.

  Raises:
    InputError: there is no such kind, or `ai_edge_quantizer` is not installed.
  """
  if litert_tools.KINDS.get(kind) is None:
    known = [name for name, recipe in litert_tools.KINDS.items() if recipe]
    raise InputError(
      f'no float file becomes one of {kind}: {", ".join(known)}.'
    )
  if python is not None:
    return _run(python, 'quantize', data=data, kind=kind)
  load('ai_edge_quantizer', 'litert')
  return litert_tools.quantize(data, kind)


def _run(python: str, task: str, **arguments: Any) -> bytes:
  """Runs a tool in another Python, which needs nothing of this package."""
  with tempfile.TemporaryDirectory() as made:
    directory = pathlib.Path(made)
    litert_tools.write_request(directory, task, **arguments)
    command = [python, '-I', '-c', _MAIN, litert_tools.__file__, made]
    try:
      done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
      raise InputError(
        f'--python={python} cannot be run: {error.strerror}.'
      ) from None
    if done.returncode:
      lines = done.stderr.strip().splitlines() or ['no message']
      raise InputError(f'--python={python} cannot {task}: {lines[-1]}.')
    return (directory / litert_tools.RESULT).read_bytes()


def attach(data: bytes, name: str, content: bytes) -> bytes:
  """Returns a file with something in it that readers find by name.

  Args:
    data: a file that the converter wrote, of floats or integers; one of the
      quantiser keeps its weights where they would get lost.
    name: what it is called.
    content: the bytes.

  Raises:
    InputError: `ai_edge_litert` or `flatbuffers` is not installed.
  """
  flatbuffers = load('flatbuffers', 'litert')
  schema = load('ai_edge_litert.schema_py_generated', 'litert')
  root = schema.Model.GetRootAs(bytearray(data), 0)
  model = schema.ModelT.InitFromObj(root)
  buffer = schema.BufferT()
  buffer.data = content
  model.buffers.append(buffer)
  entry = schema.MetadataT()
  entry.name, entry.buffer = name, len(model.buffers) - 1
  model.metadata = [*(model.metadata or []), entry]
  builder = flatbuffers.Builder(len(data) + len(content))
  builder.Finish(model.Pack(builder), file_identifier=b'TFL3')
  return bytes(builder.Output())


class Loaded:
  """A file in LiteRT's interpreter, with the delegate that is its default.

  A call takes the shortest signature that the rows fit into.

  Args:
    path: the file.
    names: what its inputs are called.
    threads: how many compute; None: the interpreter's default.

  Raises:
    InputError: `ai_edge_litert` is not installed, it does not read the file, or
      the file calls its inputs otherwise.
  """

  def __init__(
    self,
    path: pathlib.Path,
    names: graphs.Names = graphs.NAMES['transformers'],
    *,
    threads: int | None = None,
  ):
    runtime = load('ai_edge_litert.interpreter', 'litert')
    try:
      interpreter = runtime.Interpreter(str(path), num_threads=threads)
      interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
      raise InputError(
        f'{path} is no file that LiteRT reads: {str(error).splitlines()[0]}.'
      ) from None
    self._inputs = names.inputs
    self._signatures = {}
    for signature, parts in interpreter.get_signature_list().items():
      if {*parts['inputs']} != {*names.inputs}:
        raise InputError(
          f'{path} has the inputs {", ".join(parts["inputs"])} instead of '
          f'{", ".join(names.inputs)}.'
        )
      runner = interpreter.get_signature_runner(signature)
      shape = runner.get_input_details()[names.inputs[0]]['shape']
      self._signatures[tuple(shape.tolist())] = runner
    # The interpreter owns what the signatures run.
    self._interpreter = interpreter

  @property
  def shapes(self) -> list[tuple[int, ...]]:
    """The shapes of the inputs that the file takes, shortest first."""
    return sorted(self._signatures, key=lambda shape: shape[-1])

  def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs by name for inputs by transformers' names.

    Rows are padded to the file's length and cut back, and run in batches of
    the file's size.

    Raises:
      InputError: the sequences are longer than the file's, or have another
        number of choices.
    """
    ids = [np.asarray(inputs[name], np.int32) for name in graphs.INPUTS]
    shape = ids[0].shape
    fitting = [
      s
      for s in self.shapes
      if s[1:-1] == shape[1:-1] and s[-1] >= shape[-1]
    ]  # fmt: skip
    if not fitting:
      raise InputError(
        f'the inputs have the shape {shape}, and the file takes '
        f'{" or ".join(map(str, self.shapes))}: truncate them, or export with '
        'that length.'
      )
    takes = fitting[0]
    runner = self._signatures[takes]
    rows, size = shape[0], takes[0]
    batches = max(1, -(-rows // size))
    ends = [(0, 0)] * (len(shape) - 2) + [(0, takes[-1] - shape[-1])]
    padded = [np.pad(x, [(0, batches * size - rows), *ends]) for x in ids]
    collected: dict[str, list[np.ndarray]] = {}
    for i in range(batches):
      feeds = {
        name: x[i * size : (i + 1) * size]
        for name, x in zip(self._inputs, padded)
      }
      for name, value in runner(**feeds).items():
        collected.setdefault(name, []).append(value)
    outputs = {}
    for name, values in collected.items():
      value = np.concatenate(values)
      # Hidden states have a row for each choice.
      kept = rows * (len(value) // (batches * size))
      outputs[name] = _cut(name, value[:kept], shape[-1])
    return outputs


def _cut(name: str, value: np.ndarray, length: int) -> np.ndarray:
  """Takes away what an output has for padding."""
  if name.startswith('attentions.'):
    return value[:, :, :length, :length]
  # Everything with three axes, and starts and ends, is for each token.
  if value.ndim == 3 or name in ('start_logits', 'end_logits'):
    return value[:, :length]
  return value
