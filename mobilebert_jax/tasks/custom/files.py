"""The user's own files: which one is which split, and the held-out part."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import FileOptions
from mobilebert_jax.data.random_streams import hash_rank
from mobilebert_jax.data.readers import tables
from mobilebert_jax.data.readers.tables import TableRow
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.task import Splits, custom_path

# What a split's file may be called, in a directory.
_STEMS = {
  'train': ('train',),
  'validation': ('validation', 'valid', 'dev'),
  'test': ('test',),
}


@dataclasses.dataclass(frozen=True)
class CustomFiles:
  """The files of the splits.

  Attributes:
    paths: Split -> file; without 'validation' a part of 'train' is held out.
    fraction: How much of it.
  """

  paths: dict[str, pathlib.Path]
  fraction: float

  @property
  def splits(self) -> Splits:
    """The splits that these files give."""
    return Splits(test=('test',) if 'test' in self.paths else ())

  def load(
    self,
    read: Callable[[pathlib.Path, bool], Sequence[Any]],
    data: DataConfig,
    split: str,
  ) -> tuple[Any, ...]:
    """Loads the examples of a split, in the order of the file.

    Args:
      read: `read(path, labelled)` gives the examples of a file.
      data: The limits.
      split: The split's name.

    Raises:
      InputError: `read` finds a mistake, or too few rows to hold some out.
    """
    is_train = split == 'train'
    if split in self.paths and 'validation' in self.paths:
      examples = read(self.paths[split], split != 'test')
    elif split == 'test':
      examples = read(self.paths[split], False)
    else:
      train, held = self._divided(read(self.paths['train'], True))
      examples = train if is_train else held
    return tuple(examples[: data.limit(is_train=is_train)])

  def _divided(self, examples: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    count = round(self.fraction * len(examples))
    if not 0 < count < len(examples):
      raise InputError(
        f'{self.paths["train"]}: {len(examples)} rows are too few to hold out '
        f'config.options.validation_fraction={self.fraction}; give more rows, '
        'another '
        'fraction or a validation file.'
      )
    held = set(
      sorted(range(len(examples)), key=lambda i: hash_rank(str(i)))[:count]
    )
    return (
      [e for i, e in enumerate(examples) if i not in held],
      [e for i, e in enumerate(examples) if i in held],
    )


def find(
  options: FileOptions,
  data: DataConfig,
  suffixes: Sequence[str] = tables.SUFFIXES,
) -> CustomFiles:
  """Finds the files that the options and `data.path` name.

  Args:
    options: The user's choices.
    data: `source` must be 'files'.
    suffixes: How the files that a directory is searched for end.

  Raises:
    InputError: A named file is absent, there is no training file, or a split
      has several.
  """
  root = custom_path(data, 'data')
  paths = {}
  for split, stems in _STEMS.items():
    named = getattr(options, f'{split}_file')
    if named is not None:
      path = (root.parent if root.is_file() else root) / named
      if not path.is_file():
        raise InputError(
          f'options.{split}_file={named!r}: there is no file {path}.'
        )
      paths[split] = path
    elif root.is_dir():
      match = _search(root, stems, suffixes)
      if match:
        paths[split] = match
  if root.is_file():
    paths.setdefault('train', root)
  if 'train' not in paths:
    raise InputError(
      f'config.data.path={data.path!r}: expected a directory with a file '
      'train.* '
      f'(* is one of {", ".join(suffixes)}), or the training file itself.'
    )
  return CustomFiles(paths, options.validation_fraction)


def read_rows(
  path: pathlib.Path, columns: Sequence[str], id_column: str | None
) -> Iterator[tuple[str, TableRow]]:
  """Reads the named columns of every row, and the row's id.

  Args:
    path: See `tables.read_table`.
    columns: Names of the columns.
    id_column: A further column, with the rows' ids; None: a row is called by
      its number, from 0.

  Yields:
    Each row's id, and the row.

  Raises:
    InputError: As `read_table`; or, behind the last row, two rows have the
      same id.
  """
  given = [] if id_column is None else [id_column]
  ids = []
  for number, row in enumerate(tables.read_table(path, [*columns, *given])):
    id_ = str(number) if id_column is None else row.name(id_column)
    ids.append((row.place, id_))
    yield id_, row
  _check_ids(ids)


def _check_ids(ids: Sequence[tuple[str, str]]):
  seen: dict[str, str] = {}
  for place, id_ in ids:
    if id_ in seen:
      raise InputError(
        f'{place}: the id {id_!r} is that of {seen[id_]} as well; give every '
        'row an id of its own.'
      )
    seen[id_] = place


def _search(
  root: pathlib.Path, stems: Sequence[str], suffixes: Sequence[str]
) -> pathlib.Path | None:
  candidates = [
    root / (stem + suffix)
    for stem in stems
    for suffix in suffixes
    if (root / (stem + suffix)).is_file()
  ]
  if len(candidates) > 1:
    names = ', '.join(path.name for path in candidates)
    raise InputError(
      f'{root}: {names} could all be the {stems[0]} file; keep one, or name it '
      f'with options.{stems[0]}_file.'
    )
  return candidates[0] if candidates else None
