"""Tags for the words of the user's own sentences."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import CustomTaggingOptions
from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.data.readers import conll
from mobilebert_jax.data.readers.conll import Sentence
from mobilebert_jax.data.readers.tables import TableRow, read_table
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.custom import files as custom_files
from mobilebert_jax.tasks.prediction_files import jsonl_writer
from mobilebert_jax.tasks.tagging import iob
from mobilebert_jax.tasks.tagging import iob as tagging_labels
from mobilebert_jax.tasks.tagging import task as tagging_task
from mobilebert_jax.tasks.task import (
  Predictions,
  Task,
  TaskSpec,
  WritePredictions,
)

_JSONL = ('.jsonl', '.jsonl.gz')
_COLUMNS = tuple(f'{s}{gz}' for s in ('.conll', '.txt') for gz in ('', '.gz'))


def make(options: CustomTaggingOptions, data: DataConfig) -> Task:
  """Makes the task; without `options.labels` it reads the training file.

  Raises:
    InputError: A file is missing or has a mistake, or wrong labels.
  """
  files = custom_files.find(options, data, (*_JSONL, *_COLUMNS))
  labels = tagging_labels.choose_labels(
    options.labels,
    lambda: _read(options, None, files.paths['train'], labelled=True),
  )
  read = functools.partial(_read, options, labels)
  task = tagging_task.tagging_task(
    'custom_tagging',
    labels=labels,
    options=options,
    load=functools.partial(files.load, read),
    splits=files.splits,
  )
  return dataclasses.replace(
    task,
    write_predictions=functools.partial(
      _write_both,
      task.write_predictions,
      jsonl_writer(functools.partial(_tag_rows, labels, options)),
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
  labels: Sequence[str],
  options: CustomTaggingOptions,
  predictions: Predictions,
  examples: Sequence[Sentence],
  features: Features,
) -> Iterator[dict[str, Any]]:
  """Yields the number of each sentence, its words and tags."""
  predicted = tagging_task.predicted_tags(
    labels, options.scheme, predictions, examples, features
  )
  for number, sentence in enumerate(examples):
    words = list(sentence.words)
    yield {'id': str(number), 'tokens': words, 'prediction': predicted[number]}


def _read(
  options: CustomTaggingOptions,
  labels: Sequence[str] | None,
  path: pathlib.Path,
  labelled: bool,
) -> list[Sentence]:
  if not path.name.endswith(_JSONL):
    sentences = list(conll.read_sentences(path))
  else:
    columns = [options.tokens_column, *([options.tags_column] * labelled)]
    sentences = [
      _sentence(options, row, labelled) for row in read_table(path, columns)
    ]
  if not labelled:
    return [
      dataclasses.replace(sentence, tags=(iob.OUTSIDE,) * len(sentence.words))
      for sentence in sentences
    ]
  return [
    tagging_labels.check_sentence(sentence, options.scheme, labels)
    for sentence in sentences
  ]


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
