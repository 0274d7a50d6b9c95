"""Reading GLUE's tasks, from TFDS or from the official tab-separated files."""

import dataclasses
import math
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.readers import tfds, tsv
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.classification import TextExample
from mobilebert_jax.tasks.task import SPLITS, Splits

FILES: Mapping[str, str] = {
  'train': 'train.tsv',
  'validation': 'dev.tsv',
  'test': 'test.tsv',
}


@dataclasses.dataclass(frozen=True)
class GlueTable:
  """Where one GLUE task keeps its texts and labels.

  Attributes:
    tfds_name: The data set's name in TFDS.
    tfds_columns: TFDS's features with the one or two texts.
    folder: The official directory's name.
    columns: The official columns with the texts.
    label_column: The official column with the label.
    labels: The labels as the files spell them, in the order of the classes;
      () for numbers from `low` to `high`.
    files: The official file of each split.
    id_column: The official column with the id in the files without labels.
      Elsewhere an example's id is its row's number, as in TFDS.
    header: The columns of the files with labels, if those have no header line.
    no_label: A word in the label column that means: not agreed on; such rows
      are left out, as the benchmark does.
    may_be_broken: Whether the official files with labels have rows that are
      cut off or have an empty label. TFDS and transformers' GLUE reader leave
      them out, and so does this one, with a warning.
    splits: The task's splits; those in `splits.test` have no labels.
    tfds_splits: The names of splits that TFDS calls otherwise.
    low: The smallest number.
    high: The largest number.
  """

  tfds_name: str
  tfds_columns: tuple[str, ...]
  folder: str
  columns: tuple[str, ...]
  label_column: str
  labels: tuple[str, ...]
  files: Mapping[str, str] = dataclasses.field(default_factory=lambda: FILES)
  id_column: str = 'index'
  header: tuple[str, ...] | None = None
  no_label: str | None = None
  may_be_broken: bool = False
  splits: Splits = SPLITS
  tfds_splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
  low: float = 0.0
  high: float = 5.0

  def load(self, data: DataConfig, split: str) -> tuple[TextExample, ...]:
    """`Task.load`: the examples in the order of the official files.

    Raises:
      InputError: The data is not there or has a wrong row.
    """
    readers: dict[str, Callable[[str | None, str], list[TextExample]]] = {
      'tfds': self._from_tfds,
      'files': self._from_files,
    }
    if data.source not in readers:
      raise InputError(
        f'config.data.source={data.source!r} does not fit {self.tfds_name}; '
        'use '
        '"tfds" or "files"'
      )
    examples = readers[data.source](data.path, split)
    is_train = split == self.splits.train
    return tuple(examples[: data.limit(is_train=is_train)])

  def _from_tfds(self, path: str | None, split: str) -> list[TextExample]:
    columns = (*self.tfds_columns, 'label', 'idx')
    name = self.tfds_splits.get(split, split)
    rows = tfds.read_split(self.tfds_name, name, columns, path)
    has_labels = split not in self.splits.test
    # TFDS stores rows in an order of its own; idx is the official one.
    return [
      _example(
        str(row['idx']),
        [row[column] for column in self.tfds_columns],
        self._stored_label(row['label']) if has_labels else None,
      )
      for row in sorted(rows, key=lambda row: row['idx'])
    ]

  def _stored_label(self, value: int | float) -> int | float:
    # TFDS keeps numbers in float32; the official ones have three decimals.
    return value if self.labels else round(value, 3)

  def _from_files(self, path: str | None, split: str) -> list[TextExample]:
    if path is None:
      raise InputError(
        'config.data.source=files needs config.data.path: the directory '
        f'{self.folder} with '
        f'{", ".join(self.files.values())}'
      )
    file = self._find(path, split)
    if split in self.splits.test:
      return list(self._unlabelled(file))
    return self._labelled(file)

  def _find(self, path: str, split: str) -> pathlib.Path:
    name = self.files[split]
    try:
      return tsv.find_folder(path, self.folder, (name,)) / name
    except InputError as error:
      if split not in self.splits.test:
        raise
      raise InputError(
        f'{error}; without it set config.options.predict_test=False'
      ) from None

  def _unlabelled(self, path: pathlib.Path) -> Iterator[TextExample]:
    lines: dict[str, int] = {}
    wanted = (self.id_column, *self.columns)
    for line, row in tsv.read_rows(path, wanted):
      id_ = row[self.id_column]
      if not id_ or id_ in lines:
        problem = 'is empty' if not id_ else f'is that of line {lines[id_]} too'
        raise InputError(
          f'{path}:{line}: column {self.id_column!r} is {id_!r}, which '
          f'{problem}; expected an id of its own for each row'
        )
      lines[id_] = line
      yield _example(id_, self._texts(row, f'{path}:{line}'), None)

  def _labelled(self, path: pathlib.Path) -> list[TextExample]:
    wanted = (*self.columns, self.label_column)
    broken: list[int] | None = [] if self.may_be_broken else None
    first = 1 if self.header else 2
    examples = []
    for line, row in tsv.read_rows(path, wanted, self.header, broken):
      word = row[self.label_column]
      if word == self.no_label:
        continue
      if broken is not None and not word:
        broken.append(line)
        continue
      label = self._label(word, f'{path}:{line}')
      texts = self._texts(row, f'{path}:{line}')
      examples.append(_example(str(line - first), texts, label))
    if broken:
      warnings.warn(
        f'{path}: {len(broken)} rows that are cut off or have no label are '
        f'left out; the first is line {broken[0]}',
        stacklevel=2,
      )
    return examples

  def _texts(self, row: Mapping[str, str], place: str) -> list[str]:
    texts = [row[name] for name in self.columns]
    # MNLI has pairs with one empty sentence, and wants an answer for them.
    if not any(text.strip() for text in texts):
      raise InputError(
        f'{place}: column {" and ".join(map(repr, self.columns))} is '
        'empty; expected a text'
      )
    return texts

  def _label(self, word: str, place: str) -> int | float:
    if not self.labels:
      return self._number(word, place)
    if word not in self.labels:
      raise InputError(
        f'{place}: column {self.label_column!r} is {word!r}; expected one of '
        f'{", ".join(map(repr, self.labels))}'
      )
    return self.labels.index(word)

  def _number(self, word: str, place: str) -> float:
    try:
      value = float(word)
    except ValueError:
      value = math.nan
    if not self.low <= value <= self.high:
      raise InputError(
        f'{place}: column {self.label_column!r} is {word!r}; expected a number '
        f'from {self.low:g} to {self.high:g}'
      )
    return value


def _example(
  id_: str, texts: Sequence[str], label: int | float | None
) -> TextExample:
  text, *pair = texts
  return TextExample(id_, text, pair[0] if pair else None, label)
