"""Where the processes that tests start keep what they compile."""

import atexit
import functools
import tempfile


def environment() -> dict[str, str]:
  """Variables for a process; the programs of one are there for the next.

  One folder for all that this worker starts: many runs are alike. It is not the
  worker's own: a killed process may leave a part of a program.
  """
  return {
    'JAX_COMPILATION_CACHE_DIR': _folder(),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }


@functools.cache
def _folder() -> str:
  folder = tempfile.TemporaryDirectory()
  atexit.register(folder.cleanup)
  return folder.name
