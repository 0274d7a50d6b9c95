"""ONNX files of integers in onnxruntime: dynamic, and by measured ranges."""

import functools

import jax
import numpy as np
import pytest

from mobilebert_jax.inference import folding, graph, ranges
from mobilebert_jax.inference.operations import numpy_operations
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


@functools.cache
def measured(head, changes=()):
  """A tiny model with the ranges of its tensors."""
  folded = served.fold(head, served.EVERYTHING, **dict(changes))
  batch = served.make_batch(head, rows=24, length=12)
  return folded, ranges.measure(folded, [batch])


def step(folded, quantization, output):
  """By how much an output differs if what it is made of differs by a step."""
  kind, _, number = output.partition('.')
  tensors, weights = quantization.tensors, folded.weights
  if kind == 'attentions':
    at = f'layer_{number}/attention'
    scores = tensors[f'{at}/masked_scores'].scale
    # p changes by p * (1 - p) of what a score changes by.
    return tensors[f'{at}/probabilities'].scale + scores / 4
  if kind == 'hidden_states' or output in (
    'last_hidden_state',
    'pooler_output',
  ):
    last = folded.config.num_hidden_layers
    layer = int(number or last)
    tensor = f'layer_{layer - 1}/output' if layer else 'embeddings'
    if output == 'pooler_output':
      tensor, output = 'pooled', 'pooled'
    if tensor not in tensors:
      tensor = f'layer_{layer - 1}/ffn_1/output'
    return tensors[tensor].scale * np.abs(weights.get(f'{output}/scale', 1))
  return None
