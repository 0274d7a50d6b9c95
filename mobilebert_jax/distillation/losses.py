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

from mobilebert_jax.losses import Term

Counts = Float[Array, 'B S']


def normalised(x: Float[Array, '*B D'], epsilon: float) -> Float[Array, '*B D']:
  """Returns (x - mean) / sqrt(variance + epsilon) over the last axis."""
  x = x - jnp.mean(x, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(variance + epsilon)


def moments(
  x: Float[Array, '*B D'],
) -> tuple[Float[Array, '*B'], Float[Array, '*B']]:
  """Returns mean and (biased) variance over the last axis, in two passes."""
  x = _wide(x)
  mean = jnp.mean(x, axis=-1)
  return mean, jnp.mean(jnp.square(x - mean[..., None]), axis=-1)


def feature_map(
  teacher: Float[Array, 'B S D'],
  student: Float[Array, 'B S D'],
  counts: Counts,
  epsilon: float = 1e-12,
) -> Term:
  """Returns the mean squared difference of normalised feature maps.

  For each position, with N the layer normalisation without scale and shift,

    (1 / D) sum_d (N(teacher)_d - N(student)_d)^2.

  Args:
    teacher: the output of a teacher's block.
    student: the output of a student's block, equally wide.
    counts: the weight of each position.
    epsilon: added to the variance.
  """
  teacher = normalised(_no_gradient(teacher), epsilon)
  difference = teacher - normalised(_wide(student), epsilon)
  return _term(jnp.mean(jnp.square(difference), axis=-1), counts)


def attention(
  teacher: Float[Array, 'B H T S'],
  student: Float[Array, 'B H T S'],
  counts: Float[Array, 'B T'],
) -> Term:
  """Returns the cross-entropy of attention distributions, a mean over heads.

  For each query, with p = softmax(teacher) and q = softmax(student) over keys,

    (1 / H) sum_h -sum_s p_hs log q_hs.

  It is the Kullback-Leibler divergence plus the teacher's entropy, which is
  constant.

  Args:
    teacher: masked scores before the softmax.
    student: the same of a student with as many heads.
    counts: the weight of each query.
  """
  probs = jax.nn.softmax(_no_gradient(teacher), axis=-1)
  values = _cross_entropy(probs, _wide(student))
  return _term(jnp.mean(values, axis=1), counts)


def mean(
  teacher: Float[Array, '*K B S'],
  student: Float[Array, 'B S'],
  counts: Counts,
) -> Term:
  """Returns the mean of (mean_teacher - mean_student)^2 over positions.

  Args:
    teacher: means of a teacher's feature map; or of several, [K, B, S], over
      which the result is averaged (`teacher_average_statistics`).
    student: means of the student's.
    counts: the weight of each position.
  """
  difference = _stack_layers(teacher) - _wide(student)[None]
  return _term(jnp.mean(jnp.square(difference), axis=0), counts)


def variance(
  teacher: Float[Array, '*K B S'],
  student: Float[Array, 'B S'],
  counts: Counts,
) -> Term:
  """Returns the mean of |var_teacher - var_student|; as `mean` otherwise."""
  difference = _stack_layers(teacher) - _wide(student)[None]
  return _term(jnp.mean(jnp.abs(difference), axis=0), counts)


def soft_cross_entropy(
  teacher: Float[Array, '*N C'],
  student: Float[Array, '*N C'],
  counts: Float[Array, '*N'],
  temperature: float = 1.0,
) -> Term:
  """Returns the cross-entropy with the teacher's probabilities as labels.

  With a temperature T, p = softmax(teacher / T) and q = softmax(student / T),

    -T^2 sum_c p_c log q_c,

  where T^2 keeps the gradient as large (arXiv 1503.02531).

  Args:
    teacher: logits of C classes.
    student: logits of the same classes.
    counts: the weight of each prediction.
    temperature: T.
  """
  probs = jax.nn.softmax(_divided(_no_gradient(teacher), temperature), axis=-1)
  values = _cross_entropy(probs, _divided(_wide(student), temperature))
  return _term(values * temperature**2, counts)


def soft_binary_cross_entropy(
  teacher: Float[Array, 'B C'],
  student: Float[Array, 'B C'],
  counts: Float[Array, ' B'],
  temperature: float = 1.0,
) -> Term:
  """Returns the same for classes that are independent of one another.

  With p = sigmoid(teacher / T) and q = sigmoid(student / T),

    -(T^2 / C) sum_c p_c log q_c + (1 - p_c) log(1 - q_c).
  """
  probs = jax.nn.sigmoid(_no_gradient(teacher) / temperature)
  logits = _wide(student) / temperature
  # The stable form of -p log sigmoid(x) - (1 - p) log sigmoid(-x).
  values = jax.nn.softplus(logits) - logits * probs
  return _term(jnp.mean(values, axis=-1) * temperature**2, counts)


def squared_error(
  teacher: Float[Array, 'B C'],
  student: Float[Array, 'B C'],
  counts: Float[Array, ' B'],
) -> Term:
  """Returns (1 / C) sum_c (teacher_c - student_c)^2, for regression."""
  difference = jnp.square(_no_gradient(teacher) - _wide(student))
  return _term(jnp.mean(difference, axis=-1), counts)


def agreement(
  teacher: Float[Array, '*N C'],
  student: Float[Array, '*N C'],
  counts: Float[Array, '*N'],
) -> Term:
  """Returns how often both models' most probable class is the same."""
  same = jnp.argmax(teacher, axis=-1) == jnp.argmax(student, axis=-1)
  return _term(same.astype(counts.dtype), counts)


def _cross_entropy(
  probs: Float[Array, '*N C'], logits: Float[Array, '*N C']
) -> Float[Array, '*N']:
  return -jnp.sum(probs * jax.nn.log_softmax(logits, axis=-1), axis=-1)


def _divided(logits: Array, temperature: float) -> Array:
  """Returns logits / T, finite also where the lowest number is a mask."""
  return jnp.maximum(logits / temperature, jnp.finfo(logits.dtype).min)


def _stack_layers(teacher: Array) -> Array:
  """Reshapes [B, S] or [K, B, S] to [1 or K, B, S]."""
  return _no_gradient(teacher).reshape(-1, *teacher.shape[-2:])


def _term(values: Array, counts: Array) -> Term:
  counts = counts.astype(values.dtype)
  # The value where nothing counts may be anything: 0 * inf would be NaN.
  values = jnp.where(counts > 0, values * counts, 0.0)
  return Term(jnp.sum(values), jnp.sum(counts))


def _no_gradient(x: Array) -> Array:
  """Returns the teacher's values, in float32 at least, with no gradient."""
  return _wide(jax.lax.stop_gradient(x))


def _wide(x: Array) -> Array:
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
