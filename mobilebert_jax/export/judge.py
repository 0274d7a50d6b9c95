"""A file beside the model on a task: the scores of both, label by label."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.data.batching import loader
from mobilebert_jax.data.batching.features import NumpyBatch
from mobilebert_jax.export import check, texts
from mobilebert_jax.export.check import Runtime
from mobilebert_jax.export.litert import PROBABILITIES
from mobilebert_jax.export.source import Source
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.progress import Work
from mobilebert_jax.tasks import Task
from mobilebert_jax.tasks.task import Predictions
from mobilebert_jax.training import evaluate
from mobilebert_jax.training.evaluate import Split

_ROWS = 8


class Judgement(NamedTuple):
  """Scores of a file and of the model that it was made of.

  Attributes:
    split: which split of the run's data, with its number of examples.
    model: the model's scores in JAX, by name.
    file: the file's.
    decided: how many labels, tokens or ends of answers the model decides.
    differ: how many of them the file decides otherwise.
    error: the standard deviation of what the logits differ by, as a part of
      theirs.
    kept: what the task keeps of both to score them, by 'model' and 'file'.
  """

  split: str
  model: dict[str, float]
  file: dict[str, float]
  decided: int
  differ: int
  error: float
  kept: Mapping[str, Predictions]

  def describe(self) -> str:
    """Returns the same in a sentence."""
    scores = ', '.join(
      f'{name} {value:.4f} (the model: {self.model[name]:.4f})'
      for name, value in self.file.items()
    )
    same = 1 - self.differ / max(1, self.decided)
    return (
      f'on {self.split}: {scores}; {same:.2%} of {self.decided:,} decisions '
      f"are the model's; error of logits {self.error:.2%} of their deviation"
    )


class Data(NamedTuple):
  """What files are judged on.

  Attributes:
    task: the run's.
    split: examples with labels.
    config: the run's.
  """

  task: Task
  split: Split
  config: TrainConfig


def read(source: Source, count: int, max_length: int) -> Data | str:
  """Reads the first examples of a run's validation split.

  Args:
    source: the model.
    count: how many.
    max_length: tokens that they are cut to.

  Returns:
    them, or why there are none.
  """
  if source.run is None:
    return f'{source.name} is no run'
  try:
    config, task, split = texts.read_split(source, count, max_length)
  except InputError as error:
    return str(error)
  if not isinstance(split.examples, tuple):
    # Records on disk are given out together.
    return f'the {split.name} split is of records'
  return Data(task, split, config)


def judge(
  source: Source, model: Runtime, runtime: Runtime, data: Data
) -> Judgement:
  """Scores a file and the model on the same examples.

  Args:
    source: the model.
    model: it, `check.compiled`.
    runtime: the file in its runtime.
    data: the examples.
  """
  task, split, config = data
  collected: dict[str, list[Any]] = {'model': [], 'file': []}
  placements: list[Any] = []
  decided = differ = 0
  errors, values = _Deviation(), _Deviation()
  lengths = split.features.lengths()
  keep = jax.jit(task.predict)
  batches = loader.eval_batches(
    split.features,
    batch_size=_ROWS,
    batching='bucketed',
    buckets=config.data.buckets or (config.data.max_length,),
  )
  with Work('scoring', 'examples') as work:
    done = 0
    for batch, placement in batches:
      inputs = _read(batch)
      outputs = runtime(inputs)
      both = {'model': model(inputs), 'file': _logits(outputs)}
      one, other = (
        check.decided(source, both[which], inputs) for which in both
      )
      for name, value in one.items():
        decided += value.size
        differ += int((other[name] != value).sum())
      for name in check.scored(source) or tuple(both['file']):
        seen = check.seen(source.head, name, inputs)
        right, wrong = (
          np.asarray(both[which][name], np.float64) for which in both
        )
        if seen is not None:
          right, wrong = right[seen], wrong[seen]
        if PROBABILITIES in outputs:
          # They tell logits up to a constant for each text.
          right, wrong = (x - x.mean(-1, keepdims=True) for x in (right, wrong))
        values.add(right)
        errors.add(wrong - right)
      placements.append(placement)
      for which, values_of in both.items():
        part = jax.device_get(keep(_Outputs(values_of, batch), dict(batch)))
        collected[which].append(evaluate.cut(task, part, placement, lengths))
      done += len(placement.examples)
      work.is_at(done, len(split.features))
  kept = {
    which: evaluate.in_order(placements, parts)
    for which, parts in collected.items()
  }
  scores = {
    which: {
      name: float(value)
      for name, value in task.score(
        predictions, split.examples, split.features
      ).items()
    }
    for which, predictions in kept.items()
  }
  name = f'{len(split.examples):,} examples of {split.name}'
  return Judgement(
    name, scores['model'], scores['file'], decided, differ,
    errors.value / max(values.value, 1e-30), kept,
  )  # fmt: skip


def _read(batch: NumpyBatch) -> NumpyBatch:
  """What files read of a batch."""
  return {name: batch[name] for name in check.INPUTS}


def _logits(outputs: check.Outputs) -> dict[str, np.ndarray]:
  """Gives a file that ends in a softmax logits again."""
  outputs = dict(outputs)
  if PROBABILITIES in outputs:
    probabilities = np.asarray(outputs.pop(PROBABILITIES), np.float64)
    outputs['logits'] = np.log(np.maximum(probabilities, 1e-30))
  return outputs


@jax.tree_util.register_pytree_node_class
class _Outputs:
  """Outputs of a file as those of a model; masked words where they are."""

  def __init__(self, values: Any, batch: Any = None):
    self._values = dict(values)
    positions = None if batch is None else batch.get('masked_positions')
    for name in ('logits', 'prediction_logits'):
      value = self._values.get(name)
      if positions is not None and value is not None and value.ndim == 3:
        index = np.asarray(positions)[..., None]
        self._values[name] = np.take_along_axis(value, index, axis=1)

  def __getattr__(self, name: str) -> Any:
    try:
      return self.__dict__['_values'][name]
    except KeyError:
      raise AttributeError(name) from None

  def tree_flatten(self):
    names = tuple(sorted(self._values))
    return tuple(self._values[name] for name in names), names

  @classmethod
  def tree_unflatten(cls, names, children):
    return cls(dict(zip(names, children)))


class _Deviation:
  """The standard deviation of all numbers that were added."""

  def __init__(self):
    self._count, self._sum, self._squares = 0, 0.0, 0.0

  def add(self, values: np.ndarray):
    self._count += values.size
    self._sum += float(values.sum())
    self._squares += float((values**2).sum())

  @property
  def value(self) -> float:
    mean = self._sum / max(1, self._count)
    return max(0.0, self._squares / max(1, self._count) - mean**2) ** 0.5
