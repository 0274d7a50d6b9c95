"""Numbers are checked where they are put into a smaller type, or written."""

import json
import logging
import math

import ml_dtypes
import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax.convert import narrowing
from mobilebert_jax.convert.pretrained import load_pretrained, save_pretrained
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from tests.support.convert_models import tiny

_MODEL = models.MobileBertModel


@pytest.mark.parametrize(
  ('old', 'value', 'dtype'),
  [
    ('float64', 1e39, 'float32'),
    ('float64', -1e39, 'bfloat16'),
    ('float32', 65520.0, 'float16'),
  ],
)
def test_what_would_be_infinite_is_refused(old, value, dtype):
  arrays = {'fine': np.ones(2, old), 'w': np.array([0, value], old)}
  message = f'w: values that {dtype} cannot hold.*{abs(value):.3g}'
  with pytest.raises(InputError, match=message.replace('+', r'\+')):
    narrowing.narrow(arrays, dtype, 'x')


def test_what_becomes_zero_is_said():
  arrays = {'a': np.ones(2), 'w': np.array([1e-9, 0, -1e-12, 1e-4, math.nan])}
  result = narrowing.narrow(arrays, 'float16', 'the weights')
  (note,) = result.notes
  assert note.startswith('the weights: 2 values became 0 in float16')
  assert note.endswith('(first in w).')
  assert list(result.arrays['w'][:3]) == [0, 0, 0]
  assert not narrowing.narrow(arrays, 'float32', 'x').notes


def test_an_array_under_two_names_stays_one():
  one = np.ones(3)
  arrays = narrowing.narrow({'a': one, 'b': one}, 'bfloat16', 'x').arrays
  assert arrays['a'] is arrays['b'] and arrays['a'].dtype == ml_dtypes.bfloat16


def test_loading_into_a_smaller_type(tmp_path, caplog):
  model, params = tiny(_MODEL, dtype='float64')
  params['embeddings']['norm']['bias'][:2] = 1e-60, 1e-50
  save_pretrained(tmp_path / 'm', model, params)
  result = load_pretrained(_MODEL, tmp_path / 'm')
  assert '2 values became 0 in float32' in result.report.notes[0]
  params['embeddings']['norm']['bias'][0] = 1e39
  save_pretrained(tmp_path / 'm', model, params)
  with pytest.raises(InputError, match='embeddings/norm/bias: values that fl'):
    load_pretrained(_MODEL, tmp_path / 'm')
  kept = load_pretrained(_MODEL, tmp_path / 'm', param_dtype='auto').params
  assert kept['embeddings']['norm']['bias'][0] == 1e39


def test_weights_that_are_no_numbers_are_said(tmp_path, caplog):
  model, params = tiny(_MODEL)
  params['embeddings']['norm']['bias'][0] = math.nan
  with caplog.at_level(logging.WARNING):
    save_pretrained(tmp_path / 'm', model, params)
  assert 'not a number in embeddings.LayerNorm.bias' in caplog.text


def test_json_is_always_json(tmp_path):
  value = {'a': [1.5, math.nan, (math.inf,)], 'b': {'c': -math.inf}, 'd': 'NaN'}
  path = files.write_json(tmp_path / 'x.json', value)

  def refuse(name):
    raise AssertionError(name)

  read = json.loads(path.read_text(), parse_constant=refuse)
  assert read == {'a': [1.5, None, [None]], 'b': {'c': None}, 'd': 'NaN'}
