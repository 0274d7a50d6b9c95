"""Losses and scores of several runs, one below the other, as a picture."""

import os
import pathlib
from collections.abc import Mapping, Sequence

from mobilebert_jax.reporting import canvas
from mobilebert_jax.reporting.curves import series, smooth
from mobilebert_jax.reporting.metrics_log import Record

_INCHES = 3.0
# The losses that a training step may log: the whole, then its terms.
_LOSSES = (
  'loss', 'feature_map', 'attention', 'mean', 'variance', 'masked_lm_hard',
  'masked_lm_soft', 'next_sentence',
)  # fmt: skip


def draw(
  path: str | os.PathLike[str],
  runs: Mapping[str, tuple[Sequence[Record], str]],
) -> pathlib.Path:
  """Draws, for each run, its losses on the left and its score on the right.

  Where a run logs several terms of its loss, each has a line, and thin
  vertical lines stand where one stage ends and the next begins.

  Args:
    path: the PNG to write; appears only when it is complete.
    runs: the lines of each run's metrics.jsonl, and the name of its score.

  Returns:
    The path.
  """
  figure = canvas.figure(10, _INCHES * len(runs))
  rows = figure.subplots(len(runs), 2, squeeze=False)
  for (left, right), (name, (records, metric)) in zip(rows, runs.items()):
    for term in _terms(records):
      steps, values = series(records, term)
      left.plot(steps, smooth(values), linewidth=1, label=term)
    if len(_terms(records)) > 1:
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
  """The losses that were logged."""
  names = {name for record in records for name in record}
  return [name for name in _LOSSES if name in names]


def _borders(records: Sequence[Record]) -> list[int]:
  """The first logged step of every stage but the first."""
  steps, stages = series(records, 'stage')
  return [
    step for step, old, new in zip(steps[1:], stages, stages[1:]) if new != old
  ]
