"""What rounding each tensor to integers costs, by itself."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mobilebert_jax import models
from mobilebert_jax.inference import graph as graphs
from mobilebert_jax.inference import quantization as quantizations
from mobilebert_jax.inference.graph import Graph
from mobilebert_jax.inference.operations import jax_operations
from mobilebert_jax.inference.quantization import Quantization
from mobilebert_jax.runtime.progress import Work

# Where outputs are of tokens, so many say enough.
_TOKENS = 256


class Cost(NamedTuple):
  """What rounding one tensor costs.

  Attributes:
    name: of the tensor or the weight.
    error: the standard deviation of what the outputs change by, as a part of
      theirs.
  """

  name: str
  error: float


def costs(
  graph: Graph,
  quantization: Quantization,
  batch: Mapping[str, np.ndarray],
) -> tuple[Cost, ...]:
  """Returns the costs of all tensors that are rounded, the largest first.

  Args:
    graph: the served model.
    quantization: how it is rounded.
    batch: inputs by name; a handful is enough to compare tensors.
  """
  head = getattr(models, graph.head)
  # The bare model gives tokens, too.
  if getattr(head, 'outputs_per', 'both') != 'example':
    rows = -(-_TOKENS // batch['input_ids'].shape[-1])
    batch = {name: value[:rows] for name, value in batch.items()}
  graph = graph._replace(mask_value=quantization.mask_value)
  rounded = quantizations.hook(graph, quantization)
  names: list[str] = []
  operations = jax_operations(np.float32)

  def outputs(weights: Any, inputs: Any, which: Any) -> Any:
    """Rounds the tensor of a number; -1: none."""
    names.clear()

    def one(name: str, value: Any) -> Any:
      changed = rounded(name, value)
      if changed is value:
        return value
      names.append(name)
      return jnp.where(which == len(names) - 1, changed, value)

    traced = graph._replace(weights=weights)
    return graphs.apply(traced, operations, inputs, one)

  def error(weights: Any, inputs: Any, plain: Any, which: Any) -> Any:
    """Compares there: outputs for all words are too large to be fetched."""
    changed = outputs(weights, inputs, which)
    each = [
      jnp.std(changed[name] - value) / jnp.maximum(jnp.std(value), 1e-30)
      for name, value in plain.items()
    ]
    return jnp.stack(each).max()

  given = dict(graph.weights), dict(batch)
  step = functools.partial(jax.jit(error), *given, jax.jit(outputs)(*given, -1))
  result = []
  with Work('rounding one by one', 'tensors') as work:
    for index, name in enumerate(tuple(names)):
      result.append(Cost(name, float(step(index))))
      work.is_at(index + 1, len(names))
  return tuple(sorted(result, key=lambda cost: -cost.error))
