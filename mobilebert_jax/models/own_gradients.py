"""Operations whose gradients are written for XLA's CPU backend.

The gradient of a matrix that JAX derives is the transpose of a product. XLA
merges the two into a product that reads both operands against their order, for
which it has no fast kernel on CPUs: in bfloat16, where its fallback computes by
single numbers, such products took two thirds of a training step. The sum over
tokens that is a bias's gradient becomes many passes. Written here, products
have a transposed copy of their smaller operand, and a bias's gradient is a
product, too: a step takes three quarters of the time in float32, and a quarter
in bfloat16 (`benchmarks/RESULTS.md`). There are no forward-mode derivatives.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mobilebert_jax.models.compute import Compute
from mobilebert_jax.runtime import target

# Keeps XLA from merging a transpose into the product beside it.
_apart = jax.lax.optimization_barrier


def are_used(compute: Compute) -> bool:
  """Returns whether a program that is traced now has these gradients."""
  return compute.gradients == 'own' and target.platform() == 'cpu'


@jax.custom_vjp
def affine(
  x: Float[Array, '*B I'], kernel: Float[Array, 'I O'], bias: Float[Array, ' O']
) -> Float[Array, '*B O']:
  """Returns x @ kernel + bias, all of one dtype."""
  return _affine_forward(x, kernel, bias)[0]


def _affine_forward(x: Array, kernel: Array, bias: Array):
  # Not by `affine`, into which policies of rematerialisation could not look.
  y = jnp.dot(x, kernel)
  return y + bias.reshape((1,) * (y.ndim - 1) + (-1,)), (x, kernel)


def _affine_backward(kept: tuple[Array, Array], g: Array):
  x, kernel = kept
  to_x = jax.lax.dot_general(g, kernel, (((g.ndim - 1,), (1,)), ((), ())))
  wide = jnp.promote_types(g.dtype, jnp.float32)
  ones = jnp.ones((*g.shape[:-1], 1), g.dtype)
  to_bias = _over_tokens(ones, g, wide)[0].astype(g.dtype)
  if x.shape[-1] <= g.shape[-1]:
    to_kernel = _over_tokens(x, g, g.dtype)
  else:
    to_kernel = _apart(_over_tokens(g, x, g.dtype)).T
  return to_x, to_kernel, to_bias


affine.defvjp(_affine_forward, _affine_backward)


def _over_tokens(
  a: Float[Array, '*B M'], b: Float[Array, '*B N'], dtype: jnp.dtype
) -> Float[Array, 'M N']:
  """Returns a^T b, summed over all axes but the last."""
  tokens = tuple(range(a.ndim - 1))
  dimensions = ((tokens, tokens), ((), ()))
  return jax.lax.dot_general(a, b, dimensions, preferred_element_type=dtype)


@jax.custom_vjp
def relu(x: Float[Array, '*B']) -> Float[Array, '*B']:
  """Returns max(x, 0); what is positive is seen by the result, kept anyway."""
  return jnp.maximum(x, 0)


def _relu_forward(x: Array):
  y = relu(x)
  return y, y


def _relu_backward(y: Array, g: Array):
  return (jnp.where(y > 0, g, jnp.zeros((), g.dtype)),)


relu.defvjp(_relu_forward, _relu_backward)


def over_queries(
  weights: Float[Array, 'B H T S'], x: Float[Array, 'B H T K']
) -> Float[Array, 'B H S K']:
  """Returns weights^T x of each head, as attention's backward pass needs it."""
  product = jnp.matmul(_apart(jnp.swapaxes(x, 2, 3)), weights)
  return jnp.swapaxes(_apart(product), 2, 3)
