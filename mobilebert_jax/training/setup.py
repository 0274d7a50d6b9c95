"""From a config to a run: task, mesh, data, tokenizer, model, method.

`build` puts the parts together, in the order in which a reader would. All that
can be wrong with the input is found here, before anything is compiled or
written.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.data.batching import loader, token_cache
from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.data.readers import remarks
from mobilebert_jax.data.records.records import Records
from mobilebert_jax.runtime import distributed
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.progress import Work
from mobilebert_jax.tasks import TASKS, Task
from mobilebert_jax.training import (
  calibration,
  environment,
  profiling,
  starting,
  train_step,
)
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training.evaluate import Split
from mobilebert_jax.training.method import (
  SUPERVISED,
  Method,
  MethodBuilder,
  MethodInputs,
)
from mobilebert_jax.training.starting import Start
from mobilebert_jax.training.train_step import TrainState
from mobilebert_jax.training.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Run:
  """The parts of one run, put together.

  Attributes:
    config: the run's settings.
    workdir: where it writes.
    task: what is learnt.
    start: model, parameters and tokenizer at its beginning.
    mesh: the mesh of devices.
    splits: every split of the task, encoded.
    batches: the training batches, this process's rows of them.
    steps_per_epoch: optimizer steps in one pass over the training data.
    total_steps: optimizer steps of the whole run.
    method: how it learns.
  """

  config: TrainConfig
  workdir: Workdir
  task: Task
  start: Start
  mesh: Mesh
  splits: dict[str, Split]
  batches: loader.TrainIterator
  steps_per_epoch: int
  total_steps: int
  method: Method

  @property
  def evaluation(self) -> list[Split]:
    """The splits with labels that are evaluated."""
    return [self.splits[name] for name in self.task.splits.evaluation]


def build(
  config: TrainConfig,
  workdir: Workdir,
  is_resumed: bool,
  method: MethodBuilder = SUPERVISED,
) -> Run:
  """Finds everything that can be wrong, then begins the workdir of a new run.

  Args:
    config: the run.
    workdir: its directory.
    is_resumed: whether it has been started there before.
    method: builds what it learns by.

  Raises:
    InputError: what is wrong on one process, on all of them.
  """
  remarks.forget()
  surroundings = environment.record()
  distributed.check_same('environment', surroundings['decides'])
  if is_resumed:
    differences = distributed.run_on_primary(
      lambda: workdir.check_environment(surroundings)
    )
    if differences:
      distributed.print_on_primary(environment.message(differences))
  run = distributed.raise_on_all(
    lambda: _assemble(config, workdir, is_resumed, method)
  )
  constants = run.start.constants
  if constants is not None:
    distributed.check_same('quantization', calibration.digest(constants))
  if not is_resumed:
    for note in (*run.start.notes, *run.method.notes):
      distributed.print_on_primary(note)
    distributed.run_on_primary(
      lambda: workdir.start(
        config,
        run.start.model,
        run.start.tokenizer,
        run.method.record,
        surroundings,
        constants,
      )
    )
    distributed.raise_on_all(lambda: _check_shared(workdir))
  return run


def _assemble(
  config: TrainConfig,
  workdir: Workdir,
  is_resumed: bool,
  method: MethodBuilder,
) -> Run:
  """Reads and checks all that a run needs; writes nothing."""
  task = find_task(config)
  mesh = make_mesh(config)
  names = task.splits.all()
  examples = {name: task.load(config.data, name) for name in names}
  if is_resumed:
    start = starting.resume(config, task, workdir)
  else:
    tokenizer = method.default_tokenizer(config)
    train = examples[task.splits.train]
    start = starting.begin(config, task, train, tokenizer)
  train_step.check_mesh(start.model, mesh, config.mesh.param_sharding)
  # Before the data is encoded, which may take long.
  inputs = MethodInputs(
    config, task, start.model, start.tokenizer, mesh, start.source_layers
  )
  method_for = method.prepare(inputs)
  splits = {
    name: encode_split(config, task, start.tokenizer, name, examples[name])
    for name in names
  }
  for split in splits.values():
    starting.check_ids(start.model.config, split.name, split.features)
  features = splits[task.splits.train].features
  steps_per_epoch = loader.steps_per_epoch(features, config.batch_size)
  total_steps = config.total_steps(steps_per_epoch)
  chosen = method_for(total_steps)
  if is_resumed:
    _check_record(chosen, workdir)
  profiling.check(config.profile.range(), total_steps)
  batches = loader.train_iterator(
    features,
    batch_size=config.batch_size,
    num_steps=total_steps,
    seed=config.seed,
    batching=config.data.batching,
    buckets=config.data.buckets,
    row_multiple=device_mesh.batch_divisor(mesh) * config.accumulation_steps,
    shard=loader.ProcessShard(*device_mesh.host_parts(mesh)),
  )
  return Run(
    config, workdir, task, start, mesh, splits, batches, steps_per_epoch,
    total_steps, chosen,
  )  # fmt: skip


def first_state(run: Run) -> TrainState:
  """Makes the state before the first step."""
  config, start = run.config, run.start
  params = start.params
  if params is None:
    # Stopped before the first checkpoint: begin anew, with the same bits.
    train = run.splits[run.task.splits.train].examples
    params = starting.params(config, run.task, train, start.tokenizer)
  assert params is not None
  state = train_step.create_state(
    start.model,
    run.method.optimizer,
    run.mesh,
    params,
    starting.key_for(config, 'dropout'),
    config.mesh.param_sharding,
  )
  params = run.method.initial_params(state.params)
  return dataclasses.replace(state, params=params)


def _check_record(method: Method, workdir: Workdir):
  """Checks that a run continues with what its method began with."""
  before, now = workdir.read_method(), method.record
  names = sorted({*before, *now})
  changed = [name for name in names if before.get(name) != now.get(name)]
  if changed:
    raise InputError(
      f'{", ".join(changed)} of the run in {workdir.path} are not those with '
      f'which it began (see {workdir.method}); bring those back, or choose '
      'another --workdir.'
    )


def _check_shared(workdir: Workdir):
  """Every process writes its part of a checkpoint: all must see the workdir."""
  if not workdir.config.exists():
    raise InputError(
      f'{workdir.path} has been made by process 0, but process '
      f'{distributed.process_index()} does not see it: with several hosts '
      '--workdir must be a directory that all share, such as gs://BUCKET/RUN.'
    )


def find_task(config: TrainConfig) -> Task:
  """Returns the task that a config names, with its options.

  Raises:
    InputError: there is none, or an option of it is wrong.
  """
  if config.task not in TASKS:
    raise InputError(
      f'config.task is {config.task!r}, but must be one of {", ".join(TASKS)}.'
    )
  return TASKS[config.task].make_task(config.options, config.data)


def make_mesh(
  config: TrainConfig, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """Makes the mesh, and checks it against the batch of a training step.

  An evaluation batch is filled up to any number of devices.

  Args:
    config: mesh, batch_size and accumulation_steps.
    devices: those to use; None: all of this run.

  Raises:
    InputError: sizes that do not fit the devices or the batch.
  """
  sizes = config.mesh
  mesh = device_mesh.make_mesh(
    sizes.data, sizes.fsdp, sizes.tensor, devices=devices
  )
  divisor = device_mesh.batch_divisor(mesh)
  micro = config.batch_size // config.accumulation_steps
  if micro % divisor:
    raise InputError(
      f'config.batch_size / config.accumulation_steps is {micro}, but must be '
      f'a multiple of {divisor}: the mesh divides each batch by '
      'config.mesh.data x config.mesh.fsdp.'
    )
  return mesh


def load_split(
  config: TrainConfig, task: Task, tokenizer: Any, name: str
) -> Split:
  """Reads and encodes one split.

  Raises:
    InputError: missing or wrong data.
  """
  examples = task.load(config.data, name)
  return encode_split(config, task, tokenizer, name, examples)


def encode_split(
  config: TrainConfig,
  task: Task,
  tokenizer: Any,
  name: str,
  examples: tuple[Any, ...],
) -> Split:
  """Encodes examples that have been read already, or takes them from disk.

  Raises:
    InputError: there are none, or they cannot be encoded.
  """
  if not examples:
    raise InputError(f'the split {name!r} of {task.name} has no examples.')
  with Work(f'encoding {name}', 'examples') as work:

    def encode(some: Sequence[Any]) -> Features:
      return task.encode(some, tokenizer, config.data.max_length, work.is_at)

    # Records are on disk, encoded.
    if config.data.cache_dir is None or isinstance(examples, Records):
      features = encode(examples)
    else:
      features = token_cache.encode(
        config.data.cache_dir, encode, examples, tokenizer,
        _encoding_settings(config, task, name),
      )  # fmt: skip
  return Split(name, examples, features)


def _encoding_settings(
  config: TrainConfig, task: Task, split: str
) -> dict[str, Any]:
  """Returns all but examples and tokenizer that may decide an encoding."""
  data = dataclasses.asdict(config.data)
  for name in ('cache_dir', 'batching', 'buckets'):
    del data[name]
  return {
    'task': config.task,
    'options': dict(config.options),
    'labels': task.labels,
    'split': split,
    'data': data,
  }
