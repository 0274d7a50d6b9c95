"""Live comparison with transformers: values, losses, gradients.

Tolerances are the project's contract: float64 values to 1e-9 of a tensor's
largest value, gradients to 1e-7 of the model's largest gradient; float32 to
1e-5 for both.
"""

import jax
import numpy as np
import pytest

from mobilebert_jax.config.model import ACTIVATIONS
from tests.support import cases, marks, ours

pytestmark = pytest.mark.parity

TOLERANCES = {'float64': (1e-9, 1e-7), 'float32': (1e-5, 1e-5)}


@pytest.fixture(scope='module')
def reference():
  """The module that runs transformers, if it is installed."""
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  from tests.support import torch_reference

  return torch_reference


@pytest.fixture(autouse=True)
def x64():
  """float64 on both sides."""
  with jax.enable_x64(True):
    yield


def check_close(got, expected, dtype):
  """Asserts that values and gradients agree, and names the worst."""
  value_tolerance, gradient_tolerance = TOLERANCES[dtype]
  (values, grads), (ref_values, ref_grads) = got, expected
  assert sorted(values) == sorted(ref_values)
  for name, ref in ref_values.items():
    assert values[name].shape == ref.shape, name
    scale = np.max(np.abs(ref), initial=0.0)
    error = np.max(np.abs(values[name] - ref), initial=0.0)
    assert error <= value_tolerance * scale, (name, error / scale)
  # xielu's constants are buffers in torch, which have no gradient.
  constants = {n for n in grads if n.endswith(('act_fn.beta', 'act_fn.eps'))}
  assert not any(np.any(grads[name]) for name in constants)
  assert sorted(set(grads) - constants) == sorted(ref_grads)
  if not grads:
    return
  largest = max(np.max(np.abs(g), initial=0.0) for g in ref_grads.values())
  for name, ref in ref_grads.items():
    error = np.max(np.abs(grads[name] - ref), initial=0.0)
    assert error <= gradient_tolerance * largest, (name, error / largest)


def compare(reference, head, config, dtype='float64', std=0.1, **sizes):
  """Builds both models, runs both, compares."""
  import torch

  config = {**config, **cases.head_config(head)}
  if head == 'multi_label':
    config['problem_type'] = 'multi_label_classification'
  model = reference.build(
    cases.HEADS[head], config, dtype=getattr(torch, dtype), std=std
  )
  if dtype == 'float32':
    # Where all examples are nearly alike, the choices' gradients cancel, and
    # torch's own are 3e-5 off its float64 ones: let the words differ more.
    with torch.no_grad():
      model.get_input_embeddings().weight.mul_(10)
  features, labels = cases.inputs(config, head, **sizes)
  expected = reference.run(model, features, labels)
  mine = ours.build(cases.HEADS[head], config, dtype=dtype)
  got = ours.run(mine, reference.state(model), features, labels)
  check_close(got, expected, dtype)


@pytest.mark.parametrize('head', cases.HEADS)
@pytest.mark.parametrize('dtype', ['float64', 'float32'])
def test_every_head(reference, head, dtype):
  compare(reference, head, cases.SMALL, dtype)


# With their gradients all of them take five minutes; test_golden has the values
# of all.
@pytest.mark.parametrize(
  'name', marks.long_but(cases.few_flag_cases(), cases.flag_cases())
)
def test_every_flag(reference, name):
  config = {**cases.SMALL, **cases.flag_cases()[name]}
  compare(reference, 'pretraining', config)


def test_every_activation(reference):
  from transformers.activations import ACT2FN

  assert sorted(ACT2FN) == sorted(ACTIVATIONS)


@pytest.mark.parametrize('dtype', ['float64'])
@pytest.mark.parametrize('act', ACTIVATIONS)
def test_activation(reference, act, dtype):
  compare(reference, 'masked_lm', {**cases.SMALL, 'hidden_act': act}, dtype)


@pytest.mark.parametrize(
  'name', [n for n in cases.input_cases(cases.SMALL) if n[:2] != 'v4']
)
def test_every_kind_of_input(reference, name):
  features = cases.input_cases(cases.SMALL)[name]
  model = reference.build('MobileBertModel', cases.SMALL)
  mine = ours.build('MobileBertModel', cases.SMALL, dtype='float64')
  got = ours.run(mine, reference.state(model), features, {})
  check_close(got, reference.run(model, features, {}), 'float64')


@pytest.mark.long
@pytest.mark.parametrize('head', cases.HEADS)
@pytest.mark.parametrize('dtype', ['float64', 'float32'])
def test_full_size(reference, head, dtype):
  # A ReLU's gradient jumps at 0. With many tokens, some of the millions of
  # units lie within float32's rounding of it, and fall on either side: torch
  # itself then differs from its own float64 gradient by 3e-4. With few tokens
  # none does, and float32 can be compared; float64 has no such limit.
  sizes = {'batch': 2, 'length': 48 if dtype == 'float64' else 8}
  compare(reference, head, cases.FULL, dtype, std=0.02, **sizes)


@pytest.mark.long
@pytest.mark.parametrize('dtype', ['float64', 'float32'])
def test_full_size_teacher(reference, dtype):
  """IB-BERT_LARGE, which transformers alone cannot run."""
  import dataclasses

  import mobilebert_jax as mb

  teacher = mb.MobileBertConfig.ib_bert_large(
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
  )
  names = [f.name for f in dataclasses.fields(teacher)]
  config = {name: getattr(teacher, name) for name in names}
  for name in ('num_labels', 'id2label', 'label2id', 'problem_type'):
    del config[name]
  sizes = {'batch': 2, 'length': 24}
  compare(reference, 'pretraining', config, dtype, std=0.02, **sizes)
