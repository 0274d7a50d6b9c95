"""Runs the points of a search one after another, and says how they did."""

import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_jax.convert.save import atomic_directory
from mobilebert_jax.experiments import trial
from mobilebert_jax.experiments.sweep.grid import GridTrial
from mobilebert_jax.experiments.trial import Trial
from mobilebert_jax.reporting import markdown, pictures
from mobilebert_jax.runtime import files, local_copies, lock
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import setup
from mobilebert_jax.training.workdir import Workdir

TABLE = 'sweep.md'
DATA = 'sweep.json'
PICTURE = 'sweep.png'
MODEL = 'model'


def search(
  points: Sequence[GridTrial], workdir: str | os.PathLike[str]
) -> dict[str, Any]:
  """Trains every point, or continues where an earlier start stopped.

  Each point is a run in a directory of its own below `workdir`. A finished
  point is not run again, a killed one continues, and one that diverges is a
  row of the table. After every point `sweep.json`, `sweep.md` and `sweep.png`
  are brought up to date; at the end the best point's model is copied to
  `model/`.

  Args:
    points: what to run; at least one, all of one task.
    workdir: where everything is written.

  Returns:
    What `sweep.json` holds.

  Raises:
    InputError: anything wrong with the points, or another search in `workdir`;
      what has been finished stays.
  """
  root = files.path(workdir)
  metric = _check(points, root)
  # Another search there would write other points into the same table.
  with lock.held(root):
    return _search(points, root, metric)


def _search(
  points: Sequence[GridTrial], root: pathlib.Path, metric: str
) -> dict[str, Any]:
  """The search, alone in its workdir."""
  attempts = {p.name: trial.read(p.config, root / p.name) for p in points}
  for number, point in enumerate(points, start=1):
    print(f'point {number} of {len(points)}: {point.name}', flush=True)
    attempts[point.name] = trial.train(point.config, root / point.name)
    problem = attempts[point.name].problem
    if problem:
      print(f'diverged: {problem}', flush=True)
    summary = _summary(points, attempts, metric)
    _write(root, summary)
  if summary['best'] is not None:
    _copy_model(root / summary['best']['directory'], root / MODEL)
  print(closing_line(summary, root))
  return summary


def closing_line(summary: Mapping[str, Any], root: pathlib.Path) -> str:
  """What was found, and where it is."""
  count = len(summary['points'])
  diverged = sum(row['status'] == 'diverged' for row in summary['points'])
  told = f'{count} points' + (f', {diverged} of them diverged' * bool(diverged))
  best = summary['best']
  if best is None:
    return f'{told}: there is no best one; the table is {root / TABLE}.'
  return (
    f'{told}: the best {summary["primary_metric"]} is {best["score"]:.4f}, '
    f'with {_values(best)}; its model is in {root / MODEL}, the table in '
    f'{root / TABLE}.'
  )


def _check(points: Sequence[GridTrial], root: pathlib.Path) -> str:
  """Finds what can be wrong before the first run; returns the metric."""
  trial.check_root(root)
  metrics = set()
  for point in points:
    metrics.add(setup.find_task(point.config).primary_metric)
    setup.make_mesh(point.config)
  if len(metrics) > 1:
    raise InputError(
      'the points have different primary metrics, '
      f'{", ".join(sorted(metrics))}: their scores cannot be compared.'
    )
  return metrics.pop()


def _summary(
  points: Sequence[GridTrial], attempts: Mapping[str, Trial], metric: str
) -> dict[str, Any]:
  """The rows, the best first; points without a score last."""
  rows = [_row(point, attempts[point.name]) for point in points]
  rows.sort(key=lambda row: _rank(row['score']))
  scored = rows[0]['score'] is not None
  return {
    'primary_metric': metric,
    'fields': list(points[0].values),
    'points': rows,
    'best': rows[0] if scored else None,
  }


def _rank(score: float | None) -> tuple[bool, float]:
  return (score is None, -(score or 0.0))


