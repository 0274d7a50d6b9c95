"""Parameters that float16 can compute with.

Its largest number is 65504; the published MobileBERT has hidden values of 1e7,
which in float16 are infinite and soon no numbers at all. Channels that may be
rescaled (`equalization`) bring them to where float16 is at its best.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.inference import equalization, folding, ranges
from mobilebert_jax.runtime.errors import InputError

LARGEST = float(np.finfo(np.float16).max)
# What other texts, and sums of two tensors, may add to the values of these.
_ROOM = 8


class Hidden(NamedTuple):
  """The largest hidden value of a model.

  Attributes:
    tensor: where it is, by the names of `graph`.
    value: how large; without sign.
  """

  tensor: str
  value: float


class Fitted(NamedTuple):
  """Parameters that fit.

  Attributes:
    params: they; those that were given, where these fit.
    before: the largest hidden value of the parameters that were given.
    after: that of the parameters.
  """

  params: Any
  before: Hidden
  after: Hidden

  @property
  def is_changed(self) -> bool:
    """Whether channels were rescaled."""
    return self.before != self.after


def largest_hidden(
  head: str,
  config: MobileBertConfig,
  params: Any,
  batches: Iterable[Mapping[str, np.ndarray]],
) -> Hidden:
  """Returns the largest hidden value of a model.

  Args:
    head: transformers' name of the class.
    config: the architecture.
    params: its parameters.
    batches: inputs by name, as `graph.apply` takes them.
  """
  graph = folding.fold(head, config, params)
  kept = folding.kept(head, config, params, {})
  measured = ranges.measure(graph, batches)
  result = Hidden('embeddings', 0.0)
  for name, value in measured.tensors.items():
    largest = value.largest
    if name in kept:
      largest = np.abs(kept[name].scale) * largest + np.abs(kept[name].offset)
    if name.endswith('/masked_scores'):
      continue
    result = max(
      result, Hidden(name, float(largest.max())), key=lambda x: x.value
    )
  return result


def fit(
  head: str,
  config: MobileBertConfig,
  params: Any,
  batches: Iterable[Mapping[str, np.ndarray]],
) -> Fitted:
  """Returns parameters of the same function whose values fit into float16.

  Where the given ones fit, they stay. Otherwise the last hidden state keeps its
  scale and the other hidden states do not.

  Args:
    head: transformers' name of the class.
    config: the architecture.
    params: its parameters.
    batches: inputs by name, as `graph.apply` takes them.

  Raises:
    InputError: values remain that do not fit.
  """
  batches = list(batches)
  before = largest_hidden(head, config, params, batches)
  if before.value <= LARGEST / _ROOM:
    return Fitted(params, before, before)
  params = equalization.equalize(head, config, params, batches, shift=True)
  after = largest_hidden(head, config, params, batches)
  if not after.value <= LARGEST / _ROOM:
    raise InputError(
      f'{after.tensor} has values up to {after.value:.3g}, and float16 ends at '
      f'{LARGEST:.0f}; nothing else in this model can take its scale, so keep '
      'it in bfloat16 or float32.'
    )
  return Fitted(params, before, after)
