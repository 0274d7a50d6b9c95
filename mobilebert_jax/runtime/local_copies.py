"""Copies of objects of gs:// on this machine, for libraries that need files.

array_record, safetensors and the official readers take local files. So an
object is copied once for each host before it is read, into
`$MOBILEBERT_CACHE` (~/.cache/mobilebert_jax/gs without it):

  objects/KEY             one version of an object; KEY is a hash of its name
                          and its version
  files/PATH@KEY/...      links to those, with the names that readers expect;
                          here KEY is a hash of all the versions

A changed object has another key, so an old copy is never taken for it. A copy
gets its name when it is complete and has the store's checksum; one that was
stopped continues. Processes of a host share the copies: one copies, the others
wait. Nothing here is needed for good: what no run reads may be deleted.
"""

import base64
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from mobilebert_jax.runtime import files, object_store
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.object_store import Object
from mobilebert_jax.runtime.progress import Work

VARIABLE = 'MOBILEBERT_CACHE'
_DEFAULT = '~/.cache/mobilebert_jax/gs'
# Objects copied at once, and bytes asked for at once.
_THREADS = 8
_BLOCK = 16 << 20
# Processes that copy different objects seldom share one of so many locks.
_LOCKS = 256


def file(path: pathlib.Path) -> pathlib.Path:
  """A local file with the content of `path`: itself unless it is on gs://.

  Raises:
    InputError: no such object, it cannot be copied, or it changed meanwhile.
  """
  if not files.is_remote(path):
    return path
  result = object_store.get(path)
  if result is None:
    raise InputError(f'{path}: there is no such object.')
  parent = pathlib.PurePosixPath(result.name).parent
  return _copied(path, [result], parent) / path.name


def directory(
  path: pathlib.Path,
  keep: Callable[[str], bool] | None = None,
  below: str | None = None,
) -> pathlib.Path:
  """A local directory with the files of `path`: itself unless it is on gs://.

  Args:
    path: the directory.
    keep: which of the files directly in it are wanted, by their names; None:
      all, with those in directories below.
    below: a directory in it that alone is wanted.

  Raises:
    InputError: there are no such objects, they cannot be copied, or they
      changed meanwhile.
  """
  if not files.is_remote(path):
    return path
  place = path / below if below else path
  result = object_store.find(place, recursive=keep is None)
  prefix = f'{object_store.name(place)}/'
  result = [
    o
    for o in result
    if o.name.startswith(prefix)
    and (keep is None or keep(o.name.removeprefix(prefix)))
  ]
  if not result:
    raise InputError(f'{place}: there are no such objects.')
  return _copied(path, result, pathlib.PurePosixPath(object_store.name(path)))


def _copied(
  path: pathlib.Path, result: Sequence[Object], base: pathlib.PurePosixPath
) -> pathlib.Path:
  """The directory with links to copies, named as relative to `base`."""
  root = pathlib.Path(os.environ.get(VARIABLE, _DEFAULT)).expanduser()
  key = hashlib.sha256(repr(list(result)).encode()).hexdigest()[:16]
  target = root / 'files' / f'{object_store.name(path)}@{key}'
  if target.is_dir():
    return target
  names = [pathlib.PurePosixPath(o.name).relative_to(base) for o in result]
  if any('..' in name.parts for name in names):
    raise InputError(f"{path}: a name with '..' in it cannot be a file's.")
  try:
    copies = _copy_all(path, root, result)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f'{target.name}.{uuid.uuid4().hex}.partial')
    try:
      for name, copy in zip(names, copies, strict=True):
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(copy, partial / name)
      # Another process may have been as quick.
      if not target.is_dir():
        partial.rename(target)
    finally:
      shutil.rmtree(partial, ignore_errors=True)
  except OSError as error:
    if target.is_dir():
      return target
    raise InputError(
      f'{path} cannot be copied to {root} ({error.strerror or error}); set '
      f'{VARIABLE} to a directory with enough room.'
    ) from None
  return target


def _copy_all(
  path: pathlib.Path, root: pathlib.Path, result: Sequence[Object]
) -> list[pathlib.Path]:
  """Copies what is not there yet; returns the copies."""
  (root / 'objects').mkdir(parents=True, exist_ok=True)
  copies = [root / 'objects' / _key(o) for o in result]
  missing = sum(
    o.size - _copied_so_far(copy)
    for o, copy in zip(result, copies)
    if not copy.exists()
  )
  free = shutil.disk_usage(root).free
  if missing > free:
    raise InputError(
      f'{path}: {missing:,} bytes are to be copied to {root}, which has room '
      f'for {free:,}; set {VARIABLE} to a larger disk.'
    )
  done, lock = 0, threading.Lock()

  def arrived(count: int):
    nonlocal done
    with lock:
      done += count
      work.is_at(done >> 20, missing >> 20)

  with Work(f'copying {path}', 'MiB') as work:
    pool = ThreadPoolExecutor(_THREADS)
    try:
      jobs = [
        pool.submit(_copy, o, copy, arrived) for o, copy in zip(result, copies)
      ]
      for job in jobs:
        job.result()
    finally:
      pool.shutdown(cancel_futures=True)
  return copies


def _key(wanted: Object) -> str:
  return hashlib.sha256(repr(wanted).encode()).hexdigest()


def _partial(copy: pathlib.Path) -> pathlib.Path:
  return copy.with_name(f'{copy.name}.partial')


def _copied_so_far(copy: pathlib.Path) -> int:
  partial = _partial(copy)
  return partial.stat().st_size if partial.exists() else 0


def _copy(wanted: Object, copy: pathlib.Path, arrived: Callable[[int], None]):
  """Copies one object, or what is left of it."""
  with _locked(copy):
    if copy.exists():
      return
    partial = _partial(copy)
    with partial.open('ab') as target:
      start = target.tell()
      while start < wanted.size:
        stop = min(start + _BLOCK, wanted.size)
        target.write(object_store.read(wanted.name, start, stop))
        arrived(stop - start)
        start = stop
    if _is_whole(wanted, partial):
      os.replace(partial, copy)
      return
    partial.unlink()
  raise InputError(
    f'{object_store.PREFIX}{wanted.name} has changed while it was copied; '
    'start again.'
  )


@contextlib.contextmanager
def _locked(copy: pathlib.Path) -> Iterator[None]:
  """Keeps other processes from the same copy; a kill ends the lock."""
  locks = copy.parent.parent / 'locks'
  locks.mkdir(exist_ok=True)
  number = int(copy.name, 16) % _LOCKS
  with (locks / str(number)).open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield


def _is_whole(wanted: Object, copy: pathlib.Path) -> bool:
  if copy.stat().st_size != wanted.size:
    return False
  if wanted.md5 is None:
    # Of composed objects the store knows none; the version must do.
    place = files.path(object_store.PREFIX + wanted.name)
    return object_store.get(place) == wanted
  with copy.open('rb') as content:
    digest = hashlib.file_digest(content, 'md5').digest()
  return base64.b64encode(digest).decode() == wanted.md5
