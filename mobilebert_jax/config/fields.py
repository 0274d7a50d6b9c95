"""Typed fields of a dataclass: kinds, limits, help, errors, values from text.

A dataclass of settings says everything about a field in one place:

  batch_size: int = fields.setting(32, help='examples in a step', at_least=1)

`check` validates it, `parse` reads it from a command line, `convert` from a
config file or JSON, and `Setting` describes it for --help; none of them is
told anything else.
"""

import ast
import contextlib
import dataclasses
import functools
import math
import numbers
import operator
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from mobilebert_jax.runtime.errors import InputError

_TRUE, _FALSE = ('true', 't', '1'), ('false', 'f', '0')
_BASES = {'0o': 8, '0x': 16}


def setting(
  default: Any = dataclasses.MISSING,
  *,
  help: str,
  default_factory: Any = dataclasses.MISSING,
  repr: bool = True,
  because: str = '',
  **limits: float,
) -> Any:
  """Defines a field of a dataclass of settings.

  Args:
    default: its default; none: the field must be given.
    help: what it means, for --help and for readers, without a full stop.
    default_factory: makes the default of a group of fields.
    repr: False hides the value in messages.
    because: the reason why other values are wrong, for their error.
    **limits: at_least, above, at_most, below.
  """
  return dataclasses.field(
    default=default,
    default_factory=default_factory,
    repr=repr,
    metadata={'help': help, 'limits': limits, 'because': because},
  )


class Setting(NamedTuple):
  """What is known about a field.

  Attributes:
    name: its name in the dataclass.
    hint: its type.
    default: its default; `dataclasses.MISSING` if it must be given.
    help: what it means.
    limits: at_least, above, at_most, below.
    is_shown: whether messages may show its value.
    because: why other values are wrong.
  """

  name: str
  hint: Any
  default: Any
  help: str
  limits: Mapping[str, float]
  is_shown: bool = True
  because: str = ''


def settings(kind: type) -> dict[str, Setting]:
  """The fields of a dataclass by name, in their order."""
  return _settings(kind)


@functools.cache
def _settings(kind: Any) -> dict[str, Setting]:
  resolved = typing.get_type_hints(kind)
  return {
    field.name: Setting(
      field.name,
      resolved[field.name],
      _default(field),
      field.metadata.get('help', ''),
      field.metadata.get('limits', {}),
      field.repr,
      field.metadata.get('because', ''),
    )
    for field in dataclasses.fields(kind)
  }


def _default(field: dataclasses.Field) -> Any:
  if field.default_factory is not dataclasses.MISSING:
    return field.default_factory()
  return field.default


def hints(kind: type) -> dict[str, Any]:
  """The types of a dataclass's fields, by name."""
  return {name: field.hint for name, field in settings(kind).items()}


def optional(hint: Any) -> tuple[Any, bool]:
  """A field's type without None, and whether None is allowed."""
  kinds = _kinds(hint)
  rest = [kind for kind in kinds if kind is not type(None)]
  return functools.reduce(operator.or_, rest), len(rest) < len(kinds)


def name(*parts: str) -> str:
  """What every message calls a setting, such as 'config.data.max_length'."""
  return '.'.join(('config', *parts))


def check(config: Any, path: str):
  """Checks every field of a dataclass against its type and limits.

  Args:
    config: an instance; its annotations and `setting`s say what is allowed.
    path: what error messages call it, such as 'config.data'.

  Raises:
    InputError: naming the first wrong field, its value and what is allowed.
  """
  for field in settings(type(config)).values():
    check_value(f'{path}.{field.name}', getattr(config, field.name), field)


def check_value(where: str, value: Any, field: Setting):
  """Checks one value.

  Args:
    where: what error messages call the field.
    value: its value.
    field: says what is allowed.

  Raises:
    InputError: naming the field, the value and what is allowed.
  """
  kind, may_be_none = optional(field.hint)
  if value is None and may_be_none:
    return
  if not _is_of(value, kind):
    shown = value if field.is_shown else '(hidden)'
    reason = f': {field.because}' * bool(field.because)
    raise wrong(where, shown, _kind(kind) + ' or None' * may_be_none + reason)
  if not all(_PASSES[limit](value, n) for limit, n in field.limits.items()):
    raise wrong(where, value, _range(field.limits))


def parse(where: str, text: str, hint: Any) -> Any:
  """Reads a field's value from a command line.

  'none' is None where the type allows it; a truth is true, t, 1, false, f or 0;
  a tuple is written as in Python, (16, 64) or 16,64, and a single entry needs
  neither comma nor quotes. Where the type is a number or a tuple, 6 is the
  number and (6,) the tuple.

  Args:
    where: what error messages call the field.
    text: what stands behind the equals sign.
    hint: the field's type.

  Raises:
    InputError: the text is no value of this type; limits are not checked.
  """
  kind, may_be_none = optional(hint)
  if may_be_none and text.lower() == 'none':
    return None
  try:
    return _parse(text, kind)
  except ValueError:
    raise wrong(where, text, _kind(kind) + ' or none' * may_be_none) from None


