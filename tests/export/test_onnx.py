"""ONNX files in onnxruntime."""

import numpy as np
import pytest

from mobilebert_jax.export import folding, graph
from mobilebert_jax.export.graph import Outputs
from mobilebert_jax.export.operations import numpy_operations
from mobilebert_jax.runtime.errors import InputError
from tests.support import served

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
# Here, behind the check that it can be imported.
from mobilebert_jax.export import onnx as export_onnx  # noqa: E402

pytestmark = pytest.mark.parity
EVERYTHING = Outputs(hidden_states=True, attentions=True, pooler=True)


def names(values):
  return [value.name for value in values]


def save(folded, directory, *names):
  path = directory / 'model.onnx'
  export_onnx.save(folded, path, *names)
  return path


def check(head, directory, **changes):
  model, params = served.make(head, dtype='float32', **changes)
  folded = folding.fold(head, model.config, params, EVERYTHING)
  path = save(folded, directory)
  assert names(onnx.load(path).graph.input) == list(graph.INPUTS)
  loaded = export_onnx.Loaded(path)
  for rows, length in ((3, 7), (1, 1), (2, 12)):
    batch = served.make_batch(head, rows=rows, length=length)
    result = loaded(batch)
    wanted = graph.apply(folded, numpy_operations(), batch)
    assert tuple(result) == folded.output_names
    for name, value in wanted.items():
      assert result[name].shape == value.shape, name
      assert result[name].dtype == np.float32
      scale = max(1.0, np.abs(value).max())
      np.testing.assert_allclose(
        result[name] / scale, value / scale, rtol=0, atol=1e-5, err_msg=name
      )


@pytest.mark.parametrize('head', served.HEADS)
def test_all_classes(head, tmp_path):
  check(head, tmp_path)


@pytest.mark.parametrize(
  'changes',
  [
    {'normalization_type': 'layer_norm', 'hidden_act': 'gelu'},
    {'trigram_input': False, 'hidden_act': 'gelu_new'},
    {'use_bottleneck_attention': True, 'hidden_act': 'silu'},
    {'key_query_shared_bottleneck': False, 'hidden_act': 'mish'},
    {'use_bottleneck': False, 'hidden_act': 'xielu'},
    {'tie_word_embeddings': False, 'hidden_act': 'prelu'},
    {'embedding_size': 16, 'hidden_act': 'relu6'},
  ],
  ids=str,
)
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
