"""The nine tasks of GLUE and its diagnostics, as the benchmark scores them.

Scores and submission files are those of https://gluebenchmark.com. Where the
benchmark reports two scores, their mean (`mean`) chooses the best checkpoint.
Label names are TFDS's.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import SubmissionOptions
from mobilebert_jax.data.readers import tfds
from mobilebert_jax.metrics import classification
from mobilebert_jax.runtime import files
from mobilebert_jax.tasks.classification import (
  Score,
  Submission,
  TextExample,
  classification_task,
  submission_writer,
)
from mobilebert_jax.tasks.glue.reading import GlueTable
from mobilebert_jax.tasks.targets import Regression, SingleLabel, Target
from mobilebert_jax.tasks.task import Splits, Task, TaskSpec, wanted_splits

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
  """A table whose columns have the same names in TFDS and in the files."""
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
  """The file of the diagnostics beside MNLI's files, if there is one.

  Args:
    path: `data.path`: GLUE's directory or that of MNLI.
  """
  if path is None:
    return None
  root = files.path(path)
  roots = (root, root.parent) if (root / 'train.tsv').is_file() else (root,)
  places = (
    base / folder / name
    for base in roots
    for folder in _AX_FOLDERS
    for name in _AX_FILES
  )
  return next((place for place in places if place.is_file()), None)


def _has_diagnostics(data: DataConfig) -> bool:
  if data.source == 'tfds':
    return tfds.is_prepared('glue/ax', data.path)
  return find_diagnostics(data.path) is not None


def _load_mnli(data: DataConfig, split: str) -> tuple[TextExample, ...]:
  """As MNLI's table, and the diagnostics."""
  if split != AX:
    return TABLE['mnli'].table.load(data, split)
  file = find_diagnostics(data.path) if data.source == 'files' else None
  if file is None:
    return _AX_TABLE.load(data, AX)
  table = dataclasses.replace(_AX_TABLE, files={AX: file.name})
  return table.load(dataclasses.replace(data, path=str(file.parent)), AX)


def make_task(name: str, options: SubmissionOptions, data: DataConfig) -> Task:
  """One of GLUE's tasks.

  MNLI's model also answers the diagnostics, where their file (or TFDS's
  glue/ax) is there.

  Args:
    name: A key of `TABLE`.
    options: Whether to read the splits without labels.
    data: Where the data is.
  """
  row = TABLE[name]
  splits, load = wanted_splits(options, row.table.splits), row.table.load
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
  """The submission file of each split without labels, and of the others."""
  files = {split: f'{stem}.tsv' for split, stem in row.stems.items()}
  for split, stem in zip(row.table.splits.evaluation, row.stems.values()):
    files[split] = f'{stem}-validation.tsv'
  return files


def _word(table: GlueTable) -> Callable[[Any], str]:
  """How the server wants a decision: as the official files spell labels."""
  if table.labels:
    return table.labels.__getitem__
  return lambda value: f'{min(table.high, max(table.low, value)):.3f}'


def spec(name: str) -> TaskSpec:
  """What a config names by `task=name`."""
  return TaskSpec(
    name,
    lambda options, data: make_task(name, options, data),
  )


SPECS = tuple(spec(name) for name in TABLE)
