"""How far a student agrees with its teacher, layer by layer, on a split.

The diagnosis of a transfer: which layers have learnt what their teachers give.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mobilebert_jax import models
from mobilebert_jax.config.distillation import DistillationConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.convert.pretrained import load_pretrained
from mobilebert_jax.data.batching import loader
from mobilebert_jax.distillation import teacher, transfer
from mobilebert_jax.distillation.objective import Objective
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.distillation.transfer import Keys, Pair
from mobilebert_jax.models import packing
from mobilebert_jax.models.typing import Batch, Params
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import Task
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training import setup, starting, train_step
from mobilebert_jax.training.evaluate import Split
from mobilebert_jax.training.workdir import Workdir

# What a comparison takes over from the run's settings.
_KEPT = (
  'temperature',
  'temperature_on',
  'teacher_layers',
  'count_padding',
  'norm_epsilon',
  'teacher_dtype',
  'teacher_placement',
)


def compared(config: DistillationConfig, teacher: str) -> DistillationConfig:
  """Returns settings that compare every layer by every term, with factor 1.

  Args:
    config: the run's, whatever of it was off.
    teacher: the teacher's name.
  """
  return DistillationConfig(
    teacher=teacher,
    strategy='auxiliary',
    feature_map=1.0,
    attention=1.0,
    mean=1.0,
    variance=1.0,
    dropout='off',
    **{name: getattr(config, name) for name in _KEPT},
  )


def measure(
  pair: Pair,
  params: Params,
  teacher_params: Params,
  task: Task,
  batches: Iterable[Batch],
) -> dict[str, Any]:
  """Compares two models over some batches, without dropout.

  Args:
    pair: both models, with settings from `compared`.
    params: the student's.
    teacher_params: the teacher's.
    task: the task.
    batches: batches on their devices.

  Returns:
    'layers': for each of the student's, 'layer', 'teacher_layer', and the means
    'feature_map', 'attention' (the Kullback-Leibler divergence: the term less
    the teacher's entropy), 'mean' and 'variance'. Beside it the means of the
    task's terms and '..._agreement', how often both predict the same.
  """
  step = _make_step(pair, task)
  sums: Any = None
  for batch in batches:
    new = jax.device_get(step(params, teacher_params, batch))
    sums = new if sums is None else jax.tree.map(lambda a, b: a + b, sums, new)
  by_layer, named = sums
  return {
    'layers': [
      {'layer': layer, 'teacher_layer': theirs}
      | {name: float(s[layer] / w) for name, (s, w) in by_layer.items()}
      for layer, theirs in enumerate(pair.teacher_layers)
    ],
    **{name: float(s / w) for name, (s, w) in named.items()},
  }


def _make_step(pair: Pair, task: Task) -> Any:
  """Compiles (params, teacher's, batch) -> (sum, weight) of every term."""
  layers = tuple(range(len(pair.teacher_layers)))
  both = Objective(pair, task, Stage(0, layers, True, 0, 1))

  @jax.jit
  def step(params: Params, teacher_params: Params, batch: Batch):
    outputs = both.forward(params, teacher_params, batch, jax.random.key(0))
    loss, logged = both.terms(outputs, packing.per_example(batch))
    by_layer = dict(outputs.sums)
    named = {
      name: (term.sum, term.weight)
      for name, term in (loss | logged).items()
      if name not in by_layer
    }
    by_layer['attention'] -= _entropies(pair, teacher_params, batch)
    weight = jnp.sum(transfer.counts(pair.config, batch))
    return {name: (sums, weight) for name, sums in by_layer.items()}, named

  return step


def of_run(place: Workdir, teacher_name: str | None = None) -> dict[str, Any]:
  """`measure` for the best model of a run, on its main validation split.

  Args:
    place: a run with a teacher.
    teacher_name: another teacher than the run's, or one for a run without.

  Raises:
    InputError: no such run, no teacher, one that does not fit, or a task whose
      examples are several texts.
  """
  config = _with_teacher(place, teacher_name)
  task, mesh = setup.find_task(config), setup.make_mesh(config)
  if task.head is models.MobileBertForMultipleChoice:
    raise InputError(
      f'the run in {place.path} learnt {task.name}, whose examples are several '
      'texts each, but layers are compared on single texts alone.'
    )
  compute = dataclasses.asdict(starting.compute_of(config))
  tokenizer = place.read_tokenizer()
  student, params, _ = load_pretrained(task.head, place.model, **compute)
  starting.check_labels(task, student.config, place)
  loaded = teacher.load(config, task, student, tokenizer)
  pair = Pair(student, loaded.model, loaded.layers, config.distillation)
  split = setup.load_split(config, task, tokenizer, task.splits.evaluation[0])
  with jax.set_mesh(mesh):
    shardings = train_step.parameter_shardings(student, mesh)
    return measure(
      pair,
      device_mesh.put_tree(params, shardings),
      loaded.place(mesh, config.distillation.teacher_placement),
      task,
      _batches(config, split, mesh),
    )


def _with_teacher(place: Workdir, name: str | None) -> TrainConfig:
  config = place.read_config()
  name = name or config.distillation.teacher
  if name is None:
    raise InputError(
      f'the run in {place.path} has no teacher: name one by --teacher=DIR.'
    )
  return dataclasses.replace(
    config, distillation=compared(config.distillation, name)
  )


def _batches(config: TrainConfig, split: Split, mesh: Mesh) -> Iterable[Batch]:
  batches = loader.eval_batches(
    split.features,
    batch_size=config.eval_batch_size,
    batching=config.data.batching,
    buckets=config.data.buckets,
    row_multiple=device_mesh.batch_divisor(mesh),
    shard=loader.ProcessShard(*device_mesh.host_parts(mesh)),
  )
  for batch, _ in batches:
    yield device_mesh.put_batch(batch, mesh)


def _entropies(pair: Pair, params: Params, batch: Batch) -> jax.Array:
  """Returns the sums of the entropies of the teacher's attention, [L].

  The cross-entropy of a teacher with itself: -sum p log p.
  """
  layers = pair.teacher.config.num_hidden_layers
  alone = pair._replace(
    student=pair.teacher, teacher_layers=tuple(range(layers))
  )
  compared = transfer.all_layers(
    alone, params, params, batch, Keys(), to_the_end=False
  )
  return compared.sums['attention'][jnp.array(pair.teacher_layers)]
