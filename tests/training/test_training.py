"""The train step: accumulation, meshes, layouts and dtypes give one loss."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mobilebert_jax import models
from mobilebert_jax.training import evaluate, optimizer, train_step
from mobilebert_jax.training import mesh as device_mesh
from tests.support.steps import (
  ADAMW,
  CONFIG,
  draw_params,
  loss,
  make_batch,
  make_model,
)

# Plain descent compiles faster, and hides no wrong factor of the gradient.
SGD = optimizer.Optimizer(
  *optax.sgd(0.5), learning_rate=lambda step: jnp.float32(0.5)
)


def run(model, *, steps=3, mesh=(-1, 1, 1), accumulation_steps=1, tx=SGD):
  """Losses of a few steps, the final parameters and the last metrics."""
  mesh = device_mesh.make_mesh(*mesh)
  params = draw_params(model.config)
  with jax.set_mesh(mesh):
    state = train_step.create_state(model, tx, mesh, params, jax.random.key(2))
    step = train_step.make_train_step(model, loss, tx, mesh, accumulation_steps)
    values = []
    for index in range(steps):
      batch = device_mesh.put_batch(make_batch(index), mesh)
      state, metrics = step(state, batch)
      values.append(float(metrics['loss']))
  assert int(state.step) == steps
  return np.array(values), jax.device_get(state.params), metrics


@pytest.fixture(scope='module')
def baseline():
  return run(make_model())


def assert_same(result, baseline):
  np.testing.assert_allclose(result[0], baseline[0], rtol=1e-5)
  np.testing.assert_allclose(
    result[2]['grad_norm'], baseline[2]['grad_norm'], rtol=1e-5
  )


@pytest.mark.slow
def test_adamw_gives_one_loss_on_two_meshes():
  one, other = (
    run(make_model(), mesh=mesh, tx=ADAMW) for mesh in ((8, 1, 1), (2, 2, 2))
  )
  assert set(one[2]) == {'loss', 'grad_norm', 'learning_rate'}
  assert_same(other, one)


@pytest.mark.parametrize(
  'mesh',
  [
    (2, 4, 1),
    pytest.param((1, 8, 1), marks=pytest.mark.slow),
    pytest.param((4, 1, 2), marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_every_mesh_shape_gives_one_loss(mesh, baseline):
  assert_same(run(make_model(), mesh=mesh), baseline)


@pytest.mark.parametrize(
  'compute',
  [
    {'remat': 'full'},
    pytest.param({'remat': 'dots'}, marks=pytest.mark.slow),
    pytest.param({'layers': 'loop'}, marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_remat_and_loop_give_the_same_loss(compute, baseline):
  assert_same(run(make_model(**compute)), baseline)


def test_accumulation_equals_one_batch_with_uneven_weights(baseline):
  result = run(make_model(), mesh=(2, 2, 2), accumulation_steps=4)
  assert_same(result, baseline)
  # Three steps of plain descent: the parameters add up the gradients.
  chex.assert_trees_all_close(result[1], baseline[1], rtol=1e-5, atol=1e-6)


def test_total_weights_do_not_depend_on_outputs():
  model, batch = make_model(), make_batch()
  params = draw_params(CONFIG)
  (weight,) = train_step.total_weights(model, loss, params, batch)
  assert float(weight) == pytest.approx(batch['weights'].sum())


@pytest.mark.slow
def test_dropout_follows_the_key_alone():
  """The same on another mesh; another in each micro-batch."""
  config = CONFIG.replace(hidden_dropout_prob=0.3)
  one, other = run(make_model(config)), run(make_model(config), mesh=(2, 2, 2))
  np.testing.assert_allclose(one[0], other[0], rtol=1e-5)
  micro = run(make_model(config), accumulation_steps=4)
  assert not np.allclose(micro[0], one[0], rtol=1e-4)


@pytest.mark.slow
def test_bfloat16_keeps_parameters_and_loss_in_float32(baseline):
  values, params, metrics = run(make_model(dtype='bfloat16'))
  assert metrics['loss'].dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {
    np.dtype(np.float32)
  }
  np.testing.assert_allclose(values, baseline[0], rtol=5e-2)


@pytest.mark.slow
def test_the_state_keeps_its_layout_and_the_callers_parameters():
  mesh = device_mesh.make_mesh(2, 4, 1)
  model = make_model()
  params = draw_params(CONFIG)
  _, places = train_step.abstract_state(model, ADAMW, mesh)
  with jax.set_mesh(mesh):
    state = train_step.create_state(
      model, ADAMW, mesh, params, jax.random.key(2)
    )
    step = train_step.make_train_step(model, loss, ADAMW, mesh)
    old = state.params['classifier']['bias']
    state, _ = step(state, device_mesh.put_batch(make_batch(), mesh))
  assert old.is_deleted()
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))
  for leaf, place in zip(jax.tree.leaves(state), jax.tree.leaves(places)):
    assert leaf.sharding.is_equivalent_to(place, leaf.ndim)
  divided = [p for p in jax.tree.leaves(places.params) if any(p.spec)]
  assert divided


def test_the_step_has_sharding_constraints():
  mesh = device_mesh.make_mesh()
  model = make_model()
  shapes, _ = train_step.abstract_state(model, ADAMW, mesh)
  with jax.set_mesh(mesh):
    step = train_step.make_train_step(model, loss, ADAMW, mesh)
    batch = device_mesh.put_batch(make_batch(), mesh)
    assert 'sharding_constraint' in step.lower(shapes, batch).as_text()


def test_eval_step_has_no_dropout_and_needs_no_labels():
  model = make_model(CONFIG.replace(hidden_dropout_prob=0.5))
  params = models.init_params(model, jax.random.key(0))
  step = evaluate.make_eval_step(
    model, lambda outputs, batch: {'logits': outputs.logits}, None
  )
  batch = make_batch()
  del batch['labels']
  predictions, terms = step(params, batch)
  again, _ = step(params, batch)
  assert terms == ()
  chex.assert_shape(predictions['logits'], (32, 3))
  np.testing.assert_array_equal(predictions['logits'], again['logits'])
