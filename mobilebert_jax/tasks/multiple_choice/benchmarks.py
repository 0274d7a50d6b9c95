"""SWAG, RACE and CommonsenseQA."""

import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import SubmissionOptions
from mobilebert_jax.data.readers import choice_files, tfds, tsv
from mobilebert_jax.data.readers.choice_files import ChoiceExample
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.multiple_choice.task import choice_task
from mobilebert_jax.tasks.task import (
  SPLITS,
  Splits,
  Task,
  TaskSpec,
  fixed,
  wanted_splits,
)

_SWAG_FILES = {
  'train': 'train.csv',
  'validation': 'val.csv',
  'test': 'test.csv',
}
_COMMONSENSEQA_FILES = {
  'train': 'train_rand_split.jsonl',
  'validation': 'dev_rand_split.jsonl',
  'test': 'test_rand_split_no_answers.jsonl',
}
# The answers of RACE's test set are public.
_RACE_SPLITS = Splits(evaluation=('validation', 'test'), test=())
_RACE_FOLDERS = {'train': 'train', 'validation': 'dev', 'test': 'test'}
_RACE_COLUMNS = ('example_id', 'article', 'questions', 'options', 'answers')


def _make_swag(options: SubmissionOptions, data: DataConfig) -> Task:
  del data
  return choice_task(
    'swag', load=_load_swag, rows=_numbered, splits=wanted_splits(options)
  )


def _load_swag(data: DataConfig, split: str) -> tuple[ChoiceExample, ...]:
  path = _file('swag', _SWAG_FILES, data, split)
  found = choice_files.read_swag(path, labelled=split not in SPLITS.test)
  return _limited(found, data, split)


def _numbered(
  examples: Sequence[ChoiceExample], keys: Sequence[str]
) -> Iterable[Sequence[str]]:
  """Rows as SWAG's own baselines write them: ',pred', then number and key."""
  del examples
  yield '', 'pred'
  for number, key in enumerate(keys):
    yield str(number), key


def _make_commonsenseqa(options: SubmissionOptions, data: DataConfig) -> Task:
  del data
  return choice_task(
    'commonsenseqa',
    load=_load_commonsenseqa,
    splits=wanted_splits(options),
    choices=5,
  )


def _load_commonsenseqa(
  data: DataConfig, split: str
) -> tuple[ChoiceExample, ...]:
  path = _file('commonsenseqa', _COMMONSENSEQA_FILES, data, split)
  labelled = split not in SPLITS.test
  found = choice_files.read_commonsenseqa(path, labelled)
  return _limited(found, data, split)


def _load_race(data: DataConfig, split: str) -> tuple[ChoiceExample, ...]:
  readers = {'tfds': _race_from_tfds, 'files': _race_from_files}
  if data.source not in readers:
    raise InputError(
      f'config.data.source={data.source!r} does not fit race; use "tfds" or '
      '"files"'
    )
  found = readers[data.source](data.path, _RACE_FOLDERS[split])
  return _limited(found, data, split)


def _race_from_tfds(path: str | None, split: str) -> Iterator[ChoiceExample]:
  for group in choice_files.RACE_GROUPS:
    name = f'race/{group}'
    rows = list(tfds.read_split(name, split, _RACE_COLUMNS, path))
    # TFDS stores articles in an order of its own.
    rows.sort(key=lambda row: _article_order(row['example_id']))
    for row in rows:
      row = {**row, 'id': row['example_id']}
      place = f'{name}/{split}: {row["id"]}'
      yield from choice_files.race_questions(row, group, place)


def _article_order(name: str) -> tuple[int, int, str]:
  return choice_files.race_order(pathlib.PurePath(name))


def _race_from_files(path: str | None, split: str) -> Iterator[ChoiceExample]:
  root = files.path(str(path))
  for folder in (root, root / 'RACE'):
    if (folder / split).is_dir():
      return choice_files.read_race(folder / split)
  raise InputError(
    f'config.data.path={path!r}: expected the directory {split} there or in '
    f'{str(root / "RACE")!r}'
  )


def _file(
  name: str, names: Mapping[str, str], data: DataConfig, split: str
) -> pathlib.Path:
  if data.source != 'files':
    raise InputError(
      f'config.data.source={data.source!r} does not fit {name}, which TFDS '
      'does not '
      'have; use "files"'
    )
  return tsv.find_folder(str(data.path), name, (names[split],)) / names[split]


def _limited(
  examples: Iterable[ChoiceExample], data: DataConfig, split: str
) -> tuple[ChoiceExample, ...]:
  limit = data.limit(is_train=split == SPLITS.train)
  return tuple(examples)[:limit]


SPECS = (
  TaskSpec('swag', _make_swag),
  TaskSpec('commonsenseqa', _make_commonsenseqa),
  fixed(
    choice_task('race', load=_load_race, cut='only_first', splits=_RACE_SPLITS)
  ),
)
