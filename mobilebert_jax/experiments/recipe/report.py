"""What a chain has come to: `recipe.json`, `recipe.md` and `recipe.png`."""

import pathlib
from collections.abc import Mapping
from typing import Any

from mobilebert_jax.experiments.recipe import curves as recipe_curves
from mobilebert_jax.experiments.recipe.recipe import Recipe
from mobilebert_jax.reporting import markdown, metrics_log
from mobilebert_jax.reporting import report as run_report
from mobilebert_jax.runtime import files
from mobilebert_jax.training.workdir import Workdir

DATA, TABLE, PICTURE = 'recipe.json', 'recipe.md', 'recipe.png'


def write(
  chain: Recipe, root: pathlib.Path, done: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
  """Writes the report of a finished chain; `recipe.json` last.

  Args:
    chain: the recipe.
    root: the chain's workdir.
    done: what each run's `results.json` holds, by the run's name.

  Returns:
    What `recipe.json` holds: for each run, in their order, its name (that of
    its directory), its results and the seconds of its training steps; and where
    the last run's model is.
  """
  curves, runs = {}, []
  for name, results in done.items():
    records = metrics_log.read(Workdir(root / name).metrics)
    curves[name] = (records, results['primary_metric'])
    runs.append(
      {
        'name': name,
        'training_seconds': run_report.training_seconds(
          records, chain.runs[name].batch_size
        ),
        'results': dict(results),
      }
    )
  summary = {'runs': runs, 'model': f'{name}/{Workdir(root).model.name}'}
  recipe_curves.draw(root / PICTURE, curves)
  files.write_lines(root / TABLE, _lines(summary))
  files.write_json(root / DATA, summary)
  return summary


def closing_line(summary: Mapping[str, Any], root: pathlib.Path) -> str:
  """What was learnt, and where it is."""
  told = []
  for entry in summary['runs']:
    results = entry['results']
    metric = results['primary_metric']
    told.append(f'{entry["name"]}: {metric} {results["best"][metric]:.4f}')
  return (
    f'{"; ".join(told)}. The model is in {root / summary["model"]}, the report '
    f'in {root / TABLE}.'
  )


def _lines(summary: Mapping[str, Any]) -> list[str]:
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
    f'![Losses and scores of every run]({PICTURE})',
  ]
