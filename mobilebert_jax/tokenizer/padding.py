"""Padding of sequences that are encoded already."""

from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer.strategies import Strategy


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
        f'{key!r} has {len(value)} rows, but input_ids {len(rows)}'
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
  """A copy as lists, from a mapping or a list of mappings."""
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
          f'{sorted(names)}'
        )
    columns = {name: [item[name] for item in encoded] for name in names}
  else:
    raise InputError(
      'pad() needs a mapping of lists or a list of mappings, '
      f'got {type(encoded).__name__}'
    )
  if 'input_ids' not in columns:
    raise InputError(f"pad() needs 'input_ids', got {sorted(columns)}")
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
      f'{length}'
    )
  if length > target:
    raise InputError(
      f'row {index} has {length} tokens, more than the {target} to pad to; '
      'truncate when tokenizing'
    )
  filler = [pad_values[key]] * (target - length)
  return row + filler if strategy.padding_side == 'right' else filler + row
