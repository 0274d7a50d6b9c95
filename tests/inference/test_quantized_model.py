"""A model that learns as it is served, against the model and its file."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax.inference import (
  folding,
  graph,
  quantization,
  ranges,
  scanned_blocks,
)
from mobilebert_jax.inference.operations import jax_operations
from mobilebert_jax.inference.quantization import Grid, Quantization
from mobilebert_jax.inference.quantized_model import Constants, quantized
from mobilebert_jax.runtime.errors import InputError
from tests.support import served

# Each compiles a whole step.
pytestmark = pytest.mark.slow

SMALL = {'num_hidden_layers': 1, 'num_feedforward_networks': 1}
HEADS = served.HEADS[1:]
CLASSIFIER = 'MobileBertForSequenceClassification'


def make_batch(head):
  batch = served.make_batch(head)
  batch['input_ids'][..., -2:] = 0
  if 'Masked' in head or 'PreTraining' in head:
    batch['masked_positions'] = np.array([[1, 3], [0, 0], [6, 2]], np.int32)
  return batch


def constants_of(head, model, params, batch, scheme):
  batch = {name: batch[name] for name in graph.INPUTS}
  means = folding.measure_means(head, model.config, params, [batch])
  folded = folding.fold(head, model.config, params, means=means)
  measured = ranges.measure(folded, [batch])
  grids = quantization.calibrate(folded, scheme, measured)
  return Constants(grids, means, folding.restarts_of(folded))


def value_and_grads(model, params, batch):
  """A loss that reads every output, and its gradients."""

  def loss(params):
    outputs = model.apply({'params': params}, **batch).to_tuple()
    weights = [
      np.random.default_rng(i).normal(size=x.shape).astype(x.dtype)
      for i, x in enumerate(outputs)
    ]
    return sum(jnp.sum(x * w) for x, w in zip(outputs, weights))

  return jax.device_get(jax.jit(jax.value_and_grad(loss))(params))


@pytest.mark.parametrize('head', HEADS)
def test_unrounded_it_is_the_model(head, monkeypatch):
  """Loss and gradients; the padding's vector learns nothing from look-ups."""
  monkeypatch.setattr(quantization, 'round_values', lambda value, grid: value)
  changes = {'tie_word_embeddings': False} if 'Masked' in head else {}
  with jax.enable_x64(True):
    model, params = served.make(head, **SMALL, **changes)
    batch = make_batch(head)
    constants = constants_of(head, model, params, batch, 'int8')
    lowest = np.finfo(np.float64).min
    constants = Constants(
      constants.quantization._replace(mask_value=lowest),
      constants.means,
      constants.restarts,
    )
    value, grads = value_and_grads(model, params, batch)
    rounded = quantized(model, constants)
    ours, our_grads = value_and_grads(rounded, params, batch)
  np.testing.assert_allclose(ours, value, rtol=1e-9)
  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads))
  assert jax.tree.structure(our_grads) == jax.tree.structure(grads)
  for mine, theirs in zip(jax.tree.leaves(our_grads), jax.tree.leaves(grads)):
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-7 * largest)


@pytest.mark.parametrize('changes', [
  {'normalization_type': 'layer_norm'},
  {'trigram_input': False, 'embedding_size': 16},
], ids=str)  # fmt: skip
def test_traced_weights_are_those_of_the_file(changes):
  """A stream that begins anew for scales of 0 does so in both."""
  head = CLASSIFIER
  model, params = served.make(head, dtype='float32', zeros=0.3, **changes)
  batch = served.make_batch(head)
  means = folding.measure_means(head, model.config, params, [batch])
  folded = folding.fold(head, model.config, params, means=means)
  restarts = folding.restarts_of(folded)
  alike = scanned_blocks.loops(model.config.num_hidden_layers, restarts)

  @jax.jit
  def fold(params):
    outer, loops = scanned_blocks.fold_traced(
      head, model.config, params, means=means, restarts=restarts, alike=alike
    )
    return dict(outer.weights), [dict(loop.weights) for loop in loops]

  traced, loops = fold(params)
  for blocks, weights in zip(alike, loops, strict=True):
    traced |= {
      name.replace('layer', f'layer_{block}'): value[i]
      for i, block in enumerate(blocks)
      for name, value in weights.items()
    }
  assert {*traced} == {*folded.weights}
  for name, value in folded.weights.items():
    np.testing.assert_allclose(traced[name], value, rtol=1e-5, atol=1e-5)


def test_blocks_with_the_same_names_are_in_one_loop():
  names = [
    'layer_0/query', 'layer_1/query', 'layer_2/query', 'layer_3/query',
    'embeddings', 'layer_2/output', 'masked_lm/rest',
  ]  # fmt: skip
  found = [(loop.start, loop.stop) for loop in scanned_blocks.loops(4, names)]
  assert found == [(0, 2), (2, 3), (3, 4)]
  assert scanned_blocks.loops(3, ()) == [range(3)]


