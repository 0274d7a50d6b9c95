"""Paths and the writing of files: on this machine, or on gs://.

Everything that the package writes goes through here, so that a file is there
as a whole or not at all: it is written under another name and renamed, and
after an error the other name is gone. An object store shows an object only
when all of it has arrived; there a file is made on this machine and uploaded.
"""

import contextlib
import json
import os
import pathlib
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, cast

from mobilebert_jax.errors import InputError

Name = str | os.PathLike[str]
_REMOTE = 'gs://'


def path(name: Name) -> pathlib.Path:
  """The path that a name stands for.

  Args:
    name: a local name, `~` allowed, or `gs://BUCKET/...`.

  Returns:
    A `pathlib.Path`; for gs:// an `epath.Path`, which has the same methods
    (not `open` for appending, and no rights or links).

  Raises:
    InputError: gs:// without gcsfs, or another kind of address.
  """
  text = os.fspath(name)
  if '://' not in text:
    return pathlib.Path(text).expanduser()
  if not is_remote(text):
    raise InputError(f'{text}: give a local path or one that begins with gs://')
  return _remote_path(text)


def is_remote(name: Name) -> bool:
  """Whether a name is one of an object store."""
  return os.fspath(name).startswith(_REMOTE)


@contextlib.contextmanager
def replacing(
  target: pathlib.Path, unique: bool = False
) -> Iterator[pathlib.Path]:
  """A local file to write; it becomes `target` when the block ends.

  After an exception, `target` is as it was and the local file is gone.

  Args:
    target: the final name; its directory exists.
    unique: several processes may be writing `target` at this moment.

  Yields:
    The path to write to; there is no file yet.
  """
  if is_remote(target):
    with tempfile.TemporaryDirectory() as folder:
      made = pathlib.Path(folder) / target.name
      yield made
      upload(made, target)
    return
  mark = f'{uuid.uuid4().hex}.' if unique else ''
  partial = target.with_name(f'{target.name}.{mark}partial')
  try:
    yield partial
    os.replace(partial, target)
  except BaseException:
    # A read-only file system refuses even this; what was wrong is told above.
    with contextlib.suppress(OSError):
      partial.unlink(missing_ok=True)
    raise


def write_text(
  target: pathlib.Path, text: str, unique: bool = False
) -> pathlib.Path:
  r"""Writes UTF-8 whose line ends are '\n' on every system.

  Args:
    target: the file; its directory exists.
    text: what it will hold.
    unique: see `replacing`.

  Returns:
    `target`.
  """
  with replacing(target, unique) as partial:
    partial.write_text(text, encoding='utf-8', newline='\n')
  return target


def write_lines(target: pathlib.Path, lines: Iterable[str]) -> pathlib.Path:
  """Writes lines, given without their ends, as `write_text` does."""
  with (
    replacing(target) as partial,
    partial.open('w', encoding='utf-8', newline='\n') as file,
  ):
    file.writelines(f'{line}\n' for line in lines)
  return target


def write_json(target: pathlib.Path, value: Any) -> pathlib.Path:
  """Writes a JSON file whose bytes depend on the value alone."""
  text = json.dumps(value, indent=2, sort_keys=True) + '\n'
  return write_text(target, text)


def upload(source: pathlib.Path, target: pathlib.Path):
  """Copies a local file to an object, which appears when it is complete."""
  _store().put_file(str(source), os.fspath(target))


def _remote_path(text: str) -> pathlib.Path:
  # With TensorFlow installed, etils would load all of it to reach gs://.
  os.environ.setdefault('EPATH_USE_TF', 'false')
  from etils import epath

  try:
    _store()
  except ImportError:
    raise InputError(
      f'{text} needs gcsfs; install it: pip install "mobilebert_jax[tpu]"'
    ) from None
  return cast(pathlib.Path, epath.Path(text))


def _store() -> Any:
  """The object store's file system, which epath shares."""
  import fsspec

  # What other processes and hosts write must be seen.
  fsspec.config.conf.setdefault('gs', {'use_listings_cache': False})
  return fsspec.filesystem('gs', finalize_on_close=True)
