"""The steps of a run with a teacher, whose weights need not be there."""

from typing import Any

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.distillation import method, stages, teacher
from mobilebert_jax.distillation.objective import Objective
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.distillation.transfer import Pair
from mobilebert_jax.runtime import hub
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import Task
from mobilebert_jax.tpu_compile import inputs
from mobilebert_jax.training import train_step
from mobilebert_jax.training.method import MethodInputs, supervised_step


def teacher_architecture(
  config: TrainConfig, task: Task, student: MobileBertConfig
) -> MobileBertConfig | None:
  """Returns the teacher's architecture; None if the run has no teacher.

  Of a teacher that is not in a directory (yet), it is the paper's IB-BERT_LARGE
  with the student's vocabulary.

  Raises:
    InputError: a teacher that does not fit the student.
  """
  name = config.distillation.teacher
  if name is None:
    return None
  architecture = MobileBertConfig.ib_bert_large(vocab_size=student.vocab_size)
  if hub.local_directory(name) is not None:
    architecture = inputs.stored_architecture(
      config, 'config.distillation.teacher', teacher.directory(name)
    )
  teacher.check(config, task, student, architecture)
  return architecture


def plan_stages(
  config: TrainConfig, student: MobileBertConfig
) -> tuple[Stage, ...]:
  """Returns the stages of a run; the first and the last ones are timed.

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


def make_pair(
  config: TrainConfig, task: Task, student: Any, architecture: MobileBertConfig
) -> Pair:
  """Returns both models."""
  layers = teacher.layers_of(
    config.distillation,
    student.config.num_hidden_layers,
    architecture.num_hidden_layers,
    config.init_layers,
  )
  model = teacher.model_of(config, task.head, architecture)
  return Pair(student, model, layers, config.distillation)


def lower_stage(
  run: MethodInputs, architecture: MobileBertConfig, stage: Stage, batch: Any
) -> Any:
  """Lowers the step of a stage.

  Args:
    run: the run; its tokenizer is not read, its mesh is set.
    architecture: the teacher's architecture.
    stage: the stage.
    batch: the batch's shapes.
  """
  config, mesh = run.config, run.mesh
  layers = run.model.config.num_hidden_layers
  assert config.num_steps is not None
  tx = method.make_stage_optimizer(config, layers, config.num_steps)
  state, _ = train_step.abstract_state(
    run.model, tx, mesh, config.mesh.param_sharding
  )
  if not method.uses_teacher(config, stage):
    return supervised_step(run, tx).lower(state, batch)  # type: ignore[attr-defined]
  both = make_pair(config, run.task, run.model, architecture)
  loss = Objective(both, run.task, stage)
  step: Any = method.distillation_step(config, loss, tx, mesh)
  placement = config.distillation.teacher_placement
  params = teacher.abstract(both.teacher, mesh, placement)
  return step.lower(state, params, batch)
