"""Where a data set's official files are."""

import pathlib
from collections.abc import Sequence

from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError


def find_file(
  path: str | pathlib.Path, folder: str, names: Sequence[str]
) -> pathlib.Path:
  """The first file there is, in `path` itself or in its `folder`.

  Args:
    path: What `data.path` says.
    folder: The name of the data set's directory.
    names: What the file may be called.

  Raises:
    InputError: No such file is in either; the message names all.
  """
  root = files.path(path)
  for directory in (root, root / folder):
    for name in names:
      if (directory / name).is_file():
        return directory / name
  raise InputError(
    f'config.data.path={str(path)!r}: expected the file {" or ".join(names)} '
    'there or '
    f'in {str(root / folder)!r}'
  )
