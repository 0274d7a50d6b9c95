"""A dense layer whose gradient is written for XLA's CPU backend.

The gradient of a matrix that JAX derives is the transpose of a product. XLA
merges the two into a product that reads both operands against their order, for
which it has no fast kernel on CPUs: in bfloat16, where its fallback computes by
single numbers, such products took two thirds of a training step. The sum over
tokens that is a bias's gradient becomes many passes. Written here, the matrix's
gradient transposes the narrower operand once, and the bias's is a product, too:
a step takes 0.8 of the time in float32, and a fifth in bfloat16
(`benchmarks/RESULTS.md`).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def affine(
  x: Float[Array, '*B I'], kernel: Float[Array, 'I O'], bias: Float[Array, ' O']
) -> Float[Array, '*B O']:
  """Returns x @ kernel + bias, all of one dtype; no forward-mode derivative."""
  y = jnp.dot(x, kernel)
  return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def _forward(x: Array, kernel: Array, bias: Array):
  return affine(x, kernel, bias), (x, kernel)


def _backward(kept: tuple[Array, Array], g: Array):
  x, kernel = kept
  to_x = jax.lax.dot_general(g, kernel, (((g.ndim - 1,), (1,)), ((), ())))
  wide = jnp.promote_types(g.dtype, jnp.float32)
  ones = jnp.ones((*g.shape[:-1], 1), g.dtype)
  to_bias = _over_tokens(ones, g, wide)[0].astype(g.dtype)
  if x.shape[-1] <= g.shape[-1]:
    to_kernel = _over_tokens(x, g, g.dtype)
  else:
    # Without the barrier the transpose would be merged into the product.
    transposed = _over_tokens(g, x, g.dtype)
    to_kernel = jax.lax.optimization_barrier(transposed).T
  return to_x, to_kernel, to_bias


affine.defvjp(_forward, _backward)


def _over_tokens(
  a: Float[Array, '*B M'], b: Float[Array, '*B N'], dtype: jnp.dtype
) -> Float[Array, 'M N']:
  """Returns a^T b, summed over all axes but the last."""
  tokens = tuple(range(a.ndim - 1))
  dimensions = ((tokens, tokens), ((), ()))
  return jax.lax.dot_general(a, b, dimensions, preferred_element_type=dtype)
