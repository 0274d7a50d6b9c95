"""Gradients in micro-batches and replicas: what is added, and with which keys.

That they are those of one whole batch: `test_training`, `test_meshes`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training import train_step

STEPS = 3


def fake_gradient(params, batch, weights, key):
  """The 'loss' is drawn from the key, the 'gradient' is the sum of the rows."""
  del params, weights
  return jax.random.uniform(key), {'w': jnp.sum(batch['x'], axis=0)}


def accumulate(mesh, rows=24):
  key = jax.random.key(5)
  params = {'w': jnp.zeros(4)}
  x = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
  places = {'w': jax.NamedSharding(mesh, jax.P('fsdp'))}
  with jax.set_mesh(mesh):
    of_batch = jax.jit(
      train_step.accumulate(fake_gradient, STEPS, mesh, places)
    )
    batch = device_mesh.put_batch({'x': x}, mesh)
    value, grads = of_batch(params, batch, (jnp.float32(1),), key)
  np.testing.assert_array_equal(grads['w'], x.sum(axis=0))
  return float(value)


@pytest.mark.parametrize('sizes', [(1, 2, 4), (2, 2, 2), (8, 1, 1)], ids=str)
def test_each_micro_batch_and_each_replica_has_a_key_of_its_own(sizes):
  key, replicas = jax.random.key(5), sizes[0]
  micro = [jax.random.fold_in(key, index) for index in range(STEPS)]
  keys = micro
  if replicas > 1:
    keys = [jax.random.fold_in(k, n) for k in micro for n in range(replicas)]
  drawn = [float(jax.random.uniform(key)) for key in keys]
  assert len(set(drawn)) == STEPS * replicas
  value = accumulate(device_mesh.make_mesh(*sizes))
  assert value == pytest.approx(sum(drawn), rel=1e-6)


def test_rows_are_divided_as_they_lie_on_the_devices():
  """A micro-batch takes rows of every device, none of which moves."""
  mesh = device_mesh.make_mesh(2, 2, 2)
  seen = []

  def gradient(params, batch, weights, key):
    del params, weights, key
    jax.debug.callback(lambda x: seen.append(np.asarray(x)), batch['x'])
    return jnp.float32(0), {'w': jnp.zeros(2)}

  places = {'w': jax.NamedSharding(mesh, jax.P())}
  with jax.set_mesh(mesh):
    of_batch = train_step.accumulate(gradient, 2, mesh, places)
    batch = device_mesh.put_batch({'x': np.arange(8)}, mesh)
    jax.jit(of_batch)({'w': jnp.zeros(2)}, batch, (), jax.random.key(0))
  jax.effects_barrier()
  assert sorted(map(tuple, seen)) == [(0, 2), (1, 3), (4, 6), (5, 7)]
