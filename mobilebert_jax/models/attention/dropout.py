"""Which attention probabilities dropout keeps: a hash of where they are.

A probability at (row of the batch, head, query, key) is kept if a 32-bit hash
of that place and of the call's seed is at least rate * 2^32. So any part of the
mask can be computed by itself, in any order, by XLA or inside a kernel, and has
the same bits on every mesh; and a backward pass computes it again instead of
reading it.

With mix(x) a hash of one word (`mix`), and seeds s1 and s2,

  a(row, head, query) = mix(mix(mix(s1 + row) + head) + query)
  b(row, head, key)   = mix(mix(mix(s2 + row) + head) + key)
  hash = m2 (y xor (y >> 15)),  y = m1 (a + b)

in arithmetic modulo 2^32. Per probability that is an addition, two products, a
shift, an exclusive or and a comparison. The constants of `mix` are those of
Chris Wellons' search for hashes with little bias (nullprogram.com/blog/
2018/07/31, 'lowbias32'). It is no generator for cryptography; tests hold that
bits are as good as independent draws for dropout.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key, UInt32

_FIRST, _SECOND = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)
_FRACTION = np.uint32(0x9E3779B9)


def seed_of(key: Key[Array, '']) -> UInt32[Array, ' 2']:
  """Returns the two words of a call's seed.

  All words of the key count, whatever its generator: two for threefry, four for
  rbg. The generator itself is not asked.
  """
  words = jax.random.key_data(key).astype(jnp.uint32)
  seeds = [_FRACTION, ~_FRACTION]
  for i in range(words.shape[-1]):
    seeds = [mix(seed + words[..., i]) for seed in seeds]
  return jnp.stack(seeds, axis=-1)


def mix(x: UInt32[Array, '*N']) -> UInt32[Array, '*N']:
  """Returns a hash of each word: a bijection of 32 bits."""
  x = (x ^ (x >> np.uint32(16))) * _FIRST
  x = (x ^ (x >> np.uint32(15))) * _SECOND
  return x ^ (x >> np.uint32(16))


def word(seed: Array, row: Array, head: Array, position: Array) -> Array:
  """Returns mix(mix(mix(seed + row) + head) + position), broadcast.

  Args:
    seed: the first word of a seed for queries, the second for keys.
    row: number in the whole batch.
    head: number among all heads.
    position: of a query or a key.
  """
  return mix(mix(mix(seed + row) + head) + position)


def is_kept(query: Array, key: Array, rate: float) -> Bool[Array, '*N']:
  """Returns where dropout keeps a probability; the shapes are broadcast.

  Args:
    query: words of queries.
    key: words of keys.
    rate: how likely a probability is dropped, below 1.
  """
  y = (query + key) * _FIRST
  hashed = (y ^ (y >> np.uint32(15))) * _SECOND
  # As signed numbers: a TPU's vector unit compares no unsigned ones.
  least = np.int32(round(rate * 2**32) - 2**31)
  return jax.lax.bitcast_convert_type(hashed, jnp.int32) >= least


def mask(
  seed: UInt32[Array, ' 2'],
  shape: tuple[int, int, int, int],
  rate: float,
) -> Bool[Array, 'B H T S']:
  """Returns where dropout keeps probabilities of these rows and heads.

  Args:
    seed: from `seed_of`.
    shape: rows, heads, queries, keys.
    rate: how likely a probability is dropped, below 1.
  """
  row, head, query, key = (
    jax.lax.broadcasted_iota(
      jnp.uint32, tuple(n if i == axis else 1 for i in range(4)), axis
    )
    for axis, n in enumerate(shape)
  )
  return is_kept(
    word(seed[0], row, head, query), word(seed[1], row, head, key), rate
  )
