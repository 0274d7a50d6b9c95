"""ONNX files in onnxruntime."""

import numpy as np
import pytest

from mobilebert_jax.export import folding, graph
from mobilebert_jax.export.graph import Outputs
from mobilebert_jax.export.operations import numpy_operations
from tests.support import served

onnx = pytest.importorskip('onnx')
runtime = pytest.importorskip('onnxruntime')
# Here, behind the check that it can be imported.
from mobilebert_jax.export import onnx as export_onnx  # noqa: E402

pytestmark = pytest.mark.parity
EVERYTHING = Outputs(hidden_states=True, attentions=True, pooler=True)


def session(model):
  return runtime.InferenceSession(
    model.SerializeToString(), providers=['CPUExecutionProvider']
  )


def run(loaded, batch, names=None):
  named = names or {}
  feeds = {
    named.get(name, name): np.int64(value) for name, value in batch.items()
  }
  outputs = [output.name for output in loaded.get_outputs()]
  return dict(zip(outputs, loaded.run(None, feeds)))


def check(head, **changes):
  model, params = served.make(head, dtype='float32', **changes)
  folded = folding.fold(head, model.config, params, EVERYTHING)
  loaded = session(export_onnx.build(folded))
  assert [x.name for x in loaded.get_inputs()] == list(graph.INPUTS)
  for rows, length in ((3, 7), (1, 1), (2, 12)):
    batch = served.make_batch(head, rows=rows, length=length)
    result = run(loaded, batch)
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
def test_all_classes(head):
  check(head)


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
def test_flags(changes):
  check('MobileBertForPreTraining', **changes)


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


def test_names_of_inputs(tmp_path):
  head = 'MobileBertForQuestionAnswering'
  model, params = served.make(head, dtype='float32')
  folded = folding.fold(head, model.config, params)
  names = {'attention_mask': 'input_mask', 'token_type_ids': 'segment_ids'}
  path = tmp_path / 'model.onnx'
  export_onnx.save(export_onnx.build(folded, names), path)
  loaded = session(onnx.load(path))
  inputs = [x.name for x in loaded.get_inputs()]
  assert inputs == ['input_ids', 'input_mask', 'segment_ids']
  batch = served.make_batch(head)
  assert run(loaded, batch, names)['start_logits'].shape == (3, 7)
