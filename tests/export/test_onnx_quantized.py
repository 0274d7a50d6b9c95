"""ONNX files of integers in onnxruntime: dynamic, and by measured ranges."""

import jax
import numpy as np
import pytest

from mobilebert_jax.inference import folding, graph, ranges
from mobilebert_jax.inference import quantization as quantizations
from mobilebert_jax.inference.operations import jax_operations, numpy_operations
from mobilebert_jax.inference.ranges import Range, Ranges
from mobilebert_jax.runtime.errors import InputError
from tests.support import served

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
from onnxruntime import quantization as peer  # noqa: E402

# Here, behind the check that it can be imported.
from mobilebert_jax.export import onnx as export_onnx  # noqa: E402

pytestmark = pytest.mark.parity

PRETRAINING = 'MobileBertForPreTraining'
WIDER = {
  'hidden_size': 128, 'embedding_size': 64, 'intra_bottleneck_size': 64,
  'intermediate_size': 128, 'num_attention_heads': 4, 'num_hidden_layers': 4,
  'vocab_size': 2000,
}  # fmt: skip
LABELLING = (
  'MobileBertForSequenceClassification',
  'MobileBertForTokenClassification',
)


def tame(head, **changes):
  """A model whose values stay about as large as trained ones'."""
  model, params = served.make(head, dtype='float32', **WIDER, **changes)
  params = jax.tree.map(lambda x: x * np.float32(0.5), params)
  return folding.fold(head, model.config, params)


def save(folded, directory, kind=None, quantization=None):
  path = directory / export_onnx.FILES[kind]
  export_onnx.save(folded, path, kind=kind, quantization=quantization)
  return path


def optimised(path):
  """The kinds of operations that onnxruntime makes of a file."""
  options = onnxruntime.SessionOptions()
  written = path.with_suffix('.optimised')
  options.optimized_model_filepath = str(written)
  options.log_severity_level = 3
  onnxruntime.InferenceSession(
    str(path), options, providers=['CPUExecutionProvider']
  )
  return [node.op_type for node in onnx.load(written).graph.node]


@pytest.mark.parametrize('head', served.HEADS)
def test_dynamic_errs_less_than_the_quantiser_of_onnxruntime(head, tmp_path):
  folded = tame(head)
  path, whole = save(folded, tmp_path, 'dynamic'), save(folded, tmp_path)
  other = tmp_path / 'other.onnx'
  peer.quantize_dynamic(str(whole), str(other))
  batch = served.make_batch(head, rows=64, length=12, vocab=2000)
  # The last row is hidden altogether.
  wanted = graph.apply(folded, numpy_operations(), batch)
  results = [export_onnx.Loaded(file)(batch) for file in (path, other)]
  errors = np.zeros(2)
  for name, value in wanted.items():
    assert [result[name].shape for result in results] == [value.shape] * 2
    spread = value[:-1].std()
    errors += [
      np.abs(result[name] - value)[:-1].mean() / spread for result in results
    ]
  assert 1e-5 < errors[0] < errors[1]
  if head in LABELLING:
    agree = results[0]['logits'].argmax(-1) == wanted['logits'].argmax(-1)
    assert agree[:-1].mean() > 0.97


def test_dynamic_products_are_of_integers(tmp_path):
  """And onnxruntime makes one node of each."""
  folded = tame(PRETRAINING)
  path = save(folded, tmp_path, 'dynamic')
  kinds = [node.op_type for node in onnx.load(path).graph.node]
  kernels = [
    name for name in folded.weights
    if name.endswith('/kernel') and name != 'classifier/kernel'
  ]  # fmt: skip
  # The word table scores the vocabulary.
  assert kinds.count('MatMulInteger') == len(kernels) + 1
  fused = [
    kind for kind in optimised(path)
    if kind in ('DynamicQuantizeMatMul', 'MatMulIntegerToFloat')
  ]  # fmt: skip
  assert len(fused) == len(kernels) + 1


def test_dynamic_products_do_not_overflow_16_bits(tmp_path):
  """Two neighbours at the largest input, where a processor adds them so."""
  folded = tame(PRETRAINING)
  name = 'layer_0/ffn_0/output/dense/kernel'
  same = np.full_like(folded.weights[name], 0.3)
  folded = folded._replace(weights={**folded.weights, name: same})
  model = onnx.load(save(folded, tmp_path, 'dynamic'))
  seen = 0
  for tensor in model.graph.initializer:
    if not tensor.name.endswith('_quantized'):
      continue
    seen += 1
    whole = onnx.numpy_helper.to_array(tensor).astype(int)
    assert abs(whole).max() <= 127
    rows = whole.T if 'words' in tensor.name else whole
    sums = abs(rows[1:] + rows[:-1])
    assert 255 * sums.max() < 2**15
    # As many of the points are used as that allows.
    assert sums.max() >= 127
  assert seen > 20


