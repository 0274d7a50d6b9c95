"""Sharded training equals training on one device, on every kind of mesh.

Without dropout the mesh must not matter at all; with dropout it must not where
the masks are drawn for the whole batch, which is everywhere but in replicas
that add up micro-batches (`train_step.accumulate`).
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from mobilebert_jax import losses, models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import OptimizerConfig
from mobilebert_jax.data.batching import loader
from mobilebert_jax.models import packing
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training import optimizer, train_step
from tests.support import marks, packed

pytestmark = pytest.mark.scale

SIZES = {
  'vocab_size': 48, 'hidden_size': 32, 'embedding_size': 16,
  'num_hidden_layers': 2, 'num_attention_heads': 4,
  'max_position_embeddings': 16,
}  # fmt: skip
# The two architectures' switches, at sizes that compile in seconds.
CONFIGS = {
  'student': MobileBertConfig.mobilebert(
    intra_bottleneck_size=16,
    intermediate_size=32,
    num_feedforward_networks=2,
    **SIZES,
  ),
  'teacher': MobileBertConfig.ib_bert_large(
    intra_bottleneck_size=32, intermediate_size=64, **SIZES
  ),
}
MESHES = ((8, 1, 1), (4, 2, 1), (2, 2, 2), (1, 8, 1), (1, 1, 4))
STEPS, ROWS, LENGTH = 3, 32, 12
# Plain descent: the parameters add up the gradients, so that a wrong factor
# of one of them shows, which Adam would hide.
SGD = optimizer.Optimizer(
  *optax.sgd(0.1), learning_rate=lambda step: jnp.float32(0.1)
)
ADAMW = optimizer.make_optimizer(
  OptimizerConfig(learning_rate=1e-2, warmup_steps=0), 10
)


def make_mesh(sizes):
  return device_mesh.make_mesh(*sizes, devices=jax.devices()[: np.prod(sizes)])


def make_model(name, dropout):
  config = CONFIGS[name].replace(
    hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
  )
  return models.MobileBertForPreTraining(config)


def loss(outputs, batch):
  return losses.pretraining_loss(
    outputs.prediction_logits,
    outputs.seq_relationship_logits,
    batch['labels'],
    batch['next_sentence_label'],
    batch['weights'],
  )


def make_batch(seed):
  """Rows of uneven length, with uneven numbers of labels and weights."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(3, LENGTH + 1, ROWS)
  mask = np.arange(LENGTH) < lengths[:, None]
  ids = rng.integers(1, 48, (ROWS, LENGTH)) * mask
  chosen = rng.random((ROWS, LENGTH)) < rng.random((ROWS, 1))
  return {
    'input_ids': ids.astype(np.int32),
    'attention_mask': mask.astype(np.int32),
    'token_type_ids': np.zeros_like(ids, np.int32),
    'labels': np.where(mask & chosen, ids, -100).astype(np.int32),
    'next_sentence_label': rng.integers(0, 2, ROWS).astype(np.int32),
    'weights': rng.choice([0.0, 0.5, 1.0, 3.0], ROWS).astype(np.float32),
  }


@functools.cache
def run(name, sizes, *, steps=1, dropout=0.0):
  """Losses, gradient norms and the last parameters of a few steps."""
  model, mesh = make_model(name, dropout), make_mesh(sizes)
  values, norms = [], []
  with jax.set_mesh(mesh):
    state = train_step.create_state(
      model, SGD, mesh, jax.random.key(1), jax.random.key(2)
    )
    step = train_step.make_train_step(model, loss, SGD, mesh, steps)
    for index in range(STEPS):
      batch = device_mesh.put_batch(make_batch(index), mesh)
      state, metrics = step(state, batch)
      values.append(float(metrics['loss']))
      norms.append(float(metrics['grad_norm']))
  return np.array(values), np.array(norms), jax.device_get(state.params)


