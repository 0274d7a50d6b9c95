"""The report on a chain: `recipe.json`, `recipe.md` and `recipe.png`."""

import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mobilebert_jax.reporting import markdown, metrics_log, pictures
from mobilebert_jax.reporting.metrics_log import Record
from mobilebert_jax.reporting.pictures import NEWEST_WEIGHT, series, smooth
from mobilebert_jax.reporting.report import training_seconds
from mobilebert_jax.training.workdir import Workdir


def summarize(
  root: pathlib.Path,
  results: Mapping[str, Mapping[str, Any]],
  batch_sizes: Mapping[str, int],
) -> dict[str, Any]:
  """Returns what `recipe.json` holds of a finished chain.

  That is: for each run, in their order, its name (that of its directory), its
  results and the seconds of its training steps; and where the last run's model
  is.

  Args:
    root: the chain's workdir.
    results: what each run's `results.json` holds, by the run's name.
    batch_sizes: examples in a step of each run.
  """
  runs = [
    {
      'name': name,
      'training_seconds': training_seconds(
        metrics_log.read(Workdir(root / name).metrics), batch_sizes[name]
      ),
      'results': dict(result),
    }
    for name, result in results.items()
  ]
  last = runs[-1]['name']
  return {'runs': runs, 'model': f'{last}/{Workdir(root).model.name}'}


def best_score(results: Mapping[str, Any]) -> str:
  """Returns the best value of a run's primary metric with its name."""
  metric = results['primary_metric']
  return f'{metric} {results["best"][metric]:.4f}'


def draw(path: pathlib.Path, root: pathlib.Path, summary: Mapping[str, Any]):
  """Draws the logged losses and scores of every run.

  Args:
    path: the PNG to write.
    root: the chain's workdir.
    summary: what `summarize` returned.
  """
  curves = {
    entry['name']: (
      metrics_log.read(Workdir(root / entry['name']).metrics),
      entry['results']['primary_metric'],
    )
    for entry in summary['runs']
  }
  draw_curves(path, curves)


def table(summary: Mapping[str, Any], picture: str) -> list[str]:
  """Returns the lines of `recipe.md`.

  Args:
    summary: what `summarize` returned.
    picture: the file of the curves, beside it.
  """
  rows = []
  for entry in summary['runs']:
    name, results = entry['name'], entry['results']
    metric = results['primary_metric']
    first, best = results['first'][metric], results['best'][metric]
    rows.append([
      f'[{markdown.escape(name)}]({name}/report.md)',
      markdown.escape(results['task']),
      markdown.escape(metric),
      f'{first:.4f}',
      f'{best:.4f}',
      f'{results["best"]["step"]:,} of {results["final"]["step"]:,}',
      f'{entry["training_seconds"]:,.0f}',
    ])  # fmt: skip
  header = ['run', 'task', 'score', 'at first', 'best', 'at step', 'seconds']
  return [
    '# Recipe',
    '',
    f'The model of the last run is in `{summary["model"]}`.',
    '',
    *markdown.table(header, rows, 'lllrrrr'),
    '',
    'The seconds are those of training steps; reading data, compiling and',
    'evaluating come on top.',
    '',
    '## Curves',
    '',
    f'![Losses and scores of every run]({picture})',
  ]


_INCHES = 3.0
# The losses that a training step may log: the whole; the terms of a transfer;
# the task's own terms, each with those of a teacher that end so; and what has
# no teacher beside one that has.
_TRANSFER = ('feature_map', 'attention', 'mean', 'variance')
_DISTILLED = ('_hard', '_soft')
_PLAIN = 'next_sentence'
# So few values of a stage are drawn as they are: an average would be late.
_FEW = 20


def draw_curves(
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
  figure = pictures.new_figure(10, _INCHES * len(runs))
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
    left.set(title=pictures.short_name(name), xlabel='step', ylabel='loss')
    left.legend(fontsize='small')
    right.plot(*series(records, metric), 'o-', color='tab:green', markersize=3)
    right.set(xlabel='step', ylabel=metric)
    for axes in (left, right):
      axes.grid(alpha=0.3)
  return pictures.save(figure, path)


def _terms(records: Sequence[Record]) -> list[str]:
  """Returns the losses that were logged while the run learnt."""
  logged = {name for record in records for name in record if '/' not in name}
  distilled = sorted(name for name in logged if name.endswith(_DISTILLED))
  ordered = ('loss', *_TRANSFER, *distilled, _PLAIN)
  return [name for name in ordered if name in logged]


def _stages(
  records: Sequence[Record], term: str
) -> Iterator[tuple[list[int], list[float]]]:
  """Yields the values of a loss by stage; a run without stages has one."""
  logged = [record for record in records if term in record]
  for _, some in itertools.groupby(logged, lambda record: record.get('stage')):
    yield series(list(some), term)


def _averaged(values: Sequence[float]) -> list[float]:
  """Returns the moving average, late by a twentieth or by ten values."""
  return smooth(values, min(1.0, max(NEWEST_WEIGHT, _FEW / len(values))))


def _borders(records: Sequence[Record]) -> list[int]:
  """Returns the first logged step of every stage but the first."""
  steps, stages = series(records, 'stage')
  return [
    step for step, old, new in zip(steps[1:], stages, stages[1:]) if new != old
  ]
