"""Compiled programs kept on disk for later starts, by JAX's own cache."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from mobilebert_jax.runtime import files

# The user's own directory, and the most bytes that it may take.
AUTO = 'auto'
_AUTO_BYTES = 2 * 2**30
# Seconds of compilation from which on a program is kept there: in most starts
# many small programs take longer together than the large ones.
_AUTO_SECONDS = 0.1


@contextlib.contextmanager
def used(directory: str | None) -> Iterator[None]:
  """Keeps what is compiled inside the block, and takes what is kept.

  JAX keeps a program that took a second or longer, under a name made of the
  program, the compiler's version and options, and the devices; so a directory
  may serve many runs. With several processes, the first one writes
  (https://docs.jax.dev/en/latest/persistent_compilation_cache.html).

  Args:
    directory: on this machine or on gs://; made if it is not there. None
      leaves JAX's own setting as it is. 'auto' does so where there is one
      (JAX_COMPILATION_CACHE_DIR); else it is the user's cache, unless programs
      are for several CPU devices: some that jax 0.10 takes from disk wait for
      one another for ever.

  Raises:
    InputError: it cannot be made.
  """
  if directory == AUTO:
    with _auto():
      yield
    return
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


def user_directory() -> pathlib.Path:
  """Returns where 'auto' keeps programs."""
  home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(home).expanduser() / 'mobilebert_jax' / 'compiled'


@contextlib.contextmanager
def _auto() -> Iterator[None]:
  import jax

  config: Any = jax.config
  devices = jax.devices()
  has_cpus = len(devices) > 1 and devices[0].platform == 'cpu'
  is_set = 'JAX_COMPILATION_CACHE_DIR' in os.environ
  if is_set or config.jax_compilation_cache_dir is not None or has_cpus:
    yield
    return
  path = user_directory()
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError:
    # No home, or one that cannot be written: it was to save time, no more.
    yield
    return
  values = {
    'jax_compilation_cache_max_size': _AUTO_BYTES,
    'jax_persistent_cache_min_compile_time_secs': _AUTO_SECONDS,
  }
  before = {name: getattr(config, name) for name in values}
  for name, value in values.items():
    config.update(name, value)
  try:
    with _set(str(path)):
      yield
  finally:
    for name, value in before.items():
      config.update(name, value)


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
