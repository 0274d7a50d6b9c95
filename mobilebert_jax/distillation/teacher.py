"""The teacher of a run: found by its path, checked against the student."""

import dataclasses
import hashlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh

from mobilebert_jax import models
from mobilebert_jax.config import fields
from mobilebert_jax.config.distillation import DistillationConfig
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.convert.pretrained import LoadResult, load_pretrained
from mobilebert_jax.models import partitioning
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import Task
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training import step
from mobilebert_jax.training.optimizer import Params
from mobilebert_jax.training.workdir import Workdir, teacher_directory

_PRETRAINING = (models.MobileBertForPreTraining, models.MobileBertForMaskedLM)


@dataclasses.dataclass(frozen=True)
class Teacher:
  """A loaded teacher that fits its student.

  Attributes:
    name: where it is from.
    model: the model, which computes in `teacher_dtype`.
    params: its parameters, on the host, in the dtype in which they are stored.
    layers: its layer for each of the student's; () where none is compared.
    digest: a digest of its parameters.
  """

  name: str
  model: nn.Module
  params: Params
  layers: tuple[int, ...]
  digest: str

  def told(self) -> dict[str, Any]:
    """What a workdir keeps, so that a run goes on with the same teacher."""
    return {'teacher': self.name, 'parameters': self.digest}

  def place(self, mesh: Mesh, placement: step.Placement) -> Params:
    """Its parameters on their devices, in the dtype that it computes in."""
    dtype = jnp.dtype(self.model.compute.param_dtype)
    cast = jax.tree.map(lambda x: np.asarray(x, dtype), self.params)
    return partitioning.put_tree(cast, places(self.model, mesh, placement))


def places(model: nn.Module, mesh: Mesh, placement: step.Placement) -> Params:
  """Shardings of a teacher's parameters.

  Raises:
    InputError: a mesh that does not divide them, or the attention heads.
  """
  step.check_heads(model, mesh, "the teacher's num_attention_heads")
  return step.parameter_shardings(model, mesh, placement)


def abstract(model: nn.Module, mesh: Mesh, placement: step.Placement) -> Params:
  """Shapes, dtypes and shardings of a teacher's parameters."""
  return jax.tree.map(
    lambda leaf, place: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=place
    ),
    models.abstract_params(model),
    places(model, mesh, placement),
  )


def load(
  config: TrainConfig, task: Task, student: nn.Module, tokenizer: Any
) -> Teacher:
  """Loads the teacher of a run.

  Args:
    config: the run; its `revision` is not the teacher's.
    task: the task that both models have a head for.
    student: the model that learns.
    tokenizer: the student's.

  Raises:
    InputError: it is not there, or does not fit the student or the task.
  """
  name = config.distillation.teacher
  assert name is not None
  where = teacher_directory(name)
  found = _loaded(config, task, where)
  check(config, task, student.config, found.model.config)
  _check_tokenizer(config, where, name, tokenizer)
  layers = layers_of(
    config.distillation,
    student.config.num_hidden_layers,
    found.model.config.num_hidden_layers,
  )
  return Teacher(name, found.model, found.params, layers, _digest(found.params))


def check_same(teacher: Teacher, workdir: Workdir):
  """Checks that a run goes on with the teacher that it began with.

  Raises:
    InputError: its parameters are others now.
  """
  before = workdir.read_teacher()
  if before != teacher.told():
    raise InputError(
      f'the parameters of the teacher {teacher.name} are not those with which '
      f'the run in {workdir.path} began (see {workdir.teacher}); bring those '
      'back, or choose another --workdir.'
    )


def model_of(
  config: TrainConfig, head: type[nn.Module], architecture: MobileBertConfig
) -> nn.Module:
  """The teacher as a model, in the dtype that it computes in."""
  dtype = config.distillation.teacher_dtype
  return head(
    architecture, compute=models.Compute(dtype, dtype, layers=config.layers)
  )


