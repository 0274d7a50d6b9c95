"""Typed fields of a dataclass: their kinds, limits and errors."""

import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from mobilebert_jax.runtime.errors import InputError


def setting(default: Any, **limits: float) -> Any:
  """A dataclass field with limits: at_least, above, at_most, below."""
  return dataclasses.field(default=default, metadata=limits)


def optional(hint: Any) -> tuple[Any, bool]:
  """A field's type without None, and whether None is allowed."""
  if isinstance(hint, types.UnionType) or typing.get_origin(hint) is (
    typing.Union
  ):
    (rest,) = [arg for arg in typing.get_args(hint) if arg is not type(None)]
    return rest, True
  return hint, False


def hints(kind: type) -> dict[str, Any]:
  """The types of a dataclass's fields, by name."""
  resolved = typing.get_type_hints(kind)
  return {
    field.name: resolved[field.name] for field in dataclasses.fields(kind)
  }


def check(config: Any, path: str):
  """Checks every field of a dataclass against its type and limits.

  Args:
    config: an instance; its annotations and `setting`s say what is allowed.
    path: what error messages call it, such as 'config.data'.

  Raises:
    InputError: naming the first wrong field, its value and what is allowed.
  """
  known = hints(type(config))
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    where = f'{path}.{field.name}'
    shown = value if field.repr else '(hidden)'
    kind, may_be_none = optional(known[field.name])
    if value is None and may_be_none:
      continue
    allowed = _wrong_type(value, kind)
    if allowed:
      raise wrong(where, shown, allowed + (' or None' * may_be_none))
    _check_limits(where, value, field.metadata)


def _wrong_type(value: Any, kind: Any) -> str | None:
  """What the value should be, if it is something else."""
  origin = typing.get_origin(kind)
  if origin is Literal:
    choices = typing.get_args(kind)
    return None if value in choices else f'one of {", ".join(choices)}'
  if kind is bool:
    return None if isinstance(value, bool) else 'True or False'
  if kind is int:
    return None if _is(value, numbers.Integral) else 'a whole number'
  if kind is float:
    good = _is(value, numbers.Real) and math.isfinite(value)
    return None if good else 'a finite number'
  if origin is tuple:
    item_kind = typing.get_args(kind)[0]
    if item_kind is str:
      good = isinstance(value, tuple) and all(
        isinstance(item, str) for item in value
      )
      return None if good else "strings in parentheses, like ('no', 'yes')"
    good = isinstance(value, tuple) and all(
      _is(item, numbers.Integral) for item in value
    )
    return None if good else 'whole numbers in parentheses, like (32, 64)'
  if kind is str:
    return None if isinstance(value, str) else 'a string'
  expected = origin or kind
  return None if isinstance(value, expected) else f'a {expected.__name__}'


def _is(value: Any, kind: type) -> bool:
  return isinstance(value, kind) and not isinstance(value, bool)


def _check_limits(where: str, value: Any, limits: Mapping[str, float]):
  passes = {
    'at_least': lambda limit: value >= limit,
    'above': lambda limit: value > limit,
    'at_most': lambda limit: value <= limit,
    'below': lambda limit: value < limit,
  }
  if all(passes[name](limit) for name, limit in limits.items()):
    return
  allowed = ' and '.join(
    f'{name.replace("_", " ")} {limit}' for name, limit in limits.items()
  )
  raise wrong(where, value, allowed)


def wrong(field: str, value: Any, allowed: str) -> InputError:
  """The error that names a field, its value and what is allowed."""
  return InputError(f'{field} is {value!r}, but must be {allowed}.')
