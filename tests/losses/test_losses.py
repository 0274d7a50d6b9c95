"""Losses against hand-computed numbers; heads against torch: `test_golden`."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from mobilebert_jax import InputError, losses

LOGITS = jnp.array([[2.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
# -log softmax, by hand: log(1 + e^-2), log(1 + e^-1), log 2.
BY_HAND = [np.log1p(np.exp(-2)), np.log1p(np.exp(-1)), np.log(2)]


def test_cross_entropy_by_hand():
  term = losses.cross_entropy(LOGITS, jnp.array([0, 1, 0]))
  assert float(term.sum) == pytest.approx(sum(BY_HAND))
  assert float(term.weight) == 3


def test_ignored_labels_count_for_nothing():
  term = losses.cross_entropy(LOGITS, jnp.array([0, -100, 0]))
  assert float(term.sum) == pytest.approx(BY_HAND[0] + BY_HAND[2])
  assert float(term.weight) == 2


def test_nothing_counts_is_nan_as_in_torch():
  term = losses.cross_entropy(LOGITS, jnp.full(3, -100))
  assert (float(term.sum), float(term.weight)) == (0, 0)
  assert np.isnan(losses.total([term]))


def test_weights_scale_sum_and_weight():
  weights = jnp.array([1.0, 0.0, 0.5])
  term = losses.cross_entropy(LOGITS, jnp.array([0, 1, 0]), weights)
  assert float(term.sum) == pytest.approx(BY_HAND[0] + BY_HAND[2] / 2)
  assert float(term.weight) == 1.5


def test_row_without_weight_may_hold_anything():
  logits = LOGITS.at[1].set(jnp.inf)
  weights = jnp.array([1.0, 0.0, 1.0])

  def loss(logits):
    return losses.total(
      losses.classification_loss(logits, jnp.array([0, 1, 0]), None, weights)
    )

  value, grad = jax.value_and_grad(loss)(logits)
  assert float(value) == pytest.approx((BY_HAND[0] + BY_HAND[2]) / 2)
  assert np.isfinite(grad[0]).all() and np.isfinite(grad[2]).all()


def test_sums_add_up_over_any_split():
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.standard_normal((8, 5, 4)), jnp.float32)
  labels = jnp.asarray(rng.integers(-1, 4, (8, 5)))
  labels = jnp.where(labels < 0, -100, labels)
  (whole,) = losses.token_loss(logits, labels)
  parts = [losses.token_loss(logits[i::3], labels[i::3])[0] for i in range(3)]
  assert float(sum(p.sum for p in parts)) == pytest.approx(float(whole.sum))
  assert float(sum(p.weight for p in parts)) == float(whole.weight)


@pytest.mark.parametrize(
  'num_labels,labels,kind',
  [
    (1, np.array([1, 2]), 'regression'),
    (1, np.array([1.0, 2.0]), 'regression'),
    (3, np.array([1, 2]), 'single_label_classification'),
    (3, np.ones((2, 3), np.float32), 'multi_label_classification'),
  ],
)
def test_problem_type_is_transformers_choice(num_labels, labels, kind):
  assert losses.resolve_problem_type(None, num_labels, labels) == kind


def test_regression_with_and_without_axis():
  logits = jnp.array([[1.0], [3.0]])
  for labels in (jnp.array([0.0, 1.0]), jnp.array([[0.0], [1.0]])):
    (term,) = losses.classification_loss(logits, labels)
    assert float(losses.total([term])) == pytest.approx((1 + 4) / 2)


def test_multi_label_is_stable():
  logits = jnp.array([[100.0, -100.0]])
  (term,) = losses.classification_loss(
    logits, jnp.array([[0.0, 0.0]]), 'multi_label_classification'
  )
  assert float(losses.total([term])) == pytest.approx(50.0)


def test_labels_of_a_wrong_shape():
  with pytest.raises(InputError, match='labels have shape'):
    losses.classification_loss(
      LOGITS, jnp.ones((3, 4)), 'multi_label_classification'
    )
  with pytest.raises(InputError, match='problem_type'):
    losses.classification_loss(LOGITS, jnp.ones(3, int), 'ranking')


def test_question_answering_clamps_and_ignores():
  logits = jnp.zeros((3, 4))
  start = jnp.array([-5, 1, 4])  # clamped to 0, kept, outside
  end = jnp.array([9, 9, 9])  # all outside
  terms = losses.question_answering_loss(logits, logits, start, end)
  assert float(terms[0].weight) == 2 and float(terms[1].weight) == 0
  assert float(terms[0].sum) == pytest.approx(2 * np.log(4))
  assert [term.scale for term in terms] == [0.5, 0.5]
  assert np.isnan(losses.total(terms))


def test_pretraining_adds_both():
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.standard_normal((2, 3, 5)), jnp.float32)
  order = jnp.asarray(rng.standard_normal((2, 2)), jnp.float32)
  labels, following = jnp.array([[1, -100, 2], [0, 4, 4]]), jnp.array([0, 1])
  terms = losses.pretraining_loss(logits, order, labels, following)
  parts = [
    losses.total(losses.masked_lm_loss(logits, labels)),
    losses.total(losses.next_sentence_loss(order, following)),
  ]
  assert float(losses.total(terms)) == pytest.approx(float(sum(parts)))


def test_bfloat16_logits_give_float32_losses():
  term = losses.cross_entropy(LOGITS.astype(jnp.bfloat16), jnp.array([0, 1, 0]))
  assert term.sum.dtype == jnp.float32
  assert float(term.sum) == pytest.approx(sum(BY_HAND), rel=1e-6)


@pytest.mark.slow
def test_gradient_by_finite_differences():
  labels = jnp.array([0, 1, 1])
  with jax.enable_x64(True):
    jax.test_util.check_grads(
      lambda x: losses.cross_entropy(x, labels).sum,
      (np.asarray(LOGITS, np.float64),),
      order=2,
    )
