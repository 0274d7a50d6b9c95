"""ONNX files in onnxruntime."""

import jax
import numpy as np
import pytest

from mobilebert_jax.inference import folding, graph
from mobilebert_jax.inference.operations import numpy_operations
from mobilebert_jax.runtime.errors import InputError
from tests.support import served

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
from onnxruntime import quantization  # noqa: E402

# Here, behind the check that it can be imported.
from mobilebert_jax.export import onnx as export_onnx  # noqa: E402

pytestmark = pytest.mark.parity


def names(values):
  return [value.name for value in values]


def save(folded, directory, *names):
  path = directory / 'model.onnx'
  export_onnx.save(folded, path, *names)
  return path


def check(head, directory, **changes):
  folded = served.fold(head, served.EVERYTHING, **changes)
  path = save(folded, directory)
  assert names(onnx.load(path).graph.input) == list(graph.INPUTS)
  loaded = export_onnx.Loaded(path)
  for rows, length in ((3, 7), (1, 1), (2, 12)):
    batch = served.make_batch(head, rows=rows, length=length)
    result = loaded(batch)
    assert tuple(result) == folded.output_names
    wanted = graph.apply(folded, numpy_operations(), batch)
    served.assert_close(result, wanted)


@pytest.mark.parametrize('head', served.HEADS)
def test_all_classes(head, tmp_path):
  check(head, tmp_path)


@pytest.mark.parametrize('changes', served.FLAGS, ids=str)
def test_flags(changes, tmp_path):
  check('MobileBertForPreTraining', tmp_path, **changes)


def test_each_weight_stands_once_under_its_name():
  head = 'MobileBertForMaskedLM'
  model, params = served.make(head, dtype='float32')
  folded = folding.fold(head, model.config, params)
  built = export_onnx.build(folded)
  sizes = {
    tensor.name: int(np.prod(tensor.dims)) for tensor in built.graph.initializer
  }
  assert len(sizes) == len(built.graph.initializer)
  assert {*folded.weights} <= {*sizes}
  weights = sum(value.size for value in folded.weights.values())
  assert sum(sizes.values()) - weights < 40
  named = {output for node in built.graph.node for output in node.output}
  assert {'layer_1/ffn_0/output', 'masked_lm/logits', 'logits'} <= named


def test_names_of_mlperf(tmp_path):
  head = 'MobileBertForQuestionAnswering'
  model, params = served.make(head, dtype='float32')
  folded = folding.fold(head, model.config, params)
  mlperf = graph.NAMES['mlperf']
  path = save(folded, tmp_path, mlperf)
  written = onnx.load(path).graph
  assert names(written.input) == ['input_ids', 'input_mask', 'segment_ids']
  assert names(written.output) == ['end_logits', 'start_logits']
  batch = served.make_batch(head)
  result = export_onnx.Loaded(path, mlperf)(batch)
  wanted = graph.apply(folded, numpy_operations(), batch)
  for name, value in wanted.items():
    np.testing.assert_allclose(result[name], value, rtol=1e-4, atol=1e-5)


def test_another_file_is_told(tmp_path):
  path = tmp_path / 'model.onnx'
  path.write_bytes(b'not one')
  with pytest.raises(InputError, match='is no ONNX that onnxruntime'):
    export_onnx.Loaded(path)


def test_too_long_a_sequence_is_told(tmp_path):
  head = 'MobileBertForNextSentencePrediction'
  model, params = served.make(head, dtype='float32')
  path = save(folding.fold(head, model.config, params), tmp_path)
  loaded = export_onnx.Loaded(path)
  with pytest.raises(InputError, match='have 13 tokens, more than the 12 pos'):
    loaded(served.make_batch(head, length=13))


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


@pytest.mark.parametrize('head', served.HEADS)
def test_int8_errs_less_than_the_quantiser_of_onnxruntime(head, tmp_path):
  folded = tame(head)
  path = tmp_path / export_onnx.QUANTIZED
  export_onnx.save(folded, path, int8=True)
  whole, other = tmp_path / export_onnx.MODEL, tmp_path / 'other.onnx'
  export_onnx.save(folded, whole)
  quantization.quantize_dynamic(str(whole), str(other))
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


def test_int8_products_are_of_integers(tmp_path):
  """And onnxruntime makes one node of each."""
  folded = tame('MobileBertForPreTraining')
  path = tmp_path / export_onnx.QUANTIZED
  export_onnx.save(folded, path, int8=True)
  kinds = [node.op_type for node in onnx.load(path).graph.node]
  kernels = [
    name for name in folded.weights
    if name.endswith('/kernel') and name != 'classifier/kernel'
  ]  # fmt: skip
  # The word table scores the vocabulary.
  assert kinds.count('MatMulInteger') == len(kernels) + 1
  options = onnxruntime.SessionOptions()
  options.optimized_model_filepath = str(tmp_path / 'optimised.onnx')
  options.log_severity_level = 3
  onnxruntime.InferenceSession(
    str(path), options, providers=['CPUExecutionProvider']
  )
  optimised = onnx.load(tmp_path / 'optimised.onnx').graph
  fused = [
    node.op_type for node in optimised.node
    if node.op_type in ('DynamicQuantizeMatMul', 'MatMulIntegerToFloat')
  ]  # fmt: skip
  assert len(fused) == len(kernels) + 1


@pytest.mark.parametrize('tied', [True, False])
def test_int8_keeps_a_tied_table_once(tied, tmp_path):
  folded = tame('MobileBertForMaskedLM', tie_word_embeddings=tied)
  path = tmp_path / export_onnx.QUANTIZED
  export_onnx.save(folded, path, int8=True)
  large = [
    (tensor.name, len(tensor.raw_data))
    for tensor in onnx.load(path).graph.initializer
    if len(tensor.raw_data) >= 2000 * 64
  ]
  tables = ['embeddings/words', 'masked_lm/rest/kernel']
  tables += [] if tied else ['masked_lm/words']
  assert sorted(large) == sorted((f'{x}_quantized', 2000 * 64) for x in tables)
  # A quarter of the kernels; the graph of this small model is the rest.
  export_onnx.save(folded, tmp_path / export_onnx.MODEL)
  whole = (tmp_path / export_onnx.MODEL).stat().st_size
  assert path.stat().st_size < 0.4 * whole
