"""Types that many modules share, each defined here alone."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Array, Float, Int

# What a compiled step is given: arrays by their columns' names, [rows, ...].
Batch = Mapping[str, Array]
# Nested dicts of arrays: parameters, or anything of their structure.
Params = Any
# Completed optimizer steps -> a number that the next step uses.
Schedule = Callable[[Int[Array, '']], Float[Array, '']]
# The numbers of a step by their names, float32 scalars.
Metrics = dict[str, Float[Array, '']]
