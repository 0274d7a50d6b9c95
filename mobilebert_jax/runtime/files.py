"""Paths, JSON files and the writing of files: on this machine, or on gs://.

Everything that the package writes goes through here, so that a file is there
as a whole or not at all: it is written under another name and renamed, and
after an error the other name is gone. An object store shows an object only
when all of it has arrived; there a file is made on this machine and uploaded.
"""

import contextlib
import json
import os
import pathlib
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from mobilebert_jax.runtime import object_store
from mobilebert_jax.runtime.errors import InputError

Name = str | os.PathLike[str]
# The other name: that of the target, perhaps a UUID, and this.
_PARTIAL = 'partial'
# Entries of a directory that a message shows.
_SHOWN = 5
_JSON_TYPES = {
  list: 'list',
  str: 'string',
  int: 'number',
  float: 'number',
  bool: 'boolean',
  type(None): 'null',
}
_PARTIAL_NAME = re.compile(rf'(.+?)\.(?:[0-9a-f]{{32}}\.)?{_PARTIAL}')


def path(name: Name) -> pathlib.Path:
  """The path that a name stands for.

  Args:
    name: a local name, `~` allowed, or `gs://BUCKET/...`.

  Returns:
    A `pathlib.Path`; for gs:// an `epath.Path`, which has the same methods
    (not `open` for appending, and no rights or links).

  Raises:
    InputError: another kind of address, no such bucket, no right to list it,
      or no gcsfs.
  """
  text = os.fspath(name)
  if '://' not in text:
    return pathlib.Path(text).expanduser()
  if not is_remote(text):
    raise InputError(
      f'{text}: give a local path or one that begins with gs://.'
    )
  return object_store.path(text)


def absolute(name: Name) -> pathlib.Path:
  """`path` without anything that depends on the current directory."""
  result = path(name)
  return result if is_remote(result) else result.resolve()


def make_directory(name: Name, setting: str) -> pathlib.Path:
  """Makes the directory that a setting names, unless it is there.

  Raises:
    InputError: it cannot be made.
  """
  result = absolute(name)
  try:
    result.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(
      f'{setting}={str(result)!r} cannot be made ({error.strerror}); name a '
      'directory that may be written to.'
    ) from None
  return result


def is_hidden(name: str) -> bool:
  """Returns whether a file or directory is nobody's data, by its name.

  What systems and editors put beside files: `._book.txt` and `.DS_Store` of a
  Mac, `.ipynb_checkpoints`, locks and backups of Office programs and editors.
  """
  return (
    name.startswith(('.', '~$'))
    or name.endswith('~')
    or (name.lower() in ('thumbs.db', 'desktop.ini', '__macosx'))
  )


def visible_files(directory: pathlib.Path) -> list[pathlib.Path]:
  """Returns the files directly in a directory, sorted, without hidden ones."""
  return sorted(
    item
    for item in directory.iterdir()
    if not is_hidden(item.name) and item.is_file()
  )


def shown_entries(directory: pathlib.Path) -> str:
  """Returns '; there are A, B and 7 more' of a directory, for messages."""
  if not directory.is_dir():
    return ''
  names = sorted(i.name for i in directory.iterdir() if not is_hidden(i.name))
  if not names:
    return '; it is empty'
  more = len(names) - _SHOWN
  shown = ', '.join(names[:_SHOWN]) + (f' and {more} more' if more > 0 else '')
  return f'; there {"are" if len(names) > 1 else "is"} {shown}'


def is_remote(name: Name) -> bool:
  """Returns whether a name is one of an object store."""
  return os.fspath(name).startswith(object_store.PREFIX)


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
      object_store.upload(made, target)
    return
  mark = f'{uuid.uuid4().hex}.' if unique else ''
  partial = target.with_name(f'{target.name}.{mark}{_PARTIAL}')
  try:
    yield partial
    os.replace(partial, target)
  except BaseException:
    # A read-only file system refuses even this; what was wrong is told above.
    with contextlib.suppress(OSError):
      partial.unlink(missing_ok=True)
    raise


def read_json(source: pathlib.Path, what: str) -> dict[str, Any]:
  """Reads the JSON object of a file in UTF-8, with or without a BOM.

  Args:
    source: the file.
    what: what the file should be, with its article ('a config'), for errors.

  Returns:
    The object.

  Raises:
    InputError: the file cannot be read, is not UTF-8, is not JSON (with line
      and column), or holds something else than an object.
  """
  try:
    value = json.loads(source.read_bytes().decode('utf-8-sig'))
  except OSError as error:
    raise InputError(
      f'{source} cannot be read: {error.strerror or error}; it must be {what}.'
    ) from None
  except UnicodeDecodeError as error:
    raise InputError(
      f'{source} cannot be read as JSON: byte {error.start + 1} is not UTF-8; '
      f'it must be {what}.'
    ) from None
  except json.JSONDecodeError as error:
    raise InputError(
      f'{source}:{error.lineno}: cannot be read as JSON: {error.msg} (column '
      f'{error.colno}); it must be {what}.'
    ) from None
  except RecursionError:
    raise InputError(
      f'{source} cannot be read as JSON: it is nested too deep; it must be '
      f'{what}.'
    ) from None
  if not isinstance(value, dict):
    kind = _JSON_TYPES[type(value)]
    raise InputError(
      f'{source} holds no JSON object but a {kind}; it must be {what}.'
    )
  return value


def partials(directory: pathlib.Path) -> dict[pathlib.Path, str]:
  """Half-written files, of writers that are at work or were killed.

  Returns:
    Each local one directly in the directory, with the name of its target.
  """
  if is_remote(directory):
    return {}
  result = {p: _PARTIAL_NAME.fullmatch(p.name) for p in directory.iterdir()}
  return {path: match[1] for path, match in result.items() if match}


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


def write_json(
  target: pathlib.Path, value: Any, unique: bool = False
) -> pathlib.Path:
  """Writes a JSON file whose bytes depend on the value alone."""
  text = json.dumps(value, indent=2, sort_keys=True) + '\n'
  return write_text(target, text, unique)
