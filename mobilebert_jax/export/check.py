"""What was written, run by its own runtime and compared with the model."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mobilebert_jax.data.batching.features import NumpyBatch
from mobilebert_jax.export.litert import PROBABILITIES
from mobilebert_jax.export.source import Source
from mobilebert_jax.inference import graph as graphs
from mobilebert_jax.inference.graph import INPUTS as INPUTS
from mobilebert_jax.inference.graph import Graph
from mobilebert_jax.inference.operations import numpy_operations
from mobilebert_jax.runtime.errors import InputError

Outputs = Mapping[str, np.ndarray]
Runtime = Callable[[NumpyBatch], Outputs]
# Repetitions of what is timed, after one that is not.
_TIMES = 7
_MATHS = numpy_operations()


class Reference(NamedTuple):
  """A batch, and what is right for it.

  Attributes:
    inputs: by transformers' names.
    exact: the outputs in float64.
    model: those of the model itself, in float32.
  """

  inputs: NumpyBatch
  exact: Outputs
  model: Outputs


class Distance(NamedTuple):
  """How far outputs are from the right ones.

  Attributes:
    logits: the largest difference of any output, as a part of that output's
      largest value; infinite if one is no number.
    probabilities: the largest difference of any probability; None for a model
      that has none.
  """

  logits: float
  probabilities: float | None


class Comparison(NamedTuple):
  """A file beside the model.

  Attributes:
    texts: how many were compared.
    file: how far the file's outputs are from float64.
    model: how far the model's own are, in float32.
    decided: how many labels, tokens or ends of answers the model decides.
    differ: how many of them the file decides otherwise.
    seconds: for one text of the median length.
    model_seconds: the same of the model in JAX.
    length: tokens of that text, with its padding.
  """

  texts: int
  file: Distance
  model: Distance
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
    # The model knows nothing of the graph: what it decides is its own.
    computed = model(inputs)
    if not _are_numbers(computed):
      raise InputError(
        f'{source.name} computes values that are no numbers in float32; such '
        'a model is of no use anywhere.'
      )
    result.append(Reference(inputs, outputs, computed))
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
  texts = count = differ = 0
  file, own = [], []
  for reference in batches:
    inputs = reference.inputs
    outputs = runtime(inputs)
    texts += len(inputs['input_ids'])
    file.append(_distance(source, reference, outputs))
    own.append(_distance(source, reference, reference.model))
    if not _are_numbers(outputs):
      continue
    labels = decided(source, outputs, inputs)
    for name, value in decided(source, reference.model, inputs).items():
      count += value.size
      differ += int((labels[name] != value).sum())
  middle = batches[len(batches) // 2].inputs
  one_text = {name: value[:1] for name, value in middle.items()}
  return Comparison(
    texts,
    _largest(file),
    _largest(own),
    count,
    differ,
    _seconds(runtime, one_text),
    _seconds(model, one_text),
    one_text['input_ids'].shape[-1],
  )


def _distance(
  source: Source, reference: Reference, outputs: Outputs
) -> Distance:
  """How far the outputs for one batch are from float64."""
  if not _are_numbers(outputs):
    return Distance(np.inf, None)
  inputs, exact, _ = reference
  logits, probabilities = 0.0, None
  for name, value in outputs.items():
    if name == PROBABILITIES:
      wanted = _MATHS.softmax(exact['logits'])
    elif name in exact:
      wanted = exact[name]
    else:
      # The model may return more than is exported.
      continue
    got = np.asarray(value, np.float64)
    of_tokens = seen(source.head, name, inputs)
    if of_tokens is not None:
      wanted, got = wanted[of_tokens], got[of_tokens]
    largest = np.abs(wanted).max(initial=1e-30)
    logits = max(logits, float(np.abs(got - wanted).max(initial=0) / largest))
  for name in scored(source):
    one, other = (
      _probabilities(source, name, x, inputs) for x in (exact, outputs)
    )
    most = float(np.abs(one - other).max(initial=0))
    probabilities = max(probabilities or 0.0, most)
  return Distance(logits, probabilities)


def _largest(distances: Sequence[Distance]) -> Distance:
  known = [d.probabilities for d in distances if d.probabilities is not None]
  return Distance(
    max(d.logits for d in distances), max(known) if known else None
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


def scored(source: Source) -> tuple[str, ...]:
  """Returns the outputs from which something is decided."""
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


def decided(
  source: Source, outputs: Outputs, inputs: NumpyBatch
) -> dict[str, np.ndarray]:
  """Returns what is decided: labels, tokens, or where answers begin and end.

  Args:
    source: the model.
    outputs: of it, or of a file.
    inputs: what they were computed from.
  """
  result = {}
  for name in scored(source):
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
  tokens = inputs['attention_mask'] != 0
  if source.head == 'MobileBertForQuestionAnswering':
    return _MATHS.softmax(np.where(tokens, logits, -np.inf))
  probabilities = _MATHS.softmax(logits)
  hidden = seen(source.head, name, inputs)
  return probabilities if hidden is None else probabilities[hidden]


def seen(head: str, name: str, inputs: NumpyBatch) -> np.ndarray | None:
  """Returns which positions of an output are tokens'; None where all count.

  Args:
    head: transformers' name of the class.
    name: of the output.
    inputs: what it was computed from.
  """
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
