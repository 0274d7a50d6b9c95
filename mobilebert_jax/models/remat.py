"""What the backward pass keeps of a block, and what it computes again."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import primitives

# Names of results, for policies: of a kernel of attention, or of comparing two,
# which are no larger than its operands; and of attention by plain operations.
KERNEL_RESULTS = 'attention_kernel'
CONTEXT = 'attention_context'


def _narrows(primitive: Any, *operands: Any, **parameters: Any) -> bool:
  """Returns whether a product with parameters has fewer features than it reads.

  A result of N features out of K takes K multiplications for each number that
  is kept: of all products, these cost most to repeat and least to keep.
  """
  if primitive is not primitives.dot_general_p:
    return False
  (contracted, _), (in_batch, _) = parameters['dimension_numbers']
  if in_batch:
    return False
  left, right = operands
  read = math.prod(left.shape[axis] for axis in contracted)
  return right.size // read < read


_saves_names = jax.checkpoint_policies.save_only_these_names
_saves_both = jax.checkpoint_policies.save_from_both_policies

# What is kept: everything; nothing; the results of matrix products with
# parameters, and of a kernel; those alone that are narrower than what they
# read, and of attention. Where the value is None, whoever runs blocks has
# nothing to do: 'attention' is up to `models.attention`, which recomputes
# scores and probabilities alone.
REMAT_POLICIES: Mapping[str, Callable[..., Any] | None] = {
  'none': None,
  'full': jax.checkpoint_policies.nothing_saveable,
  'dots': _saves_both(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    _saves_names(KERNEL_RESULTS),
  ),
  'narrow': _saves_both(_narrows, _saves_names(KERNEL_RESULTS, CONTEXT)),
  'attention': None,
}
