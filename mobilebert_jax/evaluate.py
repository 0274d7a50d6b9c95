"""Exact evaluation: every example counts once, for any batch size and mesh."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mobilebert_jax import sharding, training
from mobilebert_jax.data import loader
from mobilebert_jax.data.features import Features
from mobilebert_jax.run_config import TrainConfig
from mobilebert_jax.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Split:
  """One split, ready for evaluation."""

  name: str
  examples: tuple[Any, ...]
  features: Features


class Evaluator:
  """Evaluates a task's splits with steps that are compiled once.

  Args of the constructor:
    task: what to keep, and how to score it.
    model: the model.
    mesh: the mesh, already set.
    config: eval_batch_size and data.buckets.
  """

  def __init__(self, task: Task, model: Any, mesh: Mesh, config: TrainConfig):
    self._task, self._mesh, self._config = task, mesh, config
    self._step = training.make_eval_step(model, task.predict, task.loss)
    self._step_without_loss = training.make_eval_step(model, task.predict, None)

  def scores(
    self, params: training.Params, splits: Sequence[Split]
  ) -> dict[str, float]:
    """'<split>/<score>' and '<split>/loss' of each split."""
    scores = {}
    for split in splits:
      predictions, terms = self._run(self._step, params, split)
      found = self._task.score(predictions, split.examples, split.features)
      found = {**found, 'loss': _total(terms)}
      for name, value in found.items():
        scores[f'{split.name}/{name}'] = float(value)
    return scores

  def predictions(
    self, params: training.Params, split: Split
  ) -> dict[str, np.ndarray]:
    """One row for each row of the split's features, in their order."""
    return self._run(self._step_without_loss, params, split)[0]

  def _run(self, step: training.EvalStep, params: Any, split: Split):
    batches = loader.eval_batches(
      split.features,
      batch_size=self._config.eval_batch_size,
      buckets=self._config.data.buckets,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    rows: list[np.ndarray] = []
    outputs: list[dict[str, np.ndarray]] = []
    terms: list[Any] = []
    waiting = None
    # One batch late: the device works while the host fetches.
    for batch, indices in batches:
      results = step(params, sharding.put_batch(batch, self._mesh))
      if waiting is not None:
        _fetch(waiting, rows, outputs, terms)
      waiting = (indices, results)
    if waiting is not None:
      _fetch(waiting, rows, outputs, terms)
    return _in_order(rows, outputs), terms


def _fetch(waiting, rows, outputs, terms):
  indices, results = waiting
  predictions, found = jax.device_get(results)
  rows.append(indices)
  outputs.append({k: v[: len(indices)] for k, v in predictions.items()})
  terms.append(found)


def _in_order(
  rows: Sequence[np.ndarray], outputs: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
  """Joins batches and puts their rows into the order of the examples."""
  order = np.argsort(np.concatenate(rows), kind='stable')
  return {
    name: np.concatenate(_same_length([part[name] for part in outputs]))[order]
    for name in outputs[0]
  }


def _same_length(parts: list[np.ndarray]) -> list[np.ndarray]:
  """Fills a second axis, the length of the batch, with zeros."""
  if parts[0].ndim < 2:
    return parts
  longest = max(part.shape[1] for part in parts)
  return [
    np.pad(
      part,
      [(0, 0), (0, longest - part.shape[1])] + [(0, 0)] * (part.ndim - 2),
    )
    for part in parts
  ]


def _total(batches: Sequence[Sequence[Any]]) -> float:
  """The loss of a split: sums and weights of all batches, in float64."""
  total = 0.0
  for parts in zip(*batches):
    weight = sum(float(part.weight) for part in parts)
    value = sum(float(part.sum) for part in parts)
    total += float(parts[0].scale) * value / weight if weight else 0.0
  return total
