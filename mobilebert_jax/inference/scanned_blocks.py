"""Folding and the forward pass within a step that learns: blocks in a loop.

As in `models.encoder`, one block is compiled for all. Blocks share a loop if
their weights and rounded tensors have the same names; where a stream begins
anew in some blocks alone, it takes several loops, one after another.
"""

import copy
import itertools
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.inference import graph as graphs
from mobilebert_jax.inference.folding import Affine, Folding, Means
from mobilebert_jax.inference.graph import Graph, Hook, Outputs, Weights
from mobilebert_jax.inference.operations import Operations
from mobilebert_jax.inference.quantization import Grid
from mobilebert_jax.models.compute import Compute
from mobilebert_jax.models.remat import REMAT_POLICIES

# What stands for 'layer_3' in names of a loop's weights and tensors.
_BLOCK = 'layer'


class Loop(NamedTuple):
  """Consecutive blocks that are alike.

  Attributes:
    blocks: their indices.
    weights: of all of them, stacked on axis 0, named 'layer/...'.
  """

  blocks: range
  weights: Weights


def loops(blocks: int, names: Iterable[str]) -> list[range]:
  """Returns the indices of consecutive blocks with the same names.

  Args:
    blocks: how many there are.
    names: of tensors, such as 'layer_3/ffn_1/output'; others do not matter.
  """
  of_block: list[set[str]] = [set() for _ in range(blocks)]
  for name in names:
    if match := re.match(r'layer_(\d+)/(.*)', name):
      of_block[int(match[1])].add(match[2])
  starts = [
    i for i in range(blocks) if i == 0 or of_block[i] != of_block[i - 1]
  ]
  return [range(*ends) for ends in itertools.pairwise([*starts, blocks])]


def fold_traced(
  head: str,
  config: MobileBertConfig,
  params: Any,
  outputs: Outputs = graphs.NO_MORE,
  *,
  means: Means,
  restarts: Collection[str],
  alike: Iterable[range],
) -> tuple[Graph, list[Loop]]:
  """Returns the served form of parameters that are traced, with a gradient.

  Args:
    head: transformers' name of the class.
    config: the architecture.
    params: jax arrays of one dtype, in which everything is computed.
    outputs: what the served model computes beside the class's outputs.
    means: constants, measured before (`folding.measure_means`).
    restarts: where streams begin anew (`folding.restarts_of`): parameters that
      are traced cannot say it.
    alike: blocks with the same names among `means` and `restarts` (`loops`).

  Returns:
    The graph, without the weights of blocks; and these.
  """
  folding = _Folding(config, params, means, restarts, alike)
  weights = folding.weights(head, outputs)
  return Graph(head, config, weights, outputs), folding.loops


class _Folding(Folding):
  """Folds parameters that are traced; `loops` has what it makes of blocks."""

  def __init__(self, config, params, means, restarts, alike):
    dtype = jax.tree.leaves(params)[0].dtype
    super().__init__(config, params, means, restarts, jnp, dtype)
    self.alike, self.loops = alike, []

  def blocks(self, params: Any, stream: Affine) -> list[Affine]:
    streams = []
    for blocks in self.alike:

      def fold_block(stream, of_block, first=blocks[0]):
        params, means = of_block
        folding = Folding(
          self.config, {}, means, _in_loop(self.restarts or (), first), jnp,
          self.dtype,
        )  # fmt: skip
        stream = folding.block(_BLOCK, params, stream)
        return stream, (stream, folding.result)

      whole = slice(blocks.start, blocks.stop)
      part = jax.tree.map(operator.itemgetter(whole), params)
      means = {
        name: np.stack(values).astype(self.dtype)
        for name, values in _stacked(self.means, blocks).items()
      }
      stream, (kept, weights) = jax.lax.scan(fold_block, stream, (part, means))
      self.loops.append(Loop(blocks, weights))
      streams += [Affine(*of_block) for of_block in zip(*kept)]
    return streams


class ScannedForward(graphs.Forward):
  """One pass whose blocks are in loops.

  Args:
    graph: without the weights of blocks (`fold_traced`).
    loops: these.
    operations: JAX's.
    inputs: as for `graph.apply`.
    grids: of all tensors that are rounded.
    make_hook: gives the hook for weights and the grids of tensors.
    compute: `layers` and `remat` are those of `models.encoder`.
  """

  def __init__(
    self,
    graph: Graph,
    loops: Iterable[Loop],
    operations: Operations,
    inputs: Mapping[str, Any],
    grids: Mapping[str, Grid],
    make_hook: Callable[[Weights, Mapping[str, Grid]], Hook],
    compute: Compute,
  ):
    super().__init__(graph, operations, inputs, make_hook(graph.weights, grids))
    self.loops, self.grids = loops, grids
    self.make_hook, self.compute = make_hook, compute

  def blocks(self, x: Any) -> Any:
    outputs, unrolled = self.graph.outputs, self.compute.layers == 'loop'
    policy = REMAT_POLICIES[self.compute.remat]
    for blocks, weights in self.loops:
      grids = _stacked(self.grids, blocks)

      def run_block(x, of_block, grids=grids):
        weights, points = of_block
        inner = copy.copy(self)
        inner.weights, inner.attentions = weights, []
        inner.hook = self.make_hook(
          weights,
          {
            name: grids[name][0]._replace(scale=scale, zero_point=zero)
            for name, (scale, zero) in points.items()
          },
        )
        x = inner.block(x, _BLOCK)
        return x, (x if outputs.hidden_states else None, inner.attentions)

      if policy is not None:
        run_block = jax.checkpoint(
          run_block, policy=policy, prevent_cse=unrolled
        )
      points = {
        name: (
          np.array([grid.scale for grid in of_blocks], np.float32),
          np.array([grid.zero_point for grid in of_blocks], np.int32),
        )
        for name, of_blocks in grids.items()
      }
      x, (hidden, attentions) = jax.lax.scan(
        run_block, x, (weights, points), unroll=len(blocks) if unrolled else 1
      )
      for i, block in enumerate(blocks):
        if outputs.hidden_states:
          self.note_hidden_state(hidden[i], block + 1)
        self.attentions += [of_blocks[i] for of_blocks in attentions]
    return x


def _stacked(values: Mapping[str, Any], blocks: range) -> dict[str, list[Any]]:
  """Returns each value of a loop, for all blocks; names are the loop's."""
  return {
    name: [values[name.replace(_BLOCK, f'layer_{i}', 1)] for i in blocks]
    for name in sorted(_in_loop(values, blocks[0]))
  }


def _in_loop(names: Iterable[str], block: int) -> set[str]:
  """Returns those names that are of a block, as its loop has them."""
  start = f'layer_{block}/'
  return {
    f'{_BLOCK}/{name.removeprefix(start)}'
    for name in names
    if name.startswith(start)
  }
