"""The trials of a search: every combination of the values of some fields."""

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence

from mobilebert_jax.config.command_line import Assignment
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.runtime.errors import InputError

PREFIX = 'sweep'
# Longer names of directories, or ones with other characters, end in a hash.
_LONGEST_NAME = 120
_OPEN, _CLOSE = '([{', ')]}'

Values = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class GridTrial:
  """One combination of values.

  Attributes:
    values: what the command line says of each searched field.
    config: the whole config.
  """

  values: Values
  config: TrainConfig

  @property
  def name(self) -> str:
    """A directory's name; it depends on the values alone."""
    text = ','.join(f'{field}={value}' for field, value in self.values.items())
    name = re.sub(r'[^\w.,=+-]', '_', text, flags=re.ASCII)
    if name == text and len(name) <= _LONGEST_NAME:
      return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f'{name[:_LONGEST_NAME]}-{digest}'


def fields_of(
  assignments: Sequence[Assignment],
) -> dict[str, tuple[str, ...]]:
  """The values of each searched field, from flags such as --sweep.seed=1,2.

  Commas inside of brackets belong to a value: `(8,16),(32,64)` is two.

  Args:
    assignments: what the flags say, the first field changing slowest.

  Raises:
    InputError: no flag, one without values, or a field twice.
  """
  fields: dict[str, tuple[str, ...]] = {}
  for name, text in assignments:
    values = _split(text) if isinstance(text, str) else ('',)
    if not name or not all(values):
      raise InputError(
        f'--{PREFIX}.{name} must name a field of the config and its values, '
        f'such as --{PREFIX}.batch_size=16,32.'
      )
    if name in fields:
      raise InputError(
        f'--{PREFIX}.{name} is given twice; give all values at once, with '
        'commas.'
      )
    fields[name] = values
  if not fields:
    raise InputError(
      f'no field to search; add one such as --{PREFIX}.batch_size=16,32.'
    )
  return fields


def trials(
  fields: Mapping[str, Sequence[str]],
  configure: Callable[[Sequence[Assignment]], TrainConfig],
) -> list[GridTrial]:
  """Every combination, the values of the last field changing fastest.

  Args:
    fields: the values of each field.
    configure: gives the config for a value of each field.

  Raises:
    InputError: an unknown field, a wrong value, or the same trial twice.
  """
  result: list[GridTrial] = []
  for combination in itertools.product(*fields.values()):
    values = dict(zip(fields, combination))
    chosen = [Assignment(name, text) for name, text in values.items()]
    trial = GridTrial(values, configure(chosen))
    same = [other for other in result if other.config == trial.config]
    if same:
      raise InputError(
        f'{trial.name} and {same[0].name} are the same trial; give each value '
        'once.'
      )
    result.append(trial)
  return result


def _split(text: str) -> tuple[str, ...]:
  """Cuts at the commas that are outside of all brackets."""
  parts, depth = [''], 0
  for char in text:
    depth += (char in _OPEN) - (char in _CLOSE)
    if char == ',' and depth == 0:
      parts.append('')
    else:
      parts[-1] += char
  return tuple(part.strip() for part in parts)
