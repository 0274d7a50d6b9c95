"""Logits at the masked positions alone are those of all positions, gathered."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mobilebert_jax import losses, models
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training import optimizer, train_step
from tests.support import marks, packed

ROWS, LENGTH, MOST = 16, 12, 4
NONE = losses.IGNORE_INDEX
# Plain descent: the parameters add up the gradients, wrong factors show.
SGD = optimizer.Optimizer(
  *optax.sgd(0.1), learning_rate=lambda step: jnp.float32(0.1)
)


def make_batch(seed):
  """A batch with labels [B, S], and the same one with gathered labels."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(MOST, LENGTH + 1, ROWS)
  mask = np.arange(LENGTH) < lengths[:, None]
  ids = rng.integers(1, 32, (ROWS, LENGTH)) * mask
  labels = np.full((ROWS, LENGTH), NONE)
  positions = np.zeros((ROWS, MOST), int)
  gathered = np.full((ROWS, MOST), NONE)
  for row, length in enumerate(lengths):
    count = rng.integers(0, MOST + 1)
    chosen = rng.choice(length, count, replace=False)
    labels[row, chosen] = gathered[row, :count] = rng.integers(1, 32, count)
    positions[row, :count] = chosen
  shared = {
    'input_ids': ids,
    'attention_mask': mask,
    'next_sentence_label': rng.integers(0, 2, ROWS),
  }
  whole = {**shared, 'labels': labels}
  few = {**shared, 'labels': gathered, 'masked_positions': positions}
  weights = rng.choice([0.0, 0.5, 1.0, 3.0], ROWS).astype(np.float32)
  return tuple(
    {k: v.astype(np.int32) for k, v in batch.items()} | {'weights': weights}
    for batch in (whole, few)
  )


def loss(head, outputs, batch):
  labels, weights = batch['labels'], batch['weights']
  if head == 'masked_lm':
    return losses.masked_lm_loss(outputs.logits, labels, weights)
  return losses.pretraining_loss(
    outputs.prediction_logits,
    outputs.seq_relationship_logits,
    labels,
    batch['next_sentence_label'],
    weights,
  )


@pytest.mark.parametrize(
  'head', marks.slow_but(('masked_lm',), ('masked_lm', 'pretraining'))
)
def test_logits_and_gradients_are_those_of_all_positions(head):
  model = packed.make_model(head)
  params = packed.make_params(model)

  @jax.jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def objective(params, batch):
    outputs = model.apply({'params': params}, **train_step.model_inputs(batch))
    return losses.total(loss(head, outputs, batch)), outputs

  whole, few = make_batch(0)
  (value, all_of_it), grads = objective(params, whole)
  (gathered_value, outputs), gathered_grads = objective(params, few)
  name = 'logits' if head == 'masked_lm' else 'prediction_logits'
  expected = np.take_along_axis(
    all_of_it[name], few['masked_positions'][..., None], axis=1
  )
  assert outputs[name].shape == (ROWS, MOST, 32)
  scale = float(np.abs(expected).max())
  chex.assert_trees_all_close(outputs[name], expected, atol=1e-6 * scale)
  assert float(gathered_value) == pytest.approx(float(value), rel=1e-6)
  scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(grads))
  chex.assert_trees_all_close(gathered_grads, grads, atol=1e-6 * scale)
  if head == 'pretraining':
    chex.assert_trees_all_close(
      outputs.seq_relationship_logits,
      all_of_it.seq_relationship_logits,
      rtol=1e-6,
    )


def trained(sizes, micro_batches, which):
  """The loss of two steps and the parameters behind them."""
  model = packed.make_model('pretraining')
  devices = jax.devices()[: int(np.prod(sizes))]
  mesh = device_mesh.make_mesh(*sizes, devices=devices)
  found = []
  with jax.set_mesh(mesh):
    params = packed.make_params(model)
    state = train_step.create_state(model, SGD, mesh, params, jax.random.key(2))
    step = train_step.make_train_step(
      model, functools.partial(loss, 'pretraining'), SGD, mesh, micro_batches
    )
    for seed in range(2):
      batch = device_mesh.put_batch(make_batch(seed)[which], mesh)
      state, metrics = step(state, batch)
      found.append(float(metrics['loss']))
  return found, jax.device_get(state.params)


@pytest.mark.slow
def test_training_on_a_mesh_with_accumulation_is_that_of_all_positions():
  """Within a replica of a `vmap`, rows are divided among its devices alone."""
  values, params = trained((1, 1, 1), 1, 0)
  found, gathered = trained((2, 2, 2), 2, 1)
  np.testing.assert_allclose(found, values, rtol=1e-5)
  chex.assert_trees_all_close(gathered, params, rtol=1e-5, atol=1e-6)


def test_positions_of_another_shape_or_for_another_head_are_refused():
  ids = np.ones((2, 5), np.int32)
  model = packed.make_model('masked_lm')
  params = models.abstract_params(model)

  def apply(model, positions):
    shapes = jax.eval_shape(
      lambda p: model.apply(
        {'params': p}, ids, masked_positions=np.zeros(positions, np.int32)
      ),
      params,
    )
    return shapes.logits.shape

  assert apply(model, (2, 3)) == (2, 3, 32)
  for shape in ((3, 3), (2,), (2, 3, 1)):
    with pytest.raises(InputError, match=r'\[batch, positions\] with 2 rows'):
      apply(model, shape)
  with pytest.raises(InputError, match='takes no masked_positions'):
    apply(packed.make_model('tags'), (2, 3))
