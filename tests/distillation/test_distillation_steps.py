"""Single steps of stages: what they move, and when they give the teacher up."""

import contextlib
import gc
import weakref
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax.distillation import method as distillation_method
from mobilebert_jax.distillation.method import DISTILLATION
from mobilebert_jax.distillation.teacher import Teacher
from mobilebert_jax.training import mesh, setup, train_step
from mobilebert_jax.training.workdir import Workdir
from tests.support import distilling, one_device


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  return distilling.write(tmp_path_factory.mktemp('steps'))


@contextlib.contextmanager
def begun(place, workdir, dropout='hash', **distillation):
  """The steps of a run, two stages of four; its first state and batch."""
  config = distilling.config(
    place, attention_dropout=dropout, distillation=distillation
  )
  with one_device.used():
    run = setup.build(config, Workdir(workdir), False, DISTILLATION)
  with jax.set_mesh(run.mesh):
    batch = mesh.put_batch(next(run.batches), run.mesh)
    yield run.method, drawn(run, run.method.optimizer), batch


def drawn(run, tx):
  """A state whose parameters take no compilation."""
  rng, model = np.random.default_rng(0), run.start.model
  params = jax.tree.map(
    lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(leaf.dtype),
    models.abstract_params(model),
  )
  return train_step.create_state(model, tx, run.mesh, params, jax.random.key(0))


def moved(method, state, batch, number):
  """Which parts of the parameters the step of a number moves."""
  state = state.replace(step=jnp.int32(number - 1))
  before = jax.device_get(state.params)
  after = jax.device_get(method.step(number)(state, batch)[0].params)
  pairs = jax.tree.map(lambda a, b: (a, b), before, after)
  layers = pairs['mobilebert'].pop('encoder')['layers']
  found = {
    'embeddings': pairs['mobilebert']['embeddings'],
    'head': pairs['predictions'],
    **{
      layer: jax.tree.map(lambda x, layer=layer: x[layer], layers)
      for layer in (0, 1)
    },
  }

  def differs(part):
    leaves = jax.tree.leaves(part)
    return any(map(np.any, map(np.not_equal, leaves[::2], leaves[1::2])))

  return {name for name, part in found.items() if differs(part)}


@pytest.mark.slow
def test_embeddings_learn_in_a_transfer_and_heads_do_not(place, tmp_path):
  """Not even by decay, though what is not a block has a rate then."""
  with begun(place, tmp_path / 'run', train_embeddings=True) as (method, *rest):
    assert moved(method, *rest, number=2) == {'embeddings', 0}


def test_earlier_layers_that_are_frozen_keep_every_bit(place, tmp_path):
  with begun(place, tmp_path / 'run', previous_layers=0.0) as (method, *rest):
    assert moved(method, *rest, number=6) == {1}


@pytest.mark.slow
def test_labels_alone_have_dropout_and_give_the_teacher_up(
  place, tmp_path, monkeypatch
):
  # A step that has options for the compiler cannot be traced in another one.
  for module in (distillation_method, train_step):
    monkeypatch.setattr(module, 'compiler_options', lambda *_: None)
  placed, put = [], Teacher.place

  def note(self, *args):
    params = put(self, *args)
    placed.append(weakref.ref(jax.tree.leaves(params)[0]))
    return params

  with (
    mock.patch.object(Teacher, 'place', note),
    begun(
      place, tmp_path / 'run', 'random', ground_truth_ratio=1.0
    ) as (method, state, batch),
  ):  # fmt: skip
    transfer = method.step(8)
    (ref,) = placed
    assert ref() is not None
    assert 'random_bits' not in str(jax.make_jaxpr(transfer)(state, batch))
    del transfer
    distillation = method.step(9)
    gc.collect()
    assert ref() is None
    assert 'random_bits' in str(jax.make_jaxpr(distillation)(state, batch))
