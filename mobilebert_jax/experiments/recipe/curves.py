"""Losses and scores of several runs, one below the other, as a picture."""

import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from mobilebert_jax.reporting import canvas
from mobilebert_jax.reporting.curves import NEW, series, smooth
from mobilebert_jax.reporting.metrics_log import Record

_INCHES = 3.0
# The losses that a training step may log: the whole; the terms of a transfer;
# the task's own terms, each with those of a teacher that end so; and what has
# no teacher beside one that has.
_TRANSFER = ('feature_map', 'attention', 'mean', 'variance')
_DISTILLED = ('_hard', '_soft')
_PLAIN = 'next_sentence'
# So few values of a stage are drawn as they are: an average would be late.
_FEW = 20


def draw(
  path: str | os.PathLike[str],
  runs: Mapping[str, tuple[Sequence[Record], str]],
) -> pathlib.Path:
  """Draws, for each run, its losses on the left and its score on the right.

  Losses are thin, with their moving average over them. Where a run logs several
  terms of its loss, each has a line. A stage has a loss of its own: its lines
  begin anew, behind a thin vertical one.

  Args:
    path: the PNG to write; appears only when it is complete.
    runs: the lines of each run's metrics.jsonl, and the name of its score.

  Returns:
    The path.
  """
  figure = canvas.figure(10, _INCHES * len(runs))
  rows = figure.subplots(len(runs), 2, squeeze=False)
  for (left, right), (name, (records, metric)) in zip(rows, runs.items()):
    terms = _terms(records)
    for number, term in enumerate(terms):
      color = f'C{number}'
      for steps, values in _stages(records, term):
        left.plot(
          steps, values, '.-', color=color, alpha=0.3, linewidth=0.6,
          markersize=2,
        )  # fmt: skip
        left.plot(steps, _averaged(values), color=color, linewidth=1)
      left.plot([], [], color=color, label=term)
    if len(terms) > 1:
      left.set_yscale('log')
    for border in _borders(records):
      left.axvline(border, color='gray', alpha=0.4, linewidth=0.6)
    left.set(title=canvas.name(name), xlabel='step', ylabel='loss')
    left.legend(fontsize='small')
    right.plot(*series(records, metric), 'o-', color='tab:green', markersize=3)
    right.set(xlabel='step', ylabel=metric)
    for axes in (left, right):
      axes.grid(alpha=0.3)
  return canvas.save(figure, path)


def _terms(records: Sequence[Record]) -> list[str]:
  """The losses that were logged while the run learnt."""
  logged = {name for record in records for name in record if '/' not in name}
  distilled = sorted(name for name in logged if name.endswith(_DISTILLED))
  ordered = ('loss', *_TRANSFER, *distilled, _PLAIN)
  return [name for name in ordered if name in logged]


def _stages(
  records: Sequence[Record], term: str
) -> Iterator[tuple[list[int], list[float]]]:
  """The values of a loss, stage by stage; a run without stages has one."""
  logged = [record for record in records if term in record]
  for _, some in itertools.groupby(logged, lambda record: record.get('stage')):
    yield series(list(some), term)


def _averaged(values: Sequence[float]) -> list[float]:
  """A stage's moving average, late by a twentieth of it or by ten values."""
  return smooth(values, min(1.0, max(NEW, _FEW / len(values))))


def _borders(records: Sequence[Record]) -> list[int]:
  """The first logged step of every stage but the first."""
  steps, stages = series(records, 'stage')
  return [
    step for step, old, new in zip(steps[1:], stages, stages[1:]) if new != old
  ]
