"""Scores of a saved model: what `eval.py` does."""

import dataclasses
import logging
import math
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from mobilebert_jax.config import overrides
from mobilebert_jax.config import run as run_config
from mobilebert_jax.config.command_line import Assignment
from mobilebert_jax.config.run import MeshConfig, TrainConfig
from mobilebert_jax.convert import label_names
from mobilebert_jax.convert.pretrained import load_pretrained
from mobilebert_jax.runtime import compilation_cache, distributed, files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import Task
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training import setup, starting, train_step
from mobilebert_jax.training.checkpoint import Checkpoints
from mobilebert_jax.training.evaluate import Evaluator, Split
from mobilebert_jax.training.optimizer import make_optimizer
from mobilebert_jax.training.starting import Start
from mobilebert_jax.training.workdir import Workdir, is_workdir, of_run

_log = logging.getLogger(__name__)


def config_of(
  checkpoint: str | os.PathLike[str], assignments: Sequence[Assignment] = ()
) -> TrainConfig:
  """Returns the config of the run that a checkpoint is from.

  A mesh that these devices do not have is left out, and that is said: scores
  do not depend on it.

  Args:
    checkpoint: see `score`.
    assignments: what the command line changes.

  Raises:
    InputError: it is of no run, or see `overrides.override`.
  """
  path = files.path(checkpoint)
  run = of_run(path)
  if run is None:
    raise InputError(
      f'--checkpoint={path} is of no run (there is no config.json with a '
      'model_config.json beside it): name the config that it was trained with, '
      '--config=FILE.'
    )
  values = overrides.filled(run_config.to_dict(run.read_config()))
  overrides.override(values, assignments)
  config = overrides.to_train_config(values)
  is_asked = any(name.startswith('mesh.') for name, _ in assignments)
  if not is_asked and not _fits(config.mesh, jax.device_count()):
    if distributed.is_primary():
      # Not among the scores.
      print(
        f'the mesh of {run.path} needs other devices than the '
        f'{jax.device_count()} here; all of these divide the batches.',
        file=sys.stderr,
        flush=True,
      )
    config = dataclasses.replace(config, mesh=MeshConfig())
  return config


def _fits(mesh: MeshConfig, devices: int) -> bool:
  sizes = (mesh.data, mesh.fsdp, mesh.tensor)
  fixed = math.prod(size for size in sizes if size != -1)
  return devices % fixed == 0 if -1 in sizes else devices == fixed


def score(
  config: TrainConfig, checkpoint: str | os.PathLike[str]
) -> dict[str, Any]:
  """Evaluates a checkpoint exactly as training does.

  Args:
    config: the run's config.
    checkpoint: a workdir, one of its `checkpoints/STEP`, or a transformers
      directory.

  Returns:
    '<split>/<score>' of each evaluation split, and 'step' if it is known.

  Raises:
    InputError: nothing readable there, or a model of other shapes.
  """
  path = files.path(checkpoint)

  def find() -> tuple[Task, Mesh]:
    if not path.is_dir():
      raise InputError(f'--checkpoint={path}: there is no such directory.')
    return setup.find_task(config), setup.make_mesh(config)

  task, mesh = distributed.raise_on_all(find)
  with (
    jax.set_mesh(mesh),
    compilation_cache.used(config.compilation_cache_dir),
  ):
    start, known = _load(config, task, path, mesh)

    def read() -> list[Split]:
      return [
        setup.load_split(config, task, start.tokenizer, name)
        for name in task.splits.evaluation
      ]

    splits = distributed.raise_on_all(read)
    for split in splits:
      starting.check_ids(start.model.config, split.name, split.features)
    evaluator = Evaluator(task, start.model, mesh, config)
    return known | evaluator.scores(start.params, splits)


def _load(
  config: TrainConfig, task: Task, path: pathlib.Path, mesh: Mesh
) -> tuple[Start, dict[str, Any]]:
  """The model with its parameters on the mesh, and what is known of it."""
  if is_workdir(path):
    return _from_workdir(config, task, Workdir(path), None, mesh)
  if path.parent.name == 'checkpoints' and path.name.isdecimal():
    workdir = Workdir(path.parent.parent)
    return _from_workdir(config, task, workdir, int(path.name), mesh)
  if config.quantization.is_on:
    raise InputError(
      f'--checkpoint={path} has parameters alone, but a quantised model also '
      'has ranges: name the workdir of its run, or set '
      "config.quantization.scheme to 'none'."
    )
  compute = starting.compute_of(config)
  model, params, report = load_pretrained(
    task.head,
    path,
    other_labels='refuse',
    **dataclasses.asdict(compute),
    **(dict(config.model) | task.model_overrides()),
  )
  if report.newly_initialised:
    raise InputError(
      f'--checkpoint={path} has no weights for '
      f'{", ".join(report.newly_initialised)}, which {task.name} needs: name a '
      'model that was trained for it.'
    )
  _, shardings = _state(config, model, mesh)
  params = device_mesh.put_tree(params, shardings.params)
  tokenizer = MobileBertTokenizerFast.from_pretrained(path)
  return Start(model, params, tokenizer), {}


def _from_workdir(
  config: TrainConfig,
  task: Task,
  workdir: Workdir,
  step: int | None,
  mesh: Mesh,
) -> tuple[Start, dict[str, Any]]:
  if not workdir.checkpoints.is_dir():
    raise InputError(f'{workdir.path} holds no checkpoint yet.')
  start = starting.resume(config, task, workdir, scores=True)
  abstract, _ = _state(config, start.model, mesh)
  with Checkpoints(workdir.checkpoints, read_only=True) as checkpoints:
    step = checkpoints.latest() if step is None else step
    params, _ = checkpoints.restore_params(abstract, step)
  written = workdir.read_model_config()
  matched = starting.label_order(task, written, workdir)
  if matched.kind == 'reordered':
    params = label_names.with_order(params, matched.order)
  stored = tuple(written.id2label.values())
  note = label_names.describe(matched, stored, task.labels, str(workdir.path))
  if note is not None:
    # The scores alone go to standard output.
    _log.warning('%s', note)
  return dataclasses.replace(start, params=params), {'step': step}


def _state(
  config: TrainConfig, model: Any, mesh: Mesh
) -> tuple[train_step.TrainState, train_step.TrainState]:
  tx = make_optimizer(config.optimizer, total_steps=1)
  return train_step.abstract_state(model, tx, mesh)
