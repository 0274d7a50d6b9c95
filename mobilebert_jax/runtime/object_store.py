"""Google Cloud Storage (gs://): paths and objects; the one user of gcsfs.

epath, which Orbax uses too, gives paths with pathlib's methods; it reaches the
store through fsspec and gcsfs. An object is written as a whole or not at all,
and every version of it has a number of its own, its generation. See
docs/guides/gcs.md.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any, cast

from mobilebert_jax.runtime.errors import InputError

PREFIX = 'gs://'


@dataclasses.dataclass(frozen=True)
class Object:
  """One version of an object.

  Attributes:
    name: 'BUCKET/...'.
    size: in bytes.
    version: changes whenever the object does.
    md5: of its content, in base64; None where the store does not know it.
  """

  name: str
  size: int
  version: str
  md5: str | None


def path(text: str) -> pathlib.Path:
  """The path of gs://BUCKET/..., with pathlib's methods.

  Raises:
    InputError: no gcsfs, no such bucket, or no right to list it.
  """
  # With TensorFlow installed, epath would load all of it to reach the store.
  os.environ.setdefault('EPATH_USE_TF', 'false')
  from etils import epath

  bucket = text.removeprefix(PREFIX).partition('/')[0]
  if not bucket:
    raise InputError(f'{text!r} names no bucket; write gs://BUCKET/...')
  try:
    _check(bucket)
  except ImportError:
    raise InputError(
      f'{text} needs gcsfs; pip install "mobilebert_jax[tpu]" installs it.'
    ) from None
  return cast(pathlib.Path, epath.Path(text))


def name(place: pathlib.Path) -> str:
  """'BUCKET/...' of a path on gs://."""
  return os.fspath(place).removeprefix(PREFIX).rstrip('/')


def get(place: pathlib.Path) -> Object | None:
  """The object of that name, if there is one."""
  try:
    info = _store().info(os.fspath(place))
  except FileNotFoundError:
    return None
  return _object(info) if info['type'] == 'file' else None


def find(place: pathlib.Path, *, recursive: bool = True) -> list[Object]:
  """All objects below that name, in the order of their names.

  Args:
    place: a path on gs://.
    recursive: also those in directories below.
  """
  depth = None if recursive else 1
  try:
    result = _store().find(os.fspath(place), detail=True, maxdepth=depth)
  except FileNotFoundError:
    return []
  return [
    _object(info)
    for name, info in sorted(result.items())
    # Consoles make empty objects to show empty directories.
    if not name.endswith('/') and info['type'] == 'file'
  ]


def _object(info: Mapping[str, Any]) -> Object:
  return Object(
    info['name'],
    int(info['size']),
    str(info.get('generation') or info.get('etag') or info.get('mtime')),
    info.get('md5Hash'),
  )


def read(name: str, start: int, stop: int) -> bytes:
  """Bytes of the object 'BUCKET/...'.

  Raises:
    InputError: it is not there any more.
  """
  try:
    return _store().cat_file(name, start=start, end=stop)
  except FileNotFoundError:
    raise InputError(f'{PREFIX}{name} has been removed.') from None


def upload(source: pathlib.Path, target: pathlib.Path):
  """Copies a local file to an object, which appears when it is complete."""
  # gcsfs then compares the size of what has arrived.
  _store().put_file(str(source), os.fspath(target), consistency='size')


@functools.cache
def _check(bucket: str):
  """Tells at once what would otherwise come up in the midst of a run."""
  try:
    _store().call('GET', f'b/{bucket}/o', maxResults=1, json_out=True)
  except ImportError:
    raise
  except FileNotFoundError:
    raise InputError(f'there is no bucket {PREFIX}{bucket}.') from None
  # Rights, credentials and the network: gcsfs has no common class for them.
  except Exception as error:
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise InputError(
      f'{PREFIX}{bucket} cannot be listed ({reason}); check the name, the '
      'network and the credentials; docs/guides/gcs.md says which.'
    ) from None


def _store() -> Any:
  """The file system that epath uses, too."""
  import fsspec

  # What other processes and hosts write must be seen.
  fsspec.config.conf.setdefault('gs', {'use_listings_cache': False})
  return fsspec.filesystem('gs', finalize_on_close=True)
