"""Smaller LiteRT files: halves, and integers that a calibration chose."""

import collections
import functools
import sys

import numpy as np
import pytest

from mobilebert_jax.inference import graph, quantization, ranges
from mobilebert_jax.inference.operations import numpy_operations
from mobilebert_jax.runtime.errors import InputError
from tests.support import served

pytestmark = pytest.mark.clients
pytest.importorskip('litert_converter', reason='converts to LiteRT')
pytest.importorskip('ai_edge_quantizer', reason='quantises')
schema = pytest.importorskip(
  'ai_edge_litert.schema_py_generated', reason='runs LiteRT'
)
runtime = pytest.importorskip('ai_edge_litert.interpreter')
# Here, behind the check that they can be imported.
from mobilebert_jax.export import litert, litert_quantized  # noqa: E402

CLASSIFIER = 'MobileBertForSequenceClassification'
LENGTH = 12
# How many products of a tiny model, by its wiring: those of two blocks, the
# embeddings and the pooler.
BLOCK = 11


@functools.lru_cache
def measured(head, **changes):
  """A tiny model, texts of several lengths, and its ranges on them."""
  folded = served.fold(head, **changes)
  batch = served.make_batch(head, rows=64, length=LENGTH)
  for row, mask in enumerate(batch['attention_mask']):
    mask[...] = 1
    mask[..., 4 + row % 9 :] = 0
  return folded, batch, ranges.measure(folded, [batch])


def rounding(folded, calibration):
  """The hook of `quantization`, written again in float64."""

  def rounded(name, value):
    if name in folded.weights:
      grid = quantization.weight_grid(
        folded, name, folded.weights[name], calibration.scheme
      )
    else:
      grid = calibration.tensors.get(name)
    if grid is None:
      return value
    scale = np.asarray(grid.scale, np.float64)
    if grid.axis is not None:
      scale = np.expand_dims(scale, 1 - grid.axis)
    low, high = (limit - grid.zero_point for limit in grid.limits)
    return np.clip(np.round(value / scale), low, high) * scale

  return rounded


def save(folded, directory, kind, batch_size=1, **options):
  path = directory / 'model.tflite'
  litert.save(
    folded, path, [LENGTH], quantization=kind, batch_size=batch_size, **options
  )
  return path


def tables(path):
  return schema.ModelT.InitFromObj(
    schema.Model.GetRootAs(bytearray(path.read_bytes()), 0)
  )


def count_operations(path):
  """(operation, type of its first operand, type of its result) -> how many."""
  model = tables(path)
  codes = {value: key for key, value in vars(schema.BuiltinOperator).items()}
  types = {value: key for key, value in vars(schema.TensorType).items()}
  counts: collections.Counter = collections.Counter()
  for subgraph in model.subgraphs:
    for operator in subgraph.operators:
      code = codes[model.operatorCodes[operator.opcodeIndex].builtinCode]
      ends = operator.inputs[0], operator.outputs[0]
      counts[code, *(types[subgraph.tensors[i].type] for i in ends)] += 1
  return counts


def count_bytes(path):
  """Bytes of constants by the kind of their numbers."""
  model = tables(path)
  types = {value: key for key, value in vars(schema.TensorType).items()}
  buffers = {}
  for tensor in model.subgraphs[0].tensors:
    buffer = model.buffers[tensor.buffer]
    # The quantiser puts some behind the tables.
    size = buffer.size if buffer.data is None else len(buffer.data)
    if size:
      buffers[tensor.buffer] = types[tensor.type], size
  counts: collections.Counter = collections.Counter()
  for kind, size in buffers.values():
    counts[kind] += size
  return counts


# Of an error, as a part of what rounding to these grids changes: both are root
# mean squares over all texts. Steps of 8 bits are so wide that one tie that is
# rounded otherwise shows; with 16 bits it does not, in the same wiring.
TOLERANCE = {'int8': 0.9, 'int4x8': 0.9, 'int8x16': 0.05}
# Of errors where products round their input as they run, as a part of the
# deviation of the output.
DYNAMIC = 0.02


def assert_computes(head, kind, directory, **changes):
  """The file computes what the rounded graph does; returns its operations."""
  folded, batch, found = measured(head, **changes)
  calibration = quantization.calibrate(folded, kind, found)
  path = save(folded, directory, kind, 2, calibration=calibration)
  result = litert.Loaded(path)(batch)
  exact = graph.apply(folded, numpy_operations(), batch)
  masked = folded._replace(mask_value=calibration.mask_value)
  wanted = graph.apply(
    masked, numpy_operations(), batch, rounding(masked, calibration)
  )
  assert {*result} == {*wanted}
  for name, value in wanted.items():
    assert result[name].dtype == np.float32
    error = np.sqrt(np.mean((result[name] - value) ** 2))
    change = np.sqrt(np.mean((exact[name] - value) ** 2))
    limit = TOLERANCE[kind] * change
    if head == 'MobileBertForMaskedLM' or name == 'prediction_logits':
      limit = max(limit, DYNAMIC * value.std())
    assert 0 < error < limit, (name, error, change, value.std())
  return count_operations(path)