def assert_same(got, expected):
  assert np.all(np.diff(expected[0]) != 0)
  np.testing.assert_allclose(got[0], expected[0], rtol=1e-5)
  np.testing.assert_allclose(got[1], expected[1], rtol=1e-5)
  chex.assert_trees_all_close(got[2], expected[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  ('name', 'sizes'),
  [
    # The teacher's blocks lie as the student's: one mesh of all three axes.
    pytest.param(
      name, sizes,
      marks=[pytest.mark.long] * (name == 'teacher' and sizes != (2, 2, 2)),
    )
    for name in CONFIGS
    for sizes in MESHES
  ],
  ids=str,
)  # fmt: skip
def test_a_mesh_gives_the_numbers_of_one_device(name, sizes):
  assert_same(run(name, sizes), run(name, (1, 1, 1)))


# Each mesh alone, and micro-batches alone, are shown above and by these.
@pytest.mark.parametrize(
  'sizes',
  marks.long_but(((8, 1, 1), (2, 2, 2), (1, 1, 1)), (*MESHES, (1, 1, 1))),
  ids=str,
)
def test_micro_batches_on_a_mesh_are_one_batch(sizes):
  assert_same(run('teacher', sizes, steps=4), run('teacher', (1, 1, 1)))


@pytest.mark.parametrize('sizes', [(4, 2, 1), (2, 2, 2), (1, 1, 4)], ids=str)
def test_dropout_does_not_know_the_mesh(sizes):
  dropped = run('teacher', sizes, dropout=0.1)
  assert_same(dropped, run('teacher', (1, 1, 1), dropout=0.1))
  plain = run('teacher', (1, 1, 1))
  assert not np.allclose(dropped[0], plain[0], rtol=1e-4)


def test_dropout_in_micro_batches_knows_the_replicas_alone():
  one = run('student', (1, 1, 1), steps=4, dropout=0.1)
  assert_same(run('student', (1, 1, 4), steps=4, dropout=0.1), one)
  apart = run('student', (2, 2, 2), steps=4, dropout=0.1)
  assert not np.allclose(apart[0], one[0], rtol=1e-4)
  # Other masks, but masks of the same model on the same data.
  np.testing.assert_allclose(apart[0], one[0], rtol=0.05)


@pytest.mark.parametrize('sizes', [(8, 1, 1), (2, 2, 2)], ids=str)
def test_packed_micro_batches_on_a_mesh_are_one_padded_batch(sizes):
  """Rows with several examples: their weights are those of the whole batch."""
  model = packed.make_model('pretraining')
  features = packed.make_features('pretraining', count=64)

  def losses_of(batching, sizes, steps):
    mesh, values = make_mesh(sizes), []
    batches = loader.train_iterator(
      features, batch_size=64, num_steps=2, seed=1, batching=batching,
      row_multiple=device_mesh.batch_divisor(mesh) * steps,
    )  # fmt: skip
    with jax.set_mesh(mesh):
      state = train_step.create_state(
        model, SGD, mesh, packed.make_params(model), jax.random.key(2)
      )
      step = train_step.make_train_step(
        model, functools.partial(packed.loss, 'pretraining'), SGD, mesh, steps
      )
      for batch in batches:
        assert packing.is_packed(batch) == (batching == 'packed')
        state, metrics = step(state, device_mesh.put_batch(batch, mesh))
        values += [float(metrics['loss']), float(metrics['grad_norm'])]
    return values

  np.testing.assert_allclose(
    losses_of('packed', sizes, 2), losses_of('padded', (1, 1, 1), 1), rtol=1e-5
  )


# Some parameter of each kind -> its parts on data 2 x fsdp 2 x tensor 2.
BLOCK = 'mobilebert/encoder/layers/'
PARTS = {
  'mobilebert/embeddings/word_embeddings/embedding': (48, 8),
  'mobilebert/embeddings/position_embeddings/embedding': (16, 16),
  BLOCK + 'attention/query/kernel': (2, 16, 16),
  BLOCK + 'attention/query/bias': (2, 16),
  BLOCK + 'attention/output/kernel': (2, 16, 16),
  BLOCK + 'attention/output/bias': (2, 32),
  BLOCK + 'feed_forward/ffn_0/intermediate/kernel': (2, 16, 32),
  BLOCK + 'feed_forward/ffn_0/intermediate/bias': (2, 32),
  BLOCK + 'feed_forward/ffn_0/output/kernel': (2, 32, 16),
  BLOCK + 'bottleneck/input/dense/kernel': (2, 16, 32),
  BLOCK + 'output_bottleneck/dense/kernel': (2, 32, 16),
  BLOCK + 'output_bottleneck/norm/scale': (2, 32),
  'mobilebert/pooler/kernel': (16, 32),
  'predictions/dense/kernel': (8, 48),
}


def test_parameters_and_moments_really_lie_in_parts():
  model, mesh = make_model('teacher', 0.0), make_mesh((2, 2, 2))
  with jax.set_mesh(mesh):
    state = train_step.create_state(
      model, ADAMW, mesh, jax.random.key(1), jax.random.key(2)
    )
    step = train_step.make_train_step(model, loss, ADAMW, mesh)
    state, _ = step(state, device_mesh.put_batch(make_batch(0), mesh))
  find = optax.tree_utils.tree_get
  for tree in (
    state.params,
    find(state.opt_state, 'mu'),
    find(state.opt_state, 'nu'),
  ):
    flat = flatten_dict(tree, sep='/')
    for path, shape in PARTS.items():
      shards = flat[path].addressable_shards
      assert {shard.data.shape for shard in shards} == {shape}, path


@pytest.mark.parametrize('sizes', MESHES, ids=str)
def test_drawn_parameters_have_one_devices_bits_on_every_mesh(sizes):
  model, mesh = make_model('teacher', 0.0), make_mesh(sizes)
  state = train_step.create_state(
    model, ADAMW, mesh, jax.random.key(1), jax.random.key(2)
  )
  expected = models.init_params(model, jax.random.key(1))
  chex.assert_trees_all_equal(jax.device_get(state.params), expected)


def test_the_full_teacher_on_eight_devices():
  """294 million parameters: a quarter of each matrix, and whole vectors."""
  model = models.MobileBertModel(MobileBertConfig.ib_bert_large())
  mesh = make_mesh((2, 2, 2))
  abstract, _ = train_step.abstract_state(model, ADAMW, mesh)
  assert models.count_params(abstract.params) == 294_467_840

  def part_bytes(tree):
    return sum(
      np.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
      for leaf in jax.tree.leaves(tree)
    )

  parameters = part_bytes(abstract.params)
  moments = part_bytes(abstract.opt_state)
  assert moments == pytest.approx(2 * parameters, rel=1e-6)
  assert parameters < 0.31 * 4 * 294_467_840
  whole = make_mesh((8, 1, 1))
  replicated, _ = train_step.abstract_state(model, ADAMW, whole)
  assert part_bytes(replicated.params) == 4 * 294_467_840


@pytest.mark.parametrize('steps', [1, 4])
def test_the_step_has_sharding_constraints_on_every_block(steps):
  model, mesh = make_model('teacher', 0.1), make_mesh((2, 2, 2))
  with jax.set_mesh(mesh):
    shapes, _ = train_step.abstract_state(model, SGD, mesh)
    step = train_step.make_train_step(model, loss, SGD, mesh, steps)
    batch = device_mesh.put_batch(make_batch(0), mesh)
    text = step.lower(shapes, batch).as_text()
  assert text.count('sharding_constraint') > 20


@pytest.mark.parametrize(
  ('sizes', 'changes', 'message'),
  [
    ((1, 1, 8), {}, 'config.mesh.tensor is 8, but must divide the 4 attention'),
    (
      (1, 8, 1),
      {'embedding_size': 12},
      r"12 rows along 'embedding' \(config.model.embedding_size\); choose a",
    ),
    (
      (1, 1, 4),
      {'intermediate_size': 30},
      r"30 rows along 'intermediate' \(config.model.intermediate_size\)",
    ),
  ],
)
def test_a_mesh_that_does_not_divide_the_model(sizes, changes, message):
  model = models.MobileBertForMaskedLM(CONFIGS['teacher'].replace(**changes))
  mesh = make_mesh(sizes)
  with pytest.raises(InputError, match=message):
    train_step.check_mesh(model, mesh)
  with pytest.raises(InputError, match=message):
    train_step.abstract_state(model, SGD, mesh)


def test_pmap_gives_the_numbers_of_the_jit_step():
  """The way of `jax.pmap`: replicated state, and sums over the devices."""
  model, devices = make_model('student', 0.0), 8
  gradient = train_step.gradient_fn(model, loss)

  @functools.partial(jax.pmap, axis_name='devices')
  def step(state, batch):
    key = jax.random.fold_in(state.key, jax.lax.axis_index('devices'))
    weights = train_step.total_weights(model, loss, state.params, batch)
    weights = jax.lax.psum(weights, 'devices')
    part = gradient(state.params, batch, weights, key)
    value, grads = jax.lax.psum(part, 'devices')
    return train_step.apply_gradients(state, SGD, value, grads)

  params = models.init_params(model, jax.random.key(1))
  one = train_step.TrainState(
    jnp.int32(0), params, SGD.init(params), jax.random.key(2)
  )
  state = jax.tree.map(lambda x: jnp.stack([x] * devices), one)
  values, norms = [], []
  for index in range(STEPS):
    rows = {
      name: x.reshape(devices, -1, *x.shape[1:])
      for name, x in make_batch(index).items()
    }
    state, metrics = step(state, rows)
    values.append(float(metrics['loss'][0]))
    norms.append(float(metrics['grad_norm'][0]))
  last = jax.tree.map(lambda x: np.asarray(x[-1]), state.params)
  got = np.array(values), np.array(norms), last
  assert_same(got, run('student', (1, 1, 1)))
  assert_same(got, run('student', (8, 1, 1)))


def test_moments_in_bfloat16_learn_as_in_float32():
  model, mesh = make_model('student', 0.0), make_mesh((2, 2, 2))
  curves = {}
  for dtype in ('float32', 'bfloat16'):
    config = OptimizerConfig(learning_rate=3e-3, moments_dtype=dtype)
    tx = optimizer.make_optimizer(config, 60)
    with jax.set_mesh(mesh):
      state = train_step.create_state(
        model, tx, mesh, jax.random.key(1), jax.random.key(2)
      )
      step = train_step.make_train_step(model, loss, tx, mesh)
      batch = device_mesh.put_batch(make_batch(0), mesh)
      values = []
      for _ in range(60):
        state, metrics = step(state, batch)
        values.append(float(metrics['loss']))
    curves[dtype] = np.array(values)
    moments = optax.tree_utils.tree_get(state.opt_state, 'mu')
    assert {str(x.dtype) for x in jax.tree.leaves(moments)} == {dtype}
  assert curves['float32'][-1] < 0.6 * curves['float32'][0]
  assert not np.array_equal(curves['bfloat16'], curves['float32'])
  np.testing.assert_allclose(curves['bfloat16'], curves['float32'], rtol=0.02)
