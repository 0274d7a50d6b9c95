"""The activations that transformers knows by name (its `ACT2FN`)."""

import math
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mobilebert_jax.models.compute import Compute
from mobilebert_jax.models.partitioning import partitioned

_Function = Callable[[Array], Array]


def _gelu_tanh(x: Array) -> Array:
  return jax.nn.gelu(x, approximate=True)


def _gelu(x: Array) -> Array:
  return jax.nn.gelu(x, approximate=False)


def _gelu_fast(x: Array) -> Array:
  # The rounded constant is transformers'.
  inner = x * 0.7978845608 * (1.0 + 0.044715 * x * x)
  return 0.5 * x * (1.0 + jnp.tanh(inner))


def _softplus(x: Array) -> Array:
  # torch switches to the identity above 20.
  return jnp.where(x > 20, x, jax.nn.softplus(jnp.minimum(x, 20)))


def _laplace(x: Array) -> Array:
  return 0.5 * (1.0 + jax.lax.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


def _relu6(x: Array) -> Array:
  # jax.nn.relu6 has gradient 1/2 at 0 and at 6, torch's has 0.
  return jnp.where(x > 0, jnp.where(x < 6, x, 6.0), 0.0).astype(x.dtype)


def _hardswish(x: Array) -> Array:
  return x * _relu6(x + 3) / 6


def _leaky_relu(x: Array) -> Array:
  # At 0 torch's gradient is the negative slope, jax.nn.leaky_relu's is 1.
  return jnp.where(x > 0, x, 0.01 * x)


FUNCTIONS: Mapping[str, _Function] = {
  'gelu': _gelu,
  'gelu_10': lambda x: jnp.clip(_gelu(x), -10, 10),
  'gelu_accurate': _gelu_tanh,
  'gelu_fast': _gelu_fast,
  'gelu_new': _gelu_tanh,
  'gelu_python': _gelu,
  'gelu_python_tanh': _gelu_tanh,
  'gelu_pytorch_tanh': _gelu_tanh,
  'hardswish': _hardswish,
  'laplace': _laplace,
  'leaky_relu': _leaky_relu,
  'linear': lambda x: x,
  'mish': lambda x: x * jnp.tanh(_softplus(x)),
  'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x),
  'relu': jax.nn.relu,
  'relu2': lambda x: jnp.square(jax.nn.relu(x)),
  'relu6': _relu6,
  'sigmoid': jax.nn.sigmoid,
  'silu': jax.nn.silu,
  'sqrtsoftplus': lambda x: jnp.sqrt(_softplus(x)),
  'swish': jax.nn.silu,
  'tanh': jnp.tanh,
}


class Activation(nn.Module):
  """An activation by its transformers name; two of them have parameters.

  Attributes:
    kind: the name.
    compute: dtypes.
  """

  kind: str
  compute: Compute

  @nn.compact
  def __call__(self, x: Float[Array, '*B F']) -> Float[Array, '*B F']:
    if self.kind == 'prelu':
      slope = self._scalar('slope', 0.25, x)
      return jnp.where(x > 0, x, slope * x)
    if self.kind == 'xielu':
      return self._xielu(x)
    return FUNCTIONS[self.kind](x)

  def _scalar(self, name: str, value: float, x: Array) -> Array:
    """Returns a parameter of shape [1], as in torch, ready to multiply x."""
    init = partitioned(
      lambda key, shape, dtype: jnp.full(shape, value, dtype), ('activation',)
    )
    param = self.param(name, init, (1,), self.compute.param_dtype)
    return param.astype(x.dtype).reshape((1,) * x.ndim)

  def _xielu(self, x: Array) -> Array:
    """Computes the activation of arXiv 2411.13010 as transformers does."""
    # Initial values: softplus(alpha_p) = 0.8, beta + softplus(alpha_n) = 0.8.
    alpha_p = _softplus(self._scalar('alpha_p', math.log(math.expm1(0.8)), x))
    alpha_n = self._scalar('alpha_n', math.log(math.expm1(0.3)), x)
    # beta and eps are buffers in torch: kept in checkpoints, never trained.
    beta = jax.lax.stop_gradient(self._scalar('beta', 0.5, x))
    eps = jax.lax.stop_gradient(self._scalar('eps', -1e-6, x))
    negative = jnp.expm1(jnp.minimum(x, eps)) - x
    return jnp.where(
      x > 0,
      alpha_p * x * x + beta * x,
      negative * (beta + _softplus(alpha_n)) + beta * x,
    )
