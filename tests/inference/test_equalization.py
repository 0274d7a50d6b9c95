"""Rescaled channels: the same function, bit for bit; channels alike."""

import jax
import numpy as np
import pytest

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.inference import equalization, folding, graph, ranges
from mobilebert_jax.inference.graph import Outputs
from mobilebert_jax.inference.operations import numpy_operations
from tests.support import marks, served

HEAD = 'MobileBertForSequenceClassification'
# Every wiring, both norms, an activation of each kind.
FLAGS = (
  {},
  *served.FLAGS,
  {'hidden_act': 'leaky_relu', 'classifier_activation': False},
  {'normalization_type': 'layer_norm', 'use_bottleneck': False},
  {'normalization_type': 'layer_norm', 'num_hidden_layers': 3},
)
LAST = 'layer_1/output'


def factors(config, names, rng, draw):
  """Random vectors for tensors, of their numbers of channels."""
  sizes = {}
  model, params = served.make(HEAD, dtype='float32', **config)
  folded = folding.fold(HEAD, model.config, params)
  batch = served.make_batch(HEAD)
  graph.apply(
    folded, numpy_operations(), batch,
    lambda name, value: sizes.setdefault(name, value.shape[-1]) and value,
  )  # fmt: skip
  return {name: draw(rng, sizes[name]) for name in names}


def powers(rng, size):
  return 2.0 ** rng.integers(-9, 10, size)


def constants(rng, size):
  return rng.normal(0, 3, size)


@pytest.mark.parametrize(
  'changes', marks.slow_but((FLAGS[0], FLAGS[1]), FLAGS[:8]), ids=str
)
def test_powers_of_two_change_no_bit(changes):
  """Neither random ones nor those that make channels alike."""
  model, params = served.make(HEAD, dtype='float32', **changes)
  rng = np.random.default_rng(3)
  free = equalization.free(model.config)
  scales = factors(changes, free.scales, rng, powers)
  batch = served.make_batch(HEAD)
  scaled = equalization.rescale(model.config, params, scales)
  alike = equalization.equalize(HEAD, model.config, params, [batch])
  wanted, *results = (
    served.expected(model, p, batch)['logits'] for p in (params, scaled, alike)
  )
  for result in results:
    np.testing.assert_array_equal(result, wanted)
  changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), params, scaled)
  assert any(jax.tree.leaves(changed))


def exact(config, params, batch):
  """The outputs in float64, with all hidden states."""
  folded = folding.fold(
    HEAD, config, params, Outputs(hidden_states=True), dtype=np.float64
  )
  return graph.apply(folded, numpy_operations(), batch)


@pytest.mark.parametrize('changes', FLAGS, ids=str)
def test_scales_and_shifts_leave_the_function(changes):
  model, params = served.make(HEAD, dtype='float32', **changes)
  params = jax.tree.map(np.float64, params)
  config, rng = model.config, np.random.default_rng(4)
  free = equalization.free(config)
  new = equalization.rescale(
    config, params,
    factors(changes, free.scales, rng, lambda r, n: r.uniform(0.2, 5, n)),
    factors(changes, free.shifts, rng, constants),
  )  # fmt: skip
  batch = served.make_batch(HEAD)
  wanted, result = exact(config, params, batch), exact(config, new, batch)
  np.testing.assert_allclose(result['logits'], wanted['logits'], rtol=1e-9)
  # Users read the last hidden state: it keeps its scale, the others do not.
  last = f'hidden_states.{config.num_hidden_layers}'
  np.testing.assert_allclose(result[last], wanted[last], rtol=1e-7, atol=1e-9)
  one = 'hidden_states.1'
  is_changed = not np.allclose(result[one], wanted[one])
  assert is_changed == (config.normalization_type == 'no_norm')


