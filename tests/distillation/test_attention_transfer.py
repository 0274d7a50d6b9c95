"""The loss from queries and keys against that from scores."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax.distillation import attention_transfer, losses
from mobilebert_jax.distillation.attention_transfer import QueriesAndKeys
from mobilebert_jax.models.attention import make_mask
from mobilebert_jax.models.attention.masks import apply_mask
from mobilebert_jax.models.remat import REMAT_POLICIES

ROWS, LENGTH, HEADS = 3, 24, 4
RNG = np.random.default_rng(0)
SEEN = np.arange(LENGTH) < np.array([[LENGTH], [9], [0]])
SEGMENTS = np.sort(RNG.integers(1, 4, (ROWS, LENGTH)), axis=1)
SEGMENTS[:, 20:] = 0
MASKS = {
  'none': (None, None),
  'keys': (SEEN, None),
  'keys_packed': (SEEN, SEGMENTS),
  'queries': (RNG.random((ROWS, LENGTH, LENGTH)) < 0.5, None),
  'added_packed': (
    RNG.normal(size=(ROWS, 1, LENGTH, LENGTH)).astype(np.float32), SEGMENTS
  ),
}  # fmt: skip


def pair(key, width):
  keys = jax.random.split(jax.random.key(key))
  return QueriesAndKeys(
    *(jax.random.normal(k, (ROWS, LENGTH, width)) for k in keys)
  )


def scores(of, mask):
  q, k = (x.reshape(ROWS, LENGTH, HEADS, -1) for x in of)
  x = jnp.einsum('BTHK,BSHK->BHTS', q, k) * q.shape[-1] ** -0.5
  return apply_mask(x, mask.dense())


@pytest.mark.parametrize('block', [8, 128])
@pytest.mark.parametrize('name', MASKS)
def test_values_and_gradients_are_those_from_scores(name, block, monkeypatch):
  monkeypatch.setattr(attention_transfer, '_BLOCK', block)
  mask = make_mask(*MASKS[name])
  teacher, student = pair(0, HEADS * 16), pair(1, HEADS * 8)
  weights = jnp.asarray(RNG.random((ROWS, LENGTH)) * SEEN, jnp.float32)

  def from_scores(student):
    return losses.attention(
      scores(teacher, mask), scores(student, mask), weights
    ).sum

  def from_inputs(student):
    return attention_transfer.cross_entropy_sum(
      teacher, student, mask, weights, HEADS
    )

  expected = jax.jit(jax.value_and_grad(from_scores))(student)
  for found in (
    jax.jit(jax.value_and_grad(from_inputs))(student),
    (jax.jit(from_inputs)(student), expected[1]),
  ):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
      largest = np.abs(other).max()
      np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * largest)


def test_no_scores_of_all_queries_are_ever_made():
  shape = (2, 512, 128)
  of = QueriesAndKeys(*(jax.ShapeDtypeStruct(shape, 'float32'),) * 2)
  function = functools.partial(
    attention_transfer.cross_entropy_sum, mask=make_mask(), heads=HEADS
  )
  weights = jax.ShapeDtypeStruct(shape[:2], 'float32')
  gradient = jax.grad(lambda s, t, w: function(t, s, weights=w))
  text = jax.jit(gradient).lower(of, of, weights).as_text()
  assert '2x4x128x512x' in text and '512x512x' not in text


@pytest.mark.parametrize('remat', ['narrow', 'dots'])
def test_who_rematerialises_a_block_does_not_compare_again(remat):
  """Scores of both, and gradients of queries and keys, are computed once."""
  teacher, student = pair(0, HEADS * 16), pair(1, HEADS * 8)
  weights = jnp.ones((ROWS, LENGTH))

  def compare(student, teacher):
    return attention_transfer.cross_entropy_sum(
      teacher, student, make_mask(), weights, HEADS
    )

  policy = REMAT_POLICIES[remat]
  loss = jax.value_and_grad(jax.checkpoint(compare, policy=policy))
  text = jax.jit(loss).lower(student, teacher).compile().as_text()
  assert len(re.findall(r' dot\(', text)) == 4
