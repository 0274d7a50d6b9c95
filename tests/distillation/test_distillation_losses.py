"""Every term against its formula in plain float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax.distillation import losses
from tests.support.distilling_by_hand import norm, softmax

B, H, S, D, C = 3, 2, 5, 8, 7


def draw(*shape, seed=0, scale=1.0):
  return np.random.default_rng(seed).normal(0, scale, shape)


def value(term):
  return float(term.sum / term.weight)


def weighted(values, counts):
  return (values * counts).sum() / counts.sum()


ALL = np.ones((B, S))
SOME = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]], float)


def check(term, expected):
  np.testing.assert_allclose(value(term), expected, rtol=1e-6)


@pytest.mark.parametrize('counts', [ALL, SOME], ids=['all', 'padded'])
@pytest.mark.parametrize('epsilon', [1e-12, 1e-3])
def test_feature_map(counts, epsilon):
  t, s = draw(B, S, D, scale=30), draw(B, S, D, seed=1)
  expected = ((norm(t, epsilon) - norm(s, epsilon)) ** 2).mean(-1)
  check(losses.feature_map(t, s, counts, epsilon), weighted(expected, counts))


@pytest.mark.parametrize('counts', [ALL, SOME], ids=['all', 'padded'])
def test_attention(counts):
  t, s = draw(B, H, S, S, scale=3), draw(B, H, S, S, seed=1)
  hidden = (SOME == 0)[:, None, None, :] * np.finfo(np.float32).min
  p, q = softmax(t + hidden), softmax(s + hidden)
  log = np.log(np.where(q > 0, q, 1))
  expected = -(p * log).sum(-1).mean(1)
  found = losses.attention(
    jnp.asarray(t + hidden, 'float32'), jnp.asarray(s + hidden, 'float32'),
    counts,
  )  # fmt: skip
  check(found, weighted(expected, counts))


@pytest.mark.parametrize('counts', [ALL, SOME], ids=['all', 'padded'])
def test_mean_and_variance(counts):
  t, s = draw(B, S, D, scale=3), draw(B, S, D, seed=1)
  (tm, tv), (sm, sv) = losses.moments(t), losses.moments(s)
  squared = (t.mean(-1) - s.mean(-1)) ** 2
  absolute = abs(t.var(-1) - s.var(-1))
  check(losses.mean(tm, sm, counts), weighted(squared, counts))
  check(losses.variance(tv, sv, counts), weighted(absolute, counts))


def test_the_released_code_compares_with_all_of_the_teachers_layers():
  t, s = draw(4, B, S, D, scale=3), draw(B, S, D, seed=1)
  (tm, tv), (sm, sv) = losses.moments(t), losses.moments(s)
  # It stacks the list of feature maps and takes one mean over everything.
  check(losses.mean(tm, sm, ALL), ((t.mean(-1) - s.mean(-1)) ** 2).mean())
  check(losses.variance(tv, sv, ALL), abs(t.var(-1) - s.var(-1)).mean())


@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.0])
def test_soft_cross_entropy(temperature):
  t, s = draw(B, S, C, scale=3), draw(B, S, C, seed=1)
  p, q = softmax(t / temperature), softmax(s / temperature)
  expected = -(p * np.log(q)).sum(-1) * temperature**2
  found = losses.soft_cross_entropy(t, s, SOME, temperature)
  check(found, weighted(expected, SOME))


@pytest.mark.parametrize('temperature', [1.0, 2.0])
def test_soft_binary_cross_entropy(temperature):
  t, s, counts = draw(B, C, scale=3), draw(B, C, seed=1), SOME[:, 2]
  p, q = (1 / (1 + np.exp(-x / temperature)) for x in (t, s))
  expected = -(p * np.log(q) + (1 - p) * np.log(1 - q)) * temperature**2
  found = losses.soft_binary_cross_entropy(t, s, counts, temperature)
  check(found, weighted(expected.mean(-1), counts))


def test_squared_error():
  t, s, counts = draw(B, 1, scale=3), draw(B, 1, seed=1), SOME[:, 2]
  expected = ((t - s) ** 2)[:, 0]
  check(losses.squared_error(t, s, counts), weighted(expected, counts))


def test_agreement():
  t, s = draw(B, S, 3), draw(B, S, 3, seed=1)
  expected = t.argmax(-1) == s.argmax(-1)
  assert 0 < weighted(expected, SOME) < 1
  found = losses.agreement(t, s, jnp.asarray(SOME))
  check(found, weighted(expected, SOME))


TERMS = {
  'feature_map': (losses.feature_map, (B, S, D), SOME),
  'attention': (losses.attention, (B, H, S, S), SOME),
  'mean': (losses.mean, (B, S), SOME),
  'variance': (losses.variance, (B, S), SOME),
  'soft_cross_entropy': (losses.soft_cross_entropy, (B, S, C), SOME),
  'soft_binary': (losses.soft_binary_cross_entropy, (B, C), SOME[:, 2]),
  'squared_error': (losses.squared_error, (B, C), SOME[:, 2]),
}


@pytest.mark.parametrize('name', TERMS)
def test_gradients_flow_into_the_student_alone(name):
  term, shape, counts = TERMS[name]
  pair = draw(*shape), draw(*shape, seed=1)

  def loss(teacher, student):
    found = term(teacher, student, counts)
    return found.sum / found.weight

  of_teacher, of_student = jax.grad(loss, argnums=(0, 1))(*pair)
  assert not of_teacher.any()
  assert of_student.any()


@pytest.mark.parametrize('name', TERMS)
def test_the_value_of_what_does_not_count_may_be_anything(name):
  term, shape, counts = TERMS[name]
  teacher, student = draw(*shape), draw(*shape, seed=1)
  clean = term(teacher, student, counts)
  axes = (0, 2) if name == 'attention' else tuple(range(counts.ndim))
  others = [axis for axis in range(student.ndim) if axis not in axes]
  is_real = np.expand_dims(counts, others) > 0
  found = term(teacher, np.where(is_real, student, np.inf), counts)
  assert value(found) == value(clean)


def test_micro_batches_add_up():
  t, s = draw(B, S, D), draw(B, S, D, seed=1)
  parts = [losses.feature_map(t[i:i + 1], s[i:i + 1], SOME[i:i + 1])
           for i in range(B)]  # fmt: skip
  whole = losses.feature_map(t, s, SOME)
  np.testing.assert_allclose(sum(p.sum for p in parts), whole.sum, rtol=1e-6)
  assert sum(p.weight for p in parts) == whole.weight
