"""Numbers that are put into a smaller type: what does not fit is an error.

Values beyond the largest number of a type would become infinite; tiny ones
become zero, which changes little, and is said.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mobilebert_jax.runtime.errors import InputError

# How many names an error shows.
_SHOWN = 8


class Narrowed(NamedTuple):
  """Arrays of another type, and what the change did to them.

  Attributes:
    arrays: name -> array; one array under two names stays one.
    notes: sentences for the user.
  """

  arrays: dict[str, np.ndarray]
  notes: tuple[str, ...]


def narrow(arrays: Mapping[str, Any], dtype: str, what: str) -> Narrowed:
  """Gives arrays another type of floating point.

  Args:
    arrays: name -> array.
    dtype: the new type.
    what: what the arrays are, for the user, such as a file's name.

  Raises:
    InputError: values that are finite, and would not be; with their names and
      the largest one.
  """
  target = jnp.dtype(dtype)
  done: dict[int, np.ndarray] = {}
  narrowed, broken, largest, zeros, tiniest = {}, [], 0.0, 0, ''
  for name, value in arrays.items():
    old = np.asarray(value)
    if id(value) not in done:
      # What overflows is found here, with its name.
      with np.errstate(over='ignore', under='ignore', invalid='ignore'):
        done[id(value)] = old.astype(target, copy=False)
      if target != old.dtype:
        new = done[id(value)]
        if (np.isfinite(old) & ~np.isfinite(new)).any():
          broken.append(name)
          finite = np.where(np.isfinite(old), old, 0)
          largest = max(largest, float(np.abs(finite.astype(float)).max()))
        lost = int(((old != 0) & (new == 0)).sum())
        zeros, tiniest = zeros + lost, tiniest or (name if lost else '')
    narrowed[name] = done[id(value)]
  if broken:
    more = ', ...' if len(broken) > _SHOWN else ''
    raise InputError(
      f'{", ".join(broken[:_SHOWN])}{more}: values that {dtype} cannot hold, '
      f'which ends at {float(jnp.finfo(target).max):.6g}; the largest '
      f'parameter is {largest:.3g}.'
    )
  notes: tuple[str, ...] = ()
  if zeros:
    smallest = float(jnp.finfo(target).smallest_subnormal)
    notes = (
      f'{what}: {zeros:,} values became 0 in {dtype}, whose smallest is '
      f'{smallest:.2g} (first in {tiniest}).',
    )
  return Narrowed(narrowed, notes)


def not_finite(arrays: Mapping[str, np.ndarray], what: str) -> tuple[str, ...]:
  """Says which arrays have values that are infinite or not a number.

  Args:
    arrays: name -> array.
    what: what they are, for the user.

  Returns:
    A sentence, or none.
  """
  broken = [
    name
    for name, value in arrays.items()
    if jnp.issubdtype(value.dtype, jnp.floating)
    and not np.isfinite(value).all()
  ]
  if not broken:
    return ()
  more = ', ...' if len(broken) > _SHOWN else ''
  return (
    f'{what}: values that are infinite or not a number in '
    f'{", ".join(broken[:_SHOWN])}{more}.',
  )
