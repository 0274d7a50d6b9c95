"""Objectives of tiny pairs of models, and their values by hand."""

import functools

import jax
import numpy as np

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.distillation import objective, transfer
from mobilebert_jax.distillation.objective import Objective
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.distillation.teacher import layers_of
from mobilebert_jax.models import packing
from mobilebert_jax.tasks import TASKS
from tests.support.distilling_by_hand import norm, softmax

EVERY = Stage(0, (0, 1), False, 0, 2)

DISTILLATION = Stage(1, (), True, 2, 2)

AUXILIARY = Stage(0, (0, 1), True, 0, 2)


def stage_of(layer):
  return Stage(layer, (layer,), False, 0, 2)


def task(name='masked_lm', **options):
  data = DataConfig(source='files', path='x')
  return TASKS[name].make_task(options, data)


def aims_of(stage, settings, models_, layers=None, task_=None):
  student, teacher, *_ = models_
  layers = layers or layers_of(
    settings, student.config.num_hidden_layers,
    teacher.config.num_hidden_layers,
  )  # fmt: skip
  pair = transfer.Pair(student, teacher, layers, settings)
  return Objective(pair, task_ or task(), stage)


def value_of(stage, settings, models_, batch, task_=None):
  """The loss of a stage and the mean of each of its terms."""
  aims = aims_of(stage, settings, models_, task_=task_)

  @jax.jit
  def run(params, teacher_params, batch):
    outputs = aims.forward(params, teacher_params, batch, jax.random.key(0))
    found, told = aims.terms(outputs, packing.per_example(batch))
    means = {n: t.sum / t.weight for n, t in (found | told).items()}
    return sum(t.scale * means[n] for n, t in found.items()), means

  return run(*models_[2:], batch)


def gradient_of(stage, settings, models_, batch):
  """((loss, means), gradient) of a stage, as a step has them."""
  aims = aims_of(stage, settings, models_)

  @jax.jit
  def run(params, teacher_params, batch):
    gradient = objective.gradient_fn(aims, teacher_params)
    weights = aims.weights(params, teacher_params, batch)
    return gradient(params, batch, weights, jax.random.key(0))

  return run(*models_[2:], batch)


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, inputs):
  return model.apply(
    {'params': params},
    **inputs,
    output_hidden_states=True,
    output_attention_scores=True,
  )


@functools.partial(jax.jit, static_argnums=0)
def apply_head(model, params, hidden, positions):
  return model.apply(
    {'params': params},
    hidden,
    masked_positions=positions,
    method='from_hidden',
  )[0]


def inputs_of(batch, *more):
  names = ('input_ids', 'attention_mask', 'token_type_ids', *more)
  return {name: batch[name] for name in names}


def wide(tree):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def expected_means(settings, models_, batch, layers, taught):
  """Every term's mean over the taught layers, by the formulas."""
  student, teacher, params, teacher_params = models_
  own = apply(student, params, inputs_of(batch))
  s, s_scores = wide((own.hidden_states, own.attention_scores))
  theirs = apply(teacher, teacher_params, inputs_of(batch))
  t, t_scores = wide((theirs.hidden_states, theirs.attention_scores))
  mask = batch['attention_mask'].astype(np.float64)
  if settings.count_padding:
    mask = np.ones_like(mask)
  found = {'feature_map': [], 'attention': [], 'mean': [], 'variance': []}

  def add(name, values):
    found[name].append((values * mask).sum() / mask.sum())

  for layer in taught:
    own, theirs = s[layer + 1], t[layers[layer] + 1]
    difference = norm(theirs, settings.norm_epsilon) - norm(
      own, settings.norm_epsilon
    )
    add('feature_map', (difference**2).mean(-1))
    p, q = softmax(t_scores[layers[layer]]), softmax(s_scores[layer])
    log = np.log(np.where(p > 0, q, 1))
    add('attention', -(p * log).sum(-1).mean(1))
    targets = (
      np.stack(t) if settings.teacher_average_statistics else theirs[None]
    )
    add('mean', ((targets.mean(-1) - own.mean(-1)) ** 2).mean(0))
    add('variance', abs(targets.var(-1) - own.var(-1)).mean(0))
  return {name: np.mean(each) for name, each in found.items()}
