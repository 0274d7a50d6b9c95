"""Exact evaluation: every example counts once, for any batch size and mesh."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.data.batching import loader
from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.data.batching.packing import Placement
from mobilebert_jax.models import partitioning
from mobilebert_jax.tasks.task import Predictions, Task
from mobilebert_jax.training import step as train_step


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
    config: eval_batch_size, data.batching and data.buckets.
    at_border: called before each batch; it may raise to stop.
  """

  def __init__(
    self,
    task: Task,
    model: Any,
    mesh: Mesh,
    config: TrainConfig,
    at_border: Callable[[], None] = lambda: None,
  ):
    self._task, self._mesh, self._config = task, mesh, config
    self._at_border = at_border
    self._step = make_step(task, model, mesh, task.loss)
    self._step_without_loss = make_step(task, model, mesh, None)

  def scores(
    self, params: train_step.Params, splits: Sequence[Split]
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
    self, params: train_step.Params, split: Split
  ) -> dict[str, np.ndarray]:
    """One row for each row of the split's features, in their order."""
    return self._run(self._step_without_loss, params, split)[0]

  def _run(self, step: train_step.EvalStep, params: Any, split: Split):
    config = self._config
    batches = loader.eval_batches(
      split.features,
      batch_size=config.eval_batch_size,
      batching=config.data.batching,
      buckets=config.data.buckets,
      row_multiple=partitioning.batch_divisor(self._mesh),
      share=loader.Share(*partitioning.host_parts(self._mesh)),
    )
    lengths = split.features.lengths()
    placements: list[Placement] = []
    outputs: list[Predictions] = []
    terms: list[Any] = []

    def fetch(placement: Placement, results: Any):
      predictions, found = jax.device_get(results)
      placements.append(placement)
      outputs.append(cut(self._task, predictions, placement, lengths))
      terms.append(found)

    waiting = None
    # One batch late: the device works while the host fetches.
    for batch, placement in batches:
      self._at_border()
      results = step(params, partitioning.put_batch(batch, self._mesh))
      if waiting is not None:
        fetch(*waiting)
      waiting = (placement, results)
    if waiting is not None:
      fetch(*waiting)
    return _in_order(placements, outputs), terms


def make_step(
  task: Task, model: Any, mesh: Mesh, loss: Any
) -> train_step.EvalStep:
  """The evaluation step of a task, for the processes that the mesh spans.

  Args:
    task: what to keep.
    model: the model.
    mesh: the mesh.
    loss: the task's, or None where there are no labels.
  """
  step = train_step.make_eval_step(model, task.predict, loss)
  if len({device.process_index for device in mesh.devices.flat}) == 1:
    return step
  # Every process scores all predictions, and can fetch only what it holds.
  whole = NamedSharding(mesh, PartitionSpec())
  return jax.jit(step, out_shardings=whole)


def cut(
  task: Task,
  predictions: Predictions,
  placement: Placement,
  lengths: Int[np.ndarray, 'N'],
) -> dict[str, np.ndarray]:
  """One row for each example from what a task keeps of a batch.

  Args:
    task: tells which arrays have a value for each position.
    predictions: what `task.predict` gave for the batch.
    placement: where the examples are.
    lengths: number of tokens of every example of the split.
  """
  of_tokens = {
    name: array
    for name, array in predictions.items()
    if task.head.outputs_per == 'token' or name in task.token_outputs
  }
  of_examples = {
    name: array for name, array in predictions.items() if name not in of_tokens
  }
  return {
    **by_token(of_tokens, placement, lengths),
    **by_example(of_examples, placement),
  }


def by_example(
  predictions: Predictions, placement: Placement
) -> dict[str, np.ndarray]:
  """Takes each example's row from arrays with a row for every slot."""
  index = placement.rows * placement.slots_per_row + placement.slots
  return {name: array[index] for name, array in predictions.items()}


def by_token(
  predictions: Predictions,
  placement: Placement,
  lengths: Int[np.ndarray, 'N'],
) -> dict[str, np.ndarray]:
  """Cuts arrays with a value for every position apart into examples.

  Args:
    predictions: arrays [rows, S, ...].
    placement: where the examples are.
    lengths: number of tokens of every example of the split.

  Returns:
    Arrays [B, L, ...], where L is the longest of `lengths`; zero behind an
    example's last token.
  """
  width = int(lengths.max(initial=0))
  offset = np.arange(width)
  inside = offset < lengths[placement.examples][:, None]
  position = np.where(inside, placement.starts[:, None] + offset, 0)
  found = {}
  for name, array in predictions.items():
    taken = array[placement.rows[:, None], position]
    mask = inside.reshape(inside.shape + (1,) * (taken.ndim - 2))
    found[name] = np.where(mask, taken, np.zeros((), taken.dtype))
  return found


def _in_order(
  placements: Sequence[Placement], outputs: Sequence[Predictions]
) -> dict[str, np.ndarray]:
  """Joins batches and puts their rows into the order of the examples."""
  examples = np.concatenate([placement.examples for placement in placements])
  order = np.argsort(examples, kind='stable')
  return {
    name: np.concatenate([part[name] for part in outputs])[order]
    for name in outputs[0]
  }


def _total(batches: Sequence[Sequence[Any]]) -> float:
  """The loss of a split: sums and weights of all batches, in float64."""
  total = 0.0
  for parts in zip(*batches):
    weight = sum(float(part.weight) for part in parts)
    value = sum(float(part.sum) for part in parts)
    total += float(parts[0].scale) * value / weight if weight else 0.0
  return total
