"""The terms of knowledge transfer and distillation, one function each.

Each is a mean over what counts, as a `losses.Term`, so that micro-batches and
devices add up. Only the student's arguments have gradients. All of it happens
in float32 at least.

Source: google-research's `mobilebert/run_pretraining.py`; arXiv 2004.02984,
section 3.3 (feature map transfer, attention transfer, pre-training
distillation).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mobilebert_jax.losses.task import Term

Counts = Float[Array, 'B S']


def normalised(x: Float[Array, '*B D'], epsilon: float) -> Float[Array, '*B D']:
  """Layer normalisation over the last axis, without scale and shift."""
  x = x - jnp.mean(x, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(variance + epsilon)


def moments(
  x: Float[Array, '*B D'],
) -> tuple[Float[Array, '*B'], Float[Array, '*B']]:
  """Mean and (biased) variance over the last axis, in two passes."""
  x = _wide(x)
  mean = jnp.mean(x, axis=-1)
  return mean, jnp.mean(jnp.square(x - mean[..., None]), axis=-1)


def feature_map(
  teacher: Float[Array, 'B S D'],
  student: Float[Array, 'B S D'],
  counts: Counts,
  epsilon: float = 1e-12,
) -> Term:
  """Mean squared difference of normalised feature maps.

  Args:
    teacher: the output of a teacher's block.
    student: the output of a student's block, equally wide.
    counts: the weight of each position.
    epsilon: added to the variance.
  """
  teacher = normalised(_fixed(teacher), epsilon)
  difference = teacher - normalised(_wide(student), epsilon)
  return _term(jnp.mean(jnp.square(difference), axis=-1), counts)


def attention(
  teacher: Float[Array, 'B H T S'],
  student: Float[Array, 'B H T S'],
  counts: Float[Array, 'B T'],
) -> Term:
  """Cross-entropy of two attention distributions, the mean over all heads.

  It is the Kullback-Leibler divergence plus the teacher's entropy, which is
  constant.

  Args:
    teacher: masked scores before the softmax.
    student: the same of a student with as many heads.
    counts: the weight of each query.
  """
  probs = jax.nn.softmax(_fixed(teacher), axis=-1)
  found = _cross_entropy(probs, _wide(student))
  return _term(jnp.mean(found, axis=1), counts)


def mean(
  teacher: Float[Array, '*K B S'],
  student: Float[Array, 'B S'],
  counts: Counts,
) -> Term:
  """Mean squared difference of the feature maps' means.

  Args:
    teacher: means of a teacher's feature map; or of several, [K, B, S], over
      which the result is averaged (`teacher_average_statistics`).
    student: means of the student's.
    counts: the weight of each position.
  """
  difference = _by_layer(teacher) - _wide(student)[None]
  return _term(jnp.mean(jnp.square(difference), axis=0), counts)


def variance(
  teacher: Float[Array, '*K B S'],
  student: Float[Array, 'B S'],
  counts: Counts,
) -> Term:
  """Mean absolute difference of the feature maps' variances; see `mean`."""
  difference = _by_layer(teacher) - _wide(student)[None]
  return _term(jnp.mean(jnp.abs(difference), axis=0), counts)


def soft_cross_entropy(
  teacher: Float[Array, '*N C'],
  student: Float[Array, '*N C'],
  counts: Float[Array, '*N'],
  temperature: float = 1.0,
) -> Term:
  """Cross-entropy with the teacher's probabilities as labels.

  With a temperature T both models' logits are divided by T, and the term is
  multiplied by T^2, so that its gradient stays as large (arXiv 1503.02531).

  Args:
    teacher: logits of C classes.
    student: logits of the same classes.
    counts: the weight of each prediction.
    temperature: T.
  """
  probs = jax.nn.softmax(_divided(_fixed(teacher), temperature), axis=-1)
  found = _cross_entropy(probs, _divided(_wide(student), temperature))
  return _term(found * temperature**2, counts)


def soft_binary_cross_entropy(
  teacher: Float[Array, 'B C'],
  student: Float[Array, 'B C'],
  counts: Float[Array, ' B'],
  temperature: float = 1.0,
) -> Term:
  """The same for classes that are independent of one another."""
  probs = jax.nn.sigmoid(_fixed(teacher) / temperature)
  logits = _wide(student) / temperature
  # The stable form of -p log sigmoid(x) - (1 - p) log sigmoid(-x).
  found = jax.nn.softplus(logits) - logits * probs
  return _term(jnp.mean(found, axis=-1) * temperature**2, counts)


def squared_error(
  teacher: Float[Array, 'B C'],
  student: Float[Array, 'B C'],
  counts: Float[Array, ' B'],
) -> Term:
  """Mean squared difference from the teacher's numbers, for regression."""
  difference = jnp.square(_fixed(teacher) - _wide(student))
  return _term(jnp.mean(difference, axis=-1), counts)


def agreement(
  teacher: Float[Array, '*N C'],
  student: Float[Array, '*N C'],
  counts: Float[Array, '*N'],
) -> Term:
  """How often both models think the same class most probable; no gradient."""
  same = jnp.argmax(teacher, axis=-1) == jnp.argmax(student, axis=-1)
  return _term(same.astype(counts.dtype), counts)


def _cross_entropy(
  probs: Float[Array, '*N C'], logits: Float[Array, '*N C']
) -> Float[Array, '*N']:
  return -jnp.sum(probs * jax.nn.log_softmax(logits, axis=-1), axis=-1)


def _divided(logits: Array, temperature: float) -> Array:
  """Logits over T, finite also where the lowest number hides a position."""
  return jnp.maximum(logits / temperature, jnp.finfo(logits.dtype).min)


def _by_layer(teacher: Array) -> Array:
  """[B, S] or [K, B, S] to [1 or K, B, S]."""
  return _fixed(teacher).reshape(-1, *teacher.shape[-2:])


def _term(values: Array, counts: Array) -> Term:
  counts = counts.astype(values.dtype)
  # The value where nothing counts may be anything: 0 * inf would be NaN.
  values = jnp.where(counts > 0, values * counts, 0.0)
  return Term(jnp.sum(values), jnp.sum(counts))


def _fixed(x: Array) -> Array:
  """The teacher's: it learns nothing."""
  return _wide(jax.lax.stop_gradient(x))


def _wide(x: Array) -> Array:
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
