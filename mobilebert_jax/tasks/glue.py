"""The nine tasks of GLUE and its diagnostics, as the benchmark scores them.

Read from TFDS or from the official tab-separated files. Scores and submission
files are those of https://gluebenchmark.com. Where the benchmark reports two
scores, their mean (`mean`) chooses the best checkpoint. Label names are TFDS's.
"""

import dataclasses
import math
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import SubmissionOptions
from mobilebert_jax.data.readers import bad_rows, remarks, tables, tfds
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.metrics import classification
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.classification import (
  Score,
  Submission,
  TextExample,
  classification_task,
  submission_writer,
)
from mobilebert_jax.tasks.targets import Regression, SingleLabel, Target
from mobilebert_jax.tasks.task import (
  SPLITS,
  Splits,
  Task,
  TaskSpec,
  wanted_splits,
)

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
    other_files: Files of another publisher, where the official one of the
      training split is not there; splits that it lacks are left out.
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
  other_files: Mapping[str, str] = dataclasses.field(default_factory=dict)
  id_column: str = 'index'
  header: tuple[str, ...] | None = None
  no_label: str | None = None
  may_be_broken: bool = False
  splits: Splits = SPLITS
  tfds_splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
  low: float = 0.0
  high: float = 5.0

  def load(self, data: DataConfig, split: str) -> tuple[TextExample, ...]:
    """Loads the examples of a split, in the order of the official files.

    Raises:
      InputError: The data is not there or has a wrong row.
    """
    if data.source == 'tfds':
      examples = self._from_tfds(data.path, split)
    elif data.source == 'files':
      examples = self._from_files(data.path, split, data.bad_rows)
    else:
      raise InputError(
        f'config.data.source={data.source!r} does not fit {self.tfds_name}; '
        'use '
        '"tfds" or "files".'
      )
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

  def _from_files(
    self, path: str | None, split: str, policy: bad_rows.Policy
  ) -> list[TextExample]:
    if path is None:
      raise InputError(
        'config.data.source=files needs config.data.path: the directory '
        f'{self.folder} with '
        f'{", ".join(self.files.values())}.'
      )
    file = self._find(path, split)
    with bad_rows.collect(file, policy) as bad:
      if split in self.splits.test:
        return list(self._unlabelled(file, bad))
      return self._labelled(file, bad)

  def uses_other_files(self, data: DataConfig) -> bool:
    """Returns whether the files of the other publisher are there alone."""
    if data.source != 'files' or data.path is None or not self.other_files:
      return False
    train = self.splits.train
    root = files.path(data.path)
    folders = (root, root / self.folder)
    return any((f / self.other_files[train]).is_file() for f in folders) and (
      not any((folder / self.files[train]).is_file() for folder in folders)
    )

  def _find(self, path: str, split: str) -> pathlib.Path:
    name = self.files[split]
    if self.uses_other_files(DataConfig(source='files', path=path)):
      name = self.other_files[split]
    try:
      return tables.find_folder(path, self.folder, (name,)) / name
    except InputError as error:
      if split not in self.splits.test:
        raise
      raise InputError(
        f'{str(error).removesuffix(".")}; without it set '
        'config.options.predict_test=False.'
      ) from None

  def _unlabelled(
    self, path: pathlib.Path, bad: BadRows
  ) -> Iterator[TextExample]:
    lines: dict[str, int] = {}
    wanted = (self.id_column, *self.columns)
    for line, row in tables.read_tsv(path, wanted, bad=bad):
      with bad.row():
        id_ = row[self.id_column]
        if not id_ or id_ in lines:
          what = 'is empty' if not id_ else f'is that of line {lines[id_]} too'
          raise InputError(
            f'{path}:{line}: column {self.id_column!r} is {id_!r}, which '
            f'{what}; expected an id of its own for each row.'
          )
        lines[id_] = line
        yield _example(id_, self._texts(row, f'{path}:{line}'), None)

  def _labelled(self, path: pathlib.Path, bad: BadRows) -> list[TextExample]:
    wanted = (*self.columns, self.label_column)
    broken: list[int] | None = [] if self.may_be_broken else None
    first = 1 if self.header else 2
    examples = []
    words: tuple[str, ...] = ()
    for line, row in tables.read_tsv(path, wanted, self.header, broken, bad):
      word = row[self.label_column]
      if word == self.no_label:
        continue
      if broken is not None and not word:
        broken.append(line)
        continue
      words = words or self._words(word, path)
      with bad.row():
        label = self._label(word, words, f'{path}:{line}')
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
        'empty; expected a text.'
      )
    return texts

  def _words(self, first: str, path: pathlib.Path) -> tuple[str, ...]:
    """Returns how a file spells the labels, by its first one.

    In numbers where the official files have words: files that were written
    out of TFDS or the datasets library, which number them alike.
    """
    numbers = tuple(str(i) for i in range(len(self.labels)))
    if first in self.labels or first not in numbers:
      return self.labels
    shown = ', '.join(f'{i} is {name}' for i, name in enumerate(self.labels))
    remarks.say(f'{path}: the labels are numbers; {shown}, as in TFDS.')
    return numbers

  def _label(
    self, word: str, words: tuple[str, ...], place: str
  ) -> int | float:
    if not self.labels:
      return self._number(word, place)
    if word not in words:
      raise InputError(
        f'{place}: column {self.label_column!r} is {word!r}; expected one of '
        f'{", ".join(map(repr, words))}.'
      )
    return words.index(word)

  def _number(self, word: str, place: str) -> float:
    try:
      value = float(word)
    except ValueError:
      value = math.nan
    if not self.low <= value <= self.high:
      raise InputError(
        f'{place}: column {self.label_column!r} is {word!r}; expected a number '
        f'from {self.low:g} to {self.high:g}.'
      )
    return value


