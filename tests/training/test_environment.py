"""What decides a run's bits: what differs is refused or said, never silent."""

import copy
import json

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import environment

_NOW = {
  'decides': {
    'x64': False,
    'prng': 'threefry2x32',
    'threefry_partitionable': 1,
  },
  'versions': {'python': '3.11.9', 'jax': '0.10.2', 'numpy': '2.4.0'},
  'platform': 'cpu',
  'device': 'cpu',
  'devices': 8,
  'processes': 1,
  'matmul_precision': None,
  'flags': {'XLA_FLAGS': '', 'LIBTPU_INIT_ARGS': ''},
}
_VARIABLES = {
  'x64': 'JAX_ENABLE_X64',
  'prng': 'JAX_DEFAULT_PRNG_IMPL',
  'threefry_partitionable': 'JAX_THREEFRY_PARTITIONABLE',
}
_PATHS = [
  (group, name)
  for group, values in _NOW.items()
  if isinstance(values, dict)
  for name in values
] + [(name,) for name, value in _NOW.items() if not isinstance(value, dict)]


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.sets(st.sampled_from(_PATHS)))
def test_whatever_differs_is_refused_or_said(changed):
  before = copy.deepcopy(_NOW)
  for *groups, name in changed:
    target = before[groups[0]] if groups else before
    target[name] = 'another'
  fatal = [path[1] for path in changed if path[0] == 'decides']
  if fatal:
    with pytest.raises(InputError) as error:
      environment.compare(before, _NOW, 'environment.json')
    for name in fatal:
      assert f'set {_VARIABLES[name]}=another' in str(error.value)
    return
  said = environment.compare(before, _NOW, 'environment.json')
  assert {line.partition(':')[0] for line in said} == {
    path[-1] for path in changed
  }
  assert all('another there' in line for line in said)


def test_the_record_is_what_it_is_here():
  record = json.loads(json.dumps(environment.record()))
  assert environment.compare(record, environment.record(), 'x') == []
  assert record['decides']['x64'] is jax.config.jax_enable_x64
  assert record['versions']['jax'] == jax.__version__
  assert record['devices'] == jax.device_count()
  jax.config.update('jax_enable_x64', not record['decides']['x64'])
  try:
    with pytest.raises(InputError, match='set JAX_ENABLE_X64='):
      environment.compare(record, environment.record(), 'x')
  finally:
    jax.config.update('jax_enable_x64', record['decides']['x64'])


def test_a_setting_that_one_of_them_does_not_know_is_no_reason():
  before = copy.deepcopy(_NOW)
  before['decides']['threefry_partitionable'] = None
  assert environment.compare(before, _NOW, 'x') == []
  del before['decides']['prng'], before['versions']['numpy']
  assert environment.compare(before, _NOW, 'x') == []


@pytest.mark.parametrize('text', ['', '[]', '{'])
def test_a_damaged_record_is_named(text):
  with pytest.raises(InputError, match=r'^environment\.json '):
    environment.read(text, 'environment.json')