def layers_of(
  config: DistillationConfig, student: int, teacher: int
) -> tuple[int, ...]:
  """The teacher's layer for each of the student's; () where none is compared.

  Evenly spread unless chosen, so that the last is taught by the last: 24
  layers teach 12 with 1, 3, ..., 23.

  Args:
    config: `strategy` and `teacher_layers`.
    student: the student's number of layers.
    teacher: the teacher's.

  Raises:
    InputError: a wrong number of layers, or one that the teacher has not.
  """
  if config.strategy == 'none':
    return ()
  chosen = config.teacher_layers
  where = 'config.distillation.teacher_layers'
  if chosen:
    if len(chosen) != student or chosen[-1] >= teacher:
      raise InputError(
        f'{where} is {chosen}, but must be {student} numbers, one for each of '
        f'the student layers, from 0 to {teacher - 1}.'
      )
    return chosen
  if student > teacher:
    raise InputError(
      f'the student has {student} layers and its teacher {teacher}: a layer '
      'has nothing to learn from; give config.model.num_hidden_layers at most '
      f'{teacher}.'
    )
  return tuple((i + 1) * teacher // student - 1 for i in range(student))


def check(
  config: TrainConfig,
  task: Task,
  student: MobileBertConfig,
  teacher: MobileBertConfig,
):
  """Checks that two models can be compared.

  Raises:
    InputError: naming the first thing in which they must agree and do not; the
      task has several texts in an example; or padding that is nobody's counts.
  """
  settings, name = config.distillation, config.distillation.teacher
  if task.head is models.MobileBertForMultipleChoice and (
    settings.strategy != 'none' or settings.temperature_on != 'logits'
  ):
    raise InputError(
      f'the task {task.name} learns from the logits of a teacher alone: set '
      "config.distillation.strategy to 'none' and temperature_on to 'logits'."
    )
  if settings.count_padding and config.data.batching == 'packed':
    raise fields.wrong(
      'config.distillation.count_padding', True,
      "False with config.data.batching 'packed': what fills up a row with "
      'several examples belongs to none of them',
    )  # fmt: skip
  same = ['vocab_size']
  if settings.strategy != 'none':
    if {'feature_map', 'mean', 'variance'} & settings.factors.keys():
      same.append('hidden_size')
    if 'attention' in settings.factors:
      same.append('num_attention_heads')
  if not task.head.predicts_masked:
    same += ['num_labels', 'id2label']
  for field in same:
    own, theirs = getattr(student, field), getattr(teacher, field)
    if own != theirs:
      raise InputError(
        f'{field} is {own!r} in the student and {theirs!r} in its teacher '
        f'{name}, but must be the same for the student to learn from it.'
      )
  longest, positions = config.data.max_length, teacher.max_position_embeddings
  if longest > positions:
    raise InputError(
      f'config.data.max_length is {longest}, but the teacher {name} has only '
      f'{positions} positions (max_position_embeddings).'
    )


def _loaded(config: TrainConfig, task: Task, where: str) -> LoadResult:
  """The teacher with the task's head.

  For masked words with next sentences, a teacher of masked words alone will
  do: next sentences are learnt from the data.
  """
  dtype = config.distillation.teacher_dtype
  heads: tuple[type[nn.Module], ...] = (task.head,)
  if task.head is models.MobileBertForPreTraining:
    heads = _PRETRAINING
  for head in heads:
    found = load_pretrained(
      head,
      where,
      dtype=dtype,
      param_dtype='auto',
      layers=config.layers,
      token=config.token,
      cache_dir=config.cache_dir,
      local_files_only=config.local_files_only,
    )
    if not found.report.fresh:
      model = model_of(config, head, found.model.config)
      return found._replace(model=model)
  raise InputError(
    f'the teacher {config.distillation.teacher} has no weights for '
    f'{", ".join(found.report.fresh)}, which {task.head.__name__} needs; train '
    f'it on a task with that head first.'
  )


def _check_tokenizer(
  config: TrainConfig, where: str, name: str, tokenizer: Any
):
  """Compares vocabularies, where the teacher has one beside its weights."""
  try:
    theirs = MobileBertTokenizerFast.from_pretrained(
      where,
      token=config.token,
      cache_dir=config.cache_dir,
      local_files_only=config.local_files_only,
    )
  except InputError:
    # Weights alone, such as a file of TensorFlow's: sizes have been compared.
    return
  if theirs.get_vocab() != tokenizer.get_vocab():
    raise InputError(
      f'the teacher {name} has another vocabulary than the student: set '
      f'config.tokenizer to {where}, or leave it unset.'
    )


def _digest(params: Params) -> str:
  """A digest of names, dtypes, shapes and bits; any order of the names."""
  found = hashlib.blake2b(digest_size=16)
  for path, value in sorted(flatten_dict(params, sep='/').items()):
    array = np.ascontiguousarray(value)
    found.update(f'{path} {array.dtype} {array.shape} '.encode())
    found.update(array.reshape(-1).view(np.uint8).data)
  return found.hexdigest()
