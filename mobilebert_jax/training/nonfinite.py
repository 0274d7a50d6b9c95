"""What to do about a loss or gradient that is infinite or not a number.

`config.nonfinite` is 'stop', or 'skip': then the compiled step itself leaves
weights and optimizer as they were (`training.make_train_step`), and here it is
counted, as long as it stays an exception.
"""

import math
from collections.abc import Mapping

from mobilebert_jax.training.run_state import Facts

# More skipped steps in a row are no accident of the data: nothing is learnt
# any more, and no later batch can change that.
MOST_IN_A_ROW = 10
_WATCHED = ('loss', 'grad_norm')


class NonFiniteError(FloatingPointError):
  """Training diverged: a loss or gradient is infinite or not a number."""


def problem(values: Mapping[str, float]) -> str | None:
  """What is not finite among a step's numbers; None: nothing."""
  for name in _WATCHED:
    if not math.isfinite(values[name]):
      return f'the {name} is {values[name]}'
  return None


def may_skip(facts: Facts) -> bool:
  """Counts one more skipped step; returns whether there may be as many."""
  facts.skipped_steps += 1
  facts.skipped_in_a_row += 1
  return facts.skipped_in_a_row <= MOST_IN_A_ROW


def finite(values: Mapping[str, float]) -> dict[str, float]:
  """The numbers that JSON can hold."""
  return {k: v for k, v in values.items() if math.isfinite(v)}
