"""StableHLO by jax.export: a file for CPU, TPU and CUDA, any batch and length.

A later jax reads what an earlier one wrote, for the six months that jax.export
promises (0.12.0 reads what 0.10.2 wrote, with equal results); an earlier one
may not read what a later one wrote: 0.10.2 opens a file of 0.12.0 and then
fails in the first call. A process without
this package reads it too:

```python
exported = jax.export.deserialize(open('model.stablehlo', 'rb').read())
outputs = exported.call(input_ids, attention_mask, token_type_ids)
```
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from mobilebert_jax.convert.formats import safetensors
from mobilebert_jax.inference import graph as graphs
from mobilebert_jax.inference.graph import Graph
from mobilebert_jax.inference.operations import jax_operations
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.requirements import load

PLATFORMS = ('cpu', 'tpu', 'cuda')


def served(graph: Graph) -> Any:
  """Returns a function of (input_ids, attention_mask, token_type_ids).

  It returns the outputs by name; the weights are constants of it.
  """

  def serve(input_ids, attention_mask, token_type_ids):
    inputs = (input_ids, attention_mask, token_type_ids)
    return graphs.apply(
      graph, jax_operations(), dict(zip(graphs.INPUTS, inputs))
    )

  return serve


def build(graph: Graph, *, parameters_inside: bool = True) -> Any:
  """Returns a `jax.export.Exported`.

  Args:
    graph: the served model.
    parameters_inside: whether the weights are in the file; else they are the
      first argument of the call, a dictionary like `graph.weights`.

  Raises:
    InputError: `flatbuffers`, which jax.export writes files with, is missing.
  """
  load('flatbuffers', 'stablehlo')
  # The length is bounded: the table of positions has no more rows.
  longest = graph.config.max_position_embeddings
  has_choices = graph.head == 'MobileBertForMultipleChoice'
  axes = 'b, n, s' if has_choices else 'b, s'
  shape = jax.export.symbolic_shape(axes, constraints=[f's <= {longest}'])
  ids = [jax.ShapeDtypeStruct(shape, jnp.int32)] * len(graphs.INPUTS)
  arguments: list[Any] = ids
  if parameters_inside:
    function = served(graph)
  else:
    weights = {
      name: jax.ShapeDtypeStruct(value.shape, value.dtype)
      for name, value in graph.weights.items()
    }

    def function(weights, *inputs):
      return served(graph._replace(weights=weights))(*inputs)

    arguments = [weights, *ids]
  return jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)


def save(graph: Graph, path: pathlib.Path, *, parameters_inside: bool = True):
  """Writes a file, which appears only when it is whole.

  Args:
    graph: the served model.
    path: where to.
    parameters_inside: see `build`; else the weights are written beside it, as
      `model.safetensors` by their names in the graph.

  Raises:
    InputError: `flatbuffers` is not installed.
  """
  data = build(graph, parameters_inside=parameters_inside).serialize()
  if not parameters_inside:
    weights = path.with_suffix('.safetensors')
    with files.replacing(weights) as partial:
      safetensors.write(partial, graph.weights)
  with files.replacing(path) as partial:
    partial.write_bytes(data)


class Loaded:
  """A file of StableHLO, with sentences where jax.export has none.

  Args:
    path: the file; weights that are not in it are found beside it.

  Raises:
    InputError: it is no such file, or one of a newer jax.
  """

  def __init__(self, path: pathlib.Path):
    load('flatbuffers', 'stablehlo')
    try:
      self.exported = jax.export.deserialize(bytearray(path.read_bytes()))
    except Exception as error:
      raise InputError(
        f'{path} is no StableHLO that this jax ({jax.__version__}) reads: '
        f'{str(error).splitlines()[0]}.'
      ) from None
    self._path = path
    weights = path.with_suffix('.safetensors')
    self._weights = []
    if len(self.exported.in_avals) > len(graphs.INPUTS):
      self._weights = [safetensors.read(weights)]
    self._call = jax.jit(self.exported.call)

  def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs by name for inputs by transformers' names.

    Raises:
      InputError: the sequences are longer than the model has positions, or
        the file is of a newer jax.
    """
    ids = [np.asarray(inputs[name], np.int32) for name in graphs.INPUTS]
    try:
      outputs = self._call(*self._weights, *ids)
    except jax.errors.JaxRuntimeError as error:
      # A file of a newer jax is read, and fails when it is first called.
      if 'deserialize' not in str(error):
        raise
      raise InputError(
        f'{self._path} was written by a newer jax than this one '
        f'({jax.__version__}), which cannot run it: use that, or write it here.'
      ) from None
    except ValueError as error:
      if 'refin' not in str(error).lower():
        raise
      raise InputError(
        f'the sequences have {ids[0].shape[-1]} tokens, more than the model '
        'has positions: truncate them.'
      ) from None
    return {name: np.asarray(value) for name, value in outputs.items()}
