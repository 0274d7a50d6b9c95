"""The operations of a served model as nodes of ONNX, in floats."""

from typing import Any

import numpy as np

from mobilebert_jax.runtime.errors import InputError


class OnnxOperations:
  """Operations that write nodes; values are names.

  Args:
    onnx: the module.
    dtype: of weights and values.

  Attributes:
    nodes: what was written.
    initializers: the weights and constants that the nodes read.
    opset: the version of ONNX's operations that has them.
  """

  # LayerNormalization is from 17 on.
  opset = 17

  def __init__(self, onnx: Any, dtype: Any):
    self._onnx, self._dtype = onnx, np.dtype(dtype)
    self.nodes: list[Any] = []
    self.initializers: list[Any] = []
    self._constants: set[str] = set()
    self._names: set[str] = set()

  def hook(self, name: str, value: str) -> str:
    """Gives what the last node computes a name; a hook of `graph.apply`."""
    if not self.nodes or value != self.nodes[-1].output[0]:
      return value
    if name in self._names or not value.startswith('/'):
      return value
    self._names.add(name)
    self.nodes[-1].output[0] = name
    self.nodes[-1].name = name
    return name

  @property
  def output_type(self) -> int:
    """The type of the outputs, as ONNX numbers them."""
    return self._type_of(self._dtype)

  def output(self, value: str, name: str) -> str:
    """Returns the name of an output of the graph."""
    return self._named('Identity', value, name)

  def weight(self, name, value):
    return self._constant(name, np.asarray(value, self._dtype))

  def number(self, value):
    # Unlike integers of the same value, which have names like it.
    return self._constant(f'/{float(value)!r}', np.asarray(value, self._dtype))

  def take(self, table, ids):
    return self._node('Gather', table, ids, axis=0)

  def positions(self, table, ids):
    length = self._node('Shape', ids, start=-1)
    return self._node('Slice', table, self._ints(0), length, self._ints(0))

  def trigram(self, words):
    edge = self._ints(0, 1, 0, 0, 1, 0)
    padded = self._node('Pad', words, edge)
    axis, last = self._ints(1), self._ints(np.iinfo(np.int64).max)
    following = self._node('Slice', padded, self._ints(2), last, axis)
    previous = self._node('Slice', padded, self._ints(0), self._ints(-2), axis)
    return self._node('Concat', following, words, previous, axis=-1)

  def rows(self, x):
    return self._node('Flatten', x, axis=2)

  def tokens(self, x, ids):
    return self._reshape(x, self._node('Shape', ids), -1)

  def scalars(self, x, ids):
    return self._node('Reshape', x, self._node('Shape', ids))

  def first(self, x):
    zero = self._constant('/first', np.asarray(0, np.int64))
    return self._node('Gather', x, zero, axis=1)

  def split(self, x, size, whole):
    if size == whole:
      return x, None
    axis = self._ints(1)
    narrow = self._node('Slice', x, self._ints(0), self._ints(size), axis)
    rest = self._node('Slice', x, self._ints(size), self._ints(whole), axis)
    return narrow, rest

  def merge_choices(self, ids):
    return self._node('Flatten', ids, axis=2)

  def split_choices(self, logits, ids):
    return self._node('Reshape', logits, self._node('Shape', ids, end=2))

  def split_heads(self, x, ids, heads):
    split = self._reshape(x, self._node('Shape', ids), heads, -1)
    return self._node('Transpose', split, perm=[0, 2, 1, 3])

  def merge_heads(self, x):
    return self.rows(self._node('Transpose', x, perm=[0, 2, 1, 3]))

  def scores(self, q, k):
    return self._node(
      'MatMul', q, self._node('Transpose', k, perm=[0, 1, 3, 2])
    )

  def mix(self, probabilities, v):
    return self._node('MatMul', probabilities, v)

  def mask_bias(self, mask, value):
    seen = self._node('Cast', mask, to=self._onnx.TensorProto.BOOL)
    value = float(np.finfo(self._dtype).min) if value is None else value
    bias = self._node('Where', seen, self.number(0.0), self.number(value))
    return self._node('Unsqueeze', bias, self._ints(1, 2))

  def softmax(self, x):
    return self._node('Softmax', x, axis=-1)

  def linear(self, x, kernel):
    return self._node('MatMul', x, kernel)

  def linear_transposed(self, x, table):
    return self._node('Gemm', x, table, transB=1)

  def layer_norm(self, x, eps, scale, bias):
    return self._node('LayerNormalization', x, scale, bias, epsilon=eps)

  def add(self, x, y):
    return self._node('Add', x, y)

  def subtract(self, x, y):
    return self._node('Sub', x, y)

  def multiply(self, x, y):
    return self._node('Mul', x, y)

  def maximum(self, x, y):
    return self._node('Max', x, y)

  def relu(self, x):
    # A node of its own, which runtimes fuse.
    return self._node('Relu', x)

  def minimum(self, x, y):
    return self._node('Min', x, y)

  def where_positive(self, x, yes, no):
    is_positive = self._node('Greater', x, self.number(0.0))
    return self._node('Where', is_positive, yes, no)

  def tanh(self, x):
    return self._node('Tanh', x)

  def erf(self, x):
    return self._node('Erf', x)

  def sigmoid(self, x):
    return self._node('Sigmoid', x)

  def exp(self, x):
    return self._node('Exp', x)

  def log1p(self, x):
    return self._node('Log', self.add(x, self.number(1.0)))

  def expm1(self, x):
    return self.subtract(self._node('Exp', x), self.number(1.0))

  def sqrt(self, x):
    return self._node('Sqrt', x)

  def _named(self, kind: str, value: str, name: str, **attributes: Any) -> str:
    """Writes a node that gives an output of the graph."""
    self.nodes.append(
      self._onnx.helper.make_node(kind, [value], [name], name, **attributes)
    )
    return name

  def _type_of(self, dtype: Any) -> int:
    return self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

  def _cast(self, x: str, dtype: Any) -> str:
    return self._node('Cast', x, to=self._type_of(dtype))

  def _reshape(self, x: str, shape: str, *more: int) -> str:
    whole = self._node('Concat', shape, self._ints(*more), axis=0)
    return self._node('Reshape', x, whole)

  def _ints(self, *values: int) -> str:
    name = f'/{"_".join(map(str, values))}'
    return self._constant(name, np.asarray(values, np.int64))

  def _constant(self, name: str, value: np.ndarray) -> str:
    if name not in self._constants:
      self._constants.add(name)
      self.initializers.append(self._onnx.numpy_helper.from_array(value, name))
    return name

  def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
    # Until it is renamed; weights and inputs do not begin with a slash.
    name = f'/{kind}_{len(self.nodes)}'
    self.nodes.append(
      self._onnx.helper.make_node(
        kind, list(inputs), [name], name, **attributes
      )
    )
    return name


