"""What decides a run's bits beside its config: recorded, and compared.

Some of it changes the random numbers or the arithmetic of everything: a run
cannot continue under another value. The rest (versions, devices, precision)
may round otherwise, or sum in another order; a run continues, and says so.
"""

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from mobilebert_jax.runtime.errors import InputError

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'grain', 'tokenizers')


class _Setting(NamedTuple):
  """A setting of JAX that decides the bits.

  Attributes:
    option: its name in `jax.config`.
    variable: the variable of the environment that sets it.
    help: what it is.
  """

  option: str
  variable: str
  help: str


# Under another value of these a run is another run.
_DECIDES = {
  'x64': _Setting('jax_enable_x64', 'JAX_ENABLE_X64', '64-bit types'),
  'prng': _Setting(
    'jax_default_prng_impl',
    'JAX_DEFAULT_PRNG_IMPL',
    'how random numbers are made',
  ),
  'threefry_partitionable': _Setting(
    'jax_threefry_partitionable',
    'JAX_THREEFRY_PARTITIONABLE',
    'how random numbers are made on several devices',
  ),
}
_FLAGS = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS', 'JAX_XLA_BACKEND')
_PRECISION = 'jax_default_matmul_precision'


def record() -> dict[str, Any]:
  """Returns what decides the bits here, as JSON values."""
  device = jax.devices()[0]
  return {
    'decides': {
      name: _value(setting.option) for name, setting in _DECIDES.items()
    },
    'versions': {
      'python': platform.python_version(),
      **{name: importlib.metadata.version(name) for name in _PACKAGES},
    },
    'platform': device.platform,
    'device': device.device_kind,
    'devices': jax.device_count(),
    'processes': jax.process_count(),
    'matmul_precision': _value(_PRECISION),
    'flags': {name: os.environ.get(name, '') for name in _FLAGS},
  }


def compare(
  before: Mapping[str, Any], now: Mapping[str, Any], where: Any
) -> list[str]:
  """Compares what a run began with and what it would continue with.

  Args:
    before: what `record` returned then.
    now: what it returns now.
    where: the file that holds the former, for messages.

  Returns:
    What differs and may, a line each.

  Raises:
    InputError: what differs makes other numbers of everything; what to set is
      said.
  """
  decides = before.get('decides', {})
  wrong = [
    f'{setting.help} ({setting.option}): {decides[name]!r} there, '
    f'{now["decides"][name]!r} here; set {setting.variable}='
    f'{_spelled(decides[name])}'
    for name, setting in _DECIDES.items()
    # A JAX without the setting has one way alone.
    if None not in (decides.get(name), now['decides'][name])
    if decides[name] != now['decides'][name]
  ]
  if wrong:
    raise InputError(
      f'the run began with other settings of JAX, see {where}, and would not '
      f'go on with the same numbers: {"; ".join(wrong)}.'
    )
  left, right = _flat(before), _flat(now)
  return [
    f'{name}: {_shown(left[name])} there, {_shown(right[name])} here'
    for name in left
    if name in right and left[name] != right[name]
  ]


def message(differences: list[str]) -> str:
  """Returns what to say of differences that may be."""
  return (
    f'the run began in another environment ({"; ".join(differences)}): its '
    'numbers may be rounded otherwise from here on.'
  )


def read(text: str, where: Any) -> dict[str, Any]:
  """Reads a record.

  Raises:
    InputError: the text is none.
  """
  try:
    value = json.loads(text)
  except ValueError as error:
    raise InputError(f'{where} is not JSON: {error}.') from None
  if not isinstance(value, dict):
    raise InputError(f'{where} must be a JSON object.')
  return value


def _value(option: str) -> Any:
  value = getattr(jax.config, option, None)
  return value if isinstance(value, bool | int | None) else str(value)


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what may differ, by names that people know."""
  values = {k: v for k, v in record.items() if not isinstance(v, Mapping)}
  for group in ('versions', 'flags'):
    values |= record.get(group, {})
  return values


def _spelled(value: Any) -> str:
  return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: Any) -> str:
  return repr(value) if value in ('', None) else str(value)
