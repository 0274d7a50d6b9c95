"""GLUE's tasks as TFDS has them or in the official tab-separated files."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mobilebert_jax.data import tfds_source, tsv
from mobilebert_jax.errors import InputError
from mobilebert_jax.tasks.classification import TextExample
from mobilebert_jax.tasks.task import SPLITS, Splits

if TYPE_CHECKING:
  from mobilebert_jax.run_config import DataConfig

_ID = 'index'


@dataclasses.dataclass(frozen=True)
class GlueTable:
  """Where one GLUE task keeps its texts and labels.

  Attributes:
    tfds_name: The data set's name in TFDS.
    tfds_columns: TFDS's features with the one or two texts.
    folder: The official directory's name.
    files: The official file of each split.
    columns: The official columns with the texts.
    label_column: The official column with the label.
    labels: The labels as the files spell them, in the order of the classes.
    no_label: A word in the label column that means: not agreed on; such rows
      are left out, as the benchmark does.
    splits: The task's splits; those in `splits.test` have no labels.
  """

  tfds_name: str
  tfds_columns: tuple[str, ...]
  folder: str
  files: Mapping[str, str]
  columns: tuple[str, ...]
  label_column: str
  labels: tuple[str, ...]
  no_label: str | None = None
  splits: Splits = SPLITS

  def load(self, data: 'DataConfig', split: str) -> tuple[TextExample, ...]:
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
        f'data.source={data.source!r} does not fit {self.tfds_name}; use '
        '"tfds" or "files"'
      )
    examples = readers[data.source](data.path, split)
    is_train = split == self.splits.train
    limit = data.train_examples if is_train else data.eval_examples
    return tuple(examples[:limit])

  def _from_tfds(self, path: str | None, split: str) -> list[TextExample]:
    columns = (*self.tfds_columns, 'label', 'idx')
    rows = tfds_source.read_split(self.tfds_name, split, columns, path)
    # TFDS stores rows in an order of its own; idx is the official one.
    return [
      _example(
        str(row['idx']),
        [row[name] for name in self.tfds_columns],
        None if row['label'] < 0 else row['label'],
      )
      for row in sorted(rows, key=lambda row: row['idx'])
    ]

  def _from_files(self, path: str | None, split: str) -> list[TextExample]:
    if path is None:
      raise InputError(
        f'data.source=files needs data.path: the directory {self.folder} with '
        f'{", ".join(self.files.values())}'
      )
    name = self.files[split]
    file = tsv.find_folder(path, self.folder, (name,)) / name
    return list(self._examples(file, labelled=split not in self.splits.test))

  def _examples(
    self, path: pathlib.Path, labelled: bool
  ) -> Iterator[TextExample]:
    has_id = _ID in tsv.header_of(path)
    wanted = (
      *self.columns,
      *((self.label_column,) if labelled else ()),
      *((_ID,) if has_id else ()),
    )
    for number, (line, row) in enumerate(tsv.read_rows(path, wanted)):
      label = None
      if labelled:
        if row[self.label_column] == self.no_label:
          continue
        label = self._label(row[self.label_column], f'{path}:{line}')
      texts = [row[name] for name in self.columns]
      # MNLI has pairs with one empty sentence, and wants an answer for them.
      if not any(text.strip() for text in texts):
        raise InputError(
          f'{path}:{line}: column {" and ".join(map(repr, self.columns))} is '
          'empty; expected a text'
        )
      yield _example(row[_ID] if has_id else str(number), texts, label)

  def _label(self, word: str, place: str) -> int:
    if word not in self.labels:
      raise InputError(
        f'{place}: column {self.label_column!r} is {word!r}; expected one of '
        f'{", ".join(map(repr, self.labels))}'
      )
    return self.labels.index(word)


def _example(id_: str, texts: Sequence[str], label: int | None) -> TextExample:
  text, *pair = texts
  return TextExample(id_, text, pair[0] if pair else None, label)
