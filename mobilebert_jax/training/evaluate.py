"""Exact evaluation: every example counts once, for any batch size and mesh."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.data.batching import loader
from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.data.batching.packing import Placement
from mobilebert_jax.losses import Terms
from mobilebert_jax.models import packing
from mobilebert_jax.models.typing import Batch, Params
from mobilebert_jax.runtime.compiler_options import compiler_options
from mobilebert_jax.tasks.task import Predictions, Task
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training.train_step import Loss, model_inputs

EvalStep = Callable[[Params, Batch], tuple[dict[str, Array], Terms]]


@dataclasses.dataclass(frozen=True)
class Split:
  """One split, ready for evaluation."""

  name: str
  examples: tuple[Any, ...]
  features: Features


class Evaluator:
  """Evaluates a task's splits with steps that are compiled once.

  Args:
    task: what to keep, and how to score it.
    model: the model.
    mesh: the mesh, already set.
    config: eval_batch_size, data.batching and data.buckets.
    before_batch: called before each batch; it may raise to stop.
  """

  def __init__(
    self,
    task: Task,
    model: Any,
    mesh: Mesh,
    config: TrainConfig,
    before_batch: Callable[[], None] = lambda: None,
  ):
    self._task, self._mesh, self._config = task, mesh, config
    self._before_batch = before_batch
    self._fold_norms = jax.jit(model.fold_norms)
    model = model.with_folded_norms()
    self._step = make_eval_step(model, task.predict, task.loss, mesh)
    self._step_without_loss = make_eval_step(model, task.predict, None, mesh)

  def scores(self, params: Params, splits: Sequence[Split]) -> dict[str, float]:
    """Returns '<split>/<score>' and '<split>/loss' of each split."""
    params = self._fold_norms(params)
    scores = {}
    for split in splits:
      predictions, terms = self._run(self._step, params, split)
      values = self._task.score(predictions, split.examples, split.features)
      values = {**values, 'loss': _total_loss(terms)}
      for name, value in values.items():
        scores[f'{split.name}/{name}'] = float(value)
    return scores

  def predictions(self, params: Params, split: Split) -> dict[str, np.ndarray]:
    """Returns one row for each row of the split's features, in their order."""
    params = self._fold_norms(params)
    return self._run(self._step_without_loss, params, split)[0]

  def _run(self, step: EvalStep, params: Params, split: Split):
    config = self._config
    batches = loader.eval_batches(
      split.features,
      batch_size=config.eval_batch_size,
      batching=config.data.batching,
      buckets=config.data.buckets,
      row_multiple=device_mesh.batch_divisor(self._mesh),
      shard=loader.ProcessShard(*device_mesh.host_parts(self._mesh)),
    )
    lengths = split.features.lengths()
    placements: list[Placement] = []
    outputs: list[Predictions] = []
    terms: list[Any] = []

    def fetch(placement: Placement, results: Any):
      predictions, batch_terms = jax.device_get(results)
      placements.append(placement)
      outputs.append(cut(self._task, predictions, placement, lengths))
      terms.append(batch_terms)

    waiting = None
    # One batch late: the device works while the host fetches.
    for batch, placement in batches:
      self._before_batch()
      results = step(params, device_mesh.put_batch(batch, self._mesh))
      if waiting is not None:
        fetch(*waiting)
      waiting = (placement, results)
    if waiting is not None:
      fetch(*waiting)
    return in_order(placements, outputs), terms


def make_eval_step(
  model: nn.Module,
  predict: Callable[[Any, Batch], dict[str, Array]],
  loss: Loss | None,
  mesh: Mesh | None = None,
) -> EvalStep:
  """Compiles one evaluation step, without dropout.

  Args:
    model: the model, with a head.
    predict: (outputs, batch) -> what scoring needs, arrays whose first axis is
      that of the outputs; the batch is as for `loss`.
    loss: as for training; None where there are no labels.
    mesh: the mesh; if several processes are in it, each gets all results whole.

  Returns:
    step(params, batch) -> (predictions, terms of the loss).
  """

  def step(params: Params, batch: Batch):
    outputs = model.apply({'params': params}, **model_inputs(batch))
    seen = packing.per_example(batch)
    kept = predict(outputs, seen)
    return kept, () if loss is None else loss(outputs, seen)

  devices = jax.devices()[:1] if mesh is None else mesh.devices.flat
  options = compiler_options(devices[0].platform, model.compute.dtype)
  if mesh is None or len({device.process_index for device in devices}) == 1:
    return jax.jit(step, compiler_options=options)
  # Every process scores all predictions, and can fetch only what it holds.
  whole = NamedSharding(mesh, PartitionSpec())
  return jax.jit(step, out_shardings=whole, compiler_options=options)


def cut(
  task: Task,
  predictions: Predictions,
  placement: Placement,
  lengths: Int[np.ndarray, 'N'],
) -> dict[str, np.ndarray]:
  """Returns one row for each example from what a task keeps of a batch.

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
  rows = {}
  for name, array in predictions.items():
    taken = array[placement.rows[:, None], position]
    mask = inside.reshape(inside.shape + (1,) * (taken.ndim - 2))
    rows[name] = np.where(mask, taken, np.zeros((), taken.dtype))
  return rows


def in_order(
  placements: Sequence[Placement], outputs: Sequence[Predictions]
) -> dict[str, np.ndarray]:
  """Joins batches and puts their rows into the order of the examples.

  Args:
    placements: where the examples of each batch are.
    outputs: a row for each of them, batch by batch (`cut`).
  """
  examples = np.concatenate([placement.examples for placement in placements])
  order = np.argsort(examples, kind='stable')
  return {
    name: np.concatenate([part[name] for part in outputs])[order]
    for name in outputs[0]
  }


def _total_loss(batches: Sequence[Sequence[Any]]) -> float:
  """Returns the loss of a split: sum_i a_i S_i / W_i, in float64.

  S_i and W_i are the sum and the weight of term i over all batches, a_i is its
  scale.
  """
  total = 0.0
  for parts in zip(*batches):
    weight = sum(float(part.weight) for part in parts)
    value = sum(float(part.sum) for part in parts)
    total += float(parts[0].scale) * value / weight if weight else 0.0
  return total
