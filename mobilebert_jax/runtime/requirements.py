"""Packages of extras: missing until a format or a reader asks for them."""

import importlib
from types import ModuleType

from mobilebert_jax.runtime.errors import InputError

# What an extra cannot have: litert-converter asks for an older
# typing-extensions than chex does, and runs with the newer one.
_FURTHER = {'litert': ' && pip install --no-deps litert-converter'}


def load(name: str, extra: str) -> ModuleType:
  """Imports a package of an extra.

  Args:
    name: the package, as it is imported.
    extra: the extra of this project that has it.

  Raises:
    InputError: it is not installed; with the line that installs it.
  """
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise InputError(
      f'{name} cannot be imported ({error}); '
      f"pip install 'mobilebert_jax[{extra}]'{_FURTHER.get(extra, '')} "
      'brings it.'
    ) from None
