"""TensorFlow SavedModel: the served graph in TensorFlow's operations.

What transformers' TensorFlow classes gave: a signature 'serving_default' of
int32 inputs with any batch and length, and their names of inputs and outputs
(hidden states and attentions are stacked, [layers, B, ...]). Each weight is one
variable, under the name that `graph` gives it. TensorFlow Serving and any
process with TensorFlow load it, without JAX and without this package:

```python
model = tf.saved_model.load('saved_model')
outputs = model.signatures['serving_default'](
  input_ids=ids, attention_mask=mask, token_type_ids=segments
)
```
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mobilebert_jax.convert.save import atomic_directory
from mobilebert_jax.inference import graph as graphs
from mobilebert_jax.inference.graph import Graph
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.requirements import load

SIGNATURE = 'serving_default'
# One output each in a signature, stacked; 'hidden_states.3' is their row 3.
_STACKED = ('hidden_states', 'attentions')
# How the sentence begins that a too long input gets, from the file itself.
_TOO_LONG = 'the sequences have more tokens than'


def save(
  graph: Graph,
  path: pathlib.Path,
  names: graphs.Names = graphs.NAMES['transformers'],
):
  """Writes a SavedModel, which appears only when it is whole.

  Args:
    graph: the served model; the dtype of its weights is that of the outputs.
    path: the directory to make.
    names: what inputs and outputs are called.

  Raises:
    InputError: `tensorflow` is not installed, or `path` holds something or
      cannot be written.
  """
  tf = load('tensorflow', 'tf')
  if path.is_dir() and any(path.iterdir()):
    raise InputError(
      f'{path} is not empty: a SavedModel needs a directory of its own.'
    )
  dtype = next(iter(graph.weights.values())).dtype
  operations = TensorFlowOperations(tf, dtype)
  module = tf.Module()
  # What is tracked here is written once, whatever reads it.
  module.weights = {
    name: operations.weight(name, value)
    for name, value in graph.weights.items()
  }
  axes = 3 if graph.head == 'MobileBertForMultipleChoice' else 2

  @tf.function(
    input_signature=[
      tf.TensorSpec([None] * axes, tf.int32, name) for name in names.inputs
    ],
    autograph=False,
  )
  def serve(*inputs):
    outputs = graphs.apply(
      graph, operations, dict(zip(graphs.INPUTS, inputs)), operations.rename
    )
    outputs = _stacked(tf, outputs)
    return {
      name: tf.identity(outputs[name], name)
      for name in names.outputs or outputs
    }

  signatures = {SIGNATURE: serve.get_concrete_function()}
  with atomic_directory(path) as partial:
    tf.saved_model.save(module, os.fspath(partial), signatures)


def _stacked(tf: Any, outputs: Mapping[str, Any]) -> dict[str, Any]:
  """Joins the layers of hidden states and attentions, as transformers does."""
  result: dict[str, Any] = {}
  for name, value in outputs.items():
    whole, _, _ = name.partition('.')
    result.setdefault(whole, []).append(value)
  return {
    name: tf.stack(values) if name in _STACKED else values[0]
    for name, values in result.items()
  }


class Loaded:
  """A SavedModel in TensorFlow.

  Args:
    path: the directory.
    names: what its inputs are called.

  Raises:
    InputError: `tensorflow` is not installed, or it does not read the
      directory.
  """

  def __init__(
    self,
    path: pathlib.Path,
    names: graphs.Names = graphs.NAMES['transformers'],
  ):
    self._tf = load('tensorflow', 'tf')
    try:
      # The signature alone does not keep the variables alive.
      self._model = self._tf.saved_model.load(os.fspath(path))
      self._serve = self._model.signatures[SIGNATURE]
    except Exception as error:
      raise InputError(
        f'{path} is no SavedModel with a signature {SIGNATURE!r} that '
        f'TensorFlow {self._tf.__version__} reads: '
        f'{str(error).splitlines()[0]}.'
      ) from None
    self._inputs = names.inputs

  def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs by name for inputs by transformers' names.

    Raises:
      InputError: the sequences are longer than the model has positions.
    """
    feeds = {
      named: self._tf.constant(np.asarray(inputs[name], np.int32))
      for name, named in zip(graphs.INPUTS, self._inputs)
    }
    try:
      outputs = self._serve(**feeds)
    except self._tf.errors.InvalidArgumentError as error:
      _, begin, rest = error.message.partition(_TOO_LONG)
      if not begin:
        raise
      raise InputError(begin + rest.split('.')[0] + '.') from None
    result: dict[str, np.ndarray] = {}
    for name, value in outputs.items():
      if name in _STACKED:
        result |= {f'{name}.{i}': x for i, x in enumerate(value.numpy())}
      else:
        result[name] = value.numpy()
    return result


