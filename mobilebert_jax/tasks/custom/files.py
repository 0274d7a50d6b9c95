"""The user's own data: which file is which split, and the held-out part.

A split is a file, or a part of a data set that the datasets library loads;
`Source` is what both have in common.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import FileOptions
from mobilebert_jax.data.random_streams import hash_rank
from mobilebert_jax.data.readers import (
  bad_rows,
  huggingface,
  table_formats,
  tables,
)
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.data.readers.table_formats import TableFormat
from mobilebert_jax.data.readers.tables import TableRow
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.task import Splits, custom_path

# What a split may be called: its file's stem, or its name on the hub.
_STEMS = {
  'train': ('train',),
  'validation': ('validation', 'valid', 'dev'),
  'test': ('test',),
}


@dataclasses.dataclass(frozen=True)
class Source:
  """Where the rows of a split are, and how to read them.

  Attributes:
    path: The file; for a split of the hub its name, for messages.
    has_labels: Whether rows must have labels.
    format: How a file of cells is written, as far as it is not to be found.
    policy: What becomes of wrong rows.
    split: A split that the datasets library has loaded; None: it is a file.
  """

  path: pathlib.Path
  has_labels: bool
  format: TableFormat = table_formats.AUTO
  policy: bad_rows.Policy = 'error'
  split: Any = None

  def ends_with(self, *suffixes: str) -> bool:
    """Returns whether it is a file of one of these kinds, by its name."""
    return self.split is None and tables.plain_name(
      self.path.name.lower()
    ).endswith(suffixes)

  def table(
    self, columns: Sequence[str], bad: BadRows | None = None
  ) -> Iterator[TableRow]:
    """Reads the named columns of every row.

    Raises:
      InputError: See `tables.read_table`.
    """
    if self.split is not None:
      return huggingface.read_rows(self.split, str(self.path), columns)
    return tables.read_table(self.path, columns, self.format, bad)

  def rows(
    self,
    columns: Sequence[str],
    id_column: str | None,
    bad: BadRows | None = None,
  ) -> Iterator[tuple[str, TableRow]]:
    """Reads the named columns of every row, and the row's id.

    Args:
      columns: Names of the columns.
      id_column: A further column, with the rows' ids; None: a row is called by
        its number, from 0.
      bad: Counts wrong rows; None: they are refused.

    Raises:
      InputError: As `table`; or two rows have the same id.
    """
    given = [] if id_column is None else [id_column]
    seen: dict[str, str] = {}
    for row in self.table([*columns, *given], bad):
      if id_column is None:
        yield str(row.index), row
        continue
      try:
        id_ = row.name(id_column)
        if id_ in seen:
          raise InputError(
            f'{row.place}: the id {id_!r} is that of {seen[id_]} as well; give '
            'every row an id of its own.'
          )
      except InputError as error:
        bad_rows.refuse(error, bad)
        continue
      seen[id_] = row.place
      yield id_, row


@dataclasses.dataclass(frozen=True)
class CustomFiles:
  """The sources of the splits.

  Attributes:
    sources: By split; without 'validation' a part of 'train' is held out.
    fraction: How much of it.
  """

  sources: dict[str, Source]
  fraction: float

  @property
  def train(self) -> Source:
    """Where the training rows are."""
    return self.sources['train']

  @property
  def splits(self) -> Splits:
    """The splits that these files give."""
    return Splits(test=('test',) if 'test' in self.sources else ())

  def load(
    self,
    read: Callable[[Source], Sequence[Any]],
    data: DataConfig,
    split: str,
  ) -> tuple[Any, ...]:
    """Loads the examples of a split, in the order of the file.

    Args:
      read: Gives the examples of a source.
      data: The limits.
      split: The split's name.

    Raises:
      InputError: `read` finds a mistake, or too few rows to hold some out.
    """
    is_train = split == 'train'
    if split == 'test' or (
      split in self.sources and 'validation' in self.sources
    ):
      examples = self._read(read, self.sources[split])
    else:
      train, held = self._divided(self._read(read, self.train))
      examples = train if is_train else held
    return tuple(examples[: data.limit(is_train=is_train)])

  def _read(
    self, read: Callable[[Source], Sequence[Any]], source: Source
  ) -> Sequence[Any]:
    examples = read(source)
    if not examples:
      raise InputError(f'{source.path}: no row is left to use.')
    return examples

  def _divided(self, examples: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    count = round(self.fraction * len(examples))
    if not 0 < count < len(examples):
      raise InputError(
        f'{self.train.path}: {len(examples)} rows are too few to hold out '
        f'config.options.validation_fraction={self.fraction}; give more rows, '
        'another fraction or a validation file.'
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
  """Finds the splits that the options and `data.path` name.

  Args:
    options: The user's choices.
    data: `source` must be 'files' or 'huggingface'.
    suffixes: How the files that a directory is searched for end.

  Raises:
    InputError: A named file is absent, there is no training file, or a split
      has several.
  """
  given = TableFormat(
    options.delimiter, options.quotes, options.header, options.comment
  )
  table_formats.check(given)
  sources = {}
  if data.source == 'huggingface':
    loaded = huggingface.load(str(data.path), data.subset)
    for split, stems in _STEMS.items():
      named = getattr(options, f'{split}_file')
      for stem in (named,) if named else stems:
        if stem in loaded:
          sources[split] = Source(
            pathlib.Path(f'{data.path}, split {stem}'),
            split != 'test',
            policy=data.bad_rows,
            split=loaded[stem],
          )
          break
    if 'train' not in sources:
      raise InputError(
        f'config.data.path={data.path!r}: there is no split train; there are '
        f'{", ".join(loaded)} (name one with config.options.train_file).'
      )
    _check_used(given, [])
    return CustomFiles(sources, options.validation_fraction)
  paths = _paths(options, data, suffixes)
  if given != table_formats.AUTO:
    _check_used(given, [tables.content(path) for path in paths.values()])
  for split, path in paths.items():
    sources[split] = Source(path, split != 'test', given, data.bad_rows)
  return CustomFiles(sources, options.validation_fraction)


def _check_used(given: TableFormat, contents: Sequence[str]):
  """Refuses settings of files of cells where there is none."""
  for field in dataclasses.fields(given):
    value = getattr(given, field.name)
    if value != field.default and 'cells' not in contents:
      raise InputError(
        f'config.options.{field.name} is {value!r}, but there is no file of '
        'cells (*.csv, *.tsv, other text) that it could be of; leave it out.'
      )


def _paths(
  options: FileOptions, data: DataConfig, suffixes: Sequence[str]
) -> dict[str, pathlib.Path]:
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
      f'train.* (* is one of {", ".join(_plain(suffixes))}, perhaps '
      f'compressed), or the training file itself{files.shown_entries(root)}.'
    )
  return paths


def _search(
  root: pathlib.Path, stems: Sequence[str], suffixes: Sequence[str]
) -> pathlib.Path | None:
  wanted = {stem + suffix for stem in stems for suffix in suffixes}
  candidates = [
    path for path in files.visible_files(root) if path.name.lower() in wanted
  ]
  if len(candidates) > 1:
    names = ', '.join(path.name for path in candidates)
    raise InputError(
      f'{root}: {names} could all be the {stems[0]} file; keep one, or name it '
      f'with options.{stems[0]}_file.'
    )
  return candidates[0] if candidates else None


def _plain(suffixes: Sequence[str]) -> list[str]:
  """Returns the suffixes without those of compressed files."""
  return [suffix for suffix in suffixes if suffix.count('.') == 1]
