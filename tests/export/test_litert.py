"""LiteRT files in LiteRT's interpreter."""

import collections

import numpy as np
import pytest

from mobilebert_jax.inference import graph
from mobilebert_jax.inference.operations import numpy_operations
from mobilebert_jax.runtime.errors import InputError
from tests.support import served

pytestmark = pytest.mark.clients
pytest.importorskip('litert_converter', reason='converts to LiteRT')
pytest.importorskip('ai_edge_quantizer', reason='quantises')
schema = pytest.importorskip(
  'ai_edge_litert.schema_py_generated', reason='runs LiteRT'
)
# Here, behind the check that they can be imported.
from mobilebert_jax.export import litert  # noqa: E402

CLASSIFIER = 'MobileBertForSequenceClassification'


def save(folded, directory, lengths, **options):
  path = directory / 'model.tflite'
  litert.save(folded, path, lengths, **options)
  return path


def pad(batch, length):
  """The batch as a file of that length sees it."""
  return {
    name: np.pad(
      value, [(0, 0)] * (value.ndim - 1) + [(0, length - value.shape[-1])]
    )
    for name, value in batch.items()
  }


def wanted_outputs(folded, batch, length):
  """What NumPy computes in float64, cut to the batch's tokens."""
  given = batch['input_ids'].shape[-1]
  outputs = graph.apply(folded, numpy_operations(), pad(batch, length))
  for name, value in outputs.items():
    if name.startswith('attentions'):
      outputs[name] = value[..., :given, :given]
    elif name.startswith(('hidden', 'last', 'start', 'end', 'prediction')):
      outputs[name] = value[:, :given]
    elif folded.head.endswith(('MaskedLM', 'TokenClassification')):
      outputs[name] = value[:, :given]
  return outputs


def read(path):
  """The file's tables."""
  data = bytearray(path.read_bytes())
  return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))


def count_bytes(model):
  """Bytes of constants by the kind of their numbers, each buffer once."""
  kinds = {value: key for key, value in vars(schema.TensorType).items()}
  counts = collections.Counter()
  seen = set()
  for subgraph in model.subgraphs:
    for tensor in subgraph.tensors:
      data = model.buffers[tensor.buffer].data
      if data is not None and tensor.buffer not in seen:
        seen.add(tensor.buffer)
        counts[kinds[tensor.type]] += len(data)
  return counts


def names_of_operations(model):
  names = {value: key for key, value in vars(schema.BuiltinOperator).items()}
  return [
    names[model.operatorCodes[operator.opcodeIndex].builtinCode]
    for subgraph in model.subgraphs
    for operator in subgraph.operators
  ]


@pytest.mark.parametrize('head', served.HEADS)
def test_all_classes(head, tmp_path):
  folded = served.fold(head, served.EVERYTHING)
  path = save(folded, tmp_path, [12, 5], batch_size=2)
  loaded = litert.Loaded(path)
  assert [shape[-1] for shape in loaded.shapes] == [5, 12]
  # Fewer rows than the file's batch, as many, and more.
  for rows, length, file_length in ((1, 5, 5), (2, 6, 12), (3, 12, 12)):
    batch = served.make_batch(head, rows=rows, length=length)
    served.assert_close(
      loaded(batch), wanted_outputs(folded, batch, file_length)
    )


@pytest.mark.parametrize('changes', served.FLAGS, ids=str)
def test_flags(changes, tmp_path):
  folded = served.fold('MobileBertForPreTraining', **changes)
  loaded = litert.Loaded(save(folded, tmp_path, [9]))
  batch = served.make_batch(folded.head, rows=2)
  served.assert_close(loaded(batch), wanted_outputs(folded, batch, 9))


def test_lengths_share_the_weights(tmp_path):
  folded = served.fold('MobileBertForMaskedLM', vocab_size=500)
  one = count_bytes(read(save(folded, tmp_path, [12])))
  path = save(folded, tmp_path, [4, 8, 12])
  model = read(path)
  signatures = [signature.signatureKey for signature in model.signatureDefs]
  assert signatures == [
    b'serving_default_4', b'serving_default_8', b'serving_default_12',
  ]  # fmt: skip
  words = folded.weights['embeddings/words'].nbytes
  three = count_bytes(model)
  assert three['FLOAT32'] - one['FLOAT32'] < words / 4
  # One length alone has the name that every client tries first.
  model = read(save(folded, tmp_path, [12]))
  assert model.signatureDefs[0].signatureKey == b'serving_default'


def test_mlperf_has_its_tensors_by_position(tmp_path):
  folded = served.fold(
    'MobileBertForQuestionAnswering', max_position_embeddings=384
  )  # fmt: skip
  mlperf = graph.NAMES['mlperf']
  path = save(folded, tmp_path, [384], names=mlperf)
  interpreter_module = pytest.importorskip('ai_edge_litert.interpreter')
  interpreter = interpreter_module.Interpreter(str(path))
  interpreter.allocate_tensors()
  batch = served.make_batch(folded.head, rows=1, length=384)
  for details, value in zip(
    interpreter.get_input_details(), batch.values(), strict=True
  ):
    assert details['shape'].tolist() == [1, 384]
    interpreter.set_tensor(details['index'], value)
  interpreter.invoke()
  end, start = (
    interpreter.get_tensor(details['index'])
    for details in interpreter.get_output_details()
  )
  wanted = wanted_outputs(folded, batch, 384)
  served.assert_close({'start_logits': start, 'end_logits': end}, wanted)
  served.assert_close(litert.Loaded(path, mlperf)(batch), wanted)
  with pytest.raises(InputError, match='instead of input_ids, attention_mask'):
    litert.Loaded(path)


