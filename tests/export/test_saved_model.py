"""SavedModels in TensorFlow, here and where JAX cannot be imported."""

import subprocess
import sys

import pytest

from mobilebert_jax.export import saved_model
from mobilebert_jax.inference import graph
from mobilebert_jax.inference.graph import Outputs
from mobilebert_jax.inference.operations import numpy_operations
from mobilebert_jax.runtime.errors import InputError
from tests.support import served

tf = pytest.importorskip(
  'tensorflow', reason='TensorFlow is not installed (extra tf)'
)

pytestmark = pytest.mark.clients
HEAD = 'MobileBertForSequenceClassification'


def save(folded, directory, *names):
  path = directory / 'saved_model'
  saved_model.save(folded, path, *names)
  return path


def assert_close(result, folded, batch):
  assert {*result} == {*folded.output_names}
  wanted = graph.apply(folded, numpy_operations(), batch)
  served.assert_close(result, wanted)


def check(head, directory, **changes):
  folded = served.fold(head, served.EVERYTHING, **changes)
  loaded = saved_model.Loaded(save(folded, directory))
  for rows, length in ((3, 7), (1, 1), (2, 12)):
    batch = served.make_batch(head, rows=rows, length=length)
    assert_close(loaded(batch), folded, batch)


@pytest.mark.parametrize('head', served.HEADS)
def test_all_classes(head, tmp_path):
  check(head, tmp_path)


@pytest.mark.parametrize('changes', served.FLAGS, ids=str)
def test_flags(changes, tmp_path):
  check('MobileBertForPreTraining', tmp_path, **changes)


@pytest.mark.parametrize('head', served.HEADS)
def test_signature_is_that_of_transformers(head, tmp_path):
  """Its TF classes stacked what a model returns for each layer."""
  outputs = Outputs(hidden_states=True, attentions=True)
  folded = served.fold(head, outputs)
  model = tf.saved_model.load(save(folded, tmp_path))
  assert list(model.signatures) == ['serving_default']
  serve = model.signatures['serving_default']
  _, inputs = serve.structured_input_signature
  axes = 3 if head == 'MobileBertForMultipleChoice' else 2
  assert inputs == {
    name: tf.TensorSpec([None] * axes, tf.int32, name) for name in graph.INPUTS
  }
  wanted = {*folded._replace(outputs=graph.NO_MORE).output_names}
  shapes = serve.output_shapes
  assert {*shapes} == {*wanted, 'hidden_states', 'attentions'}
  assert shapes['hidden_states'].as_list() == [3, None, None, 16]
  assert shapes['attentions'].as_list() == [2, None, 2, None, None]
  if head == HEAD:
    assert shapes['logits'].as_list() == [None, 2]


def test_each_weight_stands_once_under_its_name(tmp_path):
  vocab = 20_000
  folded = served.fold('MobileBertForMaskedLM', vocab_size=vocab)
  path = save(folded, tmp_path)
  model = tf.saved_model.load(path)
  variables = model.signatures['serving_default'].variables
  written = {v.name.removesuffix(':0'): v.shape.as_list() for v in variables}
  assert len(variables) == len(written)
  assert written == {k: [*v.shape] for k, v in folded.weights.items()}
  size = sum(file.stat().st_size for file in path.rglob('*') if file.is_file())
  weights = sum(value.nbytes for value in folded.weights.values())
  table = folded.weights['embeddings/words'].nbytes
  # The graph needs room too, but less than the table would.
  assert weights < size < weights + table
  data = (path / 'variables' / 'variables.data-00000-of-00001').stat().st_size
  assert weights <= data < weights * 1.1


def test_names_of_mlperf(tmp_path):
  folded = served.fold('MobileBertForQuestionAnswering')
  mlperf = graph.NAMES['mlperf']
  path = save(folded, tmp_path, mlperf)
  model = tf.saved_model.load(path)
  serve = model.signatures['serving_default']
  assert {*serve.structured_input_signature[1]} == {*mlperf.inputs}
  batch = served.make_batch(folded.head)
  assert_close(saved_model.Loaded(path, mlperf)(batch), folded, batch)


def test_too_long_a_sequence_is_refused_by_the_file(tmp_path):
  path = save(served.fold(HEAD), tmp_path)
  batch = served.make_batch(HEAD, length=13)
  told = 'more tokens than the 12 positions of the model: truncate them.'
  with pytest.raises(InputError, match=f'^the sequences have {told}$'):
    saved_model.Loaded(path)(batch)
  serve = tf.saved_model.load(path).signatures['serving_default']
  inputs = {name: tf.constant(value) for name, value in batch.items()}
  with pytest.raises(tf.errors.InvalidArgumentError, match=told):
    serve(**inputs)
  # TensorFlow Serving runs the graph in a session.
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    loaded = tf.compat.v1.saved_model.load(session, ['serve'], str(path))
    signature = loaded.signature_def['serving_default']
    feeds = {
      signature.inputs[name].name: value for name, value in batch.items()
    }
    with pytest.raises(tf.errors.InvalidArgumentError, match=told):
      session.run(signature.outputs['logits'].name, feeds)


def test_another_directory_is_told(tmp_path):
  with pytest.raises(InputError, match="is no SavedModel with a signature 'se"):
    saved_model.Loaded(tmp_path)


def test_a_directory_with_something_in_it_stays_as_it_is(tmp_path):
  path = tmp_path / 'saved_model'
  path.mkdir()
  (path / 'notes.txt').write_text('mine')
  with pytest.raises(InputError, match='is not empty: a SavedModel needs'):
    saved_model.save(served.fold(HEAD), path)
  assert [file.name for file in tmp_path.rglob('*.*')] == ['notes.txt']


def test_nothing_is_left_of_a_failure(tmp_path, monkeypatch):
  def fail(module, directory, signatures):
    (tmp_path / directory / 'saved_model.pb').write_bytes(b'half')
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(tf.saved_model, 'save', fail)
  with pytest.raises(OSError):
    save(served.fold(HEAD), tmp_path)
  assert not list(tmp_path.iterdir())


READER = """
import sys
for name in ('mobilebert_jax', 'flax', 'jax', 'jaxlib'):
  sys.modules[name] = None
import tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures['serving_default']
for rows, length in ((1, 12), (3, 7), (8, 1)):
  ids = tf.ones([rows, length], tf.int32)
  outputs = serve(input_ids=ids, attention_mask=ids, token_type_ids=ids)
  print(*(f'{k}{outputs[k].shape.as_list()}' for k in sorted(outputs)))
"""


def test_a_process_without_jax_and_this_package(tmp_path):
  path = save(served.fold('MobileBertForQuestionAnswering'), tmp_path)
  done = subprocess.run(
    [sys.executable, '-c', READER, str(path)],
    capture_output=True,
    text=True,
    cwd=tmp_path,
  )
  shapes = ([1, 12], [3, 7], [8, 1])
  lines = [f'end_logits{shape} start_logits{shape}' for shape in shapes]
  assert done.stdout.splitlines() == lines, done.stderr
