"""CoNLL-2003 and WNUT-17, and any data in their formats."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import TaggingOptions
from mobilebert_jax.data.readers import bad_rows, conll, tfds
from mobilebert_jax.data.readers import lines as readers_lines
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.data.readers.conll import Sentence
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.tagging import iob, task
from mobilebert_jax.tasks.task import Splits, Task, TaskSpec

# The tags of the test files are public.
SPLITS = Splits(evaluation=('validation', 'test'), test=())


@dataclasses.dataclass(frozen=True)
class ColumnData:
  """Where a data set in columns is.

  Attributes:
    name: The task's name.
    folder: What the directory is called, if `data.path` is the one above.
    files: The file of each split, under each of the names it is known by.
    tfds_name: The data set's name in TFDS, if it is there.
    tfds_splits: TFDS's names of the splits.
    tfds_columns: TFDS's features in the order of the columns.
  """

  name: str
  folder: str
  files: tuple[Mapping[str, str], ...]
  tfds_name: str | None = None
  tfds_splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
  tfds_columns: tuple[str, ...] = ()

  def make(self, options: TaggingOptions, data: DataConfig) -> Task:
    """Makes the task; reads the training file if no labels are given.

    Raises:
      InputError: Wrong labels, or missing or wrong training data.
    """
    tagging = iob.find_tagging(
      options,
      lambda bad: self._sentences(data, SPLITS.train, bad),
      f'{self.name}, {SPLITS.train}',
      data.bad_rows,
    )
    return task.tagging_task(
      self.name,
      labels=tagging.labels,
      options=dataclasses.replace(options, scheme=tagging.scheme),
      load=functools.partial(self.load, tagging),
      splits=SPLITS,
    )

  def load(
    self, tagging: iob.Tagging, data: DataConfig, split: str
  ) -> tuple[Sentence, ...]:
    """Loads the sentences of a split, in the order of the file or of TFDS.

    Raises:
      InputError: The data is not there or has a wrong line.
    """
    where = f'{self.name}, {split}'
    with bad_rows.collect(where, data.bad_rows) as bad:
      sentences = tagging.read(self._sentences(data, split, bad), bad)
    return tuple(sentences[: data.limit(is_train=split == SPLITS.train)])

  def _sentences(
    self, data: DataConfig, split: str, bad: BadRows
  ) -> Iterator[Sentence]:
    if data.source == 'tfds' and self.tfds_name:
      return self._from_tfds(self.tfds_name, data.path, split)
    if data.source != 'files':
      sources = '"tfds" or "files"' if self.tfds_name else '"files"'
      raise InputError(
        f'config.data.source={data.source!r} does not fit {self.name}; use '
        f'{sources}.'
      )
    names = [files[split] for files in self.files]
    path = readers_lines.find_official_file(str(data.path), self.folder, names)
    return conll.read_sentences(path, bad)

  def _from_tfds(
    self, name: str, path: str | None, split: str
  ) -> Iterator[Sentence]:
    word, *tags = self.tfds_columns
    stored = self.tfds_splits[split]
    spelled = [tfds.class_names(name, tag, path) for tag in tags]
    rows = tfds.read_split(name, stored, self.tfds_columns, path)
    line = 1
    for row in rows:
      # TFDS counts what follows the last blank line of a file as a sentence.
      if not row[word]:
        continue
      columns = [row[word]] + [
        [names[i] for i in row[tag]] for tag, names in zip(tags, spelled)
      ]
      lines = tuple(' '.join(cells) for cells in zip(*columns, strict=True))
      yield Sentence(
        tuple(row[word]), tuple(columns[-1]), lines, ('',),
        source=f'{name}/{stored}', number=line,
      )  # fmt: skip
      line += len(lines)


_CONLL2003 = ColumnData(
  name='conll2003',
  folder='conll2003',
  files=(
    {'train': 'eng.train', 'validation': 'eng.testa', 'test': 'eng.testb'},
    {'train': 'train.txt', 'validation': 'valid.txt', 'test': 'test.txt'},
  ),
  tfds_name='conll2003',
  tfds_splits={'train': 'train', 'validation': 'dev', 'test': 'test'},
  tfds_columns=('tokens', 'pos', 'chunks', 'ner'),
)

_WNUT17 = ColumnData(
  name='wnut17',
  folder='wnut17',
  files=(
    {
      'train': 'wnut17train.conll',
      'validation': 'emerging.dev.conll',
      'test': 'emerging.test.annotated',
    },
  ),
)

SPECS = tuple(TaskSpec(data.name, data.make) for data in (_CONLL2003, _WNUT17))
