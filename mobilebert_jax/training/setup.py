"""From a config to a run: task, mesh, data, tokenizer, model, method.

`build` puts the parts together, in the order in which a reader would. All that
can be wrong with the input is found here, before anything is compiled or
written.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from mobilebert_jax import models
from mobilebert_jax.config import taken_layers
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.convert.pretrained import (
  load_pretrained,
  resize_token_embeddings,
  take_layers,
)
from mobilebert_jax.data.batching import loader, token_cache
from mobilebert_jax.data.batching.features import Features, NumpyBatch
from mobilebert_jax.data.records.records import Records
from mobilebert_jax.inference.equalization import equalize
from mobilebert_jax.inference.quantized_model import Constants, quantized
from mobilebert_jax.models.typing import Params
from mobilebert_jax.runtime import distributed
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.progress import Work
from mobilebert_jax.tasks import TASKS, Task
from mobilebert_jax.tokenizer import MobileBertTokenizerFast, train_wordpiece
from mobilebert_jax.training import calibration, profiling, train_step
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training.evaluate import Split
from mobilebert_jax.training.method import (
  SUPERVISED,
  Method,
  MethodBuilder,
  MethodInputs,
)
from mobilebert_jax.training.train_step import TrainState
from mobilebert_jax.training.workdir import Workdir

SCRATCH = 'scratch'
# Tokens of a vocabulary learnt from a task's own training text.
_LEARNT_VOCABULARY = 2000


@dataclasses.dataclass(frozen=True)
class Start:
  """A model at the beginning of a run.

  Attributes:
    model: the task's model.
    params: its parameters; from scratch the key to draw them with, on their
      devices (`train_step.create_state`); None where a checkpoint will bring
      them.
    tokenizer: what the data is encoded with.
    notes: sentences for the user, such as which weights are newly initialised.
    source_layers: see `MethodInputs`.
    constants: what a quantised model computes with; None: it is not.
  """

  model: nn.Module
  params: Params | jax.Array | None
  tokenizer: MobileBertTokenizerFast
  notes: tuple[str, ...] = ()
  source_layers: int | None = None
  constants: Constants | None = None


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
    start = resume(config, task, workdir)
  else:
    tokenizer = method.default_tokenizer(config)
    train = examples[task.splits.train]
    start = begin(config, task, train, tokenizer)
    if config.quantization.is_on:
      start = _quantize(config, task, start, train)
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
    fresh = _begin_with(config, run.task, start.tokenizer)
    if config.quantization.is_on:
      train = run.splits[run.task.splits.train].examples
      fresh, _ = _equalize(config, run.task, fresh, train)
    params = fresh.params
  assert params is not None
  state = train_step.create_state(
    start.model,
    run.method.optimizer,
    run.mesh,
    params,
    key_for(config, 'dropout'),
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


def key_for(config: TrainConfig, purpose: str) -> jax.Array:
  """Returns a random key of its own for each purpose."""
  number = ('weights', 'dropout').index(purpose)
  return jax.random.fold_in(jax.random.key(config.seed), number)


def begin(
  config: TrainConfig,
  task: Task,
  train: Sequence[Any],
  default_tokenizer: str | None = None,
) -> Start:
  """Finds model, weights and tokenizer of a new run.

  Args:
    config: the run.
    task: its task.
    train: the training examples, from which a vocabulary may be learnt.
    default_tokenizer: that of a run from scratch whose config names none.

  Raises:
    InputError: whatever is wrong with init, tokenizer or model settings.
  """
  tokenizer = _find_tokenizer(config, task, train, default_tokenizer)
  _set_length(config, tokenizer)
  start = _begin_with(config, task, tokenizer)
  check_lengths(config, start.model.config)
  return start


def _begin_with(
  config: TrainConfig, task: Task, tokenizer: MobileBertTokenizerFast
) -> Start:
  if config.init == SCRATCH:
    return _from_scratch(config, task, tokenizer)
  return _from_pretrained(config, task, tokenizer)


def _quantize(
  config: TrainConfig, task: Task, start: Start, train: Sequence[Any]
) -> Start:
  """Measures what the model is to be served with, on training examples."""
  start, measured = _equalize(config, task, start, train)
  constants = calibration.measure(
    start.model, start.params, config.quantization.scheme, measured
  )
  return dataclasses.replace(
    start,
    model=quantized(start.model, constants),
    notes=(*start.notes, calibration.describe(config)),
    constants=constants,
  )


def _equalize(
  config: TrainConfig, task: Task, start: Start, train: Sequence[Any]
) -> tuple[Start, list[NumpyBatch]]:
  """Brings channels to one range, if wanted; with what they are measured on."""
  measured = calibration.batches(config, task, start.tokenizer, train)
  if config.quantization.equalize:
    model, head = start.model, type(start.model).__name__
    params = equalize(head, model.config, start.params, measured)
    start = dataclasses.replace(start, params=params)
  return start, measured


def resume(config: TrainConfig, task: Task, workdir: Workdir) -> Start:
  """Reads model and tokenizer of a run that was started in `workdir`."""
  settings = dict(config.model) | task.model_overrides()
  architecture = workdir.read_model_config().replace(**settings)
  check_lengths(config, architecture)
  model = task.head(architecture, compute=compute_of(config))
  tokenizer = workdir.read_tokenizer()
  _set_length(config, tokenizer)
  if not config.quantization.is_on:
    return Start(model, None, tokenizer)
  constants = workdir.read_quantization()
  if constants is None:
    raise InputError(
      f'{workdir.path} is not that of a quantised run: it has no '
      f'{workdir.quantization.name}; set config.quantization.scheme to '
      "'none', or name another workdir."
    )
  model = quantized(model, constants)
  return Start(model, None, tokenizer, constants=constants)


def _set_length(config: TrainConfig, tokenizer: MobileBertTokenizerFast):
  """Makes the run's length the tokenizer's, for whoever uses the model.

  Whatever limit it came with: longer texts than those that the model learnt
  from are cut, and shorter ones need not be. Encoding the data does not read
  it.
  """
  tokenizer.model_max_length = config.data.max_length


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


def compute_of(config: TrainConfig) -> models.Compute:
  """Returns how the model computes.

  Parameters are float32, or float64 with `config.dtype` 'float64'.
  """
  param_dtype = 'float64' if config.dtype == 'float64' else 'float32'
  return models.Compute(
    config.dtype, param_dtype, layers=config.layers, remat=config.remat
  )


def _find_tokenizer(
  config: TrainConfig,
  task: Task,
  train: Sequence[Any],
  default: str | None,
) -> MobileBertTokenizerFast:
  name = config.tokenizer
  if name is None:
    name = default if config.init == SCRATCH else config.init
  if name is not None:
    return named_tokenizer(config, name)
  if config.data.source != 'generated':
    raise InputError(
      "config.tokenizer is not set, but config.init is 'scratch': name a "
      'directory, a vocab.txt or a hub model whose tokenizer to use.'
    )
  size = config.model.get('vocab_size', _LEARNT_VOCABULARY)
  texts = (text for example in train for text in task.texts(example))
  return train_wordpiece(texts, vocab_size=size, progress=False)


def named_tokenizer(config: TrainConfig, name: str) -> MobileBertTokenizerFast:
  """Loads the tokenizer of a hub name, a directory or a vocab.txt.

  Args:
    config: where to look for it.
    name: which.

  Raises:
    InputError: there is none.
  """
  try:
    return MobileBertTokenizerFast.from_pretrained(
      name,
      revision=config.revision,
      token=config.token,
      cache_dir=config.cache_dir,
      local_files_only=config.local_files_only,
    )
  except InputError as error:
    if name in str(error):
      raise
    raise InputError(f'the tokenizer {name}: {error}') from None


def _from_scratch(config: TrainConfig, task: Task, tokenizer: Any) -> Start:
  settings = {
    'vocab_size': len(tokenizer),
    'pad_token_id': tokenizer.pad_token_id,
    **config.model,
    **task.model_overrides(),
  }
  if settings['vocab_size'] < len(tokenizer):
    raise InputError(
      f'config.model.vocab_size is {settings["vocab_size"]}, but the tokenizer '
      f'has {len(tokenizer)} tokens.'
    )
  architecture = MobileBertConfig(**settings)
  model = task.head(architecture, compute=compute_of(config))
  count = models.count_params(models.abstract_params(model))
  key = key_for(config, 'weights')
  return Start(model, key, tokenizer, (f'{count:,} fresh parameters.',))


def _from_pretrained(config: TrainConfig, task: Task, tokenizer: Any) -> Start:
  compute = compute_of(config)
  settings = dict(config.model) | task.model_overrides()
  if config.init_layers is not None:
    # It is the number that is taken; the checkpoint has its own.
    settings.pop('num_hidden_layers', None)
  loaded = load_pretrained(
    task.head,
    config.init,
    **dataclasses.asdict(compute),
    revision=config.revision,
    token=config.token,
    cache_dir=config.cache_dir,
    local_files_only=config.local_files_only,
    ignore_mismatched_sizes=config.ignore_mismatched_sizes,
    key=key_for(config, 'weights'),
    **settings,
  )
  model, params, report = loaded
  notes, depth = [], model.config.num_hidden_layers
  if config.init_layers is not None:
    taken = taken_layers.resolve(config.init_layers, depth, config.init)
    model, params = take_layers(model, params, taken)
    notes = [f'{taken_layers.named(taken)} of the {depth} of {config.init}.']
  count = models.count_params(params)
  notes.insert(0, f'{count:,} parameters from {config.init}.')
  for what, names in (
    ('fresh', report.newly_initialised),
    ('not used', report.unused),
  ):
    if names:
      notes.append(f'{what}: {", ".join(names)}.')
  old = model.config.vocab_size
  if len(tokenizer) > old:
    model, params = resize_token_embeddings(
      model, params, len(tokenizer), key_for(config, 'weights')
    )
    notes.append(
      f'the vocabulary grew from {old} to the {len(tokenizer)} tokens of the '
      'tokenizer; their word vectors are fresh.'
    )
  params = jax.tree.map(np.asarray, params)
  return Start(model, params, tokenizer, tuple(notes), depth)


def check_lengths(config: TrainConfig, architecture: MobileBertConfig):
  """Checks that a model has a position for each token.

  Raises:
    InputError: `data.max_length` is beyond them.
  """
  positions = architecture.max_position_embeddings
  if config.data.max_length > positions:
    raise InputError(
      f'config.data.max_length is {config.data.max_length}, but the model has '
      f'only {positions} positions (max_position_embeddings).'
    )
