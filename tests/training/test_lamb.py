"""LAMB and layer-wise rates, against numpy that knows no stacked layers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from mobilebert_jax import models
from mobilebert_jax.config.run import OptimizerConfig
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training import optimizer, train_step
from mobilebert_jax.training.checkpoint import Checkpoints
from mobilebert_jax.training.layerwise import Rates
from tests.support import faults, steps
from tests.support.numpy_lamb import (
  BLOCKS,
  EPSILON,
  LAMB,
  PEAK,
  PHASE,
  STEPS,
  WARMUP,
  draw,
  multiplier,
  reference,
  stacked,
  unstacked,
  warm_up,
)


def in_layers(step):
  table = [
    [multiplier(f'{block}:', s) for block in range(BLOCKS)]
    for s in range(STEPS)
  ]
  return jnp.asarray(table)[step]


def in_others(step):
  return (step >= 2 * PHASE).astype(float)


def in_jax(step):
  return PEAK * jnp.minimum(jnp.asarray(step).astype(float) / WARMUP, 1.0)


def make(config, layerwise):
  rates = Rates(in_jax, in_layers, in_others) if layerwise else None
  return optimizer.make_optimizer(config, STEPS, rates)


def compiled(tx):
  """One step, compiled."""

  @jax.jit
  def one(params, state, grad, step):
    updates, state = tx.update(grad, state, params, step=step)
    return optax.apply_updates(params, updates), state

  return one


def every_step(tx, params, grads):
  """Parameters and state after each step."""
  one, state = compiled(tx), tx.init(params)
  for step, grad in enumerate(grads):
    params, state = one(params, state, grad, jnp.int32(step))
    yield params, state


@pytest.mark.parametrize('layerwise', [False, True], ids=['one', 'layerwise'])
@pytest.mark.parametrize('bias_correction', [False, True])
@pytest.mark.parametrize('name', ['lamb', 'adamw'])
def test_thirty_steps_equal_numpy(name, bias_correction, layerwise):
  start, grads = draw()
  changes = {'name': name, 'bias_correction': bias_correction}
  config = OptimizerConfig(**LAMB | changes)
  factor = multiplier if layerwise else lambda name, step: 1.0
  expected = reference(config, start, grads, warm_up, factor)
  with jax.enable_x64(True):
    tx = make(config, layerwise)
    wide = [stacked(grad, jnp.float64) for grad in grads]
    *_, (params, state) = every_step(tx, stacked(start, jnp.float64), wide)
    find = optax.tree_utils.tree_get
    got = [params, find(state, 'mu'), find(state, 'nu')]
    got = [unstacked(tree) for tree in got]
  for ours, numpys in zip(got, expected, strict=True):
    for key, value in numpys.items():
      np.testing.assert_allclose(
        ours[key], value, rtol=1e-12, atol=1e-15, err_msg=key
      )
  assert not np.any(got[0]['2:dense/kernel'])
  assert np.any(got[0]['1:dense/kernel'])


@pytest.mark.parametrize('bias_correction', [False, True])
def test_thirty_steps_in_float32(bias_correction):
  start, grads = draw()
  config = OptimizerConfig(**LAMB | {'bias_correction': bias_correction})
  expected, _, _ = reference(config, start, grads, warm_up, multiplier)
  narrow = [stacked(grad, jnp.float32) for grad in grads]
  tx = make(config, layerwise=True)
  *_, (params, _) = every_step(tx, stacked(start, jnp.float32), narrow)
  for key, value in unstacked(params).items():
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, expected[key], rtol=1e-6, atol=1e-6)


def test_it_is_optax_lamb_where_that_means_the_same():
  """No stacked layers, nothing excluded, corrected moments, no clipping."""
  rng = np.random.default_rng(1)
  shapes = {'a': (4, 5), 'b': (3, 4, 5), 'c': (6,)}

  def draw_tree():
    return {k: {'kernel': rng.normal(size=s)} for k, s in shapes.items()}

  changes = {'bias_correction': True, 'max_grad_norm': None}
  config = OptimizerConfig(**LAMB | changes)
  start, grads = draw_tree(), [draw_tree() for _ in range(STEPS)]
  with jax.enable_x64(True):
    theirs = optax.lamb(in_jax, eps=EPSILON, weight_decay=0.01)
    ends = []
    for tx in (optimizer.make_optimizer(config, STEPS), theirs):
      *_, (params, _) = every_step(tx, jax.tree.map(jnp.asarray, start), grads)
      ends.append(jax.device_get(params))
  chex.assert_trees_all_close(*ends, rtol=1e-12)
  chex.assert_trees_all_equal_dtypes(*ends)


@pytest.mark.parametrize('bias_correction', [False, True])
@pytest.mark.parametrize('name', ['lamb', 'adamw'])
def test_frozen_means_no_bit_and_no_moment(name, bias_correction):
  """Also where a number is -0, and where the gradient is not finite."""
  start, grads = draw()
  start['0:norm/scale'][:2] = -0.0
  start['predictions/bias'][:2] = -0.0
  grads[0]['predictions/bias'][0] = np.inf
  changes = {'name': name, 'bias_correction': bias_correction}
  config = OptimizerConfig(**LAMB | changes, max_grad_norm=None)
  before = unstacked(stacked(start, jnp.float32))
  narrow = [stacked(grad, jnp.float32) for grad in grads]
  tx = make(config, layerwise=True)
  for step, (params, state) in enumerate(
    every_step(tx, stacked(start, jnp.float32), narrow)
  ):
    after = unstacked(params)
    moments = [
      unstacked(optax.tree_utils.tree_get(state, kind)) for kind in ('mu', 'nu')
    ]
    counts = optax.tree_utils.tree_get(state, 'counts')
    for key, value in after.items():
      is_frozen = multiplier(key, step) == 0
      same = value.view(np.uint32) == before[key].view(np.uint32)
      # The block whose variable and gradient are 0 has no reason to move.
      if is_frozen or key == '2:dense/kernel':
        assert np.all(same), (step, key)
      elif warm_up(step):
        assert not np.any(same), (step, key)
      for kind in moments:
        is_zero = not np.any(kind[key])
        assert is_zero == (is_frozen or key == '2:dense/kernel'), (step, key)
    before = after
    for block in range(BLOCKS):
      expected = step % PHASE if step >= block * PHASE else 0
      assert counts.layers[block] == expected
    assert counts.others == max(0, step + 1 - 2 * PHASE)


def test_a_step_of_zero_begins_anew():
  """What comes behind it does not depend on what was before."""
  start, grads = draw()
  config = OptimizerConfig(**LAMB | {'bias_correction': True})
  narrow = [stacked(grad, jnp.float32) for grad in grads]
  once = Rates(
    in_jax,
    lambda step: jnp.where(jnp.arange(BLOCKS) == 0, step != 4, 1).astype(float),
    lambda step: jnp.ones(()),
  )
  tx = optimizer.make_optimizer(config, STEPS, once)
  one, ends = compiled(tx), []
  for history in (narrow[:4], narrow[10:14]):
    start_here = stacked(start, jnp.float32)
    params, state = start_here, tx.init(start_here)
    for step, grad in enumerate(history):
      params, state = one(params, state, grad, jnp.int32(step))
    params = start_here
    for step in (4, 5, 6):
      params, state = one(params, state, narrow[step], jnp.int32(step))
    ends.append(unstacked(params))
  for key in ends[0]:
    same = np.array_equal(ends[0][key], ends[1][key])
    assert same == (key[0] == '0' or key == '2:dense/kernel'), key


@pytest.mark.parametrize('name', ['lamb', 'adamw'])
def test_a_reset_is_taken_where_other_steps_are_skipped(name):
  """A stage's first step: without it, the next has the old stage's moments."""
  start, grads = draw()
  config = OptimizerConfig(**LAMB | {'name': name, 'bias_correction': True})
  nothing_in_step_1 = Rates(
    in_jax,
    lambda step: jnp.full(BLOCKS, step != 1).astype(float),
    lambda step: (step != 1).astype(float),
  )
  tx = optimizer.make_optimizer(config, STEPS, nothing_in_step_1)

  @jax.jit
  def one(state, grad, value):
    new, metrics = train_step.apply_gradients(state, tx, value, grad)
    return train_step.unless_nonfinite(state, new, metrics, tx)

  params, grad = (stacked(x, jnp.float32) for x in (start, grads[0]))
  bad = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), grad)
  state = train_step.TrainState(
    jnp.int32(0), params, tx.init(params), jax.random.key(0)
  )
  found = [state]
  for gradient, value in ((grad, 1.0), (bad, jnp.nan), (bad, jnp.nan)):
    found.append(one(found[-1], gradient, jnp.float32(value)))
  _, learnt, reset, skipped = found
  for after in (reset, skipped):
    chex.assert_trees_all_equal(after.params, learnt.params)
  assert any(x.any() for x in jax.tree.leaves(learnt.opt_state))
  assert not any(x.any() for x in jax.tree.leaves(reset.opt_state))
  assert [int(state.step) for state in found] == [0, 1, 2, 3]


def test_moments_in_bfloat16():
  start, grads = draw()
  config = OptimizerConfig(**LAMB, moments_dtype='bfloat16')
  expected, _, _ = reference(config, start, grads, warm_up, multiplier)
  narrow = [stacked(grad, jnp.float32) for grad in grads]
  tx = make(config, layerwise=True)
  *_, (params, state) = every_step(tx, stacked(start, jnp.float32), narrow)
  for kind, dtype in (('mu', 'bfloat16'), ('nu', 'float32')):
    moments = optax.tree_utils.tree_get(state, kind)
    assert {str(x.dtype) for x in jax.tree.leaves(moments)} == {dtype}
  for key, value in unstacked(params).items():
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, expected[key], atol=0.02)


MODEL = steps.make_model()
ON_MODEL = Rates(
  lambda step: jnp.float32(0.01),
  lambda step: jnp.asarray([0.1, 3.0]),
  lambda step: jnp.float32(1),
)
TX = optimizer.make_optimizer(OptimizerConfig(**LAMB), 10, ON_MODEL)


def random_grads(index):
  """Gradients of any size, one for each parameter of the small model."""
  rng = np.random.default_rng(index)
  return jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(np.float32),
    steps.draw_params(steps.CONFIG),
  )


@pytest.fixture(scope='module')
def on_one_device():
  params = steps.draw_params(steps.CONFIG)
  state = train_step.TrainState(
    jnp.int32(0), params, TX.init(params), jax.random.key(0)
  )
  step = jax.jit(lambda s, g: train_step.apply_gradients(s, TX, 1.0, g)[0])
  for index in range(3):
    state = step(state, random_grads(index))
  return jax.device_get(state.params)


@pytest.mark.slow
def test_on_a_mesh_norms_are_those_of_whole_variables(on_one_device, tmp_path):
  """And a state that has been on the disk goes on with the same bits."""
  mesh = device_mesh.make_mesh(2, 2, 2)
  abstract, places = train_step.abstract_state(MODEL, TX, mesh)
  divided = [p for p in jax.tree.leaves(places.opt_state) if any(p.spec)]
  assert len(divided) == 2 * sum(
    any(p.spec) for p in jax.tree.leaves(places.params)
  )
  params = steps.draw_params(steps.CONFIG)
  with jax.set_mesh(mesh), Checkpoints(tmp_path) as checkpoints:
    state = train_step.create_state(MODEL, TX, mesh, params, jax.random.key(0))
    step = jax.jit(
      lambda s, g: train_step.apply_gradients(s, TX, 1.0, g)[0],
      out_shardings=places,
    )
    for index in range(3):
      grads = device_mesh.put_tree(random_grads(index), places.params)
      state = step(state, grads)
      if index == 1:
        checkpoints.save(state, {})
        checkpoints.wait()
    restored, _ = checkpoints.restore(abstract)
    again = step(restored, grads)
  got, resumed = (device_mesh.fetch_tree(s.params) for s in (state, again))
  chex.assert_trees_all_equal(got, resumed)
  chex.assert_trees_all_close(got, on_one_device, rtol=1e-6, atol=1e-6)
  counts = optax.tree_utils.tree_get(again.opt_state, 'counts')
  assert counts.layers.tolist() == [3, 3] and counts.others == 3


@pytest.mark.slow
def test_under_pmap():
  """Replicated state, gradients that are added over the devices."""
  start, grads = draw()
  tx = make(OptimizerConfig(**LAMB), layerwise=True)
  params = stacked(start, jnp.float32)
  narrow = [stacked(grad, jnp.float32) for grad in grads[:3]]
  *_, (expected, _) = every_step(tx, params, narrow)
  one = train_step.TrainState(
    jnp.int32(0), params, tx.init(params), jax.random.key(0)
  )
  state = jax.tree.map(lambda x: jnp.stack([x, x]), one)

  def step(state, grads):
    grads = jax.lax.psum(grads, 'devices')
    return train_step.apply_gradients(state, tx, 1.0, grads)[0]

  step = jax.pmap(step, 'devices', devices=jax.devices()[:2])
  for grad in narrow:
    parts = jax.tree.map(lambda g: jnp.stack([0.25 * g, 0.75 * g]), grad)
    state = step(state, parts)
  got = jax.tree.map(lambda x: np.asarray(x[1]), state.params)
  chex.assert_trees_all_close(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_the_trust_ratio_goes_to_each_variable_of_a_real_model():
  """google-research's exclusions, by our names."""
  config = steps.CONFIG
  model = models.MobileBertForPreTraining(config)
  params = models.init_params(model, jax.random.key(0))
  scaled = flatten_dict(optimizer.decay_mask(params), sep='/')
  left = {name for name, is_scaled in scaled.items() if not is_scaled}
  assert {name.rpartition('/')[2] for name in left} == {'bias', 'scale'}
  for name in (
    'predictions/dense/kernel', 'predictions/transform/kernel',
    'mobilebert/embeddings/word_embeddings/embedding',
    'mobilebert/embeddings/position_embeddings/embedding',
    'mobilebert/encoder/layers/attention/query/kernel',
  ):  # fmt: skip
    assert scaled[name], name
  assert 'predictions/bias' in left
  # Each of them is one variable there: a matrix, in each block.
  for name, value in flatten_dict(params, sep='/').items():
    matrix = 2 + ('/layers/' in name)
    assert value.ndim == (matrix if scaled[name] else matrix - 1), name


FLAGS = (
  '--config.optimizer.name=lamb', '--config.optimizer.learning_rate=1e-2',
  '--config.optimizer.bias_correction=false',
  '--config.optimizer.decay_from_start=true',
  '--config.optimizer.end_factor=1e-4',
)  # fmt: skip


# Killed as AdamW's runs are; LAMB's state has the same form.
@pytest.mark.long
@pytest.mark.faults
def test_a_run_with_lamb_killed_at_any_step(runs, whole, tmp_path):
  workdir = tmp_path / 'run'
  for step in (3, 5, 7):
    run = runs.start(workdir, *FLAGS, pause=0.1)
    assert run.wait_for_text(f'^step {step}$'), run.text()
    run.kill()
    assert run.wait() != 0, run.text()
  runs.finish(workdir, *FLAGS)
  faults.assert_same_run(whole, workdir)
  assert 'LAMB, learning rate 0.01' in (workdir / 'report.md').read_text()
