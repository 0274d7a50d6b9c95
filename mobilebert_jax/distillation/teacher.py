"""The teacher of a run: loaded, checked, and in part copied to the student."""

import dataclasses
import hashlib
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from mobilebert_jax import models
from mobilebert_jax.config import fields, taken_layers
from mobilebert_jax.config.distillation import COPIED, PARTS, DistillationConfig
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.convert import label_names, narrowing
from mobilebert_jax.convert.pretrained import LoadResult, load_pretrained
from mobilebert_jax.models.typing import Params
from mobilebert_jax.runtime import hub
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import Task
from mobilebert_jax.tokenizer import MobileBertTokenizerFast, comparison
from mobilebert_jax.tokenizer.pretrained import known_vocabulary
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training import starting, train_step
from mobilebert_jax.training.mesh import ParamSharding
from mobilebert_jax.training.workdir import best_model

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
    notes: sentences for the user, such as how its labels were matched.
  """

  name: str
  model: nn.Module
  params: Params
  layers: tuple[int, ...]
  digest: str
  notes: tuple[str, ...] = ()

  def record(self) -> dict[str, Any]:
    """Returns what a workdir keeps, to continue with the same teacher alone."""
    return {'teacher': self.name, 'teacher_parameters': self.digest}

  def describe(self) -> str | None:
    """Returns which of its blocks teach; None if none is compared."""
    if not self.layers:
      return None
    return (
      f'the student learns from {taken_layers.named(self.layers)} of the '
      f'{self.model.config.num_hidden_layers} of {self.name}.'
    )

  def place(self, mesh: Mesh, param_sharding: ParamSharding) -> Params:
    """Puts its parameters on devices, in the dtype that it computes in.

    Raises:
      InputError: values that the dtype cannot hold.
    """
    flat = flatten_dict(self.params, sep='/')
    dtype = self.model.compute.param_dtype
    cast = narrowing.narrow(flat, dtype, self.name).arrays
    return device_mesh.put_tree(
      unflatten_dict(cast, sep='/'), shardings(self.model, mesh, param_sharding)
    )


def directory(name: str) -> str:
  """Returns where `config.distillation.teacher` has weights and tokenizer.

  Args:
    name: a workdir, whose best model it is; or another name of a model.

  Raises:
    InputError: there is no such directory, or a run without a model.
  """
  try:
    hub.local_directory(name)
    return best_model(name)
  except InputError as error:
    raise InputError(f'config.distillation.teacher: {error}') from None


def default_tokenizer(config: TrainConfig) -> str | None:
  """Returns where a student's tokenizer is, if its config names none.

  Raises:
    InputError: as `directory`.
  """
  name = config.distillation.teacher
  return None if name is None else directory(name)


def shardings(
  model: nn.Module, mesh: Mesh, param_sharding: ParamSharding
) -> Params:
  """Returns the shardings of a teacher's parameters.

  Raises:
    InputError: a mesh that does not divide them, or the attention heads.
  """
  train_step.check_heads(model, mesh, "the teacher's num_attention_heads")
  return train_step.parameter_shardings(model, mesh, param_sharding)


def abstract(
  model: nn.Module, mesh: Mesh, param_sharding: ParamSharding
) -> Params:
  """Returns shapes, dtypes and shardings of a teacher's parameters."""
  return train_step.abstract_arrays(
    models.abstract_params(model), shardings(model, mesh, param_sharding)
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
  where = directory(name)
  model, params, report = _load_with_head(config, task, where)
  check(config, task, student.config, model.config)
  said = _check_tokenizer(config, where, tokenizer)
  layers = layers_of(
    config.distillation,
    student.config.num_hidden_layers,
    model.config.num_hidden_layers,
    config.init_layers,
  )
  notes = (*report.notes, *said)
  return Teacher(name, model, params, layers, _digest(params), notes)


def model_of(
  config: TrainConfig, head: type[nn.Module], architecture: MobileBertConfig
) -> nn.Module:
  """Returns the teacher as a model, in the dtype that it computes in."""
  dtype = config.distillation.teacher_dtype
  compute = dataclasses.replace(
    starting.compute_of(config), dtype=dtype, param_dtype=dtype, remat='none'
  )
  return head(architecture, compute=compute)


def layers_of(
  config: DistillationConfig,
  student: int,
  teacher: int,
  taken: taken_layers.Layers | None = None,
) -> tuple[int, ...]:
  """Returns the teacher's layer for each of the student's; () for none.

  Unless they are chosen, a student that began with some blocks of a model is
  taught by those blocks of its teacher, each by the one that it was; a number
  of blocks is spread over the teacher's as it was over the source's, whose
  depth may be another. Any other student is taught by layers that are evenly
  spread so that the last is taught by the last: of T layers, (i + 1) T // S - 1
  teaches layer i of S; 24 teach 12 with 1, 3, ..., 23.

  Args:
    config: `strategy` and `teacher_layers`.
    student: the student's number of layers.
    teacher: the teacher's.
    taken: `config.init_layers` of the run.

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
  if taken is not None:
    return taken_layers.resolve(taken, teacher, 'the teacher')
  if student > teacher:
    raise InputError(
      f'the student has {student} layers and its teacher {teacher}: a layer '
      'has nothing to learn from; give config.model.num_hidden_layers at most '
      f'{teacher}.'
    )
  return tuple((i + 1) * teacher // student - 1 for i in range(student))


def check_depth(config: TrainConfig, source: int | None, teacher: int):
  """Checks that the numbers of the student's blocks are the teacher's as well.

  Args:
    config: the run.
    source: blocks of `config.init`; None: the student is from scratch, or its
      run is continued, and this was checked at its start.
    teacher: blocks of the teacher.

  Raises:
    InputError: `config.init_layers` has numbers of another model's blocks, and
      `teacher_layers` does not say which teach.
  """
  settings, layers = config.distillation, config.init_layers
  is_said = settings.strategy == 'none' or settings.teacher_layers
  if is_said or source in (None, teacher) or not isinstance(layers, tuple):
    return
  raise InputError(
    f'config.init_layers is {layers}, of the {source} blocks of {config.init}, '
    f'but the teacher {settings.teacher} has {teacher}: set '
    'config.distillation.teacher_layers to the blocks that are to teach.'
  )


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
      "config.distillation.strategy to 'none' and "
      "config.distillation.temperature_on to 'logits'."
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
    same.append('num_labels')
  for field in same:
    of_student, of_teacher = getattr(student, field), getattr(teacher, field)
    if of_student != of_teacher:
      raise InputError(
        f'{field} is {of_student!r} in the student and {of_teacher!r} in its '
        f'teacher {name}, but must be the same for the student to learn from '
        'it.'
      )
  theirs, ours = (tuple(c.id2label.values()) for c in (teacher, student))
  matched = label_names.match(theirs, ours)
  if not task.head.predicts_masked and matched.kind == 'other':
    problem = label_names.difference(theirs, ours, f'the teacher {name}')
    raise InputError(f'{problem}; use one that was trained for them.')
  longest, positions = config.data.max_length, teacher.max_position_embeddings
  if longest > positions:
    raise InputError(
      f'config.data.max_length is {longest}, but the teacher {name} has only '
      f'{positions} positions (max_position_embeddings).'
    )


def copied_shapes(
  teacher: Params, student: nn.Module, parts: tuple[str, ...], name: str
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns which of the student's parameters come from its teacher.

  Args:
    teacher: the teacher's parameters, or their shapes.
    student: the student.
    parts: keys of `PARTS`; those that the student has not are left out, and
      out of the default list also those that the teacher has not.
    name: what errors call the teacher.

  Returns:
    path, with '/', -> the shape and dtype in the student. Nothing is computed.

  Raises:
    InputError: the teacher lacks a part, or has it in another shape.
  """
  student_shapes = flatten_dict(models.abstract_params(student), sep='/')
  teacher_params = flatten_dict(teacher, sep='/')
  shapes = {}
  for part in parts:
    start = f'{PARTS[part]}/'
    if parts == COPIED and not any(
      path.startswith(start) for path in teacher_params
    ):
      continue
    for path, wanted in student_shapes.items():
      if not path.startswith(start):
        continue
      value = teacher_params.get(path)
      if value is None or value.shape != wanted.shape:
        has = 'no' if value is None else f'{value.shape} in'
        raise InputError(
          f'config.distillation.copy names {part}, but the teacher '
          f'{name} has {has} {path}, which is {wanted.shape} in the '
          'student; leave it out.'
        )
      shapes[path] = wanted
  return shapes


def copied_values(
  teacher: Teacher, student: nn.Module, parts: tuple[str, ...]
) -> dict[str, np.ndarray]:
  """Returns the same as values: path -> the teacher's, on the host."""
  teacher_params = flatten_dict(teacher.params, sep='/')
  wanted = copied_shapes(teacher.params, student, parts, teacher.name)
  values: dict[str, np.ndarray] = {}
  for path, leaf in wanted.items():
    one = {path: teacher_params[path]}
    values |= narrowing.narrow(one, str(leaf.dtype), teacher.name).arrays
  return values


def replace_params(params: Params, values: dict[str, np.ndarray]) -> Params:
  """Returns parameters of which some are replaced, with the same shardings.

  Args:
    params: arrays on a mesh.
    values: from `copied_values`.
  """
  flat: dict[str, Any] = flatten_dict(params, sep='/')
  old = {path: flat[path].sharding for path in values}
  flat |= device_mesh.put_tree(dict(values), old)
  new = unflatten_dict(flat, sep='/')
  return jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(new))