def _example(
  id_: str, texts: Sequence[str], label: int | float | None
) -> TextExample:
  text, *pair = texts
  return TextExample(id_, text, pair[0] if pair else None, label)


# MNLI's split of the diagnostic sentences, and where their file may be.
AX = 'diagnostics'
_AX_FOLDERS = ('.', 'AX', 'diagnostic')
_AX_FILES = ('diagnostic.tsv', 'AX.tsv')

_ACCURACY: Mapping[str, Score] = {'accuracy': classification.accuracy}
_ACCURACY_AND_F1: Mapping[str, Score] = {
  'mean': classification.mean_of(classification.accuracy, classification.f1),
  'accuracy': classification.accuracy,
  'f1': classification.f1,
}
_CORRELATIONS: Mapping[str, Score] = {
  'mean': classification.mean_of(
    classification.pearson, classification.spearman
  ),
  'pearson': classification.pearson,
  'spearman': classification.spearman,
}
_NLI = ('entailment', 'neutral', 'contradiction')
_RTE = ('entailment', 'not_entailment')


@dataclasses.dataclass(frozen=True)
class GlueTask:
  """One line of the table below.

  Attributes:
    table: Where the examples are.
    target: What the labels are.
    stems: For each test split the stem of its submission file's name.
    scores: The benchmark's scores, the one to choose by first.
  """

  table: GlueTable
  target: Target
  stems: Mapping[str, str]
  scores: Mapping[str, Score] = dataclasses.field(
    default_factory=lambda: _ACCURACY
  )


def _pairs(
  name: str, folder: str, columns: tuple[str, str], **settings: Any
) -> GlueTable:
  """Makes a table whose columns are named alike in TFDS and the files."""
  settings = {'label_column': 'label', 'labels': ('0', '1'), **settings}
  return GlueTable(f'glue/{name}', columns, folder, columns, **settings)


_SENTENCES = ('sentence1', 'sentence2')
_MNLI_SPLITS = Splits(
  evaluation=('validation_matched', 'validation_mismatched'),
  test=('test_matched', 'test_mismatched'),
)

TABLE: Mapping[str, GlueTask] = {
  'cola': GlueTask(
    GlueTable(
      'glue/cola', ('sentence',), 'CoLA', ('sentence',), 'label', ('0', '1'),
      header=('source', 'label', 'mark', 'sentence'),
    ),
    SingleLabel(('unacceptable', 'acceptable')),
    {'test': 'CoLA'},
    {'matthews': classification.matthews, 'accuracy': classification.accuracy},
  ),
  'sst2': GlueTask(
    GlueTable(
      'glue/sst2', ('sentence',), 'SST-2', ('sentence',), 'label', ('0', '1')
    ),
    SingleLabel(('negative', 'positive')),
    {'test': 'SST-2'},
  ),
  'mrpc': GlueTask(
    GlueTable(
      'glue/mrpc', _SENTENCES, 'MRPC', ('#1 String', '#2 String'), 'Quality',
      ('0', '1'),
      # As Microsoft published it: the test labels are there.
      other_files={
        'train': 'msr_paraphrase_train.txt',
        'validation': 'msr_paraphrase_test.txt',
      },
    ),
    SingleLabel(('not_equivalent', 'equivalent')),
    {'test': 'MRPC'},
    _ACCURACY_AND_F1,
  ),
  'stsb': GlueTask(
    _pairs('stsb', 'STS-B', _SENTENCES, label_column='score', labels=()),
    Regression(),
    {'test': 'STS-B'},
    _CORRELATIONS,
  ),
  'qqp': GlueTask(
    _pairs(
      'qqp', 'QQP', ('question1', 'question2'), label_column='is_duplicate',
      id_column='id', may_be_broken=True,
    ),
    SingleLabel(('not_duplicate', 'duplicate')),
    {'test': 'QQP'},
    _ACCURACY_AND_F1,
  ),
  'mnli': GlueTask(
    GlueTable(
      'glue/mnli', ('premise', 'hypothesis'), 'MNLI', _SENTENCES, 'gold_label',
      _NLI,
      files={
        'train': 'train.tsv',
        'validation_matched': 'dev_matched.tsv',
        'validation_mismatched': 'dev_mismatched.tsv',
        'test_matched': 'test_matched.tsv',
        'test_mismatched': 'test_mismatched.tsv',
      },
      no_label='-',
      splits=_MNLI_SPLITS,
    ),
    SingleLabel(_NLI),
    {'test_matched': 'MNLI-m', 'test_mismatched': 'MNLI-mm', AX: 'AX'},
  ),
  'qnli': GlueTask(
    _pairs('qnli', 'QNLI', ('question', 'sentence'), labels=_RTE),
    SingleLabel(_RTE),
    {'test': 'QNLI'},
  ),
  'rte': GlueTask(
    _pairs('rte', 'RTE', _SENTENCES, labels=_RTE),
    SingleLabel(_RTE),
    {'test': 'RTE'},
  ),
  'wnli': GlueTask(
    _pairs('wnli', 'WNLI', _SENTENCES),
    SingleLabel(('not_entailment', 'entailment')),
    {'test': 'WNLI'},
  ),
}  # fmt: skip
_AX_TABLE = GlueTable(
  'glue/ax', ('premise', 'hypothesis'), 'AX', _SENTENCES, 'label', _NLI,
  splits=Splits(test=(AX,)),
  tfds_splits={AX: 'test'},
)  # fmt: skip


