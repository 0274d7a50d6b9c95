"""Predictions for the user's own data: CSV, or JSON Lines for nested ones."""

import csv
import io
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mobilebert_jax.metrics.probabilities import softmax
from mobilebert_jax.runtime.files import write_lines

# What is written of a probability.
_DIGITS = 6


def write_csv(
  path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> pathlib.Path:
  """Writes a table, which spreadsheets and `tables.read_table` read."""
  return write_lines(path, map(_csv_line, (header, *rows)))


def write_classes(
  path: pathlib.Path,
  labels: Sequence[str],
  logits: Float[np.ndarray, 'N C'],
  ids: Sequence[str],
) -> pathlib.Path:
  """Writes a table of id, the most probable class, and its probability."""
  chances = softmax(logits.astype(np.float64))
  rows = (
    (id_, labels[int(best)], rounded(row[best]))
    for id_, best, row in zip(ids, logits.argmax(-1), chances, strict=True)
  )
  return write_csv(path, ('id', 'prediction', 'probability'), rows)


def write_jsonl(
  path: pathlib.Path, rows: Iterable[Mapping[str, Any]]
) -> pathlib.Path:
  """Writes one JSON object on each line."""
  return write_lines(
    path, (json.dumps(row, ensure_ascii=False) for row in rows)
  )


def sigmoid(logits: Float[np.ndarray, 'N C']) -> Float[np.ndarray, 'N C']:
  """Probabilities of classes that do not, in float64."""
  return np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))


def rounded(probability: Any) -> float:
  """A probability as it is written."""
  return round(float(probability), _DIGITS)


def _csv_line(cells: Sequence[Any]) -> str:
  line = io.StringIO()
  csv.writer(line, lineterminator='').writerow(cells)
  return line.getvalue()
