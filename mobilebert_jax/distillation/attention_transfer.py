"""Attention transfer from queries and keys, with no distribution in memory.

The loss is that of `losses.attention`. With scores a of the teacher and x of
the student, p = softmax(a), q = softmax(x) and the weight w of a query,

  sum_t w_t (1 / H) sum_h (logsumexp x - sum_s p x),
  d/dx = w (1 / H) (q - p),

so that one pass over blocks of queries gives both the value and, through the
products of d/dx with keys and queries, the gradient of the student's. No more
than one block's scores are in memory at once.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from mobilebert_jax.models.attention import Mask
from mobilebert_jax.models.attention.masks import apply_mask
from mobilebert_jax.models.remat import KERNEL_RESULTS

# Queries at once, if their number has such a divisor.
_BLOCK = 128


class QueriesAndKeys(NamedTuple):
  """What attention's scores are made of, head after head."""

  query: Float[Array, 'B S C']
  key: Float[Array, 'B S C']


def cross_entropy_sum(
  teacher: QueriesAndKeys,
  student: QueriesAndKeys,
  mask: Mask,
  weights: Float[Array, 'B S'],
  heads: int,
) -> Float[Array, '']:
  """Returns the sum of `losses.attention` of the scores that these make.

  Args:
    teacher: the teacher's, which get no gradient.
    student: the student's.
    mask: which keys a query sees, in both models.
    weights: of the queries.
    heads: of either model.
  """
  split = (
    jnp.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)
    for x in (*jax.lax.stop_gradient(teacher), *student)
  )
  return _sum(_block_of(weights.shape[1]), *split, mask, weights)


def _block_of(length: int) -> int:
  divisors = (n for n in range(min(length, _BLOCK), 0, -1) if length % n == 0)
  largest = next(divisors)
  return largest if 8 * largest >= min(length, _BLOCK) else length


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum(block, teacher_q, teacher_k, q, k, mask, weights):
  def add(total, first):
    part = _Block(block, first, teacher_q, teacher_k, q, k, mask, weights)
    return total + part.value(), None

  zero = jnp.zeros((), jnp.promote_types(q.dtype, jnp.float32))
  return jax.lax.scan(add, zero, jnp.arange(0, q.shape[2], block))[0]


def _sum_forward(block, teacher_q, teacher_k, q, k, mask, weights):
  def add(sums, first):
    part = _Block(block, first, teacher_q, teacher_k, q, k, mask, weights)
    dq, dk = part.gradients()
    total, sum_dk = sums
    return (total + part.value(), sum_dk + dk), dq

  wide = jnp.promote_types(q.dtype, jnp.float32)
  zeros = jnp.zeros((), wide), jnp.zeros(k.shape, wide)
  (total, dk), dq = jax.lax.scan(add, zeros, jnp.arange(0, q.shape[2], block))
  # [blocks, B, H, block, K] to [B, H, T, K].
  dq = jnp.moveaxis(dq, 0, 2).reshape(q.shape)
  # Who rematerialises a block keeps these: they are as small as what they are
  # the gradients of, and all else of the comparison went into them.
  kept = (dq.astype(q.dtype), dk.astype(k.dtype))
  return total, tuple(checkpoint_name(x, KERNEL_RESULTS) for x in kept)


def _sum_backward(block, kept, gradient):
  dq, dk = kept
  dq, dk = (
    (gradient * x.astype(gradient.dtype)).astype(x.dtype) for x in (dq, dk)
  )
  return None, None, dq, dk, None, None


_sum.defvjp(_sum_forward, _sum_backward)


class _Block:
  """Scores of both models for some queries."""

  def __init__(self, block, first, teacher_q, teacher_k, q, k, mask, weights):
    added = mask.dense_of(first, block)

    def scores(q, k):
      q = jax.lax.dynamic_slice_in_dim(q, first, block, axis=2)
      wide = jnp.promote_types(q.dtype, jnp.float32)
      x = jnp.einsum('BHTK,BHSK->BHTS', q, k, preferred_element_type=wide)
      return q, apply_mask(x * q.shape[-1] ** -0.5, added)

    _, target = scores(teacher_q, teacher_k)
    self.q, x = scores(q, k)
    self.k = k
    self.probs = jax.nn.softmax(target.astype(x.dtype), axis=-1)
    self.x = x - jnp.max(x, axis=-1, keepdims=True)
    own = jax.lax.dynamic_slice_in_dim(weights, first, block, axis=1)
    self.weights = own.astype(x.dtype)[:, None, :, None] / q.shape[1]

  def value(self):
    """Returns the sum over these queries."""
    total = jax.nn.logsumexp(self.x, axis=-1, keepdims=True)
    crossed = jnp.sum(self.probs * self.x, axis=-1, keepdims=True)
    # As in `losses`: what counts nothing may be anything.
    return jnp.sum(
      jnp.where(self.weights > 0, self.weights * (total - crossed), 0.0)
    )

  def gradients(self):
    """Returns the gradients of these queries, and theirs of all keys."""
    dx = self.weights * (jax.nn.softmax(self.x, axis=-1) - self.probs)
    dx = (dx * self.q.shape[-1] ** -0.5).astype(self.q.dtype)
    wide = self.x.dtype
    dq = jnp.einsum('BHTS,BHSK->BHTK', dx, self.k, preferred_element_type=wide)
    dk = jnp.einsum('BHTS,BHTK->BHSK', dx, self.q, preferred_element_type=wide)
    return dq, dk
