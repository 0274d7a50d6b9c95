"""Packages of formats: each is an extra, and missing until it is asked for."""

import importlib
from types import ModuleType

from mobilebert_jax.runtime.errors import InputError

# What else an extra needs to be told of.
_INSTALL = {
  'litert': (
    'pip install --no-deps litert-converter ai-edge-litert ai-edge-quantizer '
    '&& pip install immutabledict backports.strenum flatbuffers tqdm'
  ),
}


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
    line = _INSTALL.get(extra, f"pip install 'mobilebert_jax[{extra}]'")
    raise InputError(
      f'{name} cannot be imported ({error}); {line} brings it.'
    ) from None
