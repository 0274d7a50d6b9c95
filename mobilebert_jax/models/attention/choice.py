"""How a call computes attention: plain operations, or the platform's kernel."""

import contextlib
from collections.abc import Iterator
from typing import Literal

from mobilebert_jax.models.attention import cudnn, meshed
from mobilebert_jax.models.attention.kernel import LANES
from mobilebert_jax.models.compute import Compute
from mobilebert_jax.runtime import target
from mobilebert_jax.runtime.errors import InputError

Kind = Literal['xla', 'fused', 'cudnn']
# Shorter rows have so few scores that plain operations move little memory.
_SHORTEST = 128
# A v5e's memory keeps up with its matrix units, and the kernel multiplies all
# lanes of a tile for each narrow head. With as few tokens at a time as it keeps
# on its core, plain operations are faster, but for 'dots'; with remat 'full'
# they always are (docs/explanation/scaling.md).
_V5E, _ON_CORE = 'tpu v5 lite', 4096

_is_interpreted = False


@contextlib.contextmanager
def interpreted() -> Iterator[None]:
  """Runs the kernel on any platform, operation by operation: for tests.

  Around the first call of a function: what is traced already stays as it is.
  """
  global _is_interpreted
  _is_interpreted = True
  try:
    yield
  finally:
    _is_interpreted = False


def is_interpreted() -> bool:
  """Returns whether the kernel is only interpreted."""
  return _is_interpreted


def kind(
  compute: Compute,
  shape: tuple[int, ...],
  heads: int,
  *,
  is_dropping: bool,
) -> Kind:
  """Returns how attention is computed here.

  Args:
    compute: what is set.
    shape: of the queries, [B, S, H K].
    heads: how many there are.
    is_dropping: whether there is dropout.

  Raises:
    InputError: 'fused' on a platform that has no kernel, or none for this.
  """
  if compute.attention == 'xla':
    return 'xla'
  where = target.platform()
  has_kernel = where == 'tpu' or _is_interpreted
  if compute.attention == 'fused' and where == 'gpu' and not has_kernel:
    problem = cudnn.problem(
      compute.dtype, shape[-1] // heads, is_dropping=is_dropping
    )
    if problem is not None:
      raise InputError(
        f"attention is 'fused', whose kernel on a GPU (cuDNN's) needs {problem}"
        "; or use 'auto'."
      )
    return 'cudnn'
  if compute.attention == 'fused' and not has_kernel:
    raise InputError(
      f"attention is 'fused', but there is no kernel for a {where.upper()}: "
      "use 'auto' or 'xla'."
    )
  if not has_kernel or compute.dtype == 'float64':
    return 'xla'
  by_rows, by_heads = meshed.divisors()
  if shape[0] % by_rows or heads % by_heads:
    return 'xla'
  if compute.attention == 'fused':
    return 'fused'
  if is_dropping and compute.attention_dropout != 'hash':
    return 'xla'
  if shape[1] < _SHORTEST:
    return 'xla'
  if target.device_kind() == _V5E and shape[-1] // heads < LANES:
    tokens = shape[0] * shape[1] // by_rows
    is_on_core = compute.remat != 'dots' and tokens <= _ON_CORE
    if compute.remat == 'full' or is_on_core:
      return 'xla'
  return 'fused'