@pytest.mark.parametrize('compute', [
  {}, {'layers': 'loop'}, {'remat': 'full'}, {'layers': 'loop', 'remat': 'dots'}
], ids=str)  # fmt: skip
def test_a_block_of_another_form_divides_the_loop(compute):
  """One channel of one block's stream has no scale left."""
  model, params = served.make(
    CLASSIFIER, dtype='float32', num_hidden_layers=3,
    num_feedforward_networks=1,
  )  # fmt: skip
  norm = params['mobilebert']['encoder']['layers']['output_bottleneck']['norm']
  norm['scale'] = np.array(norm['scale'])
  norm['scale'][1, 0] = 0.0
  batch = served.make_batch(CLASSIFIER)
  constants = constants_of(CLASSIFIER, model, params, batch, 'int8')
  assert constants.restarts == {'layer_1/output'}
  rounded = quantized(model.clone(compute=models.Compute(**compute)), constants)
  folded = constants.fold(CLASSIFIER, model.config, params)
  hook = quantization.hook(folded, constants.quantization)
  wanted = graph.apply(folded, jax_operations(), batch, hook)['logits']
  scale = np.abs(wanted).max()

  def total(params):
    outputs = rounded.apply({'params': params}, **batch, output_attentions=True)
    assert len(outputs.attentions) == 3
    return outputs.logits.sum(), outputs.logits

  grads, result = jax.jit(jax.grad(total, has_aux=True))(params)
  np.testing.assert_allclose(result / scale, wanted / scale, atol=1e-2)
  assert all(np.any(leaf) for leaf in jax.tree.leaves(grads['classifier']))


def test_a_form_is_kept_when_scales_change():
  """What a run began with decides, not what its scales have become."""
  head, (model, params) = (
    CLASSIFIER,
    served.make(CLASSIFIER, zeros=0.3, dtype='float32'),
  )
  form = folding.restarts_of(folding.fold(head, model.config, params))
  assert form
  _, others = served.make(head, dtype='float32')
  kept = folding.fold(head, model.config, others, restarts=form)
  assert folding.restarts_of(kept) == form
  assert not folding.restarts_of(folding.fold(head, model.config, others))
  batch = served.make_batch(head)
  results = [
    graph.apply(folded, jax_operations(), batch)['logits']
    for folded in (kept, folding.fold(head, model.config, others))
  ]
  np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('scale', [0.0, -0.0, 1e-9, -1e-9, -0.01])
def test_scales_may_pass_through_zero(scale):
  """Of a run that began elsewhere: such a channel is cut off, not infinite."""
  model, params = served.make(CLASSIFIER, dtype='float32')
  batch = served.make_batch(CLASSIFIER, rows=8)
  constants = constants_of(CLASSIFIER, model, params, batch, 'int8')
  assert not constants.restarts

  def passed(path, leaf):
    names = [getattr(part, 'key', None) for part in path]
    if names[-2:] != ['norm', 'scale']:
      return leaf
    # Of each norm one channel is there.
    return np.where(
      np.arange(leaf.shape[-1]) == 1, leaf.dtype.type(scale), leaf
    )

  params = jax.tree_util.tree_map_with_path(passed, params)
  learning = quantized(model, constants)

  def loss(params):
    logits = learning.apply({'params': params}, **batch).logits
    return jnp.sum(logits**2), logits

  grads, result = jax.jit(jax.grad(loss, has_aux=True))(params)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
  folded = constants.fold(CLASSIFIER, model.config, params)
  assert all(np.isfinite(weight).all() for weight in folded.weights.values())
  hook = quantization.hook(folded, constants.quantization)
  ops = jax_operations()
  wanted = jax.jit(lambda x: graph.apply(folded, ops, x, hook)['logits'])(batch)
  largest = np.abs(wanted).max()
  np.testing.assert_allclose(result / largest, wanted / largest, atol=2e-2)
  # What is cut off is one channel: the answer is still about the model's.
  plain = jax.jit(model.apply)({'params': params}, **batch).logits
  assert np.isfinite(plain).all()
  spread = np.std(plain - plain.mean(-1, keepdims=True))
  assert np.std(result - plain) < 3 * spread


@pytest.fixture(scope='module', params=quantization.SCHEMES)
def rounded(request):
  """A quantised classifier: model, parameters, batch, constants."""
  model, params = served.make(CLASSIFIER, dtype='float32')
  batch = served.make_batch(CLASSIFIER, rows=8)
  constants = constants_of(CLASSIFIER, model, params, batch, request.param)
  return quantized(model, constants), params, batch, constants