@pytest.mark.parametrize('tied', [True, False])
def test_dynamic_keeps_a_tied_table_once(tied, tmp_path):
  folded = tame('MobileBertForMaskedLM', tie_word_embeddings=tied)
  path = save(folded, tmp_path, 'dynamic')
  large = [
    (tensor.name, len(tensor.raw_data))
    for tensor in onnx.load(path).graph.initializer
    if len(tensor.raw_data) >= 2000 * 64
  ]
  tables = ['embeddings/words', 'masked_lm/rest/kernel']
  tables += [] if tied else ['masked_lm/words']
  assert sorted(large) == sorted((f'{x}_quantized', 2000 * 64) for x in tables)
  # A quarter of the kernels; the graph of this small model is the rest.
  whole = save(folded, tmp_path).stat().st_size
  assert path.stat().st_size < 0.4 * whole


def calibrated(folded, scheme, batch):
  """A quantization by the ranges of one batch that hides nothing.

  `ranges.measure` would compile each of these models.
  """
  batch = {**batch, 'attention_mask': np.ones_like(batch['attention_mask'])}
  collected = {}

  def note(name, value):
    if name not in folded.weights and name != 'mask_bias':
      collected[name] = Range(value.min(), value.max())
    return value

  graph.apply(folded, numpy_operations(np.float32), batch, note)
  return quantizations.calibrate(folded, scheme, Ranges(collected, -20.0))


def rounded(folded, quantization, batch):
  """What a rounded file must compute, by NumPy."""

  def round_(name, value):
    if name in folded.weights:
      grid = quantizations.weight_grid(folded, name, value, quantization.scheme)
    else:
      grid = quantization.tensors.get(name)
    if grid is None:
      return value
    scale = grid.scale
    if grid.axis is not None:
      axes = [i for i in range(value.ndim) if i != grid.axis]
      scale = np.expand_dims(scale, axes)
    whole = np.clip(np.round(value / scale) + grid.zero_point, *grid.limits)
    return ((whole - grid.zero_point) * scale).astype(np.float32)

  folded = folded._replace(mask_value=quantization.mask_value)
  return graph.apply(folded, numpy_operations(np.float32), batch, round_)


def step(folded, quantization, output):
  """By how much an output moves if what it is made of moves by a step."""
  tensors, weights = quantization.tensors, folded.weights
  kind, _, number = output.partition('.')
  if kind == 'attentions':
    at = f'layer_{number}/attention'
    # p moves by p * (1 - p) of what a score moves by.
    scores = tensors[f'{at}/masked_scores'].scale / 4
    return scores + tensors[f'{at}/probabilities'].scale
  if output == 'pooler_output':
    moved = tensors['pooler'].scale + tensors['pooled'].scale
    return moved * np.abs(weights.get('pooled/scale', 1))
  layer = int(number or folded.config.num_hidden_layers) - 1
  tensor = 'embeddings' if layer < 0 else f'layer_{layer}/output'
  if tensor not in tensors:
    tensor = f'layer_{layer}/ffn_1/output'
  moved = tensors[tensor].scale * np.abs(weights.get(f'{output}/scale', 1))
  norm = weights.get(f'{tensor}/norm/scale')
  # Behind a norm that divides by the deviation.
  return moved if norm is None else moved * np.abs(norm).max() / 0.3


def check_static(folded, scheme, quantization, wanted, batch, directory):
  path = save(folded, directory, scheme, quantization)
  result = export_onnx.Loaded(path)(batch)
  assert tuple(result) == folded.output_names
  for name, value in wanted.items():
    value = np.asarray(value)
    assert result[name].shape == value.shape
    assert result[name].dtype == np.float32
    moved = np.abs(result[name] - value)
    assert moved.mean() < (1e-4 if scheme == 'int8x16' else 0.03) * value.std()
    if 'logits' in name:
      assert (moved < 0.2 * value.std()).mean() > 0.98, name
    else:
      # What lies between two points goes either way, and moves what reads it.
      steps = moved / step(folded, quantization, name)
      assert steps.max() < 6.01 and (steps < 2.01).mean() > 0.98, name
    if 'logits' in name and value.ndim > 1:
      same = result[name].argmax(-1) == value.argmax(-1)
      assert same.mean() > 0.97, name


def check_scheme(scheme, directory, head=PRETRAINING, **changes):
  folded = served.fold(head, served.EVERYTHING, **changes)
  batch = served.make_batch(head, rows=33, length=11, seed=3)
  # The last row is hidden altogether.
  batch = {name: value[:-1] for name, value in batch.items()}
  quantization = calibrated(folded, scheme, batch)
  wanted = rounded(folded, quantization, batch)
  check_static(folded, scheme, quantization, wanted, batch, directory)


@pytest.mark.parametrize('head', served.HEADS)
def test_static_classes(head, tmp_path):
  check_scheme('int8', tmp_path, head)


@pytest.mark.parametrize('scheme', quantizations.SCHEMES)
@pytest.mark.parametrize('changes', served.FLAGS, ids=str)
def test_static_flags(changes, scheme, tmp_path):
  check_scheme(scheme, tmp_path, **changes)


