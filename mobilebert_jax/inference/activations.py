"""The activations that transformers knows, in a backend's operations.

Those of `models.layers`, written with a dozen functions that every backend has;
two of them have parameters.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from mobilebert_jax.inference.operations import Operations


def apply(
  ops: Operations, kind: str, x: Any, parameters: Mapping[str, Any]
) -> Any:
  """Returns the activation of x.

  Args:
    ops: the backend.
    kind: transformers' name.
    x: any values.
    parameters: those of 'prelu' ('slope') and 'xielu' ('alpha_p', 'alpha_n',
      'beta', 'eps'), [1] each.
  """
  if kind == 'prelu':
    slope = parameters['slope']
    return ops.where_positive(x, x, ops.multiply(x, slope))
  if kind == 'xielu':
    return _xielu(ops, x, parameters)
  return _FUNCTIONS[kind](ops, x)


def _scaled(ops, x, factor):
  return ops.multiply(x, ops.number(factor))


def _shifted(ops, x, summand):
  return ops.add(x, ops.number(summand))


def _relu(ops, x):
  return ops.relu(x)


def _gelu(ops, x):
  inner = ops.erf(_scaled(ops, x, math.sqrt(0.5)))
  return ops.multiply(_scaled(ops, x, 0.5), _shifted(ops, inner, 1.0))


def _gelu_10(ops, x):
  y = ops.maximum(_gelu(ops, x), ops.number(-10.0))
  return ops.minimum(y, ops.number(10.0))


_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


def _gelu_tanh(ops, x, factor=_SQRT_2_OVER_PI):
  cube = ops.multiply(x, ops.multiply(x, x))
  inner = _scaled(ops, ops.add(x, _scaled(ops, cube, 0.044715)), factor)
  return ops.multiply(_scaled(ops, x, 0.5), _shifted(ops, ops.tanh(inner), 1.0))


def _gelu_fast(ops, x):
  # The rounded constant is transformers'.
  return _gelu_tanh(ops, x, 0.7978845608)


# From here on softplus is the identity.
_STRAIGHT = 20.0


def _softplus(ops, x):
  # As in torch: log1p(exp(x)) would overflow. Not by a choice between it and x:
  # where x is of integers, LiteRT's converter rounds all that is chosen from to
  # the grid of x.
  below = ops.log1p(ops.exp(ops.minimum(x, ops.number(_STRAIGHT))))
  beyond = _shifted(ops, x, -_STRAIGHT)
  above = _shifted(ops, beyond, _STRAIGHT - math.log1p(math.exp(_STRAIGHT)))
  return ops.add(below, ops.where_positive(beyond, above, ops.number(0.0)))


def _laplace(ops, x):
  inner = _scaled(
    ops, _shifted(ops, x, -0.707107), 1 / (0.282095 * math.sqrt(2.0))
  )
  return _scaled(ops, _shifted(ops, ops.erf(inner), 1.0), 0.5)


def _relu6(ops, x):
  return ops.minimum(_relu(ops, x), ops.number(6.0))


def _relu2(ops, x):
  y = _relu(ops, x)
  return ops.multiply(y, y)


def _hardswish(ops, x):
  gate = _relu6(ops, _shifted(ops, x, 3.0))
  return _scaled(ops, ops.multiply(x, gate), 1 / 6)


def _leaky_relu(ops, x):
  return ops.where_positive(x, x, _scaled(ops, x, 0.01))


def _linear(ops, x):
  del ops
  return x


def _mish(ops, x):
  return ops.multiply(x, ops.tanh(_softplus(ops, x)))


def _quick_gelu(ops, x):
  return ops.multiply(x, ops.sigmoid(_scaled(ops, x, 1.702)))


def _silu(ops, x):
  return ops.multiply(x, ops.sigmoid(x))


def _sigmoid(ops, x):
  return ops.sigmoid(x)


def _sqrtsoftplus(ops, x):
  return ops.sqrt(_softplus(ops, x))


def _tanh(ops, x):
  return ops.tanh(x)


def _xielu(ops, x, parameters):
  """The activation of arXiv 2411.13010, as transformers computes it."""
  beta = parameters['beta']
  linear = ops.multiply(x, beta)
  alpha_p = _softplus(ops, parameters['alpha_p'])
  square = ops.multiply(ops.multiply(x, x), alpha_p)
  inner = ops.expm1(ops.minimum(x, parameters['eps']))
  slope = ops.add(beta, _softplus(ops, parameters['alpha_n']))
  negative = ops.multiply(ops.subtract(inner, x), slope)
  return ops.where_positive(
    x, ops.add(square, linear), ops.add(negative, linear)
  )


_FUNCTIONS: Mapping[str, Callable[[Operations, Any], Any]] = {
  'gelu': _gelu,
  'gelu_10': _gelu_10,
  'gelu_accurate': _gelu_tanh,
  'gelu_fast': _gelu_fast,
  'gelu_new': _gelu_tanh,
  'gelu_python': _gelu,
  'gelu_python_tanh': _gelu_tanh,
  'gelu_pytorch_tanh': _gelu_tanh,
  'hardswish': _hardswish,
  'laplace': _laplace,
  'leaky_relu': _leaky_relu,
  'linear': _linear,
  'mish': _mish,
  'quick_gelu': _quick_gelu,
  'relu': _relu,
  'relu2': _relu2,
  'relu6': _relu6,
  'sigmoid': _sigmoid,
  'silu': _silu,
  'sqrtsoftplus': _sqrtsoftplus,
  'swish': _silu,
  'tanh': _tanh,
}
