"""What was written, run by its own runtime and compared with the model."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mobilebert_jax.data.batching.features import NumpyBatch
from mobilebert_jax.export import graph as graphs
from mobilebert_jax.export.graph import Graph
from mobilebert_jax.export.operations import numpy_operations
from mobilebert_jax.export.source import Source
from mobilebert_jax.runtime.errors import InputError

Outputs = Mapping[str, np.ndarray]
Runtime = Callable[[NumpyBatch], Outputs]
# What a file has in the place of 'logits' if it ends in a softmax.
PROBABILITIES = 'probabilities'
# Repetitions of what is timed, after one that is not.
_TIMES = 7
_MATHS = numpy_operations()


class Reference(NamedTuple):
  """A batch, and what is right for it.

  Attributes:
    inputs: by transformers' names.
    exact: the outputs in float64.
    labels: what the model itself, in float32, decides: see `decisions`.
  """

  inputs: NumpyBatch
  exact: Outputs
  labels: Mapping[str, np.ndarray]


class Comparison(NamedTuple):
  """How far a file's outputs are from the model's.

  Attributes:
    texts: how many were compared.
    logits: the largest difference of any output from float64, as a part of
      that output's largest value; infinite where an output is no number.
    probabilities: the largest difference of any probability; None for a model
      that has none.
    decided: how many labels, tokens or ends of answers the model decides.
    differ: how many of them the file decides otherwise.
    seconds: for one text of the median length.
    model_seconds: the same of the model in JAX.
    length: tokens of that text, with its padding.
  """

  texts: int
  logits: float
  probabilities: float | None
  decided: int
  differ: int
  seconds: float
  model_seconds: float
  length: int


def compiled(source: Source) -> Runtime:
  """Returns the model itself in JAX, in float32."""

  @jax.jit
  def apply(params, inputs):
    outputs: Any = source.model.apply({'params': params}, **inputs)
    return {name: outputs[name] for name in outputs.keys()}

  return lambda inputs: jax.device_get(apply(source.params, inputs))


def references(
  source: Source, model: Runtime, exact: Graph, batches: Iterable[NumpyBatch]
) -> list[Reference]:
  """Computes what is right.

  Args:
    source: the model.
    model: it, `compiled`.
    exact: its served form in float64.
    batches: the inputs.

  Raises:
    InputError: the model's outputs are not all numbers.
  """
  result = []
  for inputs in batches:
    outputs = graphs.apply(exact, numpy_operations(), inputs)
    # The model knows nothing of the graph: labels are its own.
    computed = model(inputs)
    if not _are_numbers(computed):
      raise InputError(
        f'{source.name} computes values that are no numbers in float32; such '
        'a model is of no use anywhere.'
      )
    labels = _decided(source, computed, inputs)
    result.append(Reference(inputs, outputs, labels))
  return result


def compare(
  source: Source,
  model: Runtime,
  runtime: Runtime,
  batches: Sequence[Reference],
) -> Comparison:
  """Runs a file on all batches.

  Args:
    source: the model.
    model: it, `compiled`.
    runtime: the file in its runtime.
    batches: inputs and what is right for them.
  """
  logits, probabilities = 0.0, None
  texts = decided = differ = 0
  for inputs, exact, labels in batches:
    outputs = runtime(inputs)
    texts += len(inputs['input_ids'])
    if not _are_numbers(outputs):
      logits = np.inf
      continue
    for name, value in outputs.items():
      seen = _seen(source.head, name, inputs)
      got = np.asarray(value, np.float64)
      if name == PROBABILITIES:
        wanted = _MATHS.softmax(exact['logits'])
      else:
        wanted = exact[name]
      if seen is not None:
        wanted, got = wanted[seen], got[seen]
      largest = np.abs(wanted).max(initial=1e-30)
      logits = max(logits, np.abs(got - wanted).max(initial=0) / largest)
    for name in labels:
      one, other = (
        _probabilities(source, name, x, inputs) for x in (exact, outputs)
      )
      most = np.abs(one - other).max(initial=0)
      probabilities = max(probabilities or 0.0, float(most))
    own = _decided(source, outputs, inputs)
    for name, value in labels.items():
      decided += value.size
      differ += int((own[name] != value).sum())
  middle = batches[len(batches) // 2].inputs
  one_text = {name: value[:1] for name, value in middle.items()}
  return Comparison(
    texts,
    float(logits),
    probabilities,
    decided,
    differ,
    _seconds(runtime, one_text),
    _seconds(model, one_text),
    one_text['input_ids'].shape[-1],
  )


def _are_numbers(outputs: Outputs) -> bool:
  return all(np.isfinite(value).all() for value in outputs.values())


def _seconds(runtime: Runtime, inputs: NumpyBatch) -> float:
  """The median of several runs, after one that compiles."""
  runtime(inputs)
  times = []
  for _ in range(_TIMES):
    start = time.perf_counter()
    runtime(inputs)
    times.append(time.perf_counter() - start)
  return float(np.median(times))


def _scored(source: Source) -> tuple[str, ...]:
  """The outputs from which something is decided."""
  match source.head:
    case 'MobileBertModel':
      return ()
    case 'MobileBertForPreTraining':
      return 'prediction_logits', 'seq_relationship_logits'
    case 'MobileBertForQuestionAnswering':
      return 'start_logits', 'end_logits'
    case 'MobileBertForSequenceClassification':
      return () if source.config.num_labels == 1 else ('logits',)
    case _:
      return ('logits',)


def _decided(
  source: Source, outputs: Outputs, inputs: NumpyBatch
) -> dict[str, np.ndarray]:
  """What is decided: labels, tokens, or where answers begin and end."""
  result = {}
  for name in _scored(source):
    value = _probabilities(source, name, outputs, inputs)
    if source.is_multi_label:
      result[name] = value > 0.5
    else:
      result[name] = value.argmax(axis=-1)
  return result


def _probabilities(
  source: Source, name: str, outputs: Outputs, inputs: NumpyBatch
) -> np.ndarray:
  """Probabilities in float64; of tokens, only where the mask is."""
  if PROBABILITIES in outputs:
    return np.asarray(outputs[PROBABILITIES], np.float64)
  logits = np.asarray(outputs[name], np.float64)
  if source.is_multi_label:
    return _MATHS.sigmoid(logits)
  seen = inputs['attention_mask'] != 0
  if source.head == 'MobileBertForQuestionAnswering':
    return _MATHS.softmax(np.where(seen, logits, -np.inf))
  probabilities = _MATHS.softmax(logits)
  hidden = _seen(source.head, name, inputs)
  return probabilities if hidden is None else probabilities[hidden]


def _seen(head: str, name: str, inputs: NumpyBatch) -> np.ndarray | None:
  """Which positions of an output belong to tokens; None where all count."""
  per_token = (
    name in ('last_hidden_state', 'prediction_logits', 'start_logits',
             'end_logits')
    or name.startswith('hidden_states.')
    or (head in ('MobileBertForTokenClassification', 'MobileBertForMaskedLM')
    and name == 'logits')
  )  # fmt: skip
  if not per_token:
    return None
  mask = inputs['attention_mask'] != 0
  return mask.reshape(-1, mask.shape[-1])
