"""Checks a whole recipe before hours of work: models, data, runs."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from mobilebert_jax import models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.config.task_options import PretrainingOptions
from mobilebert_jax.data.batching import loader
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.data.records import prepared
from mobilebert_jax.distillation import stages, teacher
from mobilebert_jax.experiments.recipe import data, recipe
from mobilebert_jax.experiments.recipe.recipe import Recipe
from mobilebert_jax.models.heads import HeadedModel
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import Task
from mobilebert_jax.tpu_compile import inputs
from mobilebert_jax.training import setup, starting
from mobilebert_jax.training.workdir import Workdir


class RunModel(NamedTuple):
  """The model that a run trains.

  Attributes:
    head: the model class.
    architecture: its config; with a vocabulary that is yet to be learnt, of
      the size that is wanted.
    teacher: its teacher's config; None: it has none.
  """

  head: type[HeadedModel]
  architecture: MobileBertConfig
  teacher: MobileBertConfig | None = None


def find_model(
  chain: Recipe, config: TrainConfig, task: Task, known: Mapping[str, RunModel]
) -> RunModel:
  """Returns the model of a run, and its teacher's config.

  Args:
    chain: the recipe.
    config: the run; what another run will make is in braces.
    task: its task.
    known: the models of the runs before.

  Raises:
    InputError: a directory that is not there, texts longer than the model, or
      a teacher that the student cannot learn from.
  """
  if config.tokenizer is not None and not recipe.names(config.tokenizer):
    # That it is there; the run itself reads it.
    starting.named_tokenizer(config, config.tokenizer)
  architecture = _student(chain, config, task, known)
  starting.check_lengths(config, architecture)
  name = config.distillation.teacher
  if name is None:
    return RunModel(task.head, architecture)
  theirs = known.get(name.strip('{}'))
  if theirs is None:
    result = inputs.stored_architecture(
      config, 'config.distillation.teacher', teacher.directory(name)
    )
    theirs = RunModel(task.head, result)
    if chain.vocabulary.tokenizer is None:
      # How many tokens will be learnt is known afterwards.
      size = theirs.architecture.vocab_size
      architecture = architecture.replace(vocab_size=size)
  _check_teacher(config, task, architecture, theirs)
  return RunModel(task.head, architecture, theirs.architecture)


def _student(
  chain: Recipe, config: TrainConfig, task: Task, known: Mapping[str, RunModel]
) -> MobileBertConfig:
  settings = dict(config.model) | task.model_overrides()
  before = known.get(config.init.strip('{}'))
  if before is not None:
    return inputs.begun_with(config, before.architecture).replace(**settings)
  if config.init != starting.SCRATCH:
    return inputs.architecture(config, task)
  size = _vocabulary_size(chain, config, known)
  return MobileBertConfig(**{'vocab_size': size, **settings})


def _vocabulary_size(
  chain: Recipe, config: TrainConfig, known: Mapping[str, RunModel]
) -> int:
  """Returns the vocabulary's size of a model from scratch."""
  teacher_name = config.distillation.teacher
  name = config.tokenizer or teacher_name or f'{{{recipe.VOCABULARY}}}'
  before = known.get(name.strip('{}'))
  if before is not None:
    return before.architecture.vocab_size
  if recipe.VOCABULARY in recipe.names(name):
    if chain.vocabulary.tokenizer is None:
      return chain.vocabulary.size
    return len(data.existing_vocabulary(chain.vocabulary))
  if config.tokenizer is None:
    name = teacher.directory(name)
  return len(starting.named_tokenizer(config, name))


def _check_teacher(
  config: TrainConfig, task: Task, student: MobileBertConfig, theirs: RunModel
):
  """Finds by their shapes alone what does not fit."""
  settings = config.distillation
  assert settings.teacher is not None
  teacher.check(config, task, student, theirs.architecture)
  teacher.layers_of(
    settings,
    student.num_hidden_layers,
    theirs.architecture.num_hidden_layers,
    config.init_layers,
  )
  if config.init == starting.SCRATCH:
    shapes = models.abstract_params(theirs.head(theirs.architecture))
    own = task.head(student)
    teacher.copied_shapes(shapes, own, settings.copy, settings.teacher)


_PRETRAINING = 'pretraining'


class CheckedRun(NamedTuple):
  """A run whose settings are right.

  Attributes:
    config: its settings; what the chain will make is in braces.
    task: its task.
    model: what it trains.
    steps: its length; None: that is known when its data is encoded.
  """

  config: TrainConfig
  task: Task
  model: RunModel
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
) -> dict[str, CheckedRun]:
  """Checks every run against the data and the runs before it.

  Args:
    chain: the recipe.
    resolved: its runs, with what the chain will make in braces.

  Raises:
    InputError: the first thing that is wrong, with the run's name.
  """
  result: dict[str, CheckedRun] = {}
  for name, config in resolved.items():
    models = {before: run.model for before, run in result.items()}
    with recipe.in_run(name):
      result[name] = _check_run(chain, config, name, models)
  return result


def _check_run(
  chain: Recipe, config: TrainConfig, name: str, known: Mapping[str, RunModel]
) -> CheckedRun:
  setup.make_mesh(config)
  waits = name in chain.runs_on_data()
  if waits:
    _check_prepared(chain, config)
  task = setup.find_task(config)
  model = find_model(chain, config, task, known)
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
  return CheckedRun(config, task, model, steps)


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
  """Returns whether each example becomes one row, not windows or sequences."""
  return task.head.outputs_per == 'example' and not any(
    isinstance(example, Document) for example in examples[:1]
  )


def _parts(chain: Recipe, workdir: pathlib.Path) -> dict[str, _Part]:
  """Returns all parts of a chain in their order."""
  result = {
    recipe.VOCABULARY: _Part(
      workdir / recipe.VOCABULARY,
      data.VOCABULARY_SETTINGS,
      data.VOCABULARY_SETTINGS,
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
    result[name] = _Part(
      run.path, run.config.name, run.results.name, recipe.named(config)
    )
  return result