def find_diagnostics(path: str | None) -> pathlib.Path | None:
  """Finds the file of the diagnostics beside MNLI's files, if any.

  Args:
    path: `data.path`: GLUE's directory or that of MNLI.
  """
  if path is None:
    return None
  root = files.path(path)
  roots = (root, root.parent) if (root / 'train.tsv').is_file() else (root,)
  candidates = (
    base / folder / name
    for base in roots
    for folder in _AX_FOLDERS
    for name in _AX_FILES
  )
  return next((place for place in candidates if place.is_file()), None)


def _has_diagnostics(data: DataConfig) -> bool:
  if data.source == 'tfds':
    return tfds.is_prepared('glue/ax', data.path)
  return find_diagnostics(data.path) is not None


def _load_mnli(data: DataConfig, split: str) -> tuple[TextExample, ...]:
  """Loads a split of MNLI, or the diagnostics."""
  if split != AX:
    return TABLE['mnli'].table.load(data, split)
  file = find_diagnostics(data.path) if data.source == 'files' else None
  if file is None:
    return _AX_TABLE.load(data, AX)
  table = dataclasses.replace(_AX_TABLE, files={AX: file.name})
  return table.load(dataclasses.replace(data, path=str(file.parent)), AX)


def make_task(name: str, options: SubmissionOptions, data: DataConfig) -> Task:
  """Makes one of GLUE's tasks.

  MNLI's model also answers the diagnostics, where their file (or TFDS's
  glue/ax) is there.

  Args:
    name: A key of `TABLE`.
    options: Whether to read the splits without labels.
    data: Where the data is.
  """
  row = TABLE[name]
  splits, load = wanted_splits(options, row.table.splits), row.table.load
  if row.table.uses_other_files(data):
    names = row.table.other_files
    remarks.say(
      f'{data.path}: {" and ".join(names.values())} are learnt from and scored '
      'on; they are no official split of GLUE.'
    )
    splits = dataclasses.replace(splits, test=())
  if options.predict_test and name == 'mnli' and _has_diagnostics(data):
    splits = dataclasses.replace(splits, test=(*splits.test, AX))
    load = _load_mnli
  return classification_task(
    name,
    row.target,
    load=load,
    write_predictions=submission_writer(
      row.target, Submission(_files(row), _word(row.table))
    ),
    splits=splits,
    scores=row.scores,
  )


def _files(row: GlueTask) -> dict[str, str]:
  """Returns the name of each split's file of predictions."""
  files = {split: f'{stem}.tsv' for split, stem in row.stems.items()}
  for split, stem in zip(row.table.splits.evaluation, row.stems.values()):
    files[split] = f'{stem}-validation.tsv'
  return files


def _word(table: GlueTable) -> Callable[[Any], str]:
  """Returns a function that writes a decision as the server wants it."""
  if table.labels:
    return table.labels.__getitem__
  return lambda value: f'{min(table.high, max(table.low, value)):.3f}'


def spec(name: str) -> TaskSpec:
  """Makes the spec of one of the tasks."""
  return TaskSpec(
    name,
    lambda options, data: make_task(name, options, data),
  )


SPECS = tuple(spec(name) for name in TABLE)