def test_static_as_the_hook_of_training(tmp_path):
  """With the ranges that are measured, beside what a run rounds in JAX."""
  folded = served.fold(PRETRAINING, served.EVERYTHING, num_hidden_layers=1)
  batch = served.make_batch(PRETRAINING, rows=33, length=11, seed=3)
  quantization = quantizations.calibrate(
    folded, 'int8', ranges.measure(folded, [batch])
  )
  batch = {name: value[:-1] for name, value in batch.items()}
  hook = quantizations.hook(folded, quantization)
  masked = folded._replace(mask_value=quantization.mask_value)
  operations = jax_operations(np.float32)
  wanted = jax.jit(lambda x: graph.apply(masked, operations, x, hook))(batch)
  wanted = jax.device_get(wanted)
  check_static(folded, 'int8', quantization, wanted, batch, tmp_path)
  by_numpy = rounded(folded, quantization, batch)
  check_static(folded, 'int8', quantization, by_numpy, batch, tmp_path)


def write(scheme, directory, head=PRETRAINING):
  """A file of a model that is wide enough to be worth integers."""
  folded = tame(head)
  batch = served.make_batch(head, rows=4, length=12, vocab=2000)
  quantization = calibrated(folded, scheme, batch)
  return folded, save(folded, directory, scheme, quantization)


@pytest.mark.parametrize('scheme', ['int8', 'int4x8'])
def test_static_products_are_of_integers(scheme, tmp_path):
  """And sums; onnxruntime makes one operation of each."""
  folded, path = write(scheme, tmp_path)
  kinds = optimised(path)
  kernels = sum(
    name.endswith('/kernel') and not name.startswith(('classifier', 'masked'))
    for name in folded.weights
  )
  blocks = folded.config.num_hidden_layers
  # Scores and mixtures of values, beside the kernels.
  integers = kinds.count('QGemm') + kinds.count('QLinearMatMul')
  assert integers == kernels + 2 * blocks
  assert not {'MatMul', 'MatMulNBits', 'Relu'} & {*kinds}
  # A stream through a bottleneck, attention and each feed-forward network.
  assert kinds.count('QLinearAdd') >= blocks * (
    3 + folded.config.num_feedforward_networks
  )
  # The classifier, and the three of masked words.
  assert kinds.count('Gemm') + kinds.count('FusedGemm') == 4


def test_static_of_16_bits_keeps_them(tmp_path):
  """No product rounds its input once more, as MatMulNBits would."""
  _, path = write('int8x16', tmp_path)
  assert 'MatMulNBits' not in optimised(path)


@pytest.mark.parametrize('scheme', quantizations.SCHEMES)
def test_static_weights_stand_once(scheme, tmp_path):
  folded, path = write(scheme, tmp_path)
  stored = {
    tensor.name: len(tensor.raw_data)
    for tensor in onnx.load(path).graph.initializer
  }
  table = folded.weights['embeddings/words']
  assert stored['embeddings/words_quantized'] == table.size
  kernel = folded.weights['layer_1/ffn_0/intermediate/kernel']
  bits = quantizations.SCHEMES[scheme].weight_bits
  name = 'layer_1/ffn_0/intermediate/kernel_quantized'
  assert stored[name] == kernel.size * bits // 8
  # All but what there is one of for each word or channel.
  large = {name for name, size in stored.items() if size > 4 * 2000}
  assert large and all(name.endswith('_quantized') for name in large)
  assert sum(stored.values()) < 1.2 * sum(
    value.size for value in folded.weights.values()
  )


def test_bias_far_beyond_its_weights(tmp_path):
  """Its steps would be no integer of 32 bits."""
  folded = served.fold('MobileBertForTokenClassification')
  name = 'layer_0/ffn_0/intermediate'
  kernel, bias = (
    np.array(folded.weights[f'{name}/{part}']) for part in ('kernel', 'bias')
  )
  kernel[:, 3] *= 1e-9
  bias[3] = 2.0
  weights = {
    **folded.weights, f'{name}/kernel': kernel, f'{name}/bias': bias,
  }  # fmt: skip
  folded = folded._replace(weights=weights)
  batch = served.make_batch(folded.head, rows=33, length=11)
  batch = {name: value[:-1] for name, value in batch.items()}
  quantization = calibrated(folded, 'int8', batch)
  wanted = rounded(folded, quantization, batch)
  check_static(folded, 'int8', quantization, wanted, batch, tmp_path)


def test_wrong_use_is_told(tmp_path):
  folded = served.fold('MobileBertForTokenClassification')
  batch = served.make_batch(folded.head)
  quantization = calibrated(folded, 'int8', batch)
  for kind, given, message in (
    ('int7', None, 'int7 is no kind of ONNX file; there are None, float16, '),
    ('int8', None, 'with a quantization of int8, not of None'),
    ('int4x8', quantization, 'with a quantization of int4x8, not of int8'),
    ('dynamic', quantization, 'with a quantization of None, not of int8'),
  ):
    with pytest.raises(InputError, match=message):
      export_onnx.save(folded, tmp_path / 'model.onnx', kind=kind,
                       quantization=given)  # fmt: skip
  other = served.fold('MobileBertForTokenClassification', num_hidden_layers=1)
  with pytest.raises(InputError, match=r'rounds layer_1/.*, which this model'):
    save(other, tmp_path, 'int8', quantization)
  assert not [*tmp_path.iterdir()]
