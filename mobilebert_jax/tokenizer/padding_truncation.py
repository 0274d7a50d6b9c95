"""Padding and truncation: arguments, and padding of encoded rows."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_jax.runtime.errors import InputError

_LOG = logging.getLogger(__name__)
_PADDINGS = ('longest', 'max_length', 'do_not_pad')
_TRUNCATIONS = (
  'longest_first',
  'only_first',
  'only_second',
  'do_not_truncate',
)
SIDES = ('right', 'left')
# transformers takes a longer model_max_length for "no limit known".
LARGEST_MAX_LENGTH = int(1e20)
NO_MAX_LENGTH = int(1e30)


@dataclasses.dataclass(frozen=True)
class Strategy:
  """How a batch is cut and padded.

  Attributes:
    padding: 'longest', 'max_length' or None.
    truncation: 'longest_first', 'only_first', 'only_second' or None.
    max_length: tokens of a row, None where neither needs it.
    stride: tokens that an overflowing part repeats.
    pad_to_multiple_of: rounds the padded length up, or None.
    padding_side: 'right' or 'left'.
  """

  padding: str | None
  truncation: str | None
  max_length: int | None
  stride: int
  pad_to_multiple_of: int | None
  padding_side: str


def resolve(
  *,
  padding: bool | str,
  truncation: bool | str | None,
  max_length: int | None,
  stride: int,
  pad_to_multiple_of: int | None,
  padding_side: str,
  model_max_length: int,
) -> Strategy:
  """Turns the arguments of a call into a strategy.

  `max_length` alone means truncation, True means 'longest' and
  'longest_first', and a missing `max_length` is the model's, as in
  transformers.

  Raises:
    InputError: an unknown name, a length that is no positive integer, or a
      `max_length` that is not a multiple of `pad_to_multiple_of`.
  """
  _check_count('max_length', max_length, 1)
  _check_count('stride', stride, 0)
  _check_count('pad_to_multiple_of', pad_to_multiple_of, 1)
  check_side('padding_side', padding_side)
  if max_length is not None and padding is False and truncation is None:
    truncation = 'longest_first'
  pad = _name('padding', padding, 'longest', _PADDINGS)
  cut = _name('truncation', truncation, 'longest_first', _TRUNCATIONS)
  if padding is True and max_length is not None and cut is None:
    _LOG.warning(
      'max_length=%d has no effect: padding=True pads to the longest row and '
      "truncation is off; padding='max_length' pads to it",
      max_length,
    )
  if max_length is None:
    if model_max_length <= LARGEST_MAX_LENGTH:
      if pad == 'max_length' or cut is not None:
        max_length = model_max_length
    elif pad == 'max_length' or cut is not None:
      _LOG.warning(
        'neither max_length nor a model_max_length is known, so rows are '
        'neither cut nor padded to it'
      )
      pad, cut = (None if pad == 'max_length' else pad), None
  if (
    pad is not None
    and cut is not None
    and pad_to_multiple_of is not None
    and max_length is not None
    and max_length % pad_to_multiple_of
  ):
    raise InputError(
      f'max_length={max_length} must be a multiple of '
      f'pad_to_multiple_of={pad_to_multiple_of} when truncation is on.'
    )
  return Strategy(
    pad, cut, max_length, stride, pad_to_multiple_of, padding_side
  )


def check_side(name: str, side: Any) -> None:
  """Checks that a side is 'right' or 'left'.

  Raises:
    InputError: another value.
  """
  if side not in SIDES:
    raise InputError(f"{name} must be 'right' or 'left', got {side!r}.")


def check_room(
  strategy: Strategy, special: int, pair_lengths: list[tuple[int, int]]
) -> None:
  """Checks that the backend can carry out a truncation.

  Args:
    strategy: what is asked for; its truncation is not None.
    special: special tokens that a row gets.
    pair_lengths: token counts (without special tokens) of the pairs for
      which the stride matters.

  Raises:
    InputError: no room beside the special tokens, or a stride that is not
      smaller than the part it strides over.
  """
  assert strategy.max_length is not None
  room = strategy.max_length - special
  if room < 0:
    raise InputError(
      f'max_length={strategy.max_length} has no room for the {special} '
      'special tokens of a row.'
    )
  if strategy.stride and strategy.stride >= room:
    raise InputError(
      f'stride={strategy.stride} must be smaller than the {room} tokens that '
      f'max_length={strategy.max_length} leaves beside special tokens.'
    )
  for first, second in pair_lengths:
    for kept, length in zip(
      _kept(strategy.truncation, room, first, second), (first, second)
    ):
      if 0 < kept < length and strategy.stride >= kept:
        raise InputError(
          f'stride={strategy.stride} must be smaller than the {kept} tokens '
          f'that max_length={strategy.max_length} leaves to a text of a pair '
          f'with {first} and {second} tokens.'
        )


def _kept(
  truncation: str | None, room: int, first: int, second: int
) -> tuple[int, int]:
  """Returns how many tokens of each text remain."""
  if first + second <= room:
    return first, second
  if truncation == 'only_first':
    return room - second, second
  if truncation == 'only_second':
    return first, room - first
  # The shorter text is kept whole if it takes less than half.
  short = min(first, second)
  if short > room - short:
    short = room // 2
  long = room - short
  return (long, short) if first > second else (short, long)


def _name(
  argument: str, value: Any, default: str, allowed: tuple[str, ...]
) -> str | None:
  if value is True:
    return default
  if value is False or value is None:
    return None
  if value not in allowed:
    names = ', '.join(repr(name) for name in allowed)
    raise InputError(
      f'{argument} must be True, False or one of {names}, got {value!r}.'
    )
  return None if value == allowed[-1] else value


def _check_count(name: str, value: Any, least: int) -> None:
  if value is None:
    return
  if isinstance(value, bool) or not isinstance(value, int) or value < least:
    raise InputError(f'{name} must be an integer >= {least}, got {value!r}.')


def pad_rows(
  encoded: Any,
  strategy: Strategy,
  pad_values: Mapping[str, int],
  return_attention_mask: bool,
) -> dict[str, Any]:
  """Pads lists of integers to one length.

  Args:
    encoded: a mapping of names to rows (or to one row), or a list of mappings
      with one row each; arrays are accepted for lists.
    strategy: how far and on which side; truncation is not applied.
    pad_values: the filler of each name that can be padded.
    return_attention_mask: add `attention_mask` where it is missing.

  Returns:
    The same names with padded lists; a single row stays a single row.

  Raises:
    InputError: `input_ids` is missing, rows of one example differ in length,
      names differ in their number of rows, or a row is longer than the
      length to pad to (which would leave a ragged batch).
  """
  columns = _columns(encoded)
  ids = columns['input_ids']
  single = not ids or not isinstance(ids[0], list)
  if single:
    columns = {key: [value] for key, value in columns.items()}
  rows = columns['input_ids']
  for key, value in columns.items():
    if len(value) != len(rows):
      raise InputError(
        f'{key!r} has {len(value)} rows, but input_ids {len(rows)}.'
      )
  if return_attention_mask and 'attention_mask' not in columns:
    columns['attention_mask'] = [[1] * len(row) for row in rows]
  target = _target(rows, strategy)
  padded = {
    key: [
      _pad_row(key, i, row, len(rows[i]), target, strategy, pad_values)
      for i, row in enumerate(value)
    ]
    for key, value in columns.items()
  }
  return {k: v[0] for k, v in padded.items()} if single else padded


def _columns(encoded: Any) -> dict[str, list]:
  """Returns a copy as lists, from a mapping or a list of mappings."""
  if isinstance(encoded, Mapping):
    columns = dict(encoded)
  elif isinstance(encoded, Sequence) and all(
    isinstance(item, Mapping) for item in encoded
  ):
    names = list(encoded[0]) if encoded else []
    for i, item in enumerate(encoded):
      if set(item) != set(names):
        raise InputError(
          f'example {i} has the names {sorted(item)}, but example 0 has '
          f'{sorted(names)}.'
        )
    columns = {name: [item[name] for item in encoded] for name in names}
  else:
    raise InputError(
      'pad() needs a mapping of lists or a list of mappings, '
      f'got {type(encoded).__name__}.'
    )
  if 'input_ids' not in columns:
    raise InputError(f"pad() needs 'input_ids', got {sorted(columns)}.")
  return {key: _as_list(value) for key, value in columns.items()}


def _as_list(value: Any) -> Any:
  if hasattr(value, 'tolist'):
    return value.tolist()
  if isinstance(value, (list, tuple)):
    return [_as_list(item) for item in value]
  return value


def _target(rows: list[list[int]], strategy: Strategy) -> int | None:
  if strategy.padding is None:
    return None
  if strategy.padding == 'longest':
    length = max((len(row) for row in rows), default=0)
  else:
    assert strategy.max_length is not None
    length = strategy.max_length
  multiple = strategy.pad_to_multiple_of or 1
  return -(-length // multiple) * multiple


def _pad_row(
  key: str,
  index: int,
  row: Any,
  length: int,
  target: int | None,
  strategy: Strategy,
  pad_values: Mapping[str, int],
) -> Any:
  if target is None or key not in pad_values:
    return row
  if len(row) != length:
    raise InputError(
      f'row {index} of {key!r} has {len(row)} values, but its input_ids '
      f'{length}.'
    )
  if length > target:
    raise InputError(
      f'row {index} has {length} tokens, more than the {target} to pad to; '
      'truncate when tokenizing.'
    )
  filler = [pad_values[key]] * (target - length)
  return row + filler if strategy.padding_side == 'right' else filler + row
