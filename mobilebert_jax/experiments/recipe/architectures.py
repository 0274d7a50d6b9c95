"""The models of a chain before any is trained, and whether they fit."""

from collections.abc import Mapping
from typing import NamedTuple

from mobilebert_jax import models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.distillation import teacher
from mobilebert_jax.experiments.recipe import recipe, vocabulary
from mobilebert_jax.experiments.recipe.recipe import Recipe
from mobilebert_jax.models.heads import HeadedModel
from mobilebert_jax.tasks import Task
from mobilebert_jax.tpu_compile import inputs
from mobilebert_jax.training import setup


class Model(NamedTuple):
  """What a run trains.

  Attributes:
    head: the model class.
    architecture: its config; with a vocabulary that is yet to be learnt, of
      the size that is wanted.
    teacher: its teacher's config; None: it has none.
  """

  head: type[HeadedModel]
  architecture: MobileBertConfig
  teacher: MobileBertConfig | None = None


def find(
  chain: Recipe, config: TrainConfig, task: Task, known: Mapping[str, Model]
) -> Model:
  """The model of a run, and its teacher's config.

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
    setup.named_tokenizer(config, config.tokenizer)
  architecture = _student(chain, config, task, known)
  setup.check_lengths(config, architecture)
  name = config.distillation.teacher
  if name is None:
    return Model(task.head, architecture)
  theirs = known.get(name.strip('{}'))
  if theirs is None:
    found = inputs.stored(
      config, 'config.distillation.teacher', teacher.directory(name)
    )
    theirs = Model(task.head, found)
    if chain.vocabulary.tokenizer is None:
      # How many tokens will be learnt is known afterwards.
      size = theirs.architecture.vocab_size
      architecture = architecture.replace(vocab_size=size)
  _check_teacher(config, task, architecture, theirs)
  return Model(task.head, architecture, theirs.architecture)


def _student(
  chain: Recipe, config: TrainConfig, task: Task, known: Mapping[str, Model]
) -> MobileBertConfig:
  settings = dict(config.model) | task.model_overrides()
  before = known.get(config.init.strip('{}'))
  if before is not None:
    return before.architecture.replace(**settings)
  if config.init != setup.SCRATCH:
    return inputs.architecture(config, task)
  size = _vocabulary_size(chain, config, known)
  return MobileBertConfig(**{'vocab_size': size, **settings})


def _vocabulary_size(
  chain: Recipe, config: TrainConfig, known: Mapping[str, Model]
) -> int:
  """Of a model from scratch."""
  teacher_name = config.distillation.teacher
  name = config.tokenizer or teacher_name or f'{{{recipe.VOCABULARY}}}'
  before = known.get(name.strip('{}'))
  if before is not None:
    return before.architecture.vocab_size
  if recipe.VOCABULARY in recipe.names(name):
    if chain.vocabulary.tokenizer is None:
      return chain.vocabulary.size
    return len(vocabulary.existing(chain.vocabulary))
  if config.tokenizer is None:
    name = teacher.directory(name)
  return len(setup.named_tokenizer(config, name))


def _check_teacher(
  config: TrainConfig, task: Task, student: MobileBertConfig, theirs: Model
):
  """Finds by their shapes alone what does not fit."""
  settings = config.distillation
  assert settings.teacher is not None
  teacher.check(config, task, student, theirs.architecture)
  teacher.layers_of(
    settings,
    student.num_hidden_layers,
    theirs.architecture.num_hidden_layers,
  )
  if config.init == setup.SCRATCH:
    shapes = models.abstract_params(theirs.head(theirs.architecture))
    own = task.head(student)
    teacher.copied_shapes(shapes, own, settings.copy, settings.teacher)
