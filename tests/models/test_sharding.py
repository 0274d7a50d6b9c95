"""Axis names, rules and meshes (training on meshes: `test_training`)."""

import jax
import numpy as np
import pytest

import mobilebert_jax as mb
from mobilebert_jax import models
from mobilebert_jax.models import partitioning
from mobilebert_jax.training import mesh as device_mesh
from tests.support import cases

CONFIG = mb.MobileBertConfig(**cases.SMALL)


def boxed(config=CONFIG):
  model = mb.MobileBertForPreTraining(config)

  def init():
    return models.init_boxed(model, jax.random.key(0))

  return jax.eval_shape(init)


@pytest.mark.parametrize('name', cases.flag_cases())
def test_every_parameter_names_every_axis(name):
  config = mb.MobileBertConfig(**{**cases.SMALL, **cases.flag_cases()[name]})
  import flax.linen as nn

  tree = boxed(config)
  leaves = jax.tree.leaves(
    tree, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
  )
  for leaf in leaves:
    assert isinstance(leaf, nn.LogicallyPartitioned)
    assert len(leaf.names) == len(leaf.value.shape)
    assert None not in leaf.names
    assert len(set(leaf.names)) == len(leaf.names)


def test_unknown_axis_is_refused():
  with pytest.raises(mb.InputError, match="'hiden' is no logical axis"):
    partitioning.partition_spec(('hiden',))
  with pytest.raises(mb.InputError, match='the axes are'):
    partitioning.partitioned(jax.nn.initializers.zeros, ('vocabulary',))
  with pytest.raises(mb.InputError):
    partitioning.constrain(np.ones((2, 2)), 'batch', 'nope')


def test_rules_name_mesh_axes():
  for rule in partitioning.RULES.values():
    names = (rule,) if isinstance(rule, str) else rule or ()
    assert set(names) <= set(partitioning.MESH_AXES)


@pytest.mark.parametrize(
  'sizes', [(-1, 1, 1), (2, 2, 2), (1, -1, 2), (1, 8, 1), (1, 2, 4)]
)
def test_parameters_are_divided_as_the_rules_say(sizes):
  mesh = device_mesh.make_mesh(*sizes)
  assert mesh.size == 8
  config = CONFIG.replace(embedding_size=16)
  shardings = device_mesh.state_shardings(boxed(config), mesh)
  query = shardings['mobilebert']['encoder']['layers']['attention']['query']
  # Keys and queries read the bottleneck: only the heads' axis is divided.
  assert query['kernel'].spec == jax.P(None, None, 'tensor')
  dense = shardings['mobilebert']['pooler']['kernel']
  assert dense.spec == jax.P('fsdp', None)
  word = shardings['mobilebert']['embeddings']['word_embeddings']['embedding']
  assert word.spec == jax.P(None, 'fsdp')


def test_activations_are_constrained_only_on_our_mesh():
  model = mb.MobileBertForPreTraining(CONFIG)
  params = models.abstract_params(model)
  ids = jax.ShapeDtypeStruct((8, 7), np.int32)

  def constraints():
    apply = jax.jit(lambda p, ids: model.apply({'params': p}, ids))
    return apply.lower(params, ids).as_text().count('sharding_constraint')

  assert constraints() == 0
  with jax.set_mesh(device_mesh.make_mesh()):
    # Three tables and their sum; the head's two tables and its logits; in the
    # scanned block two bottlenecks, query, key, value and output of attention,
    # two in each of three feed-forward networks, and the block's result.
    assert constraints() == 20


@pytest.mark.parametrize(
  'sizes,message',
  [
    ((3, 1, 1), 'number of devices'),
    ((-1, 3, 1), 'number of devices'),
    ((-1, -1, 1), 'one of them'),
    ((0, 1, 1), 'at least 1'),
  ],
)
def test_wrong_mesh(sizes, message):
  with pytest.raises(mb.InputError, match=message):
    device_mesh.make_mesh(*sizes)


def test_a_mesh_of_given_devices():
  devices = jax.devices()[2:6]
  mesh = device_mesh.make_mesh(2, 1, -1, devices=devices)
  assert mesh.devices.shape == (2, 1, 2)
  assert set(mesh.devices.flat) == set(devices)
  with pytest.raises(mb.InputError, match='number of devices, 4'):
    device_mesh.make_mesh(8, devices=devices)


def test_mesh_that_does_not_divide_a_parameter():
  config = CONFIG.replace(intermediate_size=27)
  with pytest.raises(mb.InputError, match="27 rows along 'intermediate'"):
    device_mesh.state_shardings(boxed(config), device_mesh.make_mesh(1, 1, 8))


def test_put_batch_divides_rows():
  mesh = device_mesh.make_mesh(4, 2, 1)
  batch = device_mesh.put_batch({'x': np.arange(16).reshape(8, 2)}, mesh)
  shards = batch['x'].addressable_shards
  assert {shard.data.shape for shard in shards} == {(1, 2)}
  np.testing.assert_array_equal(batch['x'], np.arange(16).reshape(8, 2))
  assert device_mesh.batch_divisor(mesh) == 8
