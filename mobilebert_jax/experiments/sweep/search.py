"""A search as an experiment: a trial for each combination of values."""

import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_jax.convert.save import atomic_directory
from mobilebert_jax.experiments.experiment import Experiment, Summary
from mobilebert_jax.experiments.sweep.grid import GridTrial
from mobilebert_jax.experiments.trial import Trial
from mobilebert_jax.metrics import ranking
from mobilebert_jax.reporting import markdown, pictures
from mobilebert_jax.runtime import files, local_copies
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import setup
from mobilebert_jax.training.workdir import Workdir

MODEL = 'model'
# Inches of a panel of the picture.
_WIDTH, _HEIGHT = 3.6, 3.2


def search(
  trials: Sequence[GridTrial], workdir: str | os.PathLike[str]
) -> Summary:
  """Trains every trial, or continues where an earlier start stopped.

  Each trial is a run in a directory of its own below `workdir`. A finished
  trial is not run again, a killed one continues, and one that diverges is a
  row of the table. After every trial `sweep.json`, `sweep.md` and `sweep.png`
  are brought up to date; at the end the best trial's model is copied to
  `model/`.

  Args:
    trials: what to run; at least one, all of one task.
    workdir: where everything is written.

  Returns:
    What `sweep.json` holds.

  Raises:
    InputError: anything wrong with the trials, or another search in `workdir`;
      what has been finished stays.
  """
  return Search(trials, files.path(workdir)).run()


class Search(Experiment):
  """A trial for each combination of the values of some fields.

  Attributes:
    grid: the combinations by their names.
    metric: the score by which they are compared.
  """

  name = 'sweep'

  def __init__(self, trials: Sequence[GridTrial], root: pathlib.Path):
    super().__init__({one.name: one.config for one in trials}, root)
    self.grid = {one.name: one for one in trials}
    self.metric = ''

  def check(self):
    super().check()
    metrics = set()
    for config in self.configs.values():
      metrics.add(setup.find_task(config).primary_metric)
      setup.make_mesh(config)
    if len(metrics) > 1:
      raise InputError(
        'the trials have different primary metrics, '
        f'{", ".join(sorted(metrics))}: their scores cannot be compared.'
      )
    (self.metric,) = metrics

  def summarize(self, trials: Mapping[str, Trial]) -> Summary:
    """Returns the rows, the best first; trials without a score last."""
    rows = [_row(self.grid[name], done) for name, done in trials.items()]

    def place(row: dict[str, Any]) -> tuple[bool, float]:
      score = row['score']
      if score is None:
        return True, 0.0
      return False, -ranking.rank(self.metric, score)

    rows.sort(key=place)
    first = next(iter(self.grid.values()))
    return {
      'primary_metric': self.metric,
      'fields': list(first.values),
      'points': rows,
      'best': None if rows[0]['score'] is None else rows[0],
    }

  def draw(self, summary: Summary):
    draw(self.picture_path, summary)

  def table(self, summary: Summary) -> list[str]:
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
    headline = 'No trial has a score yet.'
    if best is not None:
      headline = f'The best so far: {markdown.escape(_values(best))}.'
    return [
      '# Search',
      '',
      headline,
      '',
      *markdown.table(
        [markdown.escape(name) for name in header],
        [[markdown.escape(cell) for cell in row] for row in rows],
        'r' * (len(fields) + 2) + 'l',
      ),
      '',
      f'![scores]({self.picture_path.name})',
    ]

  def finish(self, summary: Summary):
    """Copies the best weights; the copy is complete or as it was before."""
    if summary['best'] is None:
      return
    best = Workdir(self.root / summary['best']['directory'])
    with atomic_directory(self.root / MODEL) as new:
      model = local_copies.directory(best.model)
      shutil.copytree(model, new, dirs_exist_ok=True)

  def closing_line(self, summary: Summary) -> str:
    count = len(summary['points'])
    diverged = sum(row['status'] == 'diverged' for row in summary['points'])
    counted = f'{count} trials'
    if diverged:
      counted += f', {diverged} of them diverged'
    best = summary['best']
    if best is None:
      return f'{counted}: there is no best one; the table is {self.table_path}.'
    return (
      f'{counted}: the best {summary["primary_metric"]} is '
      f'{best["score"]:.4f}, with {_values(best)}; its model is in '
      f'{self.root / MODEL}, the table in {self.table_path}.'
    )


def _row(one: GridTrial, done: Trial) -> dict[str, Any]:
  row: dict[str, Any] = {
    'values': dict(one.values),
    'directory': one.name,
    'status': done.status,
    'score': done.score,
    'problem': done.problem,
  }
  if done.results is not None:
    best, final = done.results['best'], done.results['final']
    row |= {'best': best, 'final': final}
  return row


def _values(row: Mapping[str, Any]) -> str:
  return ', '.join(f'{name}={text}' for name, text in row['values'].items())


def draw(
  path: str | os.PathLike[str], summary: Mapping[str, Any]
) -> pathlib.Path:
  """Draws every trial in a panel for each field that was searched.

  A line joins the best score of each value. Trials that diverged are crosses
  at the lower edge.

  Args:
    path: the PNG to write; appears only when it is complete.
    summary: `fields`, `primary_metric` and `points`, each with `values` by
      field, `score` (None without one) and `status`.

  Returns:
    The path.
  """
  names = summary['fields']
  figure = pictures.new_figure(_WIDTH * len(names) + 0.8, _HEIGHT)
  panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
  for panel, name in zip(panels, names):
    _draw_field(panel, name, summary['points'], summary['primary_metric'])
  panels[0].set_ylabel(pictures.short_name(summary['primary_metric']))
  return pictures.save(figure, path)


def _draw_field(
  panel: Any, name: str, rows: Sequence[Mapping[str, Any]], metric: str
):
  values = _in_order({row['values'][name] for row in rows})
  best: dict[int, float] = {}
  for row in rows:
    place, score = values.index(row['values'][name]), row['score']
    if score is not None:
      panel.plot(place, score, 'o', color='tab:blue', alpha=0.5)
      best[place] = max(
        score,
        best.get(place, score),
        key=lambda value: ranking.rank(metric, value),
      )
    elif row['status'] == 'diverged':
      panel.plot(
        place, 0.02, 'x', color='tab:red', transform=panel.get_xaxis_transform()
      )
  ticks = sorted(best)
  panel.plot(ticks, [best[place] for place in ticks], color='tab:green')
  panel.set_xticks(
    range(len(values)),
    [pictures.short_name(value) for value in values],
    rotation=45,
  )
  panel.set_xlim(-0.5, len(values) - 0.5)
  panel.set_xlabel(pictures.short_name(name))
  panel.grid(alpha=0.3)


def _in_order(values: set[str]) -> list[str]:
  """Sorts numbers by size, everything else by name."""
  try:
    return sorted(values, key=float)
  except ValueError:
    return sorted(values)