class TensorFlowOperations:
  """TensorFlow's operations; every weight is a variable.

  Args:
    tf: the module.
    dtype: of weights and values.
  """

  def __init__(self, tf: Any, dtype: Any):
    self._tf, self._dtype = tf, np.dtype(dtype)
    self._weights: dict[str, Any] = {}

  def rename(self, name: str, value: Any) -> Any:
    """Gives a tensor its name in the file; a hook of `graph.apply`."""
    if name in self._weights or name.startswith('outputs/'):
      return value
    return self._tf.identity(value, name)

  def weight(self, name, value):
    if name not in self._weights:
      self._weights[name] = self._tf.Variable(
        np.asarray(value, self._dtype), trainable=False, name=name
      )
    return self._weights[name]

  def number(self, value):
    return np.asarray(value, self._dtype)

  def take(self, table, ids):
    return self._tf.gather(table, ids)

  def positions(self, table, ids):
    # A slice would end at the last row without a word.
    length, longest = self._tf.shape(ids)[1], table.shape[0]
    fits = self._tf.debugging.assert_less_equal(
      length,
      longest,
      message=f'{_TOO_LONG} the {longest} positions of the model: truncate '
      'them.',
    )
    with self._tf.control_dependencies([fits]):
      return table[: self._tf.identity(length)]

  def trigram(self, words):
    padded = self._tf.pad(words, [[0, 0], [1, 1], [0, 0]])
    return self._tf.concat([padded[:, 2:], words, padded[:, :-2]], axis=-1)

  def rows(self, x):
    return self._tf.reshape(x, [-1, x.shape[-1]])

  def tokens(self, x, ids):
    return self._reshape(x, ids, x.shape[-1])

  def scalars(self, x, ids):
    return self._reshape(x, ids)

  def first(self, x):
    return x[:, 0]

  def split(self, x, size, whole):
    return x[:, :size], x[:, size:] if size < whole else None

  def merge_choices(self, ids):
    return self._tf.reshape(ids, [-1, self._tf.shape(ids)[-1]])

  def split_choices(self, logits, ids):
    return self._tf.reshape(logits, self._tf.shape(ids)[:2])

  def split_heads(self, x, ids, heads):
    split = self._reshape(x, ids, heads, x.shape[-1] // heads)
    return self._tf.transpose(split, [0, 2, 1, 3])

  def merge_heads(self, x):
    width = x.shape[1] * x.shape[3]
    return self._tf.reshape(self._tf.transpose(x, [0, 2, 1, 3]), [-1, width])

  def scores(self, q, k):
    return self._tf.matmul(q, k, transpose_b=True)

  def mix(self, probabilities, v):
    return self._tf.matmul(probabilities, v)

  def mask_bias(self, mask, value):
    value = np.finfo(self._dtype).min if value is None else value
    bias = self._tf.where(mask != 0, self.number(0.0), self.number(value))
    return bias[:, None, None, :]

  def softmax(self, x):
    return self._tf.nn.softmax(x)

  def linear(self, x, kernel):
    return self._tf.matmul(x, kernel)

  def linear_transposed(self, x, table):
    return self._tf.matmul(x, table, transpose_b=True)

  def layer_norm(self, x, eps, scale, bias):
    x = x - self._tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = self._tf.reduce_mean(x * x, axis=-1, keepdims=True)
    return x / self._tf.sqrt(variance + self.number(eps)) * scale + bias

  def add(self, x, y):
    return x + y

  def subtract(self, x, y):
    return x - y

  def multiply(self, x, y):
    return x * y

  def maximum(self, x, y):
    return self._tf.maximum(x, y)

  def relu(self, x):
    return self._tf.nn.relu(x)

  def minimum(self, x, y):
    return self._tf.minimum(x, y)

  def where_positive(self, x, yes, no):
    return self._tf.where(x > 0, yes, no)

  def tanh(self, x):
    return self._tf.tanh(x)

  def erf(self, x):
    return self._tf.math.erf(x)

  def sigmoid(self, x):
    return self._tf.sigmoid(x)

  def exp(self, x):
    return self._tf.exp(x)

  def log1p(self, x):
    return self._tf.math.log1p(x)

  def expm1(self, x):
    return self._tf.math.expm1(x)

  def sqrt(self, x):
    return self._tf.sqrt(x)

  def _reshape(self, x: Any, ids: Any, *more: int) -> Any:
    shape = self._tf.shape(ids)
    more_axes = np.asarray(more, np.int32)
    return self._tf.reshape(x, self._tf.concat([shape, more_axes], axis=0))
