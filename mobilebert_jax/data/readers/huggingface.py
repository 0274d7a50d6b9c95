"""Data sets of the hub, or of a directory; the one module that knows datasets.

The library loads what it finds (Parquet, CSV, JSON Lines, a directory that
`save_to_disk` made) and keeps it in its own cache. Numbers of classes become
their names.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mobilebert_jax.data.readers.tables import TableRow
from mobilebert_jax.runtime import requirements
from mobilebert_jax.runtime.errors import InputError

_EXTRA = 'huggingface'


def load(name: str, subset: str | None = None) -> Mapping[str, Any]:
  """Loads a data set.

  Args:
    name: Its name on the hub, or a local directory.
    subset: Which of its configurations is meant; None: the only one.

  Returns:
    Its splits by their names, for `read_rows`.

  Raises:
    InputError: The library is not installed, there is no such data set, or it
      cannot be loaded.
  """
  datasets = requirements.load('datasets', _EXTRA)
  path = os.path.expanduser(name)
  datasets.utils.logging.set_verbosity_error()
  datasets.disable_progress_bars()
  try:
    if os.path.isfile(os.path.join(path, 'dataset_dict.json')):
      return dict(datasets.load_from_disk(path))
    if os.path.isfile(os.path.join(path, 'state.json')):
      return {'train': datasets.load_from_disk(path)}
    return dict(datasets.load_dataset(path, subset))
  except Exception as error:
    # The library raises whatever its readers and the hub raise.
    what = ' '.join(str(error).split()) or type(error).__name__
    kind = 'config.data.subset' if subset else 'config.data.path'
    raise InputError(
      f'config.data.path={name!r}: the datasets library cannot load it '
      f'({what[:300].rstrip(".")}); give a data set of the hub, or a directory '
      f'of files that it reads, and check {kind}.'
    ) from None


def read_rows(
  split: Any, place: str, columns: Sequence[str]
) -> Iterator[TableRow]:
  """Reads columns of a split.

  Args:
    split: One that `load` returned.
    place: What messages call it.
    columns: The columns.

  Raises:
    InputError: There is no such column, or no row.
  """
  names = split.column_names
  for name in columns:
    if name not in names:
      raise InputError(
        f'{place}: there is no column {name!r}; its columns are '
        f'{", ".join(map(repr, names))}.'
      )
  wanted = list(dict.fromkeys(columns))
  named = {name: _names(split.features[name]) for name in wanted}
  index = -1
  for index, row in enumerate(split.select_columns(wanted)):
    cells = {name: named[name](row[name]) for name in wanted}
    yield TableRow(f'{place}: row {index}', cells, index)
  if index < 0:
    raise InputError(f'{place}: there is no row.')


def _names(feature: Any) -> Callable[[Any], Any]:
  """Returns a function that turns numbers of classes into names."""
  if hasattr(feature, 'int2str'):
    # -1 is what the library has for no label.
    return lambda value: (
      None if value is None or value < 0 else feature.int2str(value)
    )
  inner = getattr(feature, 'feature', None)
  if inner is None and isinstance(feature, list) and len(feature) == 1:
    inner = feature[0]
  if inner is not None and hasattr(inner, 'int2str'):
    name = _names(inner)
    return lambda values: [name(value) for value in values or ()]
  return lambda value: value
