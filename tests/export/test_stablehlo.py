"""StableHLO, called here and where this package cannot be imported."""

import subprocess
import sys

import jax
import jax.export
import numpy as np
import pytest

from mobilebert_jax.export import stablehlo
from mobilebert_jax.inference import folding, graph
from mobilebert_jax.inference.operations import numpy_operations
from mobilebert_jax.runtime.errors import InputError
from tests.support import served

HEADS = ('MobileBertForPreTraining', 'MobileBertForMultipleChoice')


def fold(head):
  model, params = served.make(head, dtype='float32')
  return folding.fold(head, model.config, params)


def save(folded, directory, **options):
  path = directory / 'model.stablehlo'
  stablehlo.save(folded, path, **options)
  return path


def assert_close(result, folded, batch):
  wanted = graph.apply(folded, numpy_operations(), batch)
  assert {*result} == {*wanted}
  for name, value in wanted.items():
    np.testing.assert_allclose(result[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('head', HEADS)
def test_any_batch_and_length(head, tmp_path):
  folded = fold(head)
  loaded = stablehlo.Loaded(save(folded, tmp_path))
  assert loaded.exported.platforms == stablehlo.PLATFORMS
  for rows, length in ((3, 7), (1, 12)):
    batch = served.make_batch(head, rows=rows, length=length)
    assert_close(loaded(batch), folded, batch)


def test_parameters_outside(tmp_path):
  folded = fold('MobileBertForSequenceClassification')
  inside = stablehlo.build(folded).serialize()
  path = save(folded, tmp_path, parameters_inside=False)
  assert path.stat().st_size < len(inside)
  batch = served.make_batch(folded.head)
  assert_close(stablehlo.Loaded(path)(batch), folded, batch)
  exported = jax.export.deserialize(bytearray(path.read_bytes()))
  result = exported.call(dict(folded.weights), *batch.values())
  assert_close(result, folded, batch)


def test_too_long_a_sequence_is_told(tmp_path):
  folded = fold('MobileBertForNextSentencePrediction')
  loaded = stablehlo.Loaded(save(folded, tmp_path))
  batch = served.make_batch(folded.head, length=13)
  with pytest.raises(InputError, match='have 13 tokens, more than the model'):
    loaded(batch)


def test_a_file_of_a_newer_jax_is_told(tmp_path, monkeypatch):
  path = save(fold('MobileBertForNextSentencePrediction'), tmp_path)
  loaded = stablehlo.Loaded(path)

  def unknown(*args):
    # What jax 0.10.2 says of a file of 0.12.
    raise jax.errors.JaxRuntimeError(
      'INVALID_ARGUMENT: Failed to deserialize StableHLO'
    )

  monkeypatch.setattr(loaded, '_call', unknown)
  with pytest.raises(InputError, match='written by a newer jax than this one'):
    loaded(served.make_batch('MobileBertForNextSentencePrediction'))


def test_another_file_is_told(tmp_path):
  path = tmp_path / 'model.stablehlo'
  path.write_bytes(b'not one')
  with pytest.raises(InputError, match='is no StableHLO that this jax'):
    stablehlo.Loaded(path)


READER = """
import sys
sys.modules['mobilebert_jax'] = sys.modules['flax'] = None
import jax.export, numpy as np
exported = jax.export.deserialize(open(sys.argv[1], 'rb').read())
ids = np.ones((2, 5), np.int32)
print(exported.call(ids, ids, ids)['logits'].shape)
"""


def test_a_process_without_this_package(tmp_path):
  path = save(fold('MobileBertForNextSentencePrediction'), tmp_path)
  done = subprocess.run(
    [sys.executable, '-c', READER, str(path)],
    capture_output=True,
    text=True,
    cwd=tmp_path,
  )
  assert done.stdout == '(2, 2)\n', done.stderr
