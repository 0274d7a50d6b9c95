"""Parquet files; the one module that knows pyarrow."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from mobilebert_jax.runtime import local_copies, requirements
from mobilebert_jax.runtime.errors import InputError

# Rows that are turned into Python's values at once.
_ROWS = 1024


def column_names(path: pathlib.Path) -> tuple[str, ...]:
  """Returns the names of a Parquet file's columns.

  Args:
    path: The file, also on gs://.

  Raises:
    InputError: As `read_rows`.
  """
  with _opened(path) as file:
    return tuple(file.schema_arrow.names)


def read_rows(
  path: pathlib.Path, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Reads columns of a Parquet file.

  Args:
    path: The file, also on gs://.
    columns: The columns.

  Yields:
    Each row's number, from 0, and its values as JSON would have them.

  Raises:
    InputError: pyarrow is not installed; the file cannot be read or is
      damaged, or has no such column.
  """
  with _opened(path) as file:
    names = file.schema_arrow.names
    for name in columns:
      if name not in names:
        raise InputError(
          f'{path}: there is no column {name!r}; its columns are '
          f'{", ".join(map(repr, names))}.'
        )
    number = 0
    wanted = list(dict.fromkeys(columns))
    for batch in file.iter_batches(_ROWS, columns=wanted):
      for row in batch.to_pylist():
        yield number, row
        number += 1


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
  """Opens a file; translates what goes wrong with it."""
  pyarrow = requirements.load('pyarrow', 'parquet')
  parquet = requirements.load('pyarrow.parquet', 'parquet')
  try:
    yield parquet.ParquetFile(str(local_copies.file(path)))
  except OSError as error:
    what = error.strerror or ' '.join(str(error).split())
    raise InputError(f'{path}: cannot be read ({what}).') from None
  except (pyarrow.ArrowException, UnicodeDecodeError) as error:
    what = ' '.join(str(error).split())
    raise InputError(f'{path}: the Parquet file is damaged ({what}).') from None
