"""Stages compute what their loss needs and no more; seen as they are traced."""

from unittest import mock

import jax
import pytest

from mobilebert_jax import models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.distillation import blocks, losses, transfer
from mobilebert_jax.models import packing
from tests.support import distilling
from tests.support.objectives import (
  AUXILIARY,
  EVERY,
  aims_of,
  stage_of,
)


@pytest.fixture(scope='module')
def four():
  """Both models and the shapes of their parameters."""
  built = [
    models.MobileBertForMaskedLM(MobileBertConfig(**config))
    for config in (distilling.STUDENT, distilling.TEACHER)
  ]
  return (*built, *map(models.abstract_params, built))


def traced(stage, settings, models_):
  """Names of a stage's terms, without computing anything."""
  aims = aims_of(stage, settings, models_)
  batch = distilling.batch()

  def run(params, teacher_params, key):
    outputs = aims.forward(params, teacher_params, batch, key)
    found, told = aims.terms(outputs, packing.per_example(batch))
    return {name: term.sum for name, term in (found | told).items()}

  shapes = jax.eval_shape(run, *models_[2:], jax.random.key(0))
  return set(shapes)


def calls_of(function):
  """Which models a function of `blocks` was called with, in order."""
  return [call.args[0] for call in function.call_args_list]


@pytest.mark.parametrize('stage', [EVERY, stage_of(0)], ids=['all', 'one'])
def test_a_term_that_is_off_is_not_computed(stage, four):
  """Neither what is compared nor what only it needs."""
  settings = distilling.settings(attention=0.0, mean=0.0, variance=0.0)
  with (
    mock.patch.object(losses, 'attention') as attention,
    mock.patch.object(losses, 'moments') as moments,
    mock.patch.object(blocks, 'run_one', wraps=blocks.run_one) as run_one,
  ):
    assert traced(stage, settings, four) == {'feature_map'}
  assert not attention.called and not moments.called
  assert run_one.called
  assert not any(call.args[-1] for call in run_one.call_args_list)
  settings = distilling.settings(
    feature_map=0.0, variance=0.0, teacher_average_statistics=True
  )
  with mock.patch.object(transfer.losses, 'feature_map') as feature_map:
    assert traced(stage, settings, four) == {'attention', 'mean'}
  assert not feature_map.called


def test_labels_of_the_data_alone_need_no_head_of_the_teacher(four):
  """Its layers are compared; what is behind the last of them is not run."""
  student, teacher, *_ = four
  settings = distilling.settings(
    strategy='auxiliary', transfer_steps=0, ground_truth_ratio=1.0,
    teacher_layers=(0, 1),
  )  # fmt: skip
  with (
    mock.patch.object(blocks, 'apply_head', wraps=blocks.apply_head) as head,
    mock.patch.object(blocks, 'run', wraps=blocks.run) as run,
  ):
    names = traced(AUXILIARY, settings, four)
  assert names == {'feature_map', 'attention', 'mean', 'variance', 'masked_lm'}
  assert calls_of(head) == [student]
  counts = [
    jax.tree.leaves(call.args[1])[0].shape[0]
    for call in run.call_args_list
    if call.args[0] is teacher
  ]
  assert set(counts) <= {0, 1}


@pytest.mark.parametrize('stage', [EVERY, AUXILIARY, stage_of(0)])
def test_statistics_of_all_layers_take_one_pass_of_the_teacher(stage, four):
  teacher = four[1]
  settings = distilling.settings(teacher_average_statistics=True)
  with mock.patch.object(blocks, 'embed', wraps=blocks.embed) as embed:
    traced(stage, settings, four)
  models = calls_of(embed)
  assert len(models) == 2 and teacher in models