def test_what_it_computes_is_what_its_file_will(rounded):
  model, params, batch, constants = rounded
  result = jax.jit(model.apply)({'params': params}, **batch).logits
  folded = constants.fold(CLASSIFIER, model.config, params)
  hook = quantization.hook(folded, constants.quantization)
  ops = jax_operations()
  wanted = jax.jit(lambda x: graph.apply(folded, ops, x, hook)['logits'])(batch)
  scale = np.abs(wanted).max()
  np.testing.assert_allclose(result / scale, wanted / scale, atol=1e-2)
  plain = jax.jit(lambda x: graph.apply(folded, ops, x)['logits'])(batch)
  assert not np.allclose(result / scale, plain / scale, atol=1e-6)


def test_constants_lose_no_bit_in_json(rounded):
  model, params, batch, constants = rounded
  again = Constants.from_json(json.loads(json.dumps(constants.to_json())))
  results = [
    model.clone(constants=c).apply({'params': params}, **batch).logits
    for c in (constants, again)
  ]
  np.testing.assert_array_equal(*results)


def test_it_has_the_class_and_parameters_of_the_model(rounded):
  model = rounded[0]
  plain = models.MobileBertForSequenceClassification(model.config)
  assert isinstance(model, models.MobileBertForSequenceClassification)
  assert type(model).__name__ == CLASSIFIER
  assert models.abstract_params(model) == models.abstract_params(plain)


def test_bfloat16_multiplies_in_it_and_rounds_in_float32(rounded):
  model, params, batch, constants = rounded
  narrow = served.make(CLASSIFIER, dtype='float32')[0].clone(
    compute=models.Compute('bfloat16', 'float32')
  )
  narrow = quantized(narrow, constants)
  result = narrow.apply({'params': params}, **batch).logits
  wanted = model.apply({'params': params}, **batch).logits
  assert result.dtype == jnp.float32
  assert not np.array_equal(result, wanted)
  scale = np.abs(wanted).max()
  np.testing.assert_allclose(result / scale, wanted / scale, atol=0.2)


def test_all_blocks_can_be_seen(rounded):
  model, params, batch, _ = rounded
  outputs = model.apply(
    {'params': params}, **batch, output_hidden_states=True,
    output_attentions=True,
  )  # fmt: skip
  rows, length = batch['input_ids'].shape
  blocks, heads = model.config.num_hidden_layers, 2
  assert [x.shape for x in outputs.hidden_states] == [
    (rows, length, model.config.hidden_size)
  ] * (blocks + 1)
  assert [x.shape for x in outputs.attentions] == [
    (rows, heads, length, length)
  ] * blocks


@pytest.mark.parametrize('given, message', [
  ({'segment_ids': 'ones'}, 'takes no segment_ids: it computes as it is'),
  ({'position_ids': 'ones'}, 'takes no position_ids'),
  ({'output_attention_scores': True}, 'gives no attention_scores'),
])  # fmt: skip
def test_what_a_served_model_does_not_have_is_refused(rounded, given, message):
  model, params, batch, _ = rounded
  given = {
    name: np.ones_like(batch['input_ids']) if value == 'ones' else value
    for name, value in given.items()
  }
  with pytest.raises(InputError, match=message):
    model.apply({'params': params}, **batch, **given)


def test_a_bare_model_is_refused():
  model, _ = served.make('MobileBertModel', dtype='float32')
  constants = Constants(Quantization('int8', {}, -9.0), {}, frozenset())
  with pytest.raises(InputError, match='a class with a head can'):
    quantized(model, constants)


def test_gradients_go_straight_through_and_end_at_the_limits():
  grid = Grid(np.float32(0.5), 0, 4)
  values = jnp.array([-9.0, -3.9, 0.2, 0.3, 3.4, 3.6, 9.0])
  rounded, gradient = jax.vmap(
    jax.value_and_grad(lambda x: quantization.round_values(x, grid))
  )(values)
  assert rounded.tolist() == [-4.0, -4.0, 0.0, 0.5, 3.5, 3.5, 3.5]
  assert gradient.tolist() == [0, 1, 1, 1, 1, 0, 0]


def test_the_largest_weight_of_a_channel_learns_too():
  """Its scale follows from it: it is at the limit, and not beyond it."""
  kernel = jnp.array(np.random.default_rng(0).normal(size=(64, 200)), 'float32')

  def total(kernel):
    grid = quantization.weight_grid(None, 'x/kernel', kernel, 'int8', jnp)
    return quantization.round_values(kernel, grid).sum()

  np.testing.assert_array_equal(jax.grad(total)(kernel), 1.0)