# What the names of weights begin with that give outputs their own scale.
_UNFOLDING = ('last_hidden_state/', 'hidden_states.', 'pooled/')


class Float16(OnnxOperations):
  """Operations on 16-bit floats; outputs have 32 bits.

  What may leave the range of 16 bits on its way to a small value, or to an
  output, is computed in 32: exponentials, and the scale of hidden states.
  """

  def __init__(self, onnx: Any):
    super().__init__(onnx, np.float16)
    self._wide: set[str] = set()

  @property
  def output_type(self):
    return self._type_of(np.float32)

  def output(self, value, name):
    return self._named('Cast', value, name, to=self.output_type)

  def weight(self, name, value):
    """Returns a weight.

    Raises:
      InputError: it is beyond the range of 16 bits.
    """
    if name.startswith(_UNFOLDING):
      self._wide.add(name)
      return self._constant(name, np.asarray(value, np.float32))
    with np.errstate(over='ignore'):
      narrow = np.asarray(value, np.float16)
    if not np.isfinite(narrow).all():
      raise InputError(
        f'float16 ends at {np.finfo(np.float16).max:g}, and {name} has values '
        f'to {np.abs(value).max():.3g}; equalise the model, or take float32.'
      )
    return self._constant(name, narrow)

  def mask_bias(self, mask, value):
    # Half of the lowest: scores are added to it.
    lowest = float(np.finfo(np.float16).min) / 2
    return super().mask_bias(
      mask, lowest if value is None else max(value, lowest)
    )

  def multiply(self, x, y):
    return self._in_32_bits('Mul', x, y) or super().multiply(x, y)

  def add(self, x, y):
    return self._in_32_bits('Add', x, y) or super().add(x, y)

  def exp(self, x):
    result = super().exp(self._cast(x, np.float32))
    self._wide.add(result)
    return result

  def log1p(self, x):
    one = self._constant('/one', np.asarray(1, np.float32))
    whole = self._node('Add', self._cast(x, np.float32), one)
    return self._cast(self._node('Log', whole), np.float16)

  def expm1(self, x):
    one = self._constant('/one', np.asarray(1, np.float32))
    whole = self._node('Sub', self.exp(x), one)
    return self._cast(whole, np.float16)

  def _in_32_bits(self, kind: str, x: str, weight: str) -> str | None:
    """Returns what an operation gives if its weight has 32 bits."""
    if weight not in self._wide:
      return None
    result = self._node(kind, self._cast(x, np.float32), weight)
    self._wide.add(result)
    return result
