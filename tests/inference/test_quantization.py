"""Ranges of tensors, grids of integers, what rounding costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax.inference import costs, graph, quantization, ranges
from mobilebert_jax.inference.operations import (
  jax_operations,
  numpy_operations,
)
from mobilebert_jax.inference.quantization import Grid
from tests.support import served

HEAD = 'MobileBertForSequenceClassification'


@pytest.fixture(scope='module')
def folded():
  return served.fold(HEAD)


@pytest.fixture(scope='module')
def batches():
  made = [served.make_batch(HEAD, rows=3, length=n, seed=n) for n in (7, 12, 5)]
  for batch in made:
    # A row that nothing sees is no text.
    batch['attention_mask'][-1, 0] = 1
  return made


@pytest.fixture(scope='module')
def measured(folded, batches):
  return ranges.measure(folded, batches)


def values_of(folded, batch):
  found = {}
  graph.apply(
    folded, numpy_operations(np.float32), batch,
    lambda name, value: found.setdefault(name, value),
  )  # fmt: skip
  return found


def test_ranges_are_those_of_tokens_that_are_seen(folded, batches, measured):
  """By hand, batch by batch; padding to one shape changes the last trigram."""
  longest = batches[1]
  found = values_of(folded, longest)
  seen = longest['attention_mask'] != 0
  for name in ('layer_0/shared', 'layer_1/ffn_0/activation', 'embeddings'):
    value = found[name][seen.reshape(-1)]
    one = ranges.measure(folded, [longest]).tensors[name]
    np.testing.assert_allclose(one.low, value.min(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.high, value.max(0), rtol=1e-4, atol=1e-5)
    whole = measured.tensors[name]
    assert np.all(whole.low <= one.low) and np.all(whole.high >= one.high)
  scores = found['layer_0/attention/scores']
  pairs = seen[:, None, :, None] & seen[:, None, None, :]
  one = ranges.measure(folded, [longest]).tensors['layer_0/attention/scores']
  pairs = np.broadcast_to(pairs, scores.shape)
  np.testing.assert_allclose(one.low, scores[pairs].min(), rtol=1e-4)
  np.testing.assert_allclose(one.high, scores[pairs].max(), rtol=1e-4)


def test_a_modest_number_masks(folded, batches, measured):
  """No probability changes by more than a millionth."""
  assert -40 < measured.mask_value < -10
  modest = folded._replace(mask_value=measured.mask_value)
  for batch in batches:
    one, other = (values_of(g, batch) for g in (folded, modest))
    seen = batch['attention_mask'] != 0
    for layer in range(2):
      name = f'layer_{layer}/attention/probabilities'
      change = np.abs(one[name] - other[name]).max((1, 3))
      assert change[seen].max() < ranges.MASKED
  np.testing.assert_allclose(
    one['outputs/logits'], other['outputs/logits'], atol=1e-5
  )


def test_the_range_of_masked_scores_holds_every_probability(
  folded, batches, measured
):
  """What is below it has none."""
  found = values_of(folded, batches[1])
  seen = batches[1]['attention_mask'] != 0
  for layer in range(2):
    name = f'layer_{layer}/attention'
    low, high = measured.tensors[f'{name}/masked_scores'].whole
    cut = np.clip(found[f'{name}/masked_scores'], low, high)
    wanted = found[f'{name}/probabilities']
    result = np.exp(cut - cut.max(-1, keepdims=True))
    result /= result.sum(-1, keepdims=True)
    change = np.abs(result - wanted).max((1, 3))
    assert change[seen].max() < 2 * ranges.MASKED


@pytest.mark.parametrize('scheme', quantization.SCHEMES)
def test_grids(folded, measured, scheme):
  found = quantization.calibrate(folded, scheme, measured)
  bits = quantization.SCHEMES[scheme].activation_bits
  for name, grid in found.tensors.items():
    low, high = grid.limits
    assert low <= grid.zero_point <= high and grid.bits == bits
    assert bits == 8 or grid.zero_point == 0
    ends = [(end - grid.zero_point) * grid.scale for end in grid.limits]
    if name not in ('mask_bias', 'pooled') and 'probabilities' not in name:
      wanted = measured.tensors[name].whole
      assert ends[0] <= min(wanted[0], 0) + grid.scale
      assert ends[1] >= max(wanted[1], 0) - grid.scale
  # Both values of a mask are on the grid.
  mask = found.tensors['mask_bias']
  exact = np.array([found.mask_value, 0.0])
  np.testing.assert_allclose(
    np.asarray(quantization.round_values(jnp.asarray(exact), mask)), exact,
    rtol=1e-4,
  )  # fmt: skip
  again = quantization.Quantization.from_json(found.to_json())
  assert again.to_json() == found.to_json()


@pytest.mark.parametrize('scheme, most', [('int8', 127), ('int4x8', 7)])
def test_weights(folded, scheme, most):
  grids = {
    name: quantization.weight_grid(folded, name, value, scheme)
    for name, value in folded.weights.items()
  }
  kernel = folded.weights['layer_0/ffn_0/intermediate/kernel']
  grid = grids['layer_0/ffn_0/intermediate/kernel']
  whole = grid.integers(kernel)
  assert whole.dtype == np.int8
  largest = np.abs(whole).max(0)
  if scheme == 'int8':
    # A weight, or two neighbours, whose products fit into 16 bits.
    sums = np.abs(whole[1:].astype(int) + whole[:-1]).max(0)
    assert largest.max() <= most and sums.max() <= most + 1
    largest = np.maximum(largest, sums)
  assert largest.min() >= most
  np.testing.assert_allclose(
    whole * grid.scale, kernel, atol=float(grid.scale.max()) / 2 * 1.001
  )
  rounded = quantization.round_values(jnp.asarray(kernel), grid)
  np.testing.assert_allclose(rounded, whole * grid.scale, rtol=1e-6)
  assert grids['classifier/kernel'] is None
  assert not [n for n, g in grids.items() if g and n.endswith('bias')]
  assert grids['embeddings/words'].bits == 8


def test_rounding_has_the_gradient_of_its_limits():
  grid = Grid(np.float32(0.5), -3, 8)
  x = jnp.array([-70.0, -3.3, 0.2, 60.0, 66.0])
  value, gradient = jax.value_and_grad(
    lambda x: quantization.round_values(x, grid).sum()
  )(x)
  del value
  np.testing.assert_array_equal(gradient, [0, 1, 1, 1, 0])
  np.testing.assert_allclose(
    quantization.round_values(x, grid), [-62.5, -3.5, 0.0, 60.0, 65.0]
  )


@pytest.mark.parametrize('scheme, most', [('int8', 0.05), ('int8x16', 0.02)])
def test_a_rounded_model_is_close(folded, batches, measured, scheme, most):
  found = quantization.calibrate(folded, scheme, measured)
  modest = folded._replace(mask_value=found.mask_value)
  operations = jax_operations(np.float32)
  result = graph.apply(
    modest, operations, batches[0], quantization.hook(modest, found)
  )['logits']
  wanted = graph.apply(folded, operations, batches[0])['logits']
  assert 0 < np.std(result - wanted) / np.std(wanted) < most


def test_costs_find_what_is_rounded_worst(folded, batches, measured):
  found = quantization.calibrate(folded, 'int8', measured)
  name = 'layer_1/attention/value'
  coarse = found.tensors[name]._replace(scale=np.float32(2.0))
  found = found._replace(tensors={**found.tensors, name: coarse})
  worst = costs.costs(folded, found, batches[0])
  assert worst[0].name == name
  assert worst[0].error > 3 * worst[1].error
  names = {cost.name for cost in worst}
  assert 'layer_0/ffn_1/intermediate/kernel' in names
  assert {*found.tensors} <= names
