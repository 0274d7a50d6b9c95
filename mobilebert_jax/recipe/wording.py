"""Errors of other modules in the words of a recipe's command line."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator

from mobilebert_jax.errors import InputError
from mobilebert_jax.pretraining_data.options import PretrainingDataOptions

# A flag of `python -m mobilebert_jax.pretraining_data`, or a field of its
# options.
_SETTING = re.compile(r'--(?P<no>no-)?(?P<flag>\w+)|\boptions\.(?P<field>\w+)')
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