def products_in(counts, kind):
  return sum(
    count
    for (code, *types), count in counts.items()
    if code == 'FULLY_CONNECTED' and types == [kind, kind]
  )


@pytest.mark.parametrize('kind', ['int8', 'int8x16'])
@pytest.mark.parametrize('head', served.HEADS)
def test_all_classes(head, kind, tmp_path):
  counts = assert_computes(head, kind, tmp_path)
  integer = 'INT16' if kind == 'int8x16' else 'INT8'
  pooler = head in (
    'MobileBertModel', CLASSIFIER, 'MobileBertForMultipleChoice',
    'MobileBertForPreTraining', 'MobileBertForNextSentencePrediction',
  )  # fmt: skip
  assert products_in(counts, integer) == 2 * BLOCK + 1 + pooler
  # XNNPACK has attention in floats alone; 16 bits are not for it.
  attention = 'INT16' if kind == 'int8x16' else 'FLOAT32'
  assert counts['BATCH_MATMUL', attention, attention] == 4
  assert counts['SOFTMAX', attention, attention] == 2


@pytest.mark.parametrize('kind', quantization.SCHEMES)
@pytest.mark.parametrize('changes', served.FLAGS, ids=str)
def test_flags(changes, kind, tmp_path):
  head = 'MobileBertForPreTraining'
  counts = assert_computes(head, kind, tmp_path, **changes)
  integer = 'INT16' if kind == 'int8x16' else 'INT8'
  # Words, transformation, rest and next sentence alone are of floats.
  assert products_in(counts, 'FLOAT32') <= 4
  assert products_in(counts, integer) >= 16


@pytest.mark.parametrize('kind', ['int8', 'int8x16'])
def test_streams_that_are_scaled(kind, tmp_path):
  counts = assert_computes(CLASSIFIER, kind, tmp_path, zeros=0.5)
  integer = 'INT16' if kind == 'int8x16' else 'INT8'
  assert counts['MUL', integer, integer] > 0


@pytest.mark.parametrize('kind', quantization.SCHEMES)
def test_every_tensor_is_on_its_grid(kind, tmp_path):
  folded, batch, found = measured(CLASSIFIER)
  calibration = quantization.calibrate(folded, kind, found)
  path = save(folded, tmp_path, kind, calibration=calibration)
  interpreter = runtime.Interpreter(
    str(path),
    experimental_preserve_all_tensors=True,
    experimental_op_resolver_type=(
      runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    ),
  )
  interpreter.allocate_tensors()
  row = {name: value[3:4] for name, value in batch.items()}
  interpreter.get_signature_runner()(**row)
  on_grid = collections.defaultdict(list)
  for details in interpreter.get_tensor_details():
    parameters = details['quantization_parameters']
    if parameters['scales'].size == 1:
      key = float(parameters['scales'][0]), int(parameters['zero_points'][0])
      on_grid[key].append(details['index'])
  values = {}
  masked = folded._replace(mask_value=calibration.mask_value)
  rounded = rounding(masked, calibration)

  def note(name, value):
    values[name] = rounded(name, value)
    return values[name]

  graph.apply(masked, numpy_operations(), row, note)
  # Steps of 16 bits are so fine that runtimes differ by several.
  most = 128 if kind == 'int8x16' else 8
  seen = 0
  for name, grid in calibration.tensors.items():
    wanted = np.round(values[name] / grid.scale) + grid.zero_point
    # The same values may stand in several layouts.
    alike = [
      value.reshape(wanted.shape).astype(np.int32)
      for value in map(
        interpreter.get_tensor, on_grid[float(grid.scale), grid.zero_point]
      )
      if value.size == wanted.size and value.ndim >= 2
    ]
    if alike:
      apart = min((np.abs(value - wanted) for value in alike), key=np.max)
      # The first block has nothing behind it that adds up.
      limit = most / 2 if name.startswith('layer_0/') else most
      assert apart.max() <= limit, (name, apart.max())
      assert apart.mean() <= limit / 4, (name, apart.mean())
      seen += 1
  assert seen >= 0.9 * len(calibration.tensors)


def test_hidden_keys_have_no_part_in_integers(tmp_path):
  folded, batch, found = measured(CLASSIFIER)
  calibration = quantization.calibrate(folded, 'int8', found)
  loaded = litert.Loaded(
    save(folded, tmp_path, 'int8', calibration=calibration)
  )
  row = {name: value[:1].copy() for name, value in batch.items()}
  assert row['attention_mask'].sum() == 4
  before = loaded(row)['logits']
  # The last seen token's trigram sees the next.
  row['input_ids'][0, 5:] = (row['input_ids'][0, 5:] + 7) % 40
  np.testing.assert_array_equal(loaded(row)['logits'], before)


