"""Says how a CPU's steps get their memory in huge pages, where they do not."""

import os
import pathlib
import platform

_VARIABLE = 'GLIBC_TUNABLES'
_TUNABLE = 'glibc.malloc.hugetlb'
_OLDEST = (2, 35)
_KERNEL = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')


def hint(device: str) -> str | None:
  """Returns a sentence, or None if there is nothing to gain.

  XLA takes and returns the memory of a step at every step, page by page: a
  tenth of a training step's time, or more.

  Args:
    device: the platform of the devices, such as 'cpu'.
  """
  name, version = platform.libc_ver()
  if device != 'cpu' or name != 'glibc' or _numbers(version) < _OLDEST:
    return None
  if _TUNABLE in os.environ.get(_VARIABLE, ''):
    return None
  try:
    chosen = _KERNEL.read_text()
  except OSError:
    return None
  # With [always] programs have them without asking.
  if '[madvise]' not in chosen:
    return None
  return (
    f'{_VARIABLE}={_TUNABLE}=1 before the command gives it huge pages of '
    'memory: steps on a CPU are about a tenth faster.'
  )


def _numbers(version: str) -> tuple[int, ...]:
  return tuple(int(part) for part in version.split('.') if part.isdigit())
