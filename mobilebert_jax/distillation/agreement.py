"""How far a student agrees with its teacher, layer by layer, on a split.

The diagnosis of a transfer: which layers have learnt what their teachers give.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mobilebert_jax import packing, preparation, sharding
from mobilebert_jax.convert.pretrained import load_pretrained
from mobilebert_jax.data import loader
from mobilebert_jax.distillation import teacher, transfer
from mobilebert_jax.distillation.objective import Objective
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.distillation.transfer import Keys, Pair
from mobilebert_jax.distillation_config import DistillationConfig
from mobilebert_jax.errors import InputError
from mobilebert_jax.evaluate import Split
from mobilebert_jax.gradients import Batch
from mobilebert_jax.optimizer import Params
from mobilebert_jax.run_config import TrainConfig
from mobilebert_jax.tasks import Task
from mobilebert_jax.workdir import Workdir


def measure(
  pair: Pair,
  params: Params,
  teacher_params: Params,
  task: Task,
  batches: Iterable[Batch],
) -> dict[str, Any]:
  """Compares two models over some batches, without dropout.

  Args:
    pair: both models; they are as wide and have as many heads.
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
  step = _make_step(pair._replace(config=_every_term(pair.config)), task)
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


def _every_term(config: DistillationConfig) -> DistillationConfig:
  """Whatever the run had, each term is measured, without its factor."""
  return dataclasses.replace(
    config,
    feature_map=1.0,
    attention=1.0,
    mean=1.0,
    variance=1.0,
    teacher_average_statistics=False,
    paired_statistics=False,
  )


def _make_step(pair: Pair, task: Task) -> Any:
  """Compiles (params, teacher's, batch) -> (sum, weight) of every term."""
  aims = Objective(pair, task, Stage(0, (), True, 0, 1))

  @jax.jit
  def step(params: Params, teacher_params: Params, batch: Batch):
    every = (params, teacher_params, batch, Keys())
    found = transfer.all_layers(pair, *every, to_the_end=False).sums
    found['attention'] -= _entropies(pair, teacher_params, batch)
    weight = jnp.sum(transfer.counts(pair.config, batch))
    outputs = aims.forward(params, teacher_params, batch, jax.random.key(0))
    loss, told = aims.terms(outputs, packing.per_example(batch))
    named = {n: (term.sum, term.weight) for n, term in (loss | told).items()}
    return {name: (total, weight) for name, total in found.items()}, named

  return step


def of_run(place: Workdir, teacher_name: str | None = None) -> dict[str, Any]:
  """`measure` for the best model of a run, on its main validation split.

  Args:
    place: a run with a teacher.
    teacher_name: another teacher than the run's, or one for a run without.

  Raises:
    InputError: no such run, no teacher, or one that does not fit.
  """
  config = _with_teacher(place, teacher_name)
  task, mesh = preparation.find_task(config), preparation.make_mesh(config)
  compute = dataclasses.asdict(preparation.compute_of(config))
  tokenizer = place.read_tokenizer()
  student, params, _ = load_pretrained(task.head, place.model, **compute)
  found = teacher.load(config, task, student, tokenizer)
  pair = Pair(student, found.model, found.layers, config.distillation)
  split = preparation.load_split(
    config, task, tokenizer, task.splits.evaluation[0]
  )
  with jax.set_mesh(mesh):
    places = teacher.places(student, mesh, 'sharded')
    return measure(
      pair,
      sharding.put_tree(params, places),
      found.place(mesh, config.distillation.teacher_placement),
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
  changed = dataclasses.replace(config.distillation, teacher=name)
  return dataclasses.replace(config, distillation=changed)


def _batches(config: TrainConfig, split: Split, mesh: Mesh) -> Iterable[Batch]:
  batches = loader.eval_batches(
    split.features,
    batch_size=config.eval_batch_size,
    batching=config.data.batching,
    buckets=config.data.buckets,
    row_multiple=sharding.batch_divisor(mesh),
    share=loader.Share(*sharding.host_parts(mesh)),
  )
  for batch, _ in batches:
    yield sharding.put_batch(batch, mesh)


def _entropies(pair: Pair, params: Params, batch: Batch) -> jax.Array:
  """The sums of the entropies of the teacher's attention, [L].

  What a term is when the teacher is its own student.
  """
  layers = pair.teacher.config.num_hidden_layers
  alone = pair._replace(
    student=pair.teacher, teacher_layers=tuple(range(layers))
  )
  found = transfer.all_layers(
    alone, params, params, batch, Keys(), to_the_end=False
  )
  return found.sums['attention'][jnp.array(pair.teacher_layers)]
