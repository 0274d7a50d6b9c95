"""The same comparisons as `test_parity`, against stored numbers.

No torch is needed: `golden/make_golden.py` wrote the reference's results, and
weights and inputs are functions of names (`cases`). All in float64, to the
tolerances of the contract.
"""

import functools
import pathlib

import jax
import numpy as np
import pytest

import mobilebert_jax as mb
from mobilebert_jax.config.model import ACTIVATIONS
from mobilebert_jax.convert import mapping
from tests.support import cases, marks, ours

_GOLDEN = pathlib.Path(__file__).resolve().parents[1] / 'golden'
# Gradients take a few seconds each to compile; live parity has them all.
_WITH_GRADIENTS = frozenset(
  {
    'flag/trigram-shared-ffn3-no_norm-raw-tied',
    'flag/single-none-ffn1-layer_norm-pooler-untied',
    'flag/trigram-unshared-ffn1-layer_norm-raw-tied',
    'flag/single-attention-ffn3-layer_norm-pooler-tied',
    'head/multiple_choice',
    'head/question_answering',
    'input/v4_head_mask_per_layer',
    'input/v4_pair_mask',
  }
)


@pytest.fixture(autouse=True)
def exact():
  """float64, and a quick compiler: its optimisations are not under test."""
  quick = jax.config.read('jax_disable_most_optimizations')
  jax.config.update('jax_disable_most_optimizations', True)
  with jax.enable_x64(True):
    yield
  jax.config.update('jax_disable_most_optimizations', quick)


@functools.cache
def golden(version: int) -> dict[str, np.ndarray]:
  """Case -> digest."""
  with np.load(_GOLDEN / f'golden_v{version}.npz') as file:
    rows = np.split(file['numbers'], np.cumsum(file['lengths'])[:-1])
    return dict(zip(file['names'].tolist(), rows))


def state_for(model) -> dict[str, np.ndarray]:
  """The state dict that the reference had."""
  shapes = ours.flat_shapes(model)
  dummy = {path: np.zeros(shape.shape) for path, shape in shapes.items()}
  state = mapping.to_tensors(dummy, shapes, model.config, tied_copies=False)
  return {
    name: cases.weight(name.removeprefix('mobilebert.'), value.shape, 0.1)
    for name, value in state.items()
  }


def check(name, version, head, config, features, labels):
  """Runs one case and compares its digest with the reference's."""
  config = {**config, **cases.head_config(head)}
  if head == 'multi_label':
    config['problem_type'] = 'multi_label_classification'
  model = ours.build(cases.HEADS[head], config, dtype='float64')
  gradients = name in _WITH_GRADIENTS
  values, grads = ours.run(
    model, state_for(model), features, labels, gradients=gradients
  )
  expected = golden(version)[name]
  split = 2 * len(values)
  got = cases.digest(values, {})
  scale = np.repeat(expected[:split:2], 2)
  np.testing.assert_array_less(
    np.abs(got - expected[:split]), 1e-8 * scale + 1e-300, err_msg=name
  )
  if not gradients:
    return
  largest, projections = expected[split], expected[split + 1 :]
  got = [cases.project(name, grads[name]) for name in sorted(grads)]
  np.testing.assert_allclose(got, projections, rtol=0, atol=1e-7 * largest)


def test_every_case_is_stored():
  flags = [*cases.flag_cases(), *cases.activation_cases(ACTIVATIONS)]
  inputs = cases.input_cases(cases.SMALL)
  expected = {f'flag/{name}' for name in flags}
  expected |= {f'head/{name}' for name in cases.HEADS}
  expected |= {f'input/{name}' for name in inputs}
  assert expected == {*golden(4), *golden(5)}
  assert expected >= _WITH_GRADIENTS


@pytest.mark.parametrize(
  'name', marks.slow_but(cases.few_flag_cases(), cases.flag_cases())
)
def test_every_flag(name):
  config = {**cases.SMALL, **cases.flag_cases()[name]}
  features, labels = cases.inputs(config, 'pretraining')
  check(f'flag/{name}', 5, 'pretraining', config, features, labels)


@pytest.mark.parametrize(
  'act', marks.slow_but(('relu', 'gelu', 'xielu'), ACTIVATIONS)
)
def test_every_activation(act):
  config = {**cases.SMALL, 'hidden_act': act}
  features, labels = cases.inputs(config, 'pretraining')
  check(f'flag/act_{act}', 5, 'pretraining', config, features, labels)


@pytest.mark.parametrize('head', cases.HEADS)
def test_every_head(head):
  config = {**cases.SMALL, **cases.head_config(head)}
  features, labels = cases.inputs(config, head)
  check(f'head/{head}', 5, head, config, features, labels)


@pytest.mark.parametrize('name', cases.input_cases(cases.SMALL))
def test_every_kind_of_input(name):
  features = cases.input_cases(cases.SMALL)[name]
  version = 4 if name.startswith('v4') else 5
  check(f'input/{name}', version, 'model', cases.SMALL, features, {})


def test_a_wrong_formula_would_be_noticed():
  """The digest moves when one norm's epsilon or one wire is wrong."""
  config = {**cases.SMALL, 'normalization_type': 'layer_norm'}
  features, labels = cases.inputs(config, 'pretraining')
  wrong = {**config, 'layer_norm_eps': 0.1000001}
  with pytest.raises(AssertionError):
    check('flag/eps', 5, 'pretraining', wrong, features, labels)
  assert mb.MobileBertConfig(**config) != mb.MobileBertConfig(**wrong)
