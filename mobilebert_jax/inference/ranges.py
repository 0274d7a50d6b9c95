"""What values the tensors of a served model have, on real inputs.

Scales are chosen by them: those of channels (`equalization`) and those of
integers (`quantization`).
"""

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.inference import graph as graphs
from mobilebert_jax.inference.graph import Graph
from mobilebert_jax.inference.operations import jax_operations

# A hidden key may take this much of a probability.
MASKED = 1e-6


class Range(NamedTuple):
  """The lowest and the highest value of a tensor.

  Attributes:
    low: of each channel, [channels]; of tensors that have none, such as the
      scores of attention, of all values, [].
    high: the same.
  """

  low: np.ndarray
  high: np.ndarray

  @property
  def largest(self) -> np.ndarray:
    """The largest absolute value, of each channel."""
    return np.maximum(np.abs(self.low), np.abs(self.high))

  @property
  def whole(self) -> tuple[float, float]:
    """The lowest and the highest value of all channels."""
    return float(self.low.min()), float(self.high.max())


class Ranges(NamedTuple):
  """What was measured.

  Attributes:
    tensors: by the names that `graph.apply` gives them. Of masked scores, the
      range from which probabilities come: anything lower has none.
    mask_value: what hides a key: added to its score, it leaves a probability of
      at most `MASKED` to all hidden keys of a row together.
  """

  tensors: Mapping[str, Range]
  mask_value: float


def measure(
  graph: Graph, batches: Iterable[Mapping[str, np.ndarray]]
) -> Ranges:
  """Returns the ranges of all tensors of a model.

  What the mask hides does not count: tokens, and scores of them and for them.

  Args:
    graph: the model, in float32.
    batches: inputs by name, as `graph.apply` takes them.
  """
  collected: dict[str, Range] = {}
  masking = 0.0
  for batch in _alike(batches):
    result, needed = jax.device_get(
      _extremes(graph.head, graph.config, dict(graph.weights), batch)
    )
    masking = max(masking, float(needed))
    for name, (low, high) in result.items():
      if name in collected:
        low = np.minimum(low, collected[name].low)
        high = np.maximum(high, collected[name].high)
      collected[name] = Range(low, high)
  # Other texts may need a little more.
  return Ranges(collected, -math.ceil(masking + 2))


def _alike(
  batches: Iterable[Mapping[str, np.ndarray]],
) -> list[dict[str, np.ndarray]]:
  """Pads batches to one shape, so that one program is compiled for all."""
  batches = [{k: np.asarray(v) for k, v in b.items()} for b in batches]
  shapes = [batch['input_ids'].shape for batch in batches]
  largest = np.max(shapes, axis=0)
  return [
    {
      name: np.pad(value, [(0, n - m) for n, m in zip(largest, value.shape)])
      for name, value in batch.items()
    }
    for batch in batches
  ]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _extremes(
  head: str,
  config: MobileBertConfig,
  weights: Mapping[str, Any],
  batch: Mapping[str, Any],
) -> tuple[Any, Any]:
  """Returns name -> (low, high) in one batch, and what masking needs."""
  graph = Graph(head, config, weights)
  mask = batch['attention_mask']
  # Multiple choice: a row for each choice.
  seen = mask.reshape(-1, mask.shape[-1]) != 0
  operations = jax_operations(np.float32)
  result: dict[str, Any] = {}
  needed = [jnp.float32(0)]

  def note(name: str, value: Any) -> Any:
    if name in graph.weights:
      return value
    if name.endswith('/scores'):
      needed.append(_needed(value, seen))
    if name.endswith('/masked_scores'):
      result[name] = _peaks(value, seen)
      return value
    counts, axes = _counting(value, seen)
    low = jnp.where(counts, value, jnp.inf).min(axes)
    high = jnp.where(counts, value, -jnp.inf).max(axes)
    result[name] = (low, high)
    return value

  graphs.apply(graph, operations, batch, note)
  result.pop('mask_bias')
  return result, jnp.stack(needed).max()


def _counting(value: Any, seen: Any) -> tuple[Any, Any]:
  """Returns which values count, and the axes that are no channels."""
  rows, length = seen.shape
  match value.shape:
    case (n, _) if n == rows * length and n != rows:
      return seen.reshape(-1, 1), 0
    case (n, heads, queries, keys) if (n, queries, keys) == (
      rows, length, length,
    ):  # fmt: skip
      del heads
      pairs = seen[:, None, :, None] & seen[:, None, None, :]
      return pairs, None
    case (n, s, _) if (n, s) == (rows, length):
      return seen[:, :, None], (0, 1)
    case (n, s) if (n, s) == (rows, length):
      return seen, None
    case _:
      return True, tuple(range(value.ndim - 1))


def _peaks(scores: Any, seen: Any) -> tuple[Any, Any]:
  """Returns the lowest score that matters, and the highest.

  In a row of keys that sees its highest score, all keys that are lower by the
  first number together have a probability of at most `MASKED`.
  """
  depth = math.log(scores.shape[-1]) - math.log(MASKED)
  peaks = scores.max(-1)
  queries = seen[:, None, :]
  low = jnp.where(queries, peaks, jnp.inf).min()
  return low - depth, jnp.where(queries, peaks, -jnp.inf).max()


def _needed(scores: Any, seen: Any) -> Any:
  """Returns what to subtract from the scores of hidden keys.

  So that all of them together have at most `MASKED` of what the largest score
  that is seen has.
  """
  keys, queries = seen[:, None, None, :], seen[:, None, :]
  highest = jnp.where(keys, scores, -jnp.inf).max(-1)
  hidden = jax.nn.logsumexp(jnp.where(keys, -jnp.inf, scores), axis=-1)
  needed = hidden - highest - math.log(MASKED)
  return jnp.where(queries, needed, 0.0).max(initial=0.0)
