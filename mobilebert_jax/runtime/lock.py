"""One run at a time in a workdir, one writer of a part of a data set.

The kernel releases a lock of `flock` when its process ends, however it ends:
so a killed run never refuses its successor. It holds among the processes of a
machine, and on NFS (Linux, version 4) among machines. On gs:// there is no
such lock, and none is kept: a lease that is renewed would refuse the successor
of a killed run until it ends, or trust clocks.
"""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from mobilebert_jax.runtime import distributed, files
from mobilebert_jax.runtime.errors import InputError

# What counts is whether a process holds it, not whether it is there.
NAME = 'run.lock'


@contextlib.contextmanager
def held(directory: pathlib.Path) -> Iterator[None]:
  """Makes a directory, and keeps other runs out of it.

  If nothing else has been written there at the end, nothing is left behind.

  Raises:
    InputError: another run is in it, or nothing can be written there.
  """
  if files.is_remote(directory):
    yield
    return
  directory = directory.absolute()
  made = [place for place in (directory, *directory.parents)
          if not place.exists()]  # fmt: skip
  # One lock for all processes of a run: the first one holds it.
  file = distributed.run_on_primary(
    lambda: _take(directory, NAME, 'run', 'workdir')
  )
  if not distributed.is_primary():
    yield
    return
  try:
    yield
  finally:
    if os.listdir(directory) == [NAME]:
      (directory / NAME).unlink()
      # Another run may have begun to use them.
      with contextlib.suppress(OSError):
        for place in made:
          place.rmdir()
    os.close(file)


@contextlib.contextmanager
def only_writer(directory: pathlib.Path, name: str) -> Iterator[None]:
  """Keeps other processes with the same lock out of a data set.

  Args:
    directory: the data set; made if it is not there.
    name: the lock's file, which is there as long as the block lasts.

  Raises:
    InputError: another process holds it, or nothing can be written there.
  """
  if files.is_remote(directory):
    yield
    return
  file = _take(directory.absolute(), name, 'process', 'output')
  try:
    yield
  finally:
    (directory / name).unlink(missing_ok=True)
    os.close(file)


def _take(directory: pathlib.Path, name: str, who: str, flag: str) -> int:
  """Returns the descriptor of the locked file."""
  path = directory / name
  while True:
    try:
      directory.mkdir(parents=True, exist_ok=True)
      file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
      raise InputError(
        f'{directory} cannot be written: {error.strerror}.'
      ) from None
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      holder = os.pread(file, 1000, 0).decode(errors='replace').strip()
      os.close(file)
      raise InputError(
        f'{directory} is in use by another {who}, '
        f'{holder or "just starting"}; wait for its end, stop it, or choose '
        f'another --{flag}.'
      ) from None
    if _is_there(file, path):
      _sign(file)
      return file
    # The run that had it has just removed it.
    os.close(file)


def _is_there(file: int, path: pathlib.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(file), os.stat(path))
  except FileNotFoundError:
    return False


def _sign(file: int):
  # On a full disk the lock is as good without saying whose it is.
  with contextlib.suppress(OSError):
    os.ftruncate(file, 0)
    text = f'process {os.getpid()} on {socket.gethostname()}\n'
    os.pwrite(file, text.encode(), 0)
