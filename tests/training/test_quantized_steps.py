"""Steps of a quantised model: on any mesh, in micro-batches; what they win."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mobilebert_jax import losses, models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.inference import equalization, folding
from mobilebert_jax.inference.quantized_model import quantized
from mobilebert_jax.training import calibration, train_step
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training.optimizer import Optimizer
from tests.support import served

# Each compiles a whole step.
pytestmark = pytest.mark.slow

HEAD = models.MobileBertForSequenceClassification
SGD = Optimizer(*optax.sgd(0.1), learning_rate=lambda step: jnp.float32(0.1))
ROWS, LENGTH = 16, 8


def loss(outputs, batch):
  return losses.classification_loss(
    outputs.logits, batch['labels'], weights=batch['weights']
  )


def make_batch(seed):
  batch = served.make_batch(HEAD.__name__, rows=ROWS, length=LENGTH, seed=seed)
  batch['attention_mask'][:, :3] = 1
  labels = np.arange(ROWS, dtype=np.int32) % 2
  return batch | {'labels': labels, 'weights': np.ones(ROWS, np.float32)}


def inputs_of(batch):
  return train_step.model_inputs(batch)


@functools.cache
def run(sizes, steps=1):
  """Losses and last parameters of three steps, in float64."""
  model, params = served.make(HEAD.__name__, num_hidden_layers=1)
  constants = calibration.measure(
    model, params, 'int8', [inputs_of(make_batch(0))]
  )
  model = quantized(model, constants)
  mesh = device_mesh.make_mesh(*sizes, devices=jax.devices()[: np.prod(sizes)])
  values = []
  with jax.set_mesh(mesh):
    state = train_step.create_state(model, SGD, mesh, params, jax.random.key(2))
    step = train_step.make_train_step(model, loss, SGD, mesh, steps)
    for seed in range(3):
      batch = device_mesh.put_batch(make_batch(seed), mesh)
      state, metrics = step(state, batch)
      values.append(float(metrics['loss']))
  return np.array(values), jax.device_get(state.params)


@pytest.mark.parametrize(
  'sizes, steps', [((2, 2, 2), 1), ((4, 2, 1), 2), ((1, 1, 2), 1)], ids=str
)
def test_a_mesh_and_micro_batches_give_the_numbers_of_one_device(sizes, steps):
  """In float64, where no sum's order brings a value to another integer."""
  with jax.enable_x64(True):
    values, params = run(sizes, steps)
    wanted, wanted_params = run((1, 1, 1))
  assert np.all(np.diff(wanted) != 0)
  np.testing.assert_allclose(values, wanted, rtol=1e-6)
  for mine, theirs in zip(
    jax.tree.leaves(params), jax.tree.leaves(wanted_params)
  ):
    np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-8)


# How much each word counts.
WORTH = np.random.default_rng(4).normal(size=40)


def task_batch(rng):
  """Texts whose label is whether their words together are worth something."""
  ids = rng.integers(1, 40, (128, LENGTH))
  return {
    'input_ids': ids.astype(np.int32),
    'attention_mask': np.ones_like(ids, np.int32),
    'token_type_ids': np.zeros_like(ids, np.int32),
    'labels': (WORTH[ids].sum(1) > 0).astype(np.int32),
    'weights': np.ones(128, np.float32),
  }


def learn(model, params, steps, rate):
  """Adam on fresh batches."""
  tx = optax.adam(rate)

  @jax.jit
  def step(params, state, batch):
    def value(params):
      outputs = model.apply({'params': params}, **inputs_of(batch))
      return losses.total(loss(outputs, batch))

    grads = jax.grad(value)(params)
    updates, state = tx.update(grads, state)
    return optax.apply_updates(params, updates), state

  state, rng = tx.init(params), np.random.default_rng(1)
  for _ in range(steps):
    params, state = step(params, state, task_batch(rng))
  return params


def score(model, params):
  """Accuracy and loss on 512 texts."""

  @jax.jit
  def evaluate(batch):
    outputs = model.apply({'params': params}, **inputs_of(batch))
    right = outputs.logits.argmax(-1) == batch['labels']
    return right.mean(), losses.total(loss(outputs, batch))

  rng = np.random.default_rng(2)
  return np.mean([evaluate(task_batch(rng)) for _ in range(8)], axis=0)


def test_training_regains_what_int4_loses():
  """Of channels whose ranges differ, on purpose, by some powers of two."""
  config = MobileBertConfig(
    **served.TINY | {'num_hidden_layers': 1, 'hidden_dropout_prob': 0.0},
    initializer_range=0.2,
  )
  model, head = HEAD(config), HEAD.__name__
  params = learn(model, models.init_params(model, jax.random.key(0)), 200, 5e-3)
  params = jax.tree.map(np.asarray, params)
  examples = [inputs_of(task_batch(np.random.default_rng(3)))]
  means = folding.measure_means(head, config, params, examples)
  rng = np.random.default_rng(5)
  wild = {
    name: 2.0 ** np.round(rng.normal(0, 2, mean.shape))
    for name, mean in means.items()
    if name in equalization.free(config).scales
  }
  params = equalization.rescale(config, params, wild)
  constants = calibration.measure(model, params, 'int4x8', examples)
  rounded = quantized(model, constants)
  accuracy, wanted = score(model, params)
  before, lost = score(rounded, params)
  # At a rate that stays high the last step is as good as a draw.
  rate = optax.linear_schedule(5e-3, 0.0, 200)
  after, regained = score(rounded, learn(rounded, params, 200, rate))
  assert accuracy > 0.97
  assert before < accuracy - 0.03
  assert after > accuracy - 0.005
  assert regained - wanted < 0.1 * (lost - wanted)
