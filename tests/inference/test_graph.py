"""The served graph against the model, in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax.config.model import ACTIVATIONS
from mobilebert_jax.inference import activations, folding, graph
from mobilebert_jax.inference.graph import Outputs
from mobilebert_jax.inference.operations import jax_operations, numpy_operations
from mobilebert_jax.models import layers
from mobilebert_jax.models.compute import Compute
from tests.support import served

NORMS = ('no_norm', 'layer_norm')
EVERYTHING = Outputs(hidden_states=True, attentions=True, pooler=True)


@pytest.fixture(autouse=True)
def wide():
  with jax.enable_x64(True):
    yield


def assert_equal(result, wanted):
  for name, value in wanted.items():
    if name == 'pooler_output' and name not in result:
      continue
    assert result[name].shape == value.shape, name
    scale = max(1.0, np.abs(value).max())
    np.testing.assert_allclose(
      np.asarray(result[name]) / scale, value / scale, rtol=0, atol=1e-9,
      err_msg=name,
    )  # fmt: skip


def check(head, outputs=EVERYTHING, **changes):
  model, params = served.make(head, **changes)
  batch = served.make_batch(head)
  wanted = served.expected(model, params, batch, everything=True)
  means = folding.measure_means(head, model.config, params, [batch])
  for constants in (None, means):
    folded = folding.fold(
      head, model.config, params, outputs, means=constants, dtype=np.float64
    )
    result = graph.apply(folded, numpy_operations(), batch)
    assert tuple(result) == folded.output_names
    assert_equal(result, wanted)


@pytest.mark.parametrize('head', served.HEADS)
def test_all_classes(head):
  check(head)


@pytest.mark.parametrize('head', served.HEADS[:2])
def test_layer_norm(head):
  check(head, normalization_type='layer_norm')


WIRINGS = [
  dict(zip(
    ('use_bottleneck', 'use_bottleneck_attention',
     'key_query_shared_bottleneck'), flags,
  ))
  for flags in itertools.product((False, True), repeat=3)
]  # fmt: skip


@pytest.mark.parametrize('wiring', WIRINGS, ids=str)
def test_all_wirings(wiring):
  check('MobileBertModel', **wiring)


@pytest.mark.parametrize('wiring', WIRINGS[::3], ids=str)
def test_wirings_with_layer_norm(wiring):
  check('MobileBertModel', normalization_type='layer_norm', **wiring)


@pytest.mark.parametrize(
  'changes',
  [
    {'trigram_input': False},
    {'trigram_input': False, 'embedding_size': 16},
    {'tie_word_embeddings': False},
    {'classifier_activation': False},
    {'embedding_size': 16},
    {'num_feedforward_networks': 1, 'hidden_act': 'prelu'},
    {'hidden_act': 'xielu', 'layer_norm_eps': 1e-3},
    {
      'hidden_act': 'xielu', 'layer_norm_eps': 1e-3,
      'normalization_type': 'layer_norm',
    },
  ],
  ids=str,
)  # fmt: skip
def test_other_flags(changes):
  check('MobileBertForPreTraining', **changes)


@pytest.mark.parametrize(
  'changes', [{}, {'trigram_input': False, 'embedding_size': 16}], ids=str
)
def test_scales_of_zero_stop_a_channel(changes):
  """Nothing divides by them: the stream begins anew."""
  check('MobileBertModel', zeros=0.3, **changes)


def test_the_pooler_is_there_without_its_activation():
  check('MobileBertModel', classifier_activation=False)


@pytest.mark.parametrize('rows, length', [(1, 1), (5, 12)])
def test_any_batch_and_length(rows, length):
  head = 'MobileBertForSequenceClassification'
  model, params = served.make(head)
  batch = served.make_batch(head, rows=rows, length=length)
  folded = folding.fold(head, model.config, params, dtype=np.float64)
  result = graph.apply(folded, numpy_operations(), batch)
  wanted = served.expected(model, params, batch)
  assert_equal(result, {'logits': wanted['logits']})


@pytest.mark.parametrize('norm', NORMS)
def test_jax_computes_the_same(norm):
  head = 'MobileBertForPreTraining'
  model, params = served.make(head, normalization_type=norm)
  batch = served.make_batch(head)
  folded = folding.fold(
    head, model.config, params, EVERYTHING, dtype=np.float64
  )
  result = graph.apply(folded, jax_operations(np.float64), batch)
  assert_equal(result, graph.apply(folded, numpy_operations(), batch))


@pytest.mark.parametrize('kind', ACTIVATIONS)
def test_activations(kind):
  x = np.concatenate([np.linspace(-30, 30, 601), [0.0, -1e-7, 1e-7]])
  module = layers.Activation(kind, Compute('float64', 'float64'))
  variables = module.init(jax.random.key(0), jnp.asarray(x))
  wanted = module.apply(variables, jnp.asarray(x))
  parameters = jax.tree.map(np.asarray, dict(variables.get('params', {})))
  parameters = {
    name: np.asarray(getattr(value, 'value', value))
    for name, value in parameters.items()
  }
  result = activations.apply(numpy_operations(), kind, x, parameters)
  np.testing.assert_allclose(result, wanted, rtol=1e-12, atol=1e-12)


def test_a_hook_sees_every_weight_and_tensor_once():
  head = 'MobileBertForMaskedLM'
  model, params = served.make(head)
  folded = folding.fold(head, model.config, params)
  names = []
  graph.apply(
    folded, numpy_operations(), served.make_batch(head),
    lambda name, value: names.append(name) or value,
  )  # fmt: skip
  tied = 'embeddings/words'
  assert {name for name in names if names.count(name) > 1} == {tied}
  assert {*folded.weights} <= {*names}
  assert 'layer_1/ffn_0/output' in names and 'outputs/logits' in names


def test_a_hook_may_replace_a_value():
  head = 'MobileBertForNextSentencePrediction'
  model, params = served.make(head)
  folded = folding.fold(head, model.config, params)

  def hook(name, value):
    return value * 0 if name == 'pooled' else value

  result = graph.apply(
    folded, numpy_operations(), served.make_batch(head), hook
  )
  bias = folded.weights['classifier/bias']
  np.testing.assert_allclose(result['logits'], np.tile(bias, (3, 1)))


def test_no_norm_leaves_no_operation():
  head = 'MobileBertForSequenceClassification'
  model, params = served.make(head)
  weights = folding.fold(head, model.config, params).weights
  assert not [n for n in weights if 'norm' in n or n.endswith('_scale')]
  assert not [n for n in weights if n.endswith(('key/bias', 'value/bias'))]
