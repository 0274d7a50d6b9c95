"""Puts the parts of a run together: task, data, model, mesh, batches."""

import dataclasses

from jax.sharding import Mesh

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.data.batching import loader
from mobilebert_jax.distillation import copying, stages, steps, teacher
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.distillation.teacher import Teacher
from mobilebert_jax.models import partitioning
from mobilebert_jax.runtime import distributed
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import Task
from mobilebert_jax.training import preparation, profiling, step
from mobilebert_jax.training.evaluate import Split
from mobilebert_jax.training.optimizer import Optimizer
from mobilebert_jax.training.preparation import Start
from mobilebert_jax.training.workdir import Workdir


@dataclasses.dataclass
class Run:
  """The parts of one run, put together."""

  config: TrainConfig
  workdir: Workdir
  task: Task
  start: Start
  mesh: Mesh
  splits: dict[str, Split]
  batches: loader.TrainIterator
  steps_per_epoch: int
  total_steps: int
  stages: tuple[Stage, ...]
  teacher: Teacher | None

  @property
  def evaluation(self) -> list[Split]:
    """The splits with labels that are evaluated."""
    return [self.splits[name] for name in self.task.splits.evaluation]


def build(config: TrainConfig, workdir: Workdir, resumes: bool) -> Run:
  """Finds everything that can be wrong before it writes anything.

  What is wrong on one host is an InputError on all.
  """
  run = distributed.agree(lambda: _find(config, workdir, resumes))
  if not resumes:
    for note in run.start.notes:
      distributed.tell(note)
    distributed.on_main(
      lambda: workdir.start(
        config,
        run.start.model,
        run.start.tokenizer,
        None if run.teacher is None else run.teacher.told(),
      )
    )
    distributed.agree(lambda: _check_shared(workdir))
  return run


def _find(config: TrainConfig, workdir: Workdir, resumes: bool) -> Run:
  task = preparation.find_task(config)
  mesh = preparation.make_mesh(config)
  names = task.splits.all()
  examples = {name: task.load(config.data, name) for name in names}
  if resumes:
    start = preparation.resume(config, task, workdir)
  else:
    start = preparation.begin(config, task, examples[task.splits.train])
  step.check_mesh(start.model, mesh, config.distillation.student_placement)
  taught_by = _find_teacher(
    config, task, mesh, start, workdir if resumes else None
  )
  splits = {
    name: preparation.encode_split(
      config, task, start.tokenizer, name, examples[name]
    )
    for name in names
  }
  features = splits[task.splits.train].features
  steps_per_epoch = loader.steps_per_epoch(features, config.batch_size)
  total_steps = config.total_steps(steps_per_epoch)
  planned = stages.plan(
    config.distillation, start.model.config.num_hidden_layers, total_steps
  )
  profiling.check(config.profile.range(), total_steps)
  batches = loader.train_iterator(
    features,
    batch_size=config.batch_size,
    num_steps=total_steps,
    seed=config.seed,
    batching=config.data.batching,
    buckets=config.data.buckets,
    row_multiple=partitioning.batch_divisor(mesh) * config.accumulation_steps,
    share=loader.Share(*partitioning.host_parts(mesh)),
  )
  return Run(
    config, workdir, task, start, mesh, splits, batches, steps_per_epoch,
    total_steps, planned, taught_by,
  )  # fmt: skip


def _find_teacher(
  config: TrainConfig,
  task: Task,
  mesh: Mesh,
  start: Start,
  resumed: Workdir | None,
) -> Teacher | None:
  """Loads and checks the teacher, if the run has one."""
  if config.distillation.teacher is None:
    return None
  found = teacher.load(config, task, start.model, start.tokenizer)
  teacher.places(found.model, mesh, config.distillation.teacher_placement)
  if config.init == preparation.SCRATCH:
    parts = config.distillation.copy
    copying.shared(found.params, start.model, parts, found.name)
  if resumed is not None:
    teacher.check_same(found, resumed)
  return found


def optimizer(run: Run) -> Optimizer:
  """The optimizer of a run, with the learning rates of its stages."""
  layers = run.start.model.config.num_hidden_layers
  return steps.optimizer(run.config, layers, run.total_steps)


def first_state(run: Run, tx: Optimizer) -> step.TrainState:
  """The state before the first step, with what the teacher gives."""
  config, start = run.config, run.start
  if start.params is None:
    # Stopped before the first checkpoint: begin anew, with the same bits.
    train = run.splits[run.task.splits.train].examples
    start = preparation.begin(config, run.task, train)
  state = step.create_state(
    start.model,
    tx,
    run.mesh,
    start.params,
    preparation.key_for(config, 'dropout'),
    config.distillation.student_placement,
  )
  if run.teacher is None or config.init != preparation.SCRATCH:
    return state
  parts = config.distillation.copy
  copied = copying.copied(run.teacher, start.model, parts)
  params = copying.into(state.params, copied)
  return dataclasses.replace(state, params=params)


def _check_shared(workdir: Workdir):
  """Every process writes its part of a checkpoint: all must see the workdir."""
  if not workdir.config.exists():
    raise InputError(
      f'{workdir.path} has been made by process 0, but process '
      f'{distributed.process_index()} does not see it: with several hosts '
      '--workdir must be a directory that all share, such as gs://BUCKET/RUN.'
    )