def _load_with_head(config: TrainConfig, task: Task, where: str) -> LoadResult:
  """Loads the teacher with the task's head.

  For masked words with next sentences, a teacher of masked words alone will
  do: next sentences are learnt from the data.
  """
  dtype = config.distillation.teacher_dtype
  # Its rows follow the names of the task's labels.
  labels: dict[str, Any] = {}
  if task.labels:
    labels['id2label'] = dict(enumerate(task.labels))
  heads: tuple[type[nn.Module], ...] = (task.head,)
  if task.head is models.MobileBertForPreTraining:
    heads = _PRETRAINING
  for head in heads:
    loaded = load_pretrained(
      head,
      where,
      dtype=dtype,
      param_dtype='auto',
      layers=config.layers,
      attention=config.attention,
      attention_dropout=config.attention_dropout,
      token=config.token,
      cache_dir=config.cache_dir,
      local_files_only=config.local_files_only,
      other_labels='refuse',
      **labels,
    )
    if not loaded.report.newly_initialised:
      model = model_of(config, head, loaded.model.config)
      return loaded._replace(model=model)
  raise InputError(
    f'the teacher {config.distillation.teacher} has no weights for '
    f'{", ".join(loaded.report.newly_initialised)}, which '
    f'{task.head.__name__} needs; train it on a task with that head first.'
  )


def _check_tokenizer(
  config: TrainConfig, where: str, tokenizer: MobileBertTokenizerFast
) -> tuple[str, ...]:
  """Compares vocabularies, where the teacher has one beside its weights.

  Weights alone, such as a file of TensorFlow's: sizes have been compared.
  """
  known = known_vocabulary(
    where,
    token=config.token,
    cache_dir=config.cache_dir,
    local_files_only=config.local_files_only,
  )
  return comparison.check(
    tokenizer.tokens(),
    config.tokenizer or "the student's tokenizer",
    known,
    f'the teacher {config.distillation.teacher}',
    f'set config.tokenizer to {where}, or leave it unset',
  )


def _digest(params: Params) -> str:
  """Returns a digest of names, dtypes, shapes and bits, in any order."""
  digest = hashlib.blake2b(digest_size=16)
  for path, value in sorted(flatten_dict(params, sep='/').items()):
    array = np.ascontiguousarray(value)
    digest.update(f'{path} {array.dtype} {array.shape} '.encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
  return digest.hexdigest()
