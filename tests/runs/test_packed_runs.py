"""Packed, bucketed and padded runs: the same steps and the same scores."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mobilebert_jax.config import configure
from mobilebert_jax.config.run import DataConfig, TrainConfig
from mobilebert_jax.data.batching import loader
from mobilebert_jax.models import partitioning
from mobilebert_jax.tasks.task import Task
from mobilebert_jax.training import (
  evaluate,
  loop,
  optimizer,
  scoring,
  train_step,
)
from mobilebert_jax.training import mesh as device_mesh
from tests.support import packed, tiny

# Whole runs.
pytestmark = pytest.mark.slow

# Plain descent: the parameters add up the gradients.
SGD = optimizer.Optimizer(
  *optax.sgd(0.5), learning_rate=lambda step: jnp.float32(0.5)
)
MODES = ('bucketed', 'packed', 'padded')


def make_task(head, seen=None):
  """A task on `packed`'s examples; `seen` gets the predictions it scores."""

  def predict(outputs, batch):
    if head == 'spans':
      return {'start': outputs.start_logits, 'end': outputs.end_logits}
    if head == 'pretraining':
      return {
        'tokens': outputs.prediction_logits,
        'pairs': outputs.seq_relationship_logits,
      }
    del batch
    return {'logits': outputs.logits}

  def score(predictions, examples, features):
    del examples
    seen.update(predictions)
    if head == 'spans':
      best = predictions['start'].argmax(axis=-1)
      return {'accuracy': np.mean(best == features.scalars['start_positions'])}
    if head == 'pretraining':
      best = predictions['pairs'].argmax(axis=-1)
      labels = features.scalars['next_sentence_label']
      return {'accuracy': np.mean(best == labels)}
    best = predictions['logits'].argmax(axis=-1)
    return {'accuracy': np.mean(best == features.scalars['labels'])}

  def not_called(*args):
    raise AssertionError(args)

  return Task(
    name=head,
    head=packed.HEADS[head],
    labels=(),
    primary_metric='validation/accuracy',
    load=not_called,
    encode=not_called,
    loss=functools.partial(packed.loss, head),
    predict=predict,
    score=score,
    write_predictions=not_called,
    texts=not_called,
    outcomes=not_called,
    dummy_examples=not_called,
    token_outputs=frozenset({'tokens'} if head == 'pretraining' else ()),
  )


def mesh_of(devices):
  """A data-parallel mesh over the first devices."""
  return jax.make_mesh(
    (devices, 1, 1),
    partitioning.MESH_AXES,
    axis_types=(jax.sharding.AxisType.Auto,) * 3,
    devices=jax.devices()[:devices],
  )


def evaluated(head, batching, size, devices):
  """Predictions and scores of 45 examples."""
  model = packed.make_model(head)
  config = TrainConfig(
    task=head,
    num_steps=1,
    eval_batch_size=size,
    data=DataConfig(
      batching=batching, max_length=packed.MAX_LENGTH, buckets=(8, 16)
    ),
  )
  features = packed.make_features(head, count=45)
  split = evaluate.Split('validation', (None,) * 45, features)
  mesh, seen = mesh_of(devices), {}
  with jax.set_mesh(mesh):
    evaluator = evaluate.Evaluator(make_task(head, seen), model, mesh, config)
    params = jax.device_put(
      packed.make_params(model),
      jax.NamedSharding(mesh, jax.sharding.PartitionSpec()),
    )
    return seen, evaluator.scores(params, [split])


def assert_same_evaluation(got, expected):
  assert got[0].keys() == expected[0].keys()
  for name, value in expected[0].items():
    assert got[0][name].shape == value.shape
    scale = np.abs(value).max()
    np.testing.assert_allclose(got[0][name], value, atol=1e-5 * scale)
  loss, accuracy = 'validation/loss', 'validation/accuracy'
  assert got[1][loss] == pytest.approx(expected[1][loss], rel=1e-5)
  assert got[1][accuracy] == expected[1][accuracy]
  assert 0 < got[1][accuracy] < 1


@pytest.fixture(scope='module')
def alone():
  """Each example in a batch of its own, padded to `max_length`."""
  return functools.cache(lambda head: evaluated(head, 'padded', 1, 1))


@pytest.mark.parametrize(
  ('size', 'devices'),
  [
    (7, 1),
    (1, 8),
    (7, 8),
    (32, 8),
    pytest.param(1, 1, marks=pytest.mark.long),
    pytest.param(32, 1, marks=pytest.mark.long),
  ],
)
@pytest.mark.parametrize('batching', MODES)
def test_every_way_of_batching_gives_one_evaluation(
  alone, batching, size, devices
):
  expected = alone('classification')
  assert_same_evaluation(
    evaluated('classification', batching, size, devices), expected
  )


