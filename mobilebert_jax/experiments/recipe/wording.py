"""What a recipe's errors say: its command line's words, and what differs."""

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mobilebert_jax.pretraining_data.options import PretrainingDataOptions
from mobilebert_jax.runtime.errors import InputError

# A flag of `python -m mobilebert_jax.pretraining_data`, or a field of its
# options.
_SETTING = re.compile(
  r'--(?P<no>no-)?(?P<flag>\w+)|\b(?:config\.)?options\.(?P<field>\w+)'
)
_OF_DATA = {field.name for field in dataclasses.fields(PretrainingDataOptions)}


@contextlib.contextmanager
def of_recipe() -> Iterator[None]:
  """Names the recipe's settings where an InputError names others.

  Raises:
    InputError: the block raised one.
  """
  try:
    yield
  except InputError as error:
    raise InputError(_SETTING.sub(_renamed, str(error))) from None


def _renamed(found: re.Match[str]) -> str:
  if found['field'] in _OF_DATA:
    return f'config.data.{found["field"]}'
  if found['flag'] in _OF_DATA:
    return f'--{"no" if found["no"] else ""}config.data.{found["flag"]}'
  return '--workdir' if found['flag'] == 'output' else found[0]


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
  """The settings of a part on disk that are not those of the recipe."""
  return [
    f'{name}: {there.get(name)!r} there, {value!r} here'
    for name, value in here.items()
    if there.get(name) != value
  ]


def refuse_others(target: pathlib.Path, wrong: Sequence[str]):
  """Refuses a part on disk that another recipe has made.

  Args:
    target: the part's directory.
    wrong: what is different.

  Raises:
    InputError: something is.
  """
  if wrong:
    raise InputError(
      f'{target} was made with other settings: {"; ".join(wrong)}; choose '
      'another --workdir, or the old values.'
    )
