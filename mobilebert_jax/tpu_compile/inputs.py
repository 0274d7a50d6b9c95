"""What a run's model and batches look like, without its data or weights."""

from typing import Any

import jax
from jax.sharding import Mesh

from mobilebert_jax.config import model_json, taken_layers
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.convert import source
from mobilebert_jax.data.batching import loader
from mobilebert_jax.runtime import hub
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import Task
from mobilebert_jax.tokenizer import train_wordpiece
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training import starting

# Its architecture is known without a network.
_PUBLISHED = 'google/mobilebert-uncased'
_CONFIG = 'config.json'
# Tokens of the stand-in for the tokenizer: it decides no shape.
_VOCABULARY = 200


def architecture(config: TrainConfig, task: Task) -> MobileBertConfig:
  """Returns the model that a run would train, without its weights.

  Of a checkpoint only the config is read. From scratch, the vocabulary's size
  is that of config.model, or 30522 (a run takes it from its tokenizer).

  Raises:
    InputError: the checkpoint has no config, or a setting is wrong.
  """
  settings = dict(config.model) | task.model_overrides()
  if config.init == starting.SCRATCH:
    result = MobileBertConfig(**settings)
  else:
    source = stored_architecture(
      config, 'config.init', config.init, config.revision
    )
    result = begun_with(config, source).replace(**settings)
  starting.check_lengths(config, result)
  return result


def begun_with(
  config: TrainConfig, source: MobileBertConfig
) -> MobileBertConfig:
  """Returns what `config.init_layers` leaves of the model of `config.init`.

  Raises:
    InputError: it takes blocks that the model has not.
  """
  if config.init_layers is None:
    return source
  taken = taken_layers.resolve(
    config.init_layers, source.num_hidden_layers, config.init
  )
  return source.replace(num_hidden_layers=len(taken))


def batch(
  config: TrainConfig, task: Task, mesh: Mesh, *, is_training: bool
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns the largest batch of a training or evaluation step.

  The loader itself cuts it, from examples that the task makes up and that are
  as long as `data.max_length`. With packing, where every example then has a
  row of its own, that is as many rows as there can be.

  Args:
    config: the run.
    task: its task.
    mesh: where the batch goes.
    is_training: whether the batch is cut into `accumulation_steps` parts.

  Returns:
    Shapes, dtypes and shardings of the global arrays.

  Raises:
    InputError: `data.max_length` leaves no room for text.
  """
  longest = max(config.data.buckets, default=config.data.max_length)
  examples = task.dummy_examples(longest)
  tokenizer = train_wordpiece(
    [text for example in examples for text in task.texts(example)],
    vocab_size=_VOCABULARY,
    progress=False,
  )
  features = task.encode(examples, tokenizer, longest)
  parts = config.accumulation_steps if is_training else 1
  batches = loader.eval_batches(
    features,
    batch_size=config.batch_size if is_training else config.eval_batch_size,
    batching=config.data.batching,
    buckets=config.data.buckets,
    row_multiple=device_mesh.batch_divisor(mesh) * parts,
  )
  arrays, _ = next(batches)
  place = device_mesh.batch_sharding(mesh)
  return {
    name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place)
    for name, array in arrays.items()
  }


def stored_architecture(
  config: TrainConfig, field: str, name: str, revision: str | None = None
) -> MobileBertConfig:
  """Returns the architecture of a checkpoint, of which only its config is read.

  Args:
    config: where and how to ask a hub.
    field: what errors call the checkpoint, such as 'config.init'.
    name: a directory or file, or a name on the hub.
    revision: of the hub's.

  Raises:
    InputError: there is none.
  """
  path: Any
  if hub.local_directory(name) is not None:
    path = source.find(name).config
  elif name == _PUBLISHED:
    return MobileBertConfig.mobilebert()
  else:
    path = hub.resolve(
      name,
      [_CONFIG],
      revision=revision,
      token=config.token,
      cache_dir=config.cache_dir,
      local_files_only=config.local_files_only,
    ).get(_CONFIG)
  if path is None:
    raise InputError(f'{field} is {name}, but there is no {_CONFIG}.')
  return model_json.load_config(path)