WIDE = {
  'vocab_size': 2000, 'hidden_size': 64, 'embedding_size': 64,
  'intra_bottleneck_size': 64, 'intermediate_size': 64,
  'num_attention_heads': 4,
}  # fmt: skip


@pytest.mark.parametrize('kind', ['int8', 'int4x8', 'int8x16'])
def test_every_weight_is_an_integer_once(kind, tmp_path):
  head = 'MobileBertForMaskedLM'
  folded = served.fold(head, **WIDE)
  batch = served.make_batch(head, rows=4, length=LENGTH, vocab=2000)
  batch['attention_mask'][:] = 1
  calibration = quantization.calibrate(
    folded, kind, ranges.measure(folded, [batch])
  )
  counts = count_bytes(save(folded, tmp_path, kind, calibration=calibration))
  kernels = sum(
    x.size for name, x in folded.weights.items() if name.endswith('/kernel')
  )
  table = folded.weights['embeddings/words'].size
  head_kernel = folded.weights['masked_lm/transform/kernel'].size
  positions = LENGTH * 64
  types = folded.weights['embeddings/token_types'].size
  mask = 2
  if kind == 'int4x8':
    assert counts['INT4'] == (kernels - head_kernel) / 2
    kernels = head_kernel
  expected = kernels + table + types
  edges = 2 * 64
  if kind != 'int8x16':
    expected += positions + mask + edges
  assert abs(counts['INT8'] - expected) <= edges
  # What is left are biases of the vocabulary and the last norm.
  assert counts['FLOAT32'] < 4 * (2000 + 4 * 64) + 4096


def test_float16(tmp_path):
  folded = served.fold(CLASSIFIER, **WIDE)
  whole = count_bytes(save(folded, tmp_path, None))
  path = save(folded, tmp_path, 'float16')
  counts = count_bytes(path)
  kernels = sum(
    x.size
    for name, x in folded.weights.items()
    if litert_quantized.is_halved(name)
  )
  assert counts['FLOAT16'] == 2 * kernels
  assert counts['FLOAT32'] == whole['FLOAT32'] - 4 * kernels
  assert counts['FLOAT16'] > 10 * counts['FLOAT32'] - 4 * 12 * 64
  halves = {
    name: x.astype(np.float16).astype(np.float32)
    if litert_quantized.is_halved(name)
    else x
    for name, x in folded.weights.items()
  }
  batch = served.make_batch(CLASSIFIER, rows=4, length=LENGTH, vocab=2000)
  wanted = graph.apply(
    folded._replace(weights=halves), numpy_operations(), batch
  )
  served.assert_close(litert.Loaded(path)(batch), wanted)


def test_what_float16_cannot_hold_is_named(tmp_path):
  folded = served.fold(CLASSIFIER)
  weights = dict(folded.weights)
  name = 'layer_1/ffn_0/intermediate/kernel'
  weights[name] = weights[name].copy()
  weights[name][2, 3] = -65519
  largest = folded._replace(weights=weights)
  litert_quantized.check(largest, 'float16', None)
  weights[name][2, 3] = -70000
  with pytest.raises(
    InputError, match=f'{name} has a value of 7e.04, and floa'
  ):
    save(largest, tmp_path, 'float16')
  assert not [*tmp_path.iterdir()]


def test_files_that_cannot_be(tmp_path):
  folded, _, found = measured(CLASSIFIER)
  calibration = quantization.calibrate(folded, 'int8', found)
  with pytest.raises(InputError, match='no quantisation is called int3: float'):
    save(folded, tmp_path, 'int3')
  with pytest.raises(InputError, match='int8 needs the ranges of tensors'):
    save(folded, tmp_path, 'int8')
  with pytest.raises(
    InputError, match='int4x8 was asked for, and the calibration is of int8'
  ):
    save(folded, tmp_path, 'int4x8', calibration=calibration)
  assert not [*tmp_path.iterdir()]


def test_what_the_delegate_refuses_is_named(tmp_path):
  folded, _, found = measured(CLASSIFIER)
  calibration = quantization.calibrate(folded, 'int8', found)
  name = 'layer_1/ffn_0/output/dense'
  tensors = dict(calibration.tensors)
  tensors[name] = tensors[name]._replace(
    scale=np.asarray(tensors[name].scale / 5e4, np.float32)
  )
  narrow = calibration._replace(tensors=tensors)
  with pytest.raises(
    InputError, match=f'{name} has steps .* finer .* equalise the channels'
  ):
    save(folded, tmp_path, 'int8', calibration=narrow)
  assert not [*tmp_path.iterdir()]


def test_another_python_makes_the_same_file(tmp_path):
  folded, _, found = measured(CLASSIFIER)
  calibration = quantization.calibrate(folded, 'int8', found)
  here = save(folded, tmp_path, 'int8', calibration=calibration).read_bytes()
  there = save(
    folded, tmp_path, 'int8', calibration=calibration, python=sys.executable
  ).read_bytes()
  assert here == there
