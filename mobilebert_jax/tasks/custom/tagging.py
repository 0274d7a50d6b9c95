"""Tags for the words of the user's own sentences."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import CustomTaggingOptions
from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.data.readers import bad_rows, conll
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.data.readers.conll import Sentence
from mobilebert_jax.data.readers.lines import with_compressed
from mobilebert_jax.data.readers.tables import OBJECTS, TableRow
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.custom import files as custom_files
from mobilebert_jax.tasks.custom.files import Source
from mobilebert_jax.tasks.prediction_files import jsonl_writer
from mobilebert_jax.tasks.tagging import iob
from mobilebert_jax.tasks.tagging import task as tagging_task
from mobilebert_jax.tasks.task import (
  Predictions,
  Task,
  TaskSpec,
  WritePredictions,
)

_TABLES = (*with_compressed(OBJECTS), '.parquet')
_COLUMNS = with_compressed(('.conll', '.txt', '.bio', '.iob', '.tsv'))


def make(options: CustomTaggingOptions, data: DataConfig) -> Task:
  """Makes the task; without `options.labels` it reads the training file.

  Raises:
    InputError: A file is missing or has a mistake, or wrong labels.
  """
  files = custom_files.find(options, data, (*_TABLES, *_COLUMNS))
  train = files.train
  tagging = iob.find_tagging(
    options, functools.partial(_sentences, options, train), train.path,
    train.policy,
  )  # fmt: skip
  read = functools.partial(_read, options, tagging)
  task = tagging_task.tagging_task(
    'custom_tagging',
    labels=tagging.labels,
    options=dataclasses.replace(options, scheme=tagging.scheme),
    load=functools.partial(files.load, read),
    splits=files.splits,
  )
  return dataclasses.replace(
    task,
    write_predictions=functools.partial(
      _write_both,
      task.write_predictions,
      jsonl_writer(functools.partial(_tag_rows, tagging)),
    ),
  )


CUSTOM_TAGGING = TaskSpec('custom_tagging', make)


def _write_both(
  write_columns: WritePredictions,
  write_rows: WritePredictions,
  directory: pathlib.Path,
  split: str,
  *evaluated: Any,
) -> pathlib.Path:
  """Writes '<split>.jsonl', and the task's own files where tags are known."""
  if split != 'test':
    write_columns(directory, split, *evaluated)
  return write_rows(directory, split, *evaluated)


def _tag_rows(
  tagging: iob.Tagging,
  predictions: Predictions,
  examples: Sequence[Sentence],
  features: Features,
) -> Iterator[dict[str, Any]]:
  """Yields the number of each sentence, its words and tags."""
  predicted = tagging_task.predicted_tags(
    tagging.labels, tagging.scheme, predictions, examples, features
  )
  for number, sentence in enumerate(examples):
    words = list(sentence.words)
    yield {'id': str(number), 'tokens': words, 'prediction': predicted[number]}


def _read(
  options: CustomTaggingOptions, tagging: iob.Tagging, source: Source
) -> list[Sentence]:
  with bad_rows.collect(source.path, source.policy) as bad:
    sentences = _sentences(options, source, bad)
    if source.has_labels:
      return tagging.read(sentences, bad)
    return [
      dataclasses.replace(sentence, tags=(iob.OUTSIDE,) * len(sentence.words))
      for sentence in sentences
    ]


def _sentences(
  options: CustomTaggingOptions, source: Source, bad: BadRows
) -> Iterator[Sentence]:
  """Reads a source's sentences, without looking at their tags."""
  if source.split is None and not _is_table(source):
    yield from conll.read_sentences(source.path, bad)
    return
  columns = [options.tokens_column]
  columns += [options.tags_column] * source.has_labels
  for row in source.table(columns, bad):
    with bad.row():
      yield _sentence(options, row, source.has_labels)


def _is_table(source: Source) -> bool:
  return source.ends_with(*OBJECTS, '.parquet')


def _sentence(
  options: CustomTaggingOptions, row: TableRow, labelled: bool
) -> Sentence:
  words = _texts(row, options.tokens_column)
  if not words:
    raise row.wrong(options.tokens_column, 'expected at least one word')
  tags = (iob.OUTSIDE,) * len(words)
  if labelled:
    tags = _texts(row, options.tags_column)
  if len(tags) != len(words):
    raise InputError(
      f'{row.place}: {len(words)} words, but {len(tags)} tags; expected a tag '
      'for each word.'
    )
  # A message's place then ends in the number of the word.
  lines = tuple(f'{word} {tag}' for word, tag in zip(words, tags))
  return Sentence(words, tags, lines, ('',), source=row.place)


def _texts(row: TableRow, column: str) -> tuple[str, ...]:
  values = row.cells[column]
  if not isinstance(values, list) or not all(
    isinstance(value, str) and value.strip() for value in values
  ):
    raise row.wrong(column, 'expected a list of texts, none of them empty')
  return tuple(values)
