"""Prediction files of our own form: CSV, or JSON Lines for nested values.

Each writer made here is a `Task.write_predictions`; a task gives the rows.
"""

import csv
import dataclasses
import functools
import io
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.metrics.probabilities import softmax
from mobilebert_jax.runtime.files import json_text, write_lines
from mobilebert_jax.tasks.task import Examples, Predictions, WritePredictions

# (predictions, examples, features) -> the rows of a file.
MakeRows = Callable[[Predictions, Examples, Any], Iterable[Any]]
# What is written of a probability.
_DIGITS = 6


@dataclasses.dataclass(frozen=True)
class PredictionWriter:
  """Writes the file '<split>.<suffix>' with one line per row.

  Attributes:
    suffix: The file name's end.
    make_rows: Makes the rows, an example or a row of the features each.
    write_row: The text of a row.
    header: The first row, if there is any.
  """

  suffix: str
  make_rows: MakeRows
  write_row: Callable[[Any], str]
  header: Sequence[str] = ()

  def __call__(
    self,
    directory: pathlib.Path,
    split: str,
    predictions: Predictions,
    examples: Examples,
    features: Features,
  ) -> pathlib.Path:
    """`Task.write_predictions`: writes the file and returns its path."""
    rows = self.make_rows(predictions, examples, features)
    first = [self.header] if self.header else []
    path = directory / f'{split}.{self.suffix}'
    return write_lines(path, map(self.write_row, (*first, *rows)))


def csv_writer(
  make_rows: MakeRows, header: Sequence[str] = ()
) -> WritePredictions:
  """Makes the writer of '<split>.csv', which `tables.read_table` reads."""
  return PredictionWriter('csv', make_rows, _csv_line, header)


def jsonl_writer(make_rows: MakeRows) -> WritePredictions:
  """Makes the writer of '<split>.jsonl'; rows are JSON objects."""
  return PredictionWriter('jsonl', make_rows, _json_line)


def class_writer(
  classes_of: Callable[[Any], Sequence[str]],
) -> WritePredictions:
  """Makes the writer of '<split>.csv': id, prediction, probability.

  Args:
    classes_of: The names of an example's classes, in the order of the logits.
  """
  rows = functools.partial(_class_rows, classes_of)
  return csv_writer(rows, ('id', 'prediction', 'probability'))


def rounded(probability: Any) -> float:
  """Returns a probability as it is written, with six decimals."""
  return round(float(probability), _DIGITS)


def _class_rows(
  classes_of: Callable[[Any], Sequence[str]],
  predictions: Predictions,
  examples: Examples,
  features: Any,
) -> Iterator[tuple[str, str, float]]:
  del features
  logits = predictions['logits'].astype(np.float64)
  for example, best, probabilities in zip(
    examples, logits.argmax(-1), softmax(logits), strict=True
  ):
    name = classes_of(example)[int(best)]
    yield example.id, name, rounded(probabilities[best])


def _csv_line(cells: Sequence[Any]) -> str:
  line = io.StringIO()
  csv.writer(line, lineterminator='').writerow(cells)
  return line.getvalue()


def _json_line(row: Any) -> str:
  return json_text(row, ensure_ascii=False)
