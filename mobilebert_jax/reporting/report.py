"""`report.md`: what a run learnt, for people who look rather than read logs."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from mobilebert_jax.reporting import answers, pictures
from mobilebert_jax.reporting.markdown import escape, table
from mobilebert_jax.reporting.metrics_log import Record
from mobilebert_jax.reporting.outcome import Outcome
from mobilebert_jax.runtime import files

_LONGEST_VALUE = 200


@dataclasses.dataclass(frozen=True)
class Findings:
  """What a report tells.

  Attributes:
    results: what `results.json` holds.
    about: rows of the table about the run: what, and its value.
    labels: names of the classes; empty for a task without.
    split: the evaluation split that the outcomes are of.
    outcomes: what became of each of its examples with the best weights.
    tokens: the lengths of the rows, by split.
    max_length: where longer texts are cut.
    records: lines of metrics.jsonl.
    batch_size: examples in a step.
  """

  results: Mapping[str, Any]
  about: Sequence[tuple[str, str]]
  labels: tuple[str, ...]
  split: str
  outcomes: Sequence[Outcome]
  tokens: Mapping[str, Int[np.ndarray, 'N']]
  max_length: int
  records: Sequence[Record]
  batch_size: int


def write(
  path: pathlib.Path, folder: pathlib.Path, curves: pathlib.Path, told: Findings
) -> pathlib.Path:
  """Writes the report and its pictures.

  The same findings give the same bytes.

  Args:
    path: the Markdown file; appears only when everything is complete.
    folder: directory of the pictures, beside `path`.
    curves: the picture of the loss, drawn already, beside `path`.
    told: what to tell.

  Returns:
    `path`.
  """
  folder.mkdir(parents=True, exist_ok=True)

  def place(name: str) -> tuple[pathlib.Path, str]:
    return folder / name, f'{folder.name}/{name}'

  lines = [
    *_headline(told.results),
    *_scores(told.results),
    *_about(told),
    '## Curves',
    '',
    f'![Loss and score over the steps]({curves.name})',
    '',
    *answers.section(told.split, told.outcomes, told.labels, place),
    *_lengths(told, place),
    *answers.mistakes(told.split, told.outcomes, told.labels),
  ]
  return files.write_text(path, '\n'.join(lines).rstrip() + '\n')


def training_seconds(records: Sequence[Record], batch_size: int) -> float:
  """Time spent in training steps, from the logged speeds.

  It counts every start of an interrupted run, and neither evaluations nor
  the reading of data before the first step.
  """
  seconds, last = 0.0, 0
  for record in records:
    speed = record.get('examples_per_second')
    if speed:
      seconds += (record['step'] - last) * batch_size / speed
      last = record['step']
  return seconds


def _headline(results: Mapping[str, Any]) -> Iterator[str]:
  metric = results['primary_metric']
  first, best = results['first'], results['best']
  yield f'# {escape(results["task"])}: {escape(metric)} {best[metric]:.4f}'
  yield ''
  yield (
    f'{escape(metric)} was {first[metric]:.4f} before training; the best is '
    f'{best[metric]:.4f}, after {best["step"]:,} of '
    f'{results["final"]["step"]:,} steps. Those weights are in `model/`.'
  )
  yield ''


def _scores(results: Mapping[str, Any]) -> Iterator[str]:
  columns = {name: results[name] for name in ('first', 'final', 'best')}
  names = [name for name in columns['best'] if name != 'step']
  header = ['score'] + [
    f'{name} (step {scores["step"]:,})' for name, scores in columns.items()
  ]
  rows = [
    [
      f'**{escape(name)}**'
      if name == results['primary_metric']
      else escape(name),
      *(_number(scores.get(name)) for scores in columns.values()),
    ]
    for name in names
  ]
  yield from table(header, rows, 'lrrr')
  yield ''


def _about(told: Findings) -> Iterator[str]:
  yield '## The run'
  yield ''
  rows = [(what, escape(value, _LONGEST_VALUE)) for what, value in told.about]
  speeds = [
    record['examples_per_second']
    for record in told.records
    if record.get('examples_per_second')
  ]
  if speeds:
    rows.append(('speed', f'{np.median(speeds):,.0f} examples/s (median)'))
    seconds = training_seconds(told.records, told.batch_size)
    clock = _clock(seconds)
    rows.append(('time', f'{clock} in training steps, without evaluations'))
  yield from table(('what', ''), rows)
  yield ''


def _lengths(
  told: Findings, place: Callable[[str], tuple[pathlib.Path, str]]
) -> Iterator[str]:
  path, link = place('lengths.png')
  pictures.lengths(path, told.tokens, told.max_length)
  yield '## Lengths'
  yield ''
  yield f'![Tokens of each row]({link})'
  yield ''
  header = (
    'split', 'rows', 'median', '95% up to', 'longest',
    f'fill max_length ({told.max_length})',
  )  # fmt: skip
  rows = []
  for name, tokens in told.tokens.items():
    full = int(np.sum(tokens >= told.max_length))
    median, most = np.percentile(tokens, (50, 95))
    rows.append(
      (
        escape(name),
        f'{len(tokens):,}',
        f'{median:.0f}',
        f'{most:.0f}',
        f'{tokens.max()}',
        f'{full:,} ({full / len(tokens):.1%})',
      )
    )
  yield from table(header, rows, 'lrrrrr')
  yield ''
  yield (
    'Tokens include special tokens. A row that fills max_length has been cut '
    'or split, or is exactly as long.'
  )
  yield ''


def _number(value: Any) -> str:
  return '-' if value is None else f'{value:.4f}'


def _clock(seconds: float) -> str:
  if seconds < 60:
    return f'{seconds:.1f} s'
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours} h {minutes} min' if hours else f'{minutes} min {rest} s'