@pytest.mark.parametrize(
  ('head', 'batching', 'size', 'devices'),
  [
    ('spans', 'packed', 7, 8),
    ('spans', 'bucketed', 32, 1),
    ('choice', 'packed', 7, 1),
    ('choice', 'bucketed', 7, 8),
  ],
)
def test_spans_and_choices_are_put_together_again(
  alone, head, batching, size, devices
):
  expected = alone(head)
  if head == 'spans':
    lengths = packed.make_features(head, count=45).lengths()
    starts = expected[0]['start']
    assert starts.shape == (45, lengths.max())
    behind = np.arange(starts.shape[1]) >= lengths[:, None]
    np.testing.assert_array_equal(starts != 0, ~behind)
  assert_same_evaluation(evaluated(head, batching, size, devices), expected)


@pytest.mark.parametrize(
  ('batching', 'size', 'devices'), [('packed', 7, 8), ('bucketed', 32, 1)]
)
def test_each_kind_of_a_head_with_both_is_put_together_again(
  alone, batching, size, devices
):
  expected = alone('pretraining')
  shapes = {name: value.shape for name, value in expected[0].items()}
  longest = packed.make_features('pretraining', count=45).lengths().max()
  assert shapes == {'tokens': (45, longest, 32), 'pairs': (45, 2)}
  got = evaluated('pretraining', batching, size, devices)
  assert_same_evaluation(got, expected)


def test_a_task_names_its_token_outputs_if_its_head_has_both_kinds():
  for head, names in (('pretraining', ()), ('choice', ('tokens',))):
    with pytest.raises(ValueError, match="if there are 'both' kinds, and only"):
      dataclasses.replace(make_task(head), token_outputs=frozenset(names))


def trained(batching, *, mesh=(8, 1, 1), accumulation_steps=1, head='choice'):
  """Losses and parameters of two steps, and how many rows they have."""
  # As many examples as a batch has: every step has the same shape.
  features = packed.make_features(head, count=32)
  model = packed.make_model(head)
  mesh = device_mesh.make_mesh(*mesh)
  batches = loader.train_iterator(
    features,
    batch_size=32,
    num_steps=2,
    seed=1,
    batching=batching,
    row_multiple=device_mesh.batch_divisor(mesh) * accumulation_steps,
  )
  params = jax.tree.map(jnp.asarray, packed.make_params(model))
  task_loss = functools.partial(packed.loss, head)
  values, rows = [], []
  with jax.set_mesh(mesh):
    state = train_step.create_state(model, SGD, mesh, params, jax.random.key(2))
    step = train_step.make_train_step(
      model, task_loss, SGD, mesh, accumulation_steps
    )
    for batch in batches:
      rows.append(len(batch['input_ids']))
      state, metrics = step(state, device_mesh.put_batch(batch, mesh))
      values.append(float(metrics['loss']))
  return np.array(values), jax.device_get(state.params), rows


@pytest.fixture(scope='module')
def padded_steps():
  return trained('padded')


@pytest.mark.parametrize(
  'settings',
  [
    {},
    {'mesh': (2, 2, 2), 'accumulation_steps': 2},
  ],
  ids=str,
)
def test_packed_steps_are_padded_steps(settings, padded_steps):
  values, params, rows = trained('packed', **settings)
  assert max(rows) < 32
  np.testing.assert_allclose(values, padded_steps[0], rtol=1e-5)
  chex.assert_trees_all_close(params, padded_steps[1], rtol=1e-4, atol=1e-5)


def test_devices_that_divide_the_rows_say_nothing_while_pooling():
  """The forward pass of a packed batch needs no communication."""
  model = packed.make_model('classification')
  mesh = mesh_of(8)
  batch, _ = packed.batch_of(
    packed.make_features(count=32), 'packed', row_multiple=8
  )
  task = make_task('classification')
  with jax.set_mesh(mesh):
    step = evaluate.make_eval_step(model, task.predict, None)
    params = jax.device_put(
      packed.make_params(model),
      jax.NamedSharding(mesh, jax.sharding.PartitionSpec()),
    )
    program = step.lower(params, device_mesh.put_batch(batch, mesh)).compile()
  for word in ('all-gather', 'all-to-all', 'collective-permute', 'all-reduce'):
    assert word not in program.as_text()


def test_a_packed_run_is_evaluated_alike_when_padded(tmp_path):
  path = tiny.write(tmp_path)

  def config(batching):
    argv = [
      f'--config.data.batching={batching}',
      '--config.data.max_length=16',
      '--config.model.max_position_embeddings=16',
      '--config.num_steps=2',
    ]
    return configure(path, argv)

  results = loop.train(config('packed'), tmp_path / 'run')
  scores = scoring.score(config('padded'), tmp_path / 'run' / 'model')
  best = {name: results['best'][name] for name in scores}
  assert 'validation/accuracy' in scores
  assert scores == pytest.approx(best, rel=1e-5)
