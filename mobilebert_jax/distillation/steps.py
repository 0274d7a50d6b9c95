"""The compiled steps of a run: one program, or with a teacher one a stage."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.distillation import objective, stages
from mobilebert_jax.distillation.objective import Objective
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.distillation.teacher import Teacher
from mobilebert_jax.distillation.transfer import Pair
from mobilebert_jax.tasks import Task
from mobilebert_jax.training import step as train_step
from mobilebert_jax.training.gradients import Batch, accumulated
from mobilebert_jax.training.optimizer import Optimizer, Params, make_optimizer
from mobilebert_jax.training.step import Metrics, TrainState, TrainStep

# With a teacher's parameters beside state and batch.
TaughtStep = Callable[[TrainState, Params, Batch], tuple[TrainState, Metrics]]


class Steps:
  """Gives the step of a number, compiled when its stage begins.

  Args of the constructor:
    config: the run.
    task: its task.
    model: the student, or the only model.
    tx: the optimizer.
    mesh: the mesh, set whenever a step is called.
    plan: the stages (`stages.plan`); none without a teacher.
    teacher: the teacher, if there is one.
  """

  def __init__(
    self,
    config: TrainConfig,
    task: Task,
    model: nn.Module,
    tx: Optimizer,
    mesh: Mesh,
    plan: Sequence[Stage] = (),
    teacher: Teacher | None = None,
  ):
    self._config, self._task, self._model = config, task, model
    self._tx, self._mesh, self._plan = tx, mesh, plan
    self._teacher = teacher
    # Its parameters on their devices, while there are stages that read them.
    self._teacher_params: Params | None = None
    # A stage's program is not needed after it.
    self._compiled = functools.lru_cache(maxsize=1)(self._make)

  def step_for(self, number: int) -> TrainStep:
    """The step of this number, counted from 1."""
    if not self._plan:
      return self._compiled(None)
    return self._compiled(stages.at(self._plan, number - 1))

  def may_be_best(self, number: int) -> bool:
    """Whether the model after this step may be the best of the run.

    In a run that also learns its task, what it scores before is chance.
    """
    if not any(stage.has_task for stage in self._plan):
      return True
    return stages.at(self._plan, number - 1).has_task

  def news(self, number: int) -> str | None:
    """What to tell before this step: the stage that begins with it."""
    begun = [s for s in self._plan if s.first == number - 1]
    return begun[0].described() if begun else None

  def _make(self, stage: Stage | None) -> TrainStep:
    config = self._config
    settings = config.distillation
    if stage is None or not uses_teacher(config, stage):
      # Nor does any later stage: the transfer comes first.
      self._teacher_params = None
      plain = plain_step(config, self._task, self._model, self._tx, self._mesh)
      return plain if stage is None else _numbered(plain, stage)
    assert self._teacher is not None
    teacher = self._teacher
    pair = Pair(self._model, teacher.model, teacher.layers, settings)
    aims = Objective(pair, self._task, stage)
    step = taught_step(config, aims, self._tx, self._mesh)
    if self._teacher_params is None:
      placement = settings.teacher_placement
      self._teacher_params = teacher.place(self._mesh, placement)
    params = self._teacher_params
    return lambda state, batch: step(state, params, batch)


def optimizer(config: TrainConfig, layers: int, total_steps: int) -> Optimizer:
  """The optimizer of a run, with the learning rates of its stages.

  Args:
    config: the run.
    layers: the (student) model's number of layers.
    total_steps: steps of the whole run.
  """
  rates = stages.rates(
    config.distillation, config.optimizer, layers, total_steps
  )
  return make_optimizer(config.optimizer, total_steps, rates)


def uses_teacher(config: TrainConfig, stage: Stage) -> bool:
  """Whether a stage's loss reads the teacher.

  Labels that are the data's alone do not (google-research drops the teacher
  then, and has dropout).
  """
  is_labelling = objective.labels_softly(config.distillation, stage)
  return bool(stage.layers) or is_labelling


def plain_step(
  config: TrainConfig,
  task: Task,
  model: nn.Module,
  tx: Optimizer,
  mesh: Mesh,
) -> TrainStep:
  """The compiled step of a run, or of a stage, without a teacher."""
  return train_step.make_train_step(
    model, task.loss, tx, mesh, config.accumulation_steps,
    config.nonfinite == 'skip', config.distillation.student_placement,
  )  # fmt: skip


def taught_step(
  config: TrainConfig, aims: Objective, tx: Optimizer, mesh: Mesh
) -> TaughtStep:
  """Compiles one optimizer step of a stage with a teacher.

  Args:
    config: accumulation_steps, nonfinite and placements.
    aims: the stage's loss.
    tx: the optimizer.
    mesh: the mesh that is set when the step is called.

  Returns:
    step(state, teacher's parameters, batch) -> (state, metrics): those of
    `training.make_train_step`, 'stage', and the mean of each term. The old
    state is donated.
  """
  placement = config.distillation.student_placement
  model, stage = aims.pair.student, aims.stage
  _, places = train_step.abstract_state(model, tx, mesh, placement)

  def step(state: TrainState, teacher: Params, batch: Batch):
    key = jax.random.fold_in(state.key, state.step)
    gradient: Any = objective.gradient_fn(aims, teacher)
    if config.accumulation_steps > 1:
      gradient = accumulated(
        gradient, config.accumulation_steps, mesh, places.params
      )
    weights = aims.weights(state.params, teacher, batch)
    (value, means), grads = gradient(state.params, batch, weights, key)
    new, metrics = train_step.apply_gradients(state, tx, value, grads)
    if not stage.has_task:
      new = dataclasses.replace(new, params=_heads_of(state.params, new.params))
    if config.nonfinite == 'skip':
      new = train_step.unless_nonfinite(state, new, metrics, tx)
    return new, metrics | means | {'stage': jnp.float32(stage.number)}

  return jax.jit(step, donate_argnames='state', out_shardings=(places, None))


def _heads_of(old: Params, new: Params) -> Params:
  """The new embeddings and blocks under the old pooler and heads.

  A transfer knows of no head: with `train_embeddings`, when what is not a block
  has a learning rate, a head would only decay.
  """
  learns = ('embeddings', 'encoder')
  backbone = {name: new['mobilebert'][name] for name in learns}
  return {**old, 'mobilebert': {**old['mobilebert'], **backbone}}


def _numbered(step: TrainStep, stage: Stage) -> TrainStep:
  def numbered(state: TrainState, batch: Batch):
    state, metrics = step(state, batch)
    return state, metrics | {'stage': jnp.float32(stage.number)}

  return numbered
