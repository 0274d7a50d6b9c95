"""StableHLO, called here and where this package cannot be imported."""

import subprocess
import sys

import jax
import jax.export
import numpy as np
import pytest

from mobilebert_jax.export import folding, graph, stablehlo
from mobilebert_jax.export.operations import numpy_operations
from mobilebert_jax.runtime.errors import InputError
from tests.support import served

HEADS = ('MobileBertForPreTraining', 'MobileBertForMultipleChoice')


def fold(head):
  model, params = served.make(head, dtype='float32')
  return folding.fold(head, model.config, params)


def assert_close(result, folded, batch):
  wanted = graph.apply(folded, numpy_operations(), batch)
  assert {*result} == {*wanted}
  for name, value in wanted.items():
    np.testing.assert_allclose(result[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('head', HEADS)
def test_any_batch_and_length(head):
  folded = fold(head)
  loaded = stablehlo.Loaded(stablehlo.build(folded).serialize())
  assert loaded.exported.platforms == stablehlo.PLATFORMS
  for rows, length in ((3, 7), (1, 12)):
    batch = served.make_batch(head, rows=rows, length=length)
    assert_close(loaded(*batch.values()), folded, batch)


def test_parameters_outside():
  folded = fold('MobileBertForSequenceClassification')
  inside = stablehlo.build(folded).serialize()
  exported = stablehlo.build(folded, parameters_inside=False)
  data = exported.serialize()
  assert len(data) < len(inside)
  batch = served.make_batch(folded.head)
  result = jax.export.deserialize(data).call(
    dict(folded.weights), *batch.values()
  )
  assert_close(result, folded, batch)


def test_too_long_a_sequence_is_told():
  folded = fold('MobileBertForNextSentencePrediction')
  loaded = stablehlo.Loaded(stablehlo.build(folded).serialize())
  batch = served.make_batch(folded.head, length=13)
  with pytest.raises(InputError, match='have 13 tokens, more than the model'):
    loaded(*batch.values())


def test_another_file_is_told():
  with pytest.raises(InputError, match='is no StableHLO that this jax'):
    stablehlo.Loaded(b'not one')


READER = """
import sys
sys.modules['mobilebert_jax'] = sys.modules['flax'] = None
import jax.export, numpy as np
exported = jax.export.deserialize(open(sys.argv[1], 'rb').read())
ids = np.ones((2, 5), np.int32)
print(exported.call(ids, ids, ids)['logits'].shape)
"""


def test_a_process_without_this_package(tmp_path):
  path = tmp_path / 'model.stablehlo'
  folded = fold('MobileBertForNextSentencePrediction')
  path.write_bytes(stablehlo.build(folded).serialize())
  done = subprocess.run(
    [sys.executable, '-c', READER, str(path)],
    capture_output=True,
    text=True,
    cwd=tmp_path,
  )
  assert done.stdout == '(2, 2)\n', done.stderr
