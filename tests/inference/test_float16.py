"""Parameters for float16: those that fit stay, others are rescaled."""

import numpy as np
import pytest

from mobilebert_jax.convert import __main__ as command
from mobilebert_jax.convert.pretrained import from_pretrained, save_pretrained
from mobilebert_jax.inference import equalization, float16, folding
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.runtime.errors import InputError
from tests.support import served

HEAD = 'MobileBertForSequenceClassification'


def grow(config, params, factor):
  """The same function with hidden values `factor` times as large."""
  names = [
    name for name in equalization.free(config).scales
    if name == 'embeddings' or name.endswith(('/output', '/bottleneck'))
  ]  # fmt: skip
  scales = {name: np.float64(1 / factor) for name in names}
  return equalization.rescale(config, params, scales)


@pytest.fixture
def large():
  model, params = served.make(HEAD, dtype='float32')
  return model, grow(model.config, params, 2.0**24)


def test_what_fits_stays():
  model, params = served.make(HEAD, dtype='float32')
  batches = folding.default_batches(HEAD, model.config)
  fitted = float16.fit(HEAD, model.config, params, batches)
  assert fitted.params is params and not fitted.is_changed
  assert fitted.before.value < 100


def test_large_values_are_rescaled(large):
  model, params = large
  batches = folding.default_batches(HEAD, model.config)
  fitted = float16.fit(HEAD, model.config, params, batches)
  assert fitted.before.value > 1e7 and fitted.after.value < 1000
  batch = served.make_batch(HEAD)
  wanted, result = (
    served.expected(model, p, batch, everything=True)
    for p in (params, fitted.params)
  )
  assert np.abs(wanted['hidden_states.0']).max() > 1e7
  for i in range(2):
    assert np.abs(result[f'hidden_states.{i}']).max() < 1000
  for name in ('logits', 'hidden_states.2'):
    np.testing.assert_allclose(result[name], wanted[name], rtol=1e-4, atol=1e-5)


def test_what_nothing_can_take_is_refused():
  model, params = served.make(HEAD, dtype='float32')
  # The end of the stream, which users read.
  params['mobilebert']['encoder']['layers']['output_bottleneck']['norm'][
    'scale'
  ][-1] *= 1e7
  with pytest.raises(InputError, match='layer_1/output has values up to'):
    float16.fit(
      HEAD, model.config, params, folding.default_batches(HEAD, model.config)
    )


def convert(*arguments):
  return exit_status.run(command.main, ['convert', *map(str, arguments)])


def test_convert_writes_what_float16_can_compute(large, tmp_path, capsys):
  model, params = large
  source, target = tmp_path / 'source', tmp_path / 'target'
  save_pretrained(source, model, params)
  assert convert(source, target, '--dtype=float16') == 0
  told = capsys.readouterr().out
  assert 'channels were rescaled, now up to' in told
  assert 'embeddings' in told or 'layer_' in told
  converted, half = from_pretrained(None, target, param_dtype='auto')
  assert half['mobilebert']['pooler']['kernel'].dtype == np.float16
  batch = served.make_batch(HEAD)
  wanted, result = (
    served.expected(m, p, batch)['logits']
    for m, p in ((model, params), (converted, half))
  )
  np.testing.assert_allclose(result, wanted, rtol=2e-2, atol=1e-2)


def test_weights_beyond_float16_are_refused_by_name(tmp_path):
  """Whoever writes them."""
  model, params = served.make(HEAD, dtype='float32')
  params['classifier']['kernel'][0, 0] = 1e5
  target = tmp_path / 'target'
  with pytest.raises(InputError) as error:
    save_pretrained(target, model, params, dtype='float16')
  told = str(error.value)
  assert 'classifier.weight: values that float16 cannot hold' in told
  assert 'the largest parameter is 1e+05' in told
  assert not target.exists()


def test_convert_refuses_and_writes_nothing(tmp_path, capsys):
  model, params = served.make(HEAD, dtype='float32')
  params['classifier']['kernel'][0, 0] = 1e5
  save_pretrained(tmp_path / 'source', model, params)
  target = tmp_path / 'target'
  assert convert(tmp_path / 'source', target, '--dtype=float16') == 2
  assert 'classifier has values up to' in capsys.readouterr().err
  assert not target.exists()
