"""Distillation as a method of training: what the loop asks, with a teacher.

`DISTILLATION` builds it: the teacher is loaded and checked, parts of it are
copied into a student from scratch, and each stage has a step of its own.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.distillation import objective, stages
from mobilebert_jax.distillation import teacher as teachers
from mobilebert_jax.distillation.objective import Objective
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.distillation.teacher import Teacher
from mobilebert_jax.distillation.transfer import Pair
from mobilebert_jax.models.typing import Batch, Metrics, Params
from mobilebert_jax.runtime.compiler_options import compiler_options
from mobilebert_jax.training import starting, train_step
from mobilebert_jax.training.method import (
  Method,
  MethodBuilder,
  MethodInputs,
  supervised_step,
)
from mobilebert_jax.training.optimizer import Optimizer, make_optimizer
from mobilebert_jax.training.train_step import TrainState, TrainStep

# With a teacher's parameters beside state and batch.
DistillationStep = Callable[
  [TrainState, Params, Batch], tuple[TrainState, Metrics]
]


def _prepare(inputs: MethodInputs) -> Callable[[int], Method]:
  """Loads and checks the teacher.

  Raises:
    InputError: it is not there, or does not fit; the second part: steps that
      the stages cannot share.
  """
  config, task, student, tokenizer, mesh, source_layers = inputs
  settings = config.distillation
  teacher = teachers.load(config, task, student, tokenizer)
  teacher_layers = teacher.model.config.num_hidden_layers
  teachers.check_depth(config, source_layers, teacher_layers)
  teachers.shardings(teacher.model, mesh, settings.teacher_placement)
  is_copied = config.init == starting.SCRATCH
  if is_copied:
    teachers.copied_shapes(teacher.params, student, settings.copy, teacher.name)

  def initial_params(params: Params) -> Params:
    if not is_copied:
      return params
    values = teachers.copied_values(teacher, student, settings.copy)
    return teachers.replace_params(params, values)

  def method(total_steps: int) -> Method:
    layers = student.config.num_hidden_layers
    plan = stages.plan(settings, layers, total_steps)
    tx = make_stage_optimizer(config, layers, total_steps)
    steps = StageSteps(inputs, tx, plan, teacher)
    return Method(
      tx,
      steps.step,
      initial_params,
      functools.partial(is_eligible, plan),
      functools.partial(stage_message, plan),
      teacher.record(),
      (*filter(None, [teacher.describe()]), *teacher.notes),
    )

  return method


DISTILLATION = MethodBuilder(_prepare, teachers.default_tokenizer)


class StageSteps:
  """The step of each number, compiled when its stage begins.

  Args:
    inputs: the run.
    tx: the optimizer.
    plan: its stages (`stages.plan`).
    teacher: the teacher.
  """

  def __init__(
    self,
    inputs: MethodInputs,
    tx: Optimizer,
    plan: Sequence[Stage],
    teacher: Teacher,
  ):
    self._inputs, self._tx, self._plan = inputs, tx, plan
    self._teacher = teacher
    # Its parameters on their devices, while there are stages that read them.
    self._teacher_params: Params | None = None
    # A stage's program is not needed after it.
    self._compiled = functools.lru_cache(maxsize=1)(self._compile)

  def step(self, number: int) -> TrainStep:
    """Returns the step of this number, counted from 1."""
    return self._compiled(stages.at(self._plan, number - 1))

  def _compile(self, stage: Stage) -> TrainStep:
    inputs, settings = self._inputs, self._inputs.config.distillation
    if not uses_teacher(inputs.config, stage):
      # Nor does any later stage: the transfer comes first.
      self._teacher_params = None
      return _with_stage(supervised_step(inputs, self._tx), stage)
    teacher = self._teacher
    pair = Pair(inputs.model, teacher.model, teacher.layers, settings)
    step = distillation_step(
      inputs.config, Objective(pair, inputs.task, stage), self._tx, inputs.mesh
    )
    if self._teacher_params is None:
      self._teacher_params = teacher.place(
        inputs.mesh, settings.teacher_placement
      )
    params = self._teacher_params
    return lambda state, batch: step(state, params, batch)


def make_stage_optimizer(
  config: TrainConfig, layers: int, total_steps: int
) -> Optimizer:
  """Makes the optimizer of a run, with the learning rates of its stages.

  Args:
    config: the run.
    layers: the student's number of layers.
    total_steps: steps of the whole run.
  """
  rates = stages.rates(
    config.distillation, config.optimizer, layers, total_steps
  )
  return make_optimizer(config.optimizer, total_steps, rates)


def is_eligible(plan: Sequence[Stage], number: int) -> bool:
  """Returns whether the model after a step may be the best of the run.

  In a run that also learns its task, what it scores before is chance. So is
  what any model scores before a transfer.

  Args:
    plan: the stages.
    number: the step, from 1; 0 is the model before training.
  """
  if number == 0:
    return stages.at(plan, 0).has_task
  if not any(stage.has_task for stage in plan):
    return True
  return stages.at(plan, number - 1).has_task


def stage_message(plan: Sequence[Stage], number: int) -> str | None:
  """Returns a description of the stage that begins with a step, if one does."""
  starting = [stage for stage in plan if stage.first == number - 1]
  return starting[0].describe() if starting else None


def uses_teacher(config: TrainConfig, stage: Stage) -> bool:
  """Returns whether a stage's loss reads the teacher.

  Labels that are the data's alone do not (google-research drops the teacher
  then, and has dropout).
  """
  has_soft_labels = objective.has_soft_labels(config.distillation, stage)
  return bool(stage.layers) or has_soft_labels


def distillation_step(
  config: TrainConfig, stage_loss: Objective, tx: Optimizer, mesh: Mesh
) -> DistillationStep:
  """Compiles one optimizer step of a stage with a teacher.

  Args:
    config: accumulation_steps, nonfinite and mesh.param_sharding.
    stage_loss: the stage's loss.
    tx: the optimizer.
    mesh: the mesh that is set when the step is called.

  Returns:
    step(state, teacher's parameters, batch) -> (state, metrics): those of
    `train_step.make_train_step`, 'stage', and the mean of each term. The old
    state is donated.
  """
  model, stage = stage_loss.pair.student, stage_loss.stage
  _, shardings = train_step.abstract_state(
    model, tx, mesh, config.mesh.param_sharding
  )

  def step(state: TrainState, teacher: Params, batch: Batch):
    key = jax.random.fold_in(state.key, state.step)
    gradient: Any = objective.gradient_fn(stage_loss, teacher)
    if config.accumulation_steps > 1:
      gradient = train_step.accumulate(
        gradient, config.accumulation_steps, mesh, shardings.params
      )
    weights = stage_loss.weights(state.params, teacher, batch)
    (value, means), grads = gradient(state.params, batch, weights, key)
    new, metrics = train_step.apply_gradients(state, tx, value, grads)
    if not stage.has_task:
      new = dataclasses.replace(
        new, params=_keep_heads(state.params, new.params)
      )
    if config.nonfinite == 'skip':
      new = train_step.unless_nonfinite(state, new, metrics, tx)
    return new, metrics | means | {'stage': jnp.float32(stage.number)}

  return jax.jit(
    step,
    donate_argnames='state',
    out_shardings=(shardings, None),
    compiler_options=compiler_options(
      mesh.devices.flat[0].platform, config.dtype
    ),
  )


def _keep_heads(old: Params, new: Params) -> Params:
  """Returns the new embeddings and blocks with the old pooler and heads.

  A transfer knows of no head: with `train_embeddings`, when what is not a block
  has a learning rate, a head would only decay.
  """
  learns = ('embeddings', 'encoder')
  backbone = {name: new['mobilebert'][name] for name in learns}
  return {**old, 'mobilebert': {**old['mobilebert'], **backbone}}


def _with_stage(step: TrainStep, stage: Stage) -> TrainStep:
  """Returns the same step, whose metrics also have the stage's number."""

  def with_stage(state: TrainState, batch: Batch):
    state, metrics = step(state, batch)
    return state, metrics | {'stage': jnp.float32(stage.number)}

  return with_stage