def convert(value: Any, hint: Any) -> Any:
  """Gives a value of a config file or of JSON the field's type.

  A whole number becomes a float and a list a tuple where that is the type;
  anything else is left for `check`.
  """
  kind, _ = optional(hint)
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  is_many = any(typing.get_origin(each) is tuple for each in _kinds(kind))
  return tuple(value) if is_many and isinstance(value, list) else value


def choices(hint: Any, limits: Mapping[str, float]) -> str:
  """What --help says about the values that are right; '' if all of the type."""
  kind, _ = optional(hint)
  result = [_range(limits)] if limits else []
  if typing.get_origin(kind) is Literal:
    result.append(_kind(kind))
  return ', '.join(result)


def one_of(names: Iterable[str]) -> Any:
  """The type of a text that is one of some names."""
  return Literal.__getitem__(tuple(names))


def show(value: Any) -> str:
  """A value as it is written on a command line; the inverse of `parse`."""
  if value is None:
    return 'none'
  if isinstance(value, bool):
    return str(value).lower()
  return str(value)


def wrong(field: str, value: Any, allowed: str) -> InputError:
  """The error that names a field, its value and what is allowed."""
  return InputError(f'{field} is {value!r}, but must be {allowed}.')


def unknown(
  path: str, name: str, known: Iterable[str], where: str = ''
) -> InputError:
  """The error for a field that a group does not have."""
  names = ', '.join(known) or 'none'
  return InputError(f'{path} has no field {name!r}{where}; it has: {names}.')


def groups(kind: type) -> Iterator[tuple[str, type]]:
  """The fields of a dataclass that are dataclasses themselves."""
  for field, hint in hints(kind).items():
    if dataclasses.is_dataclass(hint):
      yield field, typing.cast(type, hint)


def _kinds(hint: Any) -> tuple[Any, ...]:
  """The types of a union, or the one type."""
  is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
  return typing.get_args(hint) if is_union else (hint,)


def _parse(text: str, kind: Any) -> Any:
  first, *others = _kinds(kind)
  if others:
    with contextlib.suppress(ValueError):
      return _parse(text, first)
    return _parse(text, functools.reduce(operator.or_, others))
  if kind is bool:
    if text.lower() not in _TRUE + _FALSE:
      raise ValueError
    return text.lower() in _TRUE
  if kind is int:
    return int(text, _BASES.get(text[:2], 10))
  if kind is float:
    return float(text)
  if typing.get_origin(kind) is tuple:
    return _parse_tuple(text)
  if kind is str or typing.get_origin(kind) is Literal:
    return text
  raise ValueError


def _parse_tuple(text: str) -> tuple[Any, ...]:
  try:
    value = ast.literal_eval(text)
  except ValueError:
    value = text
  except SyntaxError:
    # A path, say; with a comma or a space in it, quotes were forgotten.
    if ',' in text or ' ' in text:
      raise ValueError from None
    value = text
  is_many = isinstance(value, tuple | list | set | dict)
  return tuple(value) if is_many else (value,)


def _is_of(value: Any, kind: Any) -> bool:
  kinds = _kinds(kind)
  if len(kinds) > 1:
    return any(_is_of(value, each) for each in kinds)
  origin = typing.get_origin(kind)
  if origin is Literal:
    return value in typing.get_args(kind)
  if kind is bool:
    return isinstance(value, bool)
  if kind is int:
    return _is_number(value, numbers.Integral)
  if kind is float:
    return _is_number(value, numbers.Real) and _is_finite(value)
  if origin is tuple:
    item = typing.get_args(kind)[0]
    return isinstance(value, tuple) and all(_is_of(x, item) for x in value)
  return isinstance(value, origin or kind)


def _is_finite(value: Any) -> bool:
  try:
    return math.isfinite(value)
  except OverflowError:
    # A whole number beyond all floats.
    return False


def _is_number(value: Any, kind: type) -> bool:
  return isinstance(value, kind) and not isinstance(value, bool)


def _kind(kind: Any) -> str:
  """What a value of a type is called."""
  kinds = _kinds(kind)
  if len(kinds) > 1:
    return ' or '.join(map(_kind, kinds))
  origin = typing.get_origin(kind)
  if origin is Literal:
    return f'one of {", ".join(typing.get_args(kind))}'
  if origin is tuple:
    if typing.get_args(kind)[0] is str:
      return "strings in parentheses, like ('no', 'yes')"
    return 'whole numbers in parentheses, like (32, 64)'
  known = {
    bool: 'True or False',
    int: 'a whole number',
    float: 'a finite number',
    str: 'a string',
  }
  return known.get(kind) or f'a {(origin or kind).__name__}'


_PASSES = {
  'at_least': lambda value, limit: value >= limit,
  'above': lambda value, limit: value > limit,
  'at_most': lambda value, limit: value <= limit,
  'below': lambda value, limit: value < limit,
}


def _range(limits: Mapping[str, float]) -> str:
  return ' and '.join(
    f'{name.replace("_", " ")} {limit}' for name, limit in limits.items()
  )