def test_each_free_tensor_is_another():
  """No name is a word for nothing: each alone changes what it names."""
  model, params = served.make(HEAD, dtype='float32')
  batch = served.make_batch(HEAD)
  for name in equalization.free(model.config).scales:
    new = equalization.rescale(model.config, params, {name: np.float64(4)})
    assert any(
      jax.tree.leaves(jax.tree.map(lambda a, b: np.any(a != b), params, new))
    ), name
    result, wanted = (
      exact(model.config, p, batch)['logits'] for p in (new, params)
    )
    np.testing.assert_array_equal(result, wanted, err_msg=name)


@pytest.mark.parametrize(
  'changes, name',
  [
    ({}, LAST),
    ({}, 'pooled'),
    ({}, 'layer_0/attention/key'),
    ({'normalization_type': 'layer_norm'}, 'embeddings'),
    ({'normalization_type': 'layer_norm'}, 'layer_0/bottleneck'),
    ({'hidden_act': 'gelu'}, 'layer_0/ffn_0/activation'),
    ({'key_query_shared_bottleneck': False}, 'layer_0/shared'),
    ({'use_bottleneck': False}, 'layer_1/ffn_1/output'),
  ],
)
def test_what_is_not_free_is_refused(changes, name):
  model, params = served.make(HEAD, dtype='float32', **changes)
  with pytest.raises(ValueError, match=f'{name} cannot be changed alone'):
    equalization.rescale(model.config, params, {name: np.float64(2)})


def test_scales_are_above_zero():
  model, params = served.make(HEAD, dtype='float32')
  for scale in (0.0, -2.0, np.inf):
    with pytest.raises(ValueError, match='embeddings have to be above 0'):
      equalization.rescale(
        model.config, params, {'embeddings': np.float64(scale)}
      )


def wild(config, params, seed=5, spread=3.0):
  """The same model with channels thousands of times as large as others."""
  rng = np.random.default_rng(seed)

  def draw(rng, size):
    return 2.0 ** (rng.normal(0, spread, size).round() - 12)

  names = equalization.free(config).scales
  return equalization.rescale(config, params, factors({}, names, rng, draw))


def spread(config, params, batches):
  """Of each free tensor in the served graph: largest range over median."""
  means = folding.measure_means(HEAD, config, params, batches)
  folded = folding.fold(HEAD, config, params, means=means)
  found = ranges.measure(folded, batches).tensors
  return {
    name: found[name].largest.max() / np.median(found[name].largest)
    for name in equalization.free(config).scales
  }, max(float(r.largest.max()) for r in found.values())


def test_wild_channels_become_alike():
  model, params = served.make(HEAD, dtype='float32')
  batches = [served.make_batch(HEAD, rows=8, seed=i) for i in range(4)]
  changed = wild(model.config, params)
  assert max(spread(model.config, changed, batches)[0].values()) > 50
  equal = equalization.equalize(HEAD, model.config, changed, batches)
  alike, largest = spread(model.config, equal, batches)
  assert max(alike.values()) < 8, alike
  assert largest < 1000
  results = [
    served.expected(model, p, batches[0])['logits']
    for p in (params, changed, equal)
  ]
  np.testing.assert_array_equal(results[1], results[0])
  np.testing.assert_array_equal(results[2], results[0])


def test_means_of_streams_are_subtracted():
  model, params = served.make(HEAD, dtype='float32')
  params = jax.tree.map(np.float64, params)
  served.add_offsets(params, 300.0)
  batches = [served.make_batch(HEAD, rows=8, seed=i) for i in range(2)]
  equal = equalization.equalize(HEAD, model.config, params, batches, shift=True)
  wanted, result = (exact(model.config, p, batches[0]) for p in (params, equal))
  np.testing.assert_allclose(result['logits'], wanted['logits'], rtol=1e-7)
  assert np.abs(wanted['hidden_states.1']).max() > 300
  assert np.abs(result['hidden_states.1']).max() < 10


def test_free_tensors_of_the_published_architecture():
  free = equalization.free(MobileBertConfig())
  # 24 blocks: streams, shared, query, value, four networks.
  assert len(free.scales) == 24 + 24 * (1 + 1 + 4) + 24 * (1 + 2 + 4)
  assert 'layer_22/output' in free.scales
  assert 'layer_23/output' not in free.scales
