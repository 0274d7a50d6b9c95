"""NoNorm in the matrix beside it: the same function, whatever is asked for."""

import dataclasses

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mobilebert_jax as mb
from mobilebert_jax.models.remat import REMAT_POLICIES
from tests.support import cases, ours

HEADS = {
  'model': 'MobileBertModel',
  'pretraining': 'MobileBertForPreTraining',
  'masked_lm': 'MobileBertForMaskedLM',
  'next_sentence': 'MobileBertForNextSentencePrediction',
  'classification': 'MobileBertForSequenceClassification',
  'multiple_choice': 'MobileBertForMultipleChoice',
  'token': 'MobileBertForTokenClassification',
  'question_answering': 'MobileBertForQuestionAnswering',
}
FLAGS = (
  {},
  {'use_bottleneck': False, 'hidden_size': 16},
  {'use_bottleneck_attention': True},
  {'key_query_shared_bottleneck': False},
  {'hidden_act': 'prelu', 'classifier_activation': True},
  {'hidden_act': 'gelu', 'num_feedforward_networks': 1},
)


def make(head='classification', config=None, **compute):
  """A model whose NoNorms are not the identity, and its parameters."""
  labels = 2 if head == 'question_answering' else 3
  config = cases.SMALL | {'num_labels': labels} | dict(config or {})
  model = ours.build(HEADS[head], config, **compute)
  params = mb.init_params(model, jax.random.key(0))
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(0)
  moved = [
    x + 0.1 * rng.standard_normal(x.shape).astype(x.dtype) for x in leaves
  ]
  return model, jax.tree.unflatten(tree, moved)


def outputs(model, params, features, **options):
  """All that a model returns, by name."""
  options = {'output_hidden_states': True, 'output_attentions': True} | options
  key = options.pop('dropout', None)
  rngs = {} if key is None else {'rngs': {'dropout': key}}

  @jax.jit
  def apply(params, features):
    out = model.apply({'params': params}, **features, **options, **rngs)
    return {name: out[name] for name in out}

  return apply(params, features)


def assert_close(found, wanted, tolerance=1e-5):
  assert found.keys() == wanted.keys()
  for name, value in wanted.items():
    for a, b in zip(jax.tree.leaves(found[name]), jax.tree.leaves(value)):
      a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
      assert a.shape == b.shape
      assert np.max(np.abs(a - b)) <= tolerance * np.max(np.abs(b)), name


@pytest.mark.parametrize('head', HEADS)
def test_every_class(head):
  model, params = make(head)
  features, _ = cases.inputs(cases.SMALL, head)
  wanted = outputs(model, params, features)
  folded = model.fold_norms(params)
  assert_close(outputs(model.with_folded_norms(), folded, features), wanted)
  at_each_call = model.clone(compute=mb.Compute(norms='fold'))
  assert_close(outputs(at_each_call, params, features), wanted)


@pytest.mark.parametrize('flags', FLAGS, ids=str)
def test_every_flag(flags):
  model, params = make(config=flags)
  features, _ = cases.inputs(cases.SMALL, 'classification')
  folded = outputs(
    model.with_folded_norms(), model.fold_norms(params), features
  )
  assert_close(folded, outputs(model, params, features))


@pytest.mark.parametrize('name', cases.input_cases(cases.SMALL))
def test_every_input(name):
  """With maps and without: these take another way through attention."""
  model, params = make('model')
  features = cases.input_cases(cases.SMALL)[name]
  folded, folded_params = model.with_folded_norms(), model.fold_norms(params)
  for maps in (True, False):
    options = {'output_attentions': maps, 'output_attention_scores': maps}
    assert_close(
      outputs(folded, folded_params, features, **options),
      outputs(model, params, features, **options),
    )


@pytest.mark.parametrize('remat', list(REMAT_POLICIES))
@pytest.mark.parametrize('layers', ['scan', 'loop'])
def test_the_gradient_is_that_of_the_same_parameters(remat, layers):
  with jax.enable_x64(True):
    model, params = make('classification', dtype='float64')
    features, labels = cases.inputs(cases.SMALL, 'classification')
    compute = dataclasses.replace(model.compute, remat=remat, layers=layers)
    folding = model.clone(compute=dataclasses.replace(compute, norms='fold'))

    def gradient(model):
      def loss(params):
        logits = outputs(model, params, features)['logits']
        return jnp.sum(logits[:, 0] ** 2) + logits[0, labels['labels'][0]]

      return flax.traverse_util.flatten_dict(jax.grad(loss)(params), sep='/')

    wanted = gradient(model.clone(compute=compute))
    largest = max(np.max(np.abs(value)) for value in wanted.values())
    for name, value in gradient(folding).items():
      np.testing.assert_allclose(
        value, wanted[name], rtol=0, atol=1e-12 * largest, err_msg=name
      )


def test_dropout_is_the_same():
  """Where it is before the norm, too."""
  config = {'hidden_dropout_prob': 0.3, 'attention_probs_dropout_prob': 0.3}
  model, params = make('classification', config)
  features, _ = cases.inputs(cases.SMALL, 'classification')
  folding = model.clone(compute=mb.Compute(norms='fold'))
  options = {'deterministic': False, 'dropout': jax.random.key(3)}
  wanted = outputs(model, params, features, **options)
  assert_close(outputs(folding, params, features, **options), wanted)
  without = outputs(model, params, features)['logits']
  assert not np.allclose(wanted['logits'], without, rtol=1e-2)


def test_in_bfloat16_it_is_no_further_from_float32():
  model, params = make('classification')
  features, _ = cases.inputs(cases.SMALL, 'classification')
  exact = outputs(model, params, features)['logits']
  low = model.clone(compute=mb.Compute(dtype='bfloat16'))
  plain = outputs(low, params, features)['logits']
  folded = outputs(low.with_folded_norms(), low.fold_norms(params), features)[
    'logits'
  ]
  assert np.max(np.abs(folded - exact)) <= max(
    2 * np.max(np.abs(plain - exact)), 1e-3
  )


def test_layer_norm_stays_and_gives_the_same_bits():
  model, params = make(config={'normalization_type': 'layer_norm'})
  features, _ = cases.inputs(cases.SMALL, 'classification')
  folded = model.fold_norms(params)
  assert jax.tree.all(jax.tree.map(lambda a, b: a is b, folded, params))
  for compute in ('fold', 'folded'):
    other = model.clone(compute=mb.Compute(norms=compute))
    assert_close(
      outputs(other, folded, features), outputs(model, params, features), 0
    )


def test_neither_kind_of_parameters_is_taken_for_the_other():
  model, params = make()
  features, _ = cases.inputs(cases.SMALL, 'classification')
  folded = model.fold_norms(params)
  with pytest.raises(flax.errors.ScopeParamNotFoundError):
    outputs(model.with_folded_norms(), params, features)
  with pytest.raises(flax.errors.ScopeParamNotFoundError):
    outputs(model, folded, features)


def test_initial_parameters_are_those_of_any_model():
  plain, _ = make()
  wanted = mb.init_params(plain, jax.random.key(5))
  for norms in ('fold', 'folded'):
    other = plain.clone(compute=mb.Compute(norms=norms))
    drawn = mb.init_params(other, jax.random.key(5))
    assert jax.tree.all(
      jax.tree.map(lambda a, b: np.array_equal(a, b), drawn, wanted)
    )
