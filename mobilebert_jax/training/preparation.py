"""From a config to data, tokenizer, model and weights.

Everything that can be wrong with the input is found here, before anything is
compiled or written.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from mobilebert_jax import models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.convert.pretrained import (
  load_pretrained,
  resize_token_embeddings,
)
from mobilebert_jax.data.batching import token_cache
from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.data.records.records import Records
from mobilebert_jax.models import partitioning
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.progress import Work
from mobilebert_jax.tasks import TASKS, Task
from mobilebert_jax.tokenizer import MobileBertTokenizerFast, train_wordpiece
from mobilebert_jax.training.evaluate import Split
from mobilebert_jax.training.step import Params
from mobilebert_jax.training.workdir import Workdir, teacher_directory

SCRATCH = 'scratch'
# Tokens of a vocabulary learnt from a task's own training text.
_OWN_VOCABULARY = 2000


@dataclasses.dataclass(frozen=True)
class Start:
  """A model at the beginning of a run.

  Attributes:
    model: the task's model.
    params: its parameters; from scratch the key to draw them with, on their
      devices (`training.create_state`); None where a checkpoint will bring
      them.
    tokenizer: what the data is encoded with.
    notes: sentences for the user, such as which weights are fresh.
  """

  model: nn.Module
  params: Params | jax.Array | None
  tokenizer: MobileBertTokenizerFast
  notes: tuple[str, ...] = ()


def find_task(config: TrainConfig) -> Task:
  """The task that a config names, with its options.

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
  """The mesh, checked against the batch of a training step.

  An evaluation batch is filled up to any number of devices.

  Args:
    config: mesh, batch_size and accumulation_steps.
    devices: those to use; None: all of this run.

  Raises:
    InputError: sizes that do not fit the devices or the batch.
  """
  mesh = partitioning.make_mesh(
    **dataclasses.asdict(config.mesh), devices=devices
  )
  divisor = partitioning.batch_divisor(mesh)
  micro = config.batch_size // config.accumulation_steps
  if micro % divisor:
    raise InputError(
      f'config.batch_size / accumulation_steps is {micro}, but must be a '
      f'multiple of {divisor}: the mesh divides each batch by mesh.data x '
      'mesh.fsdp.'
    )
  return mesh


def key_for(config: TrainConfig, purpose: str) -> jax.Array:
  """A random key of its own for each purpose."""
  number = ('weights', 'dropout').index(purpose)
  return jax.random.fold_in(jax.random.key(config.seed), number)


def begin(config: TrainConfig, task: Task, train: Sequence[Any]) -> Start:
  """Model, weights and tokenizer of a new run.

  Raises:
    InputError: whatever is wrong with init, tokenizer or model settings.
  """
  tokenizer = _tokenizer(config, task, train)
  start = (
    _scratch(config, task, tokenizer)
    if config.init == SCRATCH
    else _pretrained(config, task, tokenizer)
  )
  check_lengths(config, start.model.config)
  return start


def resume(config: TrainConfig, task: Task, workdir: Workdir) -> Start:
  """Model and tokenizer of a run that was started in `workdir`."""
  settings = dict(config.model) | task.model_overrides()
  architecture = workdir.read_model_config().replace(**settings)
  check_lengths(config, architecture)
  model = task.head(architecture, compute=compute_of(config))
  return Start(model, None, workdir.read_tokenizer())


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
  """Everything but examples and tokenizer that may decide an encoding."""
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
  """How the model computes; parameters are float32, or float64 with float64."""
  param_dtype = 'float64' if config.dtype == 'float64' else 'float32'
  return models.Compute(
    config.dtype, param_dtype, layers=config.layers, remat=config.remat
  )


def _tokenizer(
  config: TrainConfig, task: Task, train: Sequence[Any]
) -> MobileBertTokenizerFast:
  name = config.tokenizer
  if name is None and config.init != SCRATCH:
    name = config.init
  if name is None and config.distillation.teacher is not None:
    name = teacher_directory(config.distillation.teacher)
  if name is not None:
    return named_tokenizer(config, name)
  if config.data.source != 'generated':
    raise InputError(
      "config.tokenizer is not set, but config.init is 'scratch': name a "
      'directory, a vocab.txt or a hub model whose tokenizer to use.'
    )
  size = config.model.get('vocab_size', _OWN_VOCABULARY)
  texts = (text for example in train for text in task.texts(example))
  return train_wordpiece(texts, vocab_size=size, progress=False)


def named_tokenizer(config: TrainConfig, name: str) -> MobileBertTokenizerFast:
  """The tokenizer of a hub name, a directory or a vocab.txt.

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


def _scratch(config: TrainConfig, task: Task, tokenizer: Any) -> Start:
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


def _pretrained(config: TrainConfig, task: Task, tokenizer: Any) -> Start:
  compute = compute_of(config)
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
    **(dict(config.model) | task.model_overrides()),
  )
  model, params, report = loaded
  notes = [f'{models.count_params(params):,} parameters from {config.init}.']
  for what, names in (
    ('fresh', report.fresh),
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
  return Start(model, params, tokenizer, tuple(notes))


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
