"""A loss as sums and weights, and cross-entropy.

A mean cannot be added up over micro-batches or devices, a sum can. Each loss
is therefore a tuple of `Term`s; `total` turns them into the number that
transformers reports. All of it happens in float32 at least.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

IGNORE_INDEX = -100


class Term(NamedTuple):
  """One mean inside a loss.

  Attributes:
    sum: the sum over what counts.
    weight: how much counts; it depends on labels and weights alone, never on
      the parameters.
    scale: the factor of this mean in the loss.
  """

  sum: Float[Array, '']
  weight: Float[Array, '']
  scale: float = 1.0


Terms = tuple[Term, ...]
Weights = Float[Array, ' B'] | None


def total(terms: Sequence[Term]) -> Float[Array, '']:
  """Returns the sum of scale * sum / weight over the terms.

  It is NaN where nothing counts, as in torch.
  """
  return sum(
    (term.scale * (term.sum / term.weight) for term in terms[1:]),
    start=terms[0].scale * (terms[0].sum / terms[0].weight),
  )


def cross_entropy(
  logits: Float[Array, '*N C'],
  labels: Int[Array, '*N'],
  weights: Float[Array, '*N'] | None = None,
  ignore_index: int = IGNORE_INDEX,
) -> Term:
  """Computes softmax cross-entropy (torch's CrossEntropyLoss).

  sum_i w_i (log sum_c exp(logits_ic) - logits_i,label_i), with the weight
  sum_i w_i, over the labels that count.

  Args:
    logits: unnormalised scores of C classes.
    labels: class ids from 0 to C - 1; `ignore_index` does not count.
    weights: a factor for each label's contribution, or None.
    ignore_index: the label that does not count.

  Returns:
    The sum of -log p[label] over the labels that count, and their weight.
  """
  logits = at_least_float32(logits)
  counts = (labels != ignore_index).astype(logits.dtype)
  if weights is not None:
    counts = counts * weights.astype(logits.dtype)
  safe = jnp.where(labels == ignore_index, 0, labels)
  picked = jnp.take_along_axis(logits, safe[..., None], axis=-1)[..., 0]
  losses = jax.nn.logsumexp(logits, axis=-1) - picked
  # A row without weight may hold anything: 0 * inf would be NaN.
  losses = jnp.where(counts > 0, losses * counts, 0.0)
  return Term(jnp.sum(losses), jnp.sum(counts))


def at_least_float32(x: Array) -> Array:
  """Returns x in float32, or wider if it is."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