def test_probabilities(tmp_path):
  folded = served.fold(CLASSIFIER, num_labels=3)
  loaded = litert.Loaded(save(folded, tmp_path, [8], probabilities=True))
  batch = served.make_batch(folded.head, length=8)
  result = loaded(batch)
  assert {*result} == {'probabilities'}
  wanted = wanted_outputs(folded, batch, 8)['logits']
  wanted = np.exp(wanted) / np.exp(wanted).sum(-1, keepdims=True)
  np.testing.assert_allclose(result['probabilities'], wanted, atol=1e-6)


def rounded_weight(name, value):
  """What is left of a weight in eight bits, a scale for each row of a file."""
  if name in ('embeddings/words', 'embeddings/token_types', 'masked_lm/words'):
    axis = 1
  elif name.endswith('/kernel'):
    axis = 0
  else:
    return value
  scale = np.abs(value).max(axis, keepdims=True) / np.float32(127)
  return np.round(value / scale) * scale


@pytest.mark.parametrize(
  ('kind', 'operations'),
  [('dynamic', set()), ('weight_only', {'DEQUANTIZE'})],
)
@pytest.mark.parametrize('head', [CLASSIFIER, 'MobileBertForPreTraining'])
def test_integer_weights(head, kind, operations, tmp_path):
  # Wide enough for the weights to be most of the file.
  folded = served.fold(
    head, vocab_size=2000, hidden_size=64, embedding_size=64,
    intra_bottleneck_size=64, intermediate_size=64, num_attention_heads=4,
  )  # fmt: skip
  float_path = save(folded, tmp_path, [12])
  path = tmp_path / 'quantized.tflite'
  path.write_bytes(litert.quantize(float_path.read_bytes(), kind))
  whole, model = count_bytes(read(float_path)), read(path)
  counts = count_bytes(model)
  assert whole['INT8'] == 0
  kernels = sum(x.size for x in folded.weights.values() if x.ndim == 2)
  positions = folded.weights['embeddings/positions'].size
  # The word table and every kernel, each once; pre-training reads the words
  # twice, as rows and as columns.
  assert counts['INT8'] == kernels - positions
  assert counts['FLOAT32'] < whole['FLOAT32'] - 3.9 * counts['INT8']
  assert operations == {'DEQUANTIZE'} & {*names_of_operations(model)}
  batch = served.make_batch(head, rows=32, length=12, vocab=2000)
  result = litert.Loaded(path)(batch)
  rounded = folded._replace(
    weights={
      name: rounded_weight(name, x) for name, x in folded.weights.items()
    }
  )
  wanted = wanted_outputs(rounded, batch, 12)
  if kind == 'weight_only':
    # Nothing is rounded but the weights: as close as float32 is.
    single = graph.apply(rounded, numpy_operations(np.float32), batch)
    for name, value in wanted.items():
      noise = np.abs(single[name] - value).max()
      assert np.abs(result[name] - value).max() < 4 * noise, name
  for name, value in wanted.items():
    assert np.corrcoef(result[name].ravel(), value.ravel())[0, 1] > 0.9, name


def test_files_that_cannot_be(tmp_path):
  folded = served.fold(CLASSIFIER)
  for lengths, message in (
    ([13], 'length 13: it has to be between 1 and the 12 positions'),
    ([0], 'length 0: it has to be between 1'),
    ([8, 8], r'lengths \[8, 8\]: give each length once'),
    ([], 'give each length once'),
  ):
    with pytest.raises(InputError, match=message):
      litert.build(folded, lengths)
  with pytest.raises(InputError, match='batch size 0, choices 2: both have'):
    litert.build(folded, [8], batch_size=0)
  answering = served.fold('MobileBertForQuestionAnswering')
  with pytest.raises(InputError, match='has no output called logits'):
    litert.build(answering, [8], probabilities=True)
  with pytest.raises(InputError, match='no float file becomes one of int8: fl'):
    litert.quantize(b'', 'int8')


def test_inputs_that_do_not_fit_are_told(tmp_path):
  loaded = litert.Loaded(save(served.fold(CLASSIFIER), tmp_path, [4, 8]))
  batch = served.make_batch(CLASSIFIER, length=9)
  with pytest.raises(
    InputError, match=r'shape \(3, 9\), and the file takes \(1, 4\) or \(1, 8\)'
  ):
    loaded(batch)


def test_another_file_is_told(tmp_path):
  path = tmp_path / 'model.tflite'
  path.write_bytes(b'not one')
  with pytest.raises(InputError, match='is no file that LiteRT reads'):
    litert.Loaded(path)
  with pytest.raises(InputError, match='is no file that LiteRT reads'):
    litert.Loaded(tmp_path / 'missing.tflite')
