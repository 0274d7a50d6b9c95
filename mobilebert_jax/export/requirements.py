"""Packages of formats: each is an extra, and missing until it is asked for."""

import importlib
from types import ModuleType

from mobilebert_jax.runtime.errors import InputError

# The converter asks for an older typing-extensions than chex does, but runs
# with the newer one: no resolver puts them together.
_LITERT = (
  'pip install --no-deps litert-converter ai-edge-litert ai-edge-quantizer '
  'immutabledict backports.strenum flatbuffers tqdm'
)


def load(name: str, extra: str) -> ModuleType:
  """Imports a package of an extra.

  Args:
    name: the package, as it is imported.
    extra: the extra of this project that has it; 'litert', which is none, for
      LiteRT's packages.

  Raises:
    InputError: it is not installed; with the line that installs it.
  """
  try:
    return importlib.import_module(name)
  except ImportError as error:
    line = f"pip install 'mobilebert_jax[{extra}]'"
    raise InputError(
      f'{name} cannot be imported ({error}); '
      f'{_LITERT if extra == "litert" else line} brings it.'
    ) from None
