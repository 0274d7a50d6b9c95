"""What an exported model computes: which parameters, folded, on which grids."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import flax.linen as nn

from mobilebert_jax.data.batching.features import NumpyBatch
from mobilebert_jax.export import texts as real_texts
from mobilebert_jax.export.options import CALIBRATED, ExportOptions
from mobilebert_jax.export.source import Source
from mobilebert_jax.inference import (
  equalization,
  folding,
  quantization,
  ranges,
)
from mobilebert_jax.inference.folding import Means
from mobilebert_jax.inference.graph import Graph, Outputs
from mobilebert_jax.inference.quantization import Quantization
from mobilebert_jax.inference.quantized_model import Constants, quantized
from mobilebert_jax.runtime.errors import InputError


class Served(NamedTuple):
  """A model in the form in which files have it.

  Attributes:
    source: the model, with the parameters that are served.
    graph: what files are written of.
    quantization: the grids of its tensors; None: it has floats, or integers
      that need no ranges.
    calibration: what ranges were measured on.
    learnt: the model that a quantised run has scored; None: it is none.
  """

  source: Source
  graph: Graph
  quantization: Quantization | None = None
  calibration: tuple[NumpyBatch, ...] = ()
  learnt: nn.Module | None = None


def prepare(
  options: ExportOptions,
  source: Source,
  batches: Sequence[NumpyBatch],
  lengths: tuple[int, ...],
  say: Callable[[str], None],
) -> Served:
  """Chooses parameters and grids: a quantised run's own, or measured ones.

  Args:
    options: what is exported, as what.
    source: the model.
    batches: texts whose means are subtracted.
    lengths: that texts are padded to, ascending.
    say: is told each step in a line.

  Raises:
    InputError: no texts to measure ranges on, or options that are not for this
      model.
  """
  if (constants := _constants_of_run(options, source)) is not None:
    say('ranges and scales are those that the run has learnt with')
    graph = fold(options, source, constants.means, constants.restarts)
    learnt = quantized(source.model, constants)
    return Served(source, graph, constants.quantization, learnt=learnt)
  calibration: tuple[NumpyBatch, ...] = ()
  if options.quantize in CALIBRATED:
    calibration, origin = _calibration(options, source, lengths)
    count = sum(len(batch['input_ids']) for batch in calibration)
    say(f'measuring ranges on {count} texts: {origin}')
  if options.quantize != 'none' and options.equalize:
    params = equalization.equalize(
      source.head, source.config, source.params, calibration or batches
    )
    say(equalization.describe(source.config))
    source = dataclasses.replace(source, params=params)
  means = folding.measure_means(
    source.head, source.config, source.params, batches
  )
  graph = fold(options, source, means)
  if not calibration:
    return Served(source, graph)
  measured = ranges.measure(graph, calibration)
  grids = quantization.calibrate(graph, options.quantize, measured)
  return Served(source, graph, grids, calibration)


def fold(
  options: ExportOptions,
  source: Source,
  means: Means | None,
  restarts: Collection[str] | None = None,
  dtype: Any = 'float32',
) -> Graph:
  """Returns a model's folded form, with the outputs that are asked for.

  Args:
    options: hidden_states, attentions and pooler.
    source: the model.
    means: as for `folding.fold`.
    restarts: as for `folding.fold`.
    dtype: as for `folding.fold`.
  """
  outputs = Outputs(options.hidden_states, options.attentions, options.pooler)
  return folding.fold(
    source.head, source.config, source.params, outputs, means=means,
    dtype=dtype, restarts=restarts,
  )  # fmt: skip


def _constants_of_run(
  options: ExportOptions, source: Source
) -> Constants | None:
  """What a quantised run has learnt with, if its own integers are wanted.

  Raises:
    InputError: others are.
  """
  if source.run is None or options.quantize == 'none':
    return None
  constants = source.run.read_quantization()
  if constants is None:
    return None
  scheme = constants.quantization.scheme
  if options.quantize != scheme:
    raise InputError(
      f'{source.name} has learnt with the integers of {scheme}, not with those '
      f'of {options.quantize}: pass --quantize={scheme}.'
    )
  if options.calibration is not None:
    raise InputError(
      f'--calibration is for float models; {source.name} has learnt with '
      'ranges that stay.'
    )
  return constants


def _calibration(
  options: ExportOptions, source: Source, lengths: tuple[int, ...]
) -> tuple[tuple[NumpyBatch, ...], str]:
  """Returns the texts that ranges are measured on, and where they are from."""
  count = options.calibration_examples
  given = real_texts.for_calibration(
    source, options.calibration, count, source.tokenizer.model_max_length
  )
  rows = range(min(count, len(given)))
  return tuple(given.batches(rows, lengths)), given.origin
