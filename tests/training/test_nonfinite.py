"""A step whose loss is not a number leaves weights and moments as they were."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax.training import failures, train_step
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training.run_state import RunState
from tests.support import marks, steps

pytestmark = pytest.mark.faults


def host(state):
  key = jax.random.key_data(state.key)
  return jax.device_get(state.replace(key=key))


@pytest.mark.parametrize('accumulation_steps', [1, 2])
@pytest.mark.parametrize(
  'sizes',
  # Between one device and a mesh of all three axes.
  marks.long_but(((1, 1, 1), (2, 2, 2)), [(1, 1, 1), (8, 1, 1), (2, 2, 2)]),
)
def test_a_nan_in_one_row_of_a_batch_on_any_mesh(sizes, accumulation_steps):
  model, count = steps.make_model(), int(np.prod(sizes))
  mesh = device_mesh.make_mesh(*sizes, devices=jax.devices()[:count])
  with jax.set_mesh(mesh):
    state = train_step.create_state(
      model, steps.ADAMW, mesh, jax.random.key(1), jax.random.key(2)
    )
    step = train_step.make_train_step(
      model, steps.loss, steps.ADAMW, mesh, accumulation_steps, True
    )
    good, bad = steps.make_batch(0), steps.make_batch(1)
    bad['weights'][3] = np.nan
    state, metrics = step(state, device_mesh.put_batch(good, mesh))
    assert failures.nonfinite_problem(jax.device_get(metrics)) is None
    before = host(state)
    state, metrics = step(state, device_mesh.put_batch(bad, mesh))
    assert (
      failures.nonfinite_problem(jax.device_get(metrics)) == 'the loss is nan'
    )
    after = host(state)
    assert (before.step, after.step) == (1, 2)
    chex.assert_trees_all_equal(after.params, before.params)
    chex.assert_trees_all_equal(after.opt_state, before.opt_state)
    state, metrics = step(state, device_mesh.put_batch(good, mesh))
    moved = jax.tree.map(
      lambda a, b: bool(jnp.any(a != b)), host(state).params, before.params
    )
    assert any(jax.tree.leaves(moved))
    chex.assert_tree_all_finite(host(state))


def test_only_so_many_in_a_row():
  run_state = RunState()
  assert [failures.may_skip(run_state) for _ in range(11)] == [True] * 10 + [
    False
  ]
  run_state.skipped_in_a_row = 0
  assert failures.may_skip(run_state) and run_state.skipped_steps == 12
