"""Compiled programs kept on disk for later starts, by JAX's own cache."""

import contextlib
from collections.abc import Iterator
from typing import Any

from mobilebert_jax.runtime import files


@contextlib.contextmanager
def used(directory: str | None) -> Iterator[None]:
  """Keeps what is compiled inside the block, and takes what is kept.

  JAX keeps a program that took a second or longer, under a name made of the
  program, the compiler's version and options, and the devices; so a directory
  may serve many runs. With several processes, the first one writes
  (https://docs.jax.dev/en/latest/persistent_compilation_cache.html).

  Args:
    directory: on this machine or on gs://; made if it is not there. None
      leaves JAX's own setting (JAX_COMPILATION_CACHE_DIR) as it is.

  Raises:
    InputError: it cannot be made.
  """
  if directory is None:
    yield
    return
  path = files.make_directory(directory, 'config.compilation_cache_dir')
  with _set(str(path)):
    yield


@contextlib.contextmanager
def unused() -> Iterator[None]:
  """Compiles inside the block without taking or keeping a program.

  For devices that are described and not there: JAX keeps what is compiled for
  them, and cannot load it (jax 0.12 warns of each).
  """
  with _set(None):
    yield


@contextlib.contextmanager
def _set(directory):
  import jax
  from jax.experimental.compilation_cache import compilation_cache

  config: Any = jax.config
  before = config.jax_compilation_cache_dir

  def change(to):
    config.update('jax_compilation_cache_dir', to)
    # What has been opened before stays open otherwise.
    compilation_cache.reset_cache()

  change(directory)
  try:
    yield
  finally:
    change(before)
