"""ONNX files in onnxruntime."""

import numpy as np
import pytest

from mobilebert_jax.inference import folding, graph
from mobilebert_jax.inference.operations import numpy_operations
from mobilebert_jax.runtime.errors import InputError
from tests.support import served

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
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


@pytest.mark.parametrize('value', [-2, 1, 0])
def test_a_number_is_no_integer_of_the_same_value(value, tmp_path):
  """Bounds of slices are integers that have names like numbers'."""
  folded = served.fold('MobileBertModel', served.EVERYTHING)
  folded = folded._replace(mask_value=value)
  batch = served.make_batch('MobileBertModel', rows=3, length=7)
  result = export_onnx.Loaded(save(folded, tmp_path))(batch)
  wanted = graph.apply(folded, numpy_operations(), batch)
  served.assert_close(result, wanted)


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


def check_float16(head, directory, **changes):
  folded = served.fold(head, served.EVERYTHING, **changes)
  path = directory / export_onnx.FILES['float16']
  export_onnx.save(folded, path, kind='float16')
  assert all(
    tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) <= 16
    for tensor in onnx.load(path).graph.initializer
  )
  batch = served.make_batch(head, rows=5, length=12)
  result = export_onnx.Loaded(path)(batch)
  assert all(np.isfinite(value).all() for value in result.values())
  wanted = graph.apply(folded, numpy_operations(), batch)
  # The last row, hidden altogether, is anything.
  served.assert_close(
    {name: value[:-2] for name, value in result.items()},
    {name: value[:-2] for name, value in wanted.items()},
    0.01,
  )


@pytest.mark.parametrize('head', served.HEADS)
def test_float16_classes(head, tmp_path):
  check_float16(head, tmp_path)


@pytest.mark.parametrize('changes', served.FLAGS, ids=str)
def test_float16_flags(changes, tmp_path):
  check_float16('MobileBertForPreTraining', tmp_path, **changes)


def test_float16_keeps_the_scale_of_hidden_states(tmp_path):
  """Which are beyond its range, as those of the published checkpoint are."""
  folded = served.fold('MobileBertModel', graph.Outputs(hidden_states=True))
  name = 'hidden_states.1/scale'
  scale = np.full(folded.config.hidden_size, 2.0**20, np.float32)
  folded = folded._replace(weights={**folded.weights, name: scale})
  path = tmp_path / 'model.onnx'
  export_onnx.save(folded, path, kind='float16')
  batch = served.make_batch('MobileBertModel')
  result = export_onnx.Loaded(path)(batch)
  wanted = graph.apply(folded, numpy_operations(), batch)
  assert np.abs(wanted['hidden_states.1']).max() > 1e6
  served.assert_close(
    {name: value[:-1] for name, value in result.items()},
    {name: value[:-1] for name, value in wanted.items()},
    0.01,
  )


def test_float16_of_a_softplus_of_15(tmp_path):
  """exp(15) is beyond its range, and log1p brings it back."""
  folded = served.fold('MobileBertModel', hidden_act='mish')
  name = 'layer_1/ffn_1/intermediate/bias'
  bias = np.full(folded.weights[name].shape, 15, np.float32)
  folded = folded._replace(weights={**folded.weights, name: bias})
  path = tmp_path / 'model.onnx'
  export_onnx.save(folded, path, kind='float16')
  batch = served.make_batch('MobileBertModel')
  result = export_onnx.Loaded(path)(batch)['last_hidden_state'][:-1]
  wanted = graph.apply(folded, numpy_operations(), batch)
  wanted = wanted['last_hidden_state'][:-1]
  assert np.abs(result - wanted).max() < 0.01 * np.abs(wanted).max()


def test_float16_out_of_range_is_told(tmp_path):
  folded = served.fold('MobileBertModel')
  name = 'layer_1/ffn_1/output/dense/kernel'
  weights = {**folded.weights, name: folded.weights[name] * 1e6}
  path = tmp_path / 'model.onnx'
  with pytest.raises(
    InputError, match=f'float16 ends at 65504, and {name} has values to .*e+'
  ):
    export_onnx.save(folded._replace(weights=weights), path, kind='float16')
  assert not path.exists()
