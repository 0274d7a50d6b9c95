"""What can be wrong with a chain, found before hours of work."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.config.task_options import PretrainingOptions
from mobilebert_jax.data.batching import loader
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.data.records import prepared
from mobilebert_jax.distillation import stages
from mobilebert_jax.experiments.recipe import architectures, recipe, vocabulary
from mobilebert_jax.experiments.recipe.architectures import Model
from mobilebert_jax.experiments.recipe.recipe import Recipe
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import Task
from mobilebert_jax.training import setup
from mobilebert_jax.training.workdir import Workdir

_PRETRAINING = 'pretraining'


class Run(NamedTuple):
  """A run whose settings are right.

  Attributes:
    config: its settings; what the chain will make is in braces.
    task: its task.
    model: what it trains.
    steps: its length; None: that is known when its data is encoded.
  """

  config: TrainConfig
  task: Task
  model: Model
  steps: int | None


class _Part(NamedTuple):
  """A part of a chain on disk.

  Attributes:
    directory: where it is.
    first: the file with which it has begun.
    last: the file with which it is finished.
    sources: the parts that it is made of.
  """

  directory: pathlib.Path
  first: str
  last: str
  sources: set[str]


def check_parts(chain: Recipe, workdir: pathlib.Path):
  """Checks that nothing is left of a part that is to be made again.

  Otherwise a run that has finished would be taken as it is, though it learnt
  from another teacher than the one that is there at the end.

  Raises:
    InputError: a part is not finished, but a later one was made of it.
  """
  again: set[str] = set()
  for name, part in _parts(chain, workdir).items():
    sources = sorted(part.sources & again)
    if sources and (part.directory / part.first).exists():
      raise InputError(
        f'{part.directory} was made from an earlier {sources[0]} than the one '
        f'that would be made now; delete it too, or put the earlier '
        f'{workdir / sources[0]} back.'
      )
    if sources or not (part.directory / part.last).exists():
      again.add(name)


def check_runs(
  chain: Recipe, resolved: Mapping[str, TrainConfig]
) -> dict[str, Run]:
  """Checks every run against the data and the runs before it.

  Args:
    chain: the recipe.
    resolved: its runs, with what the chain will make in braces.

  Raises:
    InputError: the first thing that is wrong, with the run's name.
  """
  found: dict[str, Run] = {}
  for name, config in resolved.items():
    models = {before: run.model for before, run in found.items()}
    try:
      found[name] = _check_run(chain, config, name, models)
    except InputError as error:
      raise InputError(f'{name}: {error}') from None
  return found


def _check_run(
  chain: Recipe, config: TrainConfig, name: str, known: Mapping[str, Model]
) -> Run:
  setup.make_mesh(config)
  waits = name in chain.runs_on_data()
  if waits:
    _check_prepared(chain, config)
  task = setup.find_task(config)
  model = architectures.find(chain, config, task, known)
  steps = config.num_steps
  if not waits:
    splits = {name: task.load(config.data, name) for name in task.splits.all()}
    train = splits[task.splits.train]
    if _is_encoded_one_by_one(task, train):
      steps = config.total_steps(
        loader.steps_per_epoch(train, config.batch_size)
      )
  if steps is not None:
    layers = model.architecture.num_hidden_layers
    stages.plan(config.distillation, layers, steps)
  return Run(config, task, model, steps)


def _check_prepared(chain: Recipe, config: TrainConfig):
  """Compares a run with the data that the chain will prepare for it."""
  if config.task != _PRETRAINING:
    raise InputError(
      f'config.task is {config.task}, but config.data.path is '
      f'{config.data.path}, which only {_PRETRAINING} reads.'
    )
  if config.data.max_length != chain.data.max_length:
    raise InputError(
      f'config.data.max_length is {config.data.max_length}, but the data is '
      f'prepared with {chain.data.max_length} (--config.data.max_length); '
      'the two must be equal.'
    )
  options = PretrainingOptions(**config.options)
  if options.next_sentence and not chain.data.next_sentence:
    raise InputError(
      'config.options.next_sentence is True, but the data is prepared without '
      'pairs (--config.data.next_sentence); set both to the same.'
    )


def _is_encoded_one_by_one(task: Task, examples: Any) -> bool:
  """Whether each example becomes one row, and not windows or sequences."""
  return task.head.outputs_per == 'example' and not any(
    isinstance(example, Document) for example in examples[:1]
  )


def _parts(chain: Recipe, workdir: pathlib.Path) -> dict[str, _Part]:
  """All parts in their order."""
  found = {
    recipe.VOCABULARY: _Part(
      workdir / recipe.VOCABULARY,
      vocabulary.SETTINGS,
      vocabulary.SETTINGS,
      set(),
    ),
    recipe.DATA: _Part(
      workdir / recipe.DATA,
      prepared.SETTINGS,
      prepared.DATASET,
      {recipe.VOCABULARY},
    ),
  }
  for name, config in chain.runs.items():
    run = Workdir(workdir / name)
    found[name] = _Part(
      run.path, run.config.name, run.results.name, recipe.named(config)
    )
  return found
