"""What a quantised run measures at its start, on its own training examples."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.data.batching import features as encoded
from mobilebert_jax.data.batching.features import Features, NumpyBatch
from mobilebert_jax.data.records.records import Records
from mobilebert_jax.data.records.stored_features import AnyFeatures
from mobilebert_jax.inference import folding, quantization, ranges
from mobilebert_jax.inference.graph import INPUTS
from mobilebert_jax.inference.quantized_model import Constants
from mobilebert_jax.models.typing import Params
from mobilebert_jax.tasks import Task

# Rows of a batch; and batches whose means are subtracted while folding: more
# change no digit.
_ROWS = 8
_BATCHES_FOR_MEANS = 4


def batches(
  config: TrainConfig, task: Task, tokenizer: Any, examples: Sequence[Any]
) -> list[NumpyBatch]:
  """Returns the examples that ranges are measured on: the first ones.

  Args:
    config: quantization.calibration_examples; data.max_length and buckets.
    task: encodes them.
    tokenizer: with this.
    examples: the training split; records on disk are not read beyond.

  Returns:
    Inputs of the model by name, of few shapes. No row is filled up with
    anything but examples.

  Raises:
    InputError: examples that cannot be encoded.
  """
  count = config.quantization.calibration_examples
  if not isinstance(examples, Records):
    examples = examples[:count]
  features = task.encode(examples, tokenizer, config.data.max_length)
  by_length: dict[int, list[int]] = {}
  for row, length in enumerate(_lengths(config, features, count)):
    by_length.setdefault(length, []).append(row)
  result = []
  for length, rows in sorted(by_length.items()):
    # Repeats change no range, and one shape is one compilation.
    whole = np.resize(rows, -(-len(rows) // _ROWS) * _ROWS)
    for some in whole.reshape(-1, _ROWS):
      batch = features.batch(some, length)
      result.append({name: batch[name] for name in INPUTS})
  return result


def _lengths(
  config: TrainConfig, features: AnyFeatures, count: int
) -> list[int]:
  """Returns the length that each of the first rows is padded to."""
  count = min(count, len(features))
  if not isinstance(features, Features):
    return [features.max_length] * count
  buckets = encoded.resolve_buckets(features, config.data.buckets)
  needed = features.slots().max(axis=1)[:count]
  return [encoded.bucket_of(int(size), buckets) for size in needed]


def measure(
  model: nn.Module,
  params: Params,
  scheme: str,
  examples: Sequence[NumpyBatch],
) -> Constants:
  """Returns what a model is served with.

  Args:
    model: the model.
    params: the parameters that the run starts from, on the host.
    scheme: a key of `quantization.SCHEMES`.
    examples: from `batches`.
  """
  head, config = type(model).__name__, model.config
  means = folding.measure_means(
    head, config, params, examples[:_BATCHES_FOR_MEANS]
  )
  graph = folding.fold(head, config, params, means=means)
  measured = ranges.measure(graph, examples)
  return Constants(
    quantization.calibrate(graph, scheme, measured),
    means,
    folding.restarts_of(graph),
  )


def describe(config: TrainConfig) -> str:
  """Returns a sentence on what is rounded, and what a run goes without."""
  settings = config.quantization
  bits = quantization.SCHEMES[settings.scheme]
  return (
    f'{settings.scheme}: weights of {bits.weight_bits} bits and activations of '
    f'{bits.activation_bits}, whose ranges are those of the first '
    f'{settings.calibration_examples} training rows; no dropout, for the '
    'served model has none.'
  )


def digest(constants: Constants) -> str:
  """Returns a digest of all bits, to compare processes with."""
  text = json.dumps(constants.to_json(), sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