def _row(point: GridTrial, done: Trial) -> dict[str, Any]:
  row: dict[str, Any] = {
    'values': dict(point.values),
    'directory': point.name,
    'status': done.status,
    'score': done.score,
    'problem': done.problem,
  }
  if done.results is not None:
    best, final = done.results['best'], done.results['final']
    row |= {'best': best, 'final': final}
  return row


def _write(root: pathlib.Path, summary: Mapping[str, Any]):
  files.write_json(root / DATA, summary)
  draw(root / PICTURE, summary)
  files.write_lines(root / TABLE, _lines(summary))


def _lines(summary: Mapping[str, Any]) -> list[str]:
  fields = summary['fields']
  header = [*fields, summary['primary_metric'], 'best step', 'directory']
  rows = []
  for row in summary['points']:
    values = [row['values'][field] for field in fields]
    score, step = row['status'], ''
    if row['score'] is not None:
      score, step = f'{row["score"]:.4f}', str(row['best']['step'])
    rows.append([*values, score, step, row['directory']])
  best = summary['best']
  told = 'No point has a score yet.'
  if best is not None:
    told = f'The best so far: {markdown.escape(_values(best))}.'
  return [
    '# Search',
    '',
    told,
    '',
    *markdown.table(
      [markdown.escape(name) for name in header],
      [[markdown.escape(cell) for cell in row] for row in rows],
      'r' * (len(fields) + 2) + 'l',
    ),
    '',
    f'![scores]({PICTURE})',
  ]


def _values(row: Mapping[str, Any]) -> str:
  return ', '.join(f'{name}={text}' for name, text in row['values'].items())


def _copy_model(run: pathlib.Path, target: pathlib.Path):
  """Copies the best weights; the copy is complete or as it was before."""
  with atomic_directory(target) as new:
    model = local_copies.directory(Workdir(run).model)
    shutil.copytree(model, new, dirs_exist_ok=True)


_WIDTH, _HEIGHT = 3.6, 3.2


def draw(
  path: str | os.PathLike[str], summary: Mapping[str, Any]
) -> pathlib.Path:
  """Draws every point in a panel for each field that was searched.

  A line joins the best score of each value. Points that diverged are crosses
  at the lower edge.

  Args:
    path: the PNG to write; appears only when it is complete.
    summary: `fields`, `primary_metric` and `points`, each point with `values`
      by field, `score` (None without one) and `status`.

  Returns:
    The path.
  """
  names = summary['fields']
  figure = pictures.new_figure(_WIDTH * len(names) + 0.8, _HEIGHT)
  panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
  for panel, name in zip(panels, names):
    _draw_field(panel, name, summary['points'])
  panels[0].set_ylabel(pictures.short_name(summary['primary_metric']))
  return pictures.save(figure, path)


def _draw_field(panel: Any, name: str, points: Sequence[Mapping[str, Any]]):
  values = _in_order({point['values'][name] for point in points})
  best: dict[int, float] = {}
  for point in points:
    place, score = values.index(point['values'][name]), point['score']
    if score is not None:
      panel.plot(place, score, 'o', color='tab:blue', alpha=0.5)
      best[place] = max(score, best.get(place, score))
    elif point['status'] == 'diverged':
      panel.plot(
        place, 0.02, 'x', color='tab:red', transform=panel.get_xaxis_transform()
      )
  places = sorted(best)
  panel.plot(places, [best[place] for place in places], color='tab:green')
  panel.set_xticks(
    range(len(values)),
    [pictures.short_name(value) for value in values],
    rotation=45,
  )
  panel.set_xlim(-0.5, len(values) - 0.5)
  panel.set_xlabel(pictures.short_name(name))
  panel.grid(alpha=0.3)


def _in_order(values: set[str]) -> list[str]:
  """Numbers by size, everything else by name."""
  try:
    return sorted(values, key=float)
  except ValueError:
    return sorted(values)
