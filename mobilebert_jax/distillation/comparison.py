"""What a block of the student is compared by, beside its teacher's."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from mobilebert_jax.config.distillation import DistillationConfig
from mobilebert_jax.distillation import blocks, losses
from mobilebert_jax.distillation.blocks import Output
from mobilebert_jax.models.compute import REMAT_POLICIES

Sums = dict[str, Array]
# Means and variances of feature maps, perhaps of several.
Statistics = tuple[Float[Array, '*K B S'], Float[Array, '*K B S']]


def make(student: nn.Module, config: DistillationConfig, *, prevent_cse: bool):
  """A function that runs a block of the student and compares it.

  With rematerialisation the backward pass runs that block and the comparison
  again, but not the teacher.

  Args:
    student: the student.
    config: the terms.
    prevent_cse: whether the compiler could undo the rematerialisation: not
      within a loop.

  Returns:
    (the block's parameters, [1, ...], its input, mask, dropout key, what the
    teacher's block gives, weights of the positions) -> the block's output; the
    sums of the terms that read more of it than statistics; and those of its
    feature map, [B, S] each, or None if they are not compared.
  """
  plain, remat = blocks.without_remat(student), student.compute.remat

  def compare(layer, x, mask, key, target, weights):
    own = blocks.run_one(plain, layer, x, mask, key, config.has_attention)
    sums = _sums(config, target, own, weights)
    moments = None
    if config.has_statistics:
      moments = losses.moments(own.hidden)
    return own.hidden, sums, moments

  if remat == 'none':
    return compare
  return jax.checkpoint(
    compare, policy=REMAT_POLICIES[remat], prevent_cse=prevent_cse
  )


def _sums(
  config: DistillationConfig, teacher: Output, student: Output, weights: Array
) -> Sums:
  """The sums of those terms that are on and compare more than statistics."""
  factors = config.factors
  terms = {}
  if 'feature_map' in factors:
    terms['feature_map'] = losses.feature_map(
      teacher.hidden, student.hidden, weights, config.norm_epsilon
    )
  if 'attention' in factors:
    assert teacher.scores is not None and student.scores is not None
    terms['attention'] = losses.attention(
      teacher.scores, student.scores, weights
    )
  return {name: term.sum for name, term in terms.items()}


def statistics_sums(
  config: DistillationConfig,
  teacher: Statistics,
  student: Statistics,
  weights: Array,
) -> Sums:
  """The sums of those terms that are on and compare statistics."""
  terms = {'mean': losses.mean, 'variance': losses.variance}
  return {
    name: term(theirs, own, weights).sum
    for (name, term), theirs, own in zip(terms.items(), teacher, student)
    if name in config.factors
  }
