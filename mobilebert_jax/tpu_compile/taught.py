"""The steps of a run with a teacher, whose weights need not be there."""

from typing import Any

from jax.sharding import Mesh

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.distillation import stages, steps, teacher
from mobilebert_jax.distillation.objective import Objective
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.distillation.transfer import Pair
from mobilebert_jax.runtime import hub
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import Task
from mobilebert_jax.tpu_compile import inputs
from mobilebert_jax.training import step as train_step
from mobilebert_jax.training.workdir import teacher_directory


def architecture(
  config: TrainConfig, task: Task, student: MobileBertConfig
) -> MobileBertConfig | None:
  """The teacher's architecture; None if the run has no teacher.

  Of a teacher that is not in a directory (yet), it is the paper's IB-BERT_LARGE
  with the student's vocabulary.

  Raises:
    InputError: a teacher that does not fit the student.
  """
  name = config.distillation.teacher
  if name is None:
    return None
  found = MobileBertConfig.ib_bert_large(vocab_size=student.vocab_size)
  if hub.local_directory(name) is not None:
    found = inputs.stored(
      config, 'config.distillation.teacher', teacher_directory(name)
    )
  teacher.check(config, task, student, found)
  return found


def plan(config: TrainConfig, student: MobileBertConfig) -> tuple[Stage, ...]:
  """The stages of a run; those that are timed are the first and the last ones.

  Raises:
    InputError: steps that cannot be shared out, or num_epochs.
  """
  if config.distillation.teacher is None:
    return ()
  if config.num_steps is None:
    raise InputError(
      'config.num_steps is not set, but without data nothing else tells how '
      'long a run with a teacher is.'
    )
  layers = student.num_hidden_layers
  return stages.plan(config.distillation, layers, config.num_steps)


def pair(
  config: TrainConfig, task: Task, student: Any, theirs: MobileBertConfig
) -> Pair:
  """Both models."""
  layers = teacher.layers_of(
    config.distillation,
    student.config.num_hidden_layers,
    theirs.num_hidden_layers,
  )
  model = teacher.model_of(config, task.head, theirs)
  return Pair(student, model, layers, config.distillation)


def lower(
  config: TrainConfig,
  task: Task,
  student: Any,
  theirs: MobileBertConfig,
  mesh: Mesh,
  stage: Stage,
  batch: Any,
) -> Any:
  """Lowers the step of a stage.

  Args:
    config: the run.
    task: its task.
    student: its model.
    theirs: the teacher's architecture.
    mesh: the mesh, which is set.
    stage: the stage.
    batch: the batch's shapes.
  """
  layers = student.config.num_hidden_layers
  assert config.num_steps is not None
  tx = steps.optimizer(config, layers, config.num_steps)
  settings = config.distillation
  state, _ = train_step.abstract_state(
    student, tx, mesh, settings.student_placement
  )
  if not steps.uses_teacher(config, stage):
    plain = steps.plain_step(config, task, student, tx, mesh)
    return plain.lower(state, batch)  # type: ignore[attr-defined]
  both = pair(config, task, student, theirs)
  step: Any = steps.taught_step(config, Objective(both, task, stage), tx, mesh)
  params = teacher.abstract(both.teacher, mesh, settings.teacher_placement)
  return step.lower(state, params, batch)
