"""The table and the picture of benchmarks/distillation.py."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mobilebert_jax.reporting import markdown, metrics_log, pictures
from mobilebert_jax.training.workdir import Workdir

# Arm -> its name in the table, in the table's order.
TOLD: Mapping[str, str] = {
  'teacher': 'the teacher itself',
  'fresh': 'no pre-training',
  'none': 'no teacher',
  'none_same_time': 'no teacher, the wall time of the full recipe',
  'distillation': '+ distillation',
  'copied': "+ the teacher's embeddings and head",
  'feature_maps': '+ progressive transfer of feature maps',
  'attention': '+ progressive transfer of feature maps and attention',
  'joint': 'the same, all layers at once (joint)',
  'auxiliary': 'the same, beside the distillation (auxiliary)',
}
SCORES = ('accuracy', 'perplexity', 'sst2')
CONTROL = 'none'

Row = Mapping[str, Any]


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
  """Mean and standard error of each arm's scores.

  Args:
    rows: 'arm' and numbers of each finished run.

  Returns:
    For each arm 'arm', 'runs', and the means NAME with, where they differ,
    their standard errors NAME_error.
  """
  found = []
  for arm in TOLD:
    mine = [row for row in rows if row['arm'] == arm]
    if not mine:
      continue
    entry: dict[str, Any] = {'arm': arm, 'runs': len(mine)}
    for name in (*SCORES, 'seconds', 'steps'):
      if name not in mine[0]:
        continue
      values = np.array([row[name] for row in mine], float)
      entry[name] = float(values.mean())
      if np.ptp(values):
        spread = values.std(ddof=1) / math.sqrt(len(values))
        entry[f'{name}_error'] = float(spread)
    found.append(entry)
  return found


def lines(arms: Sequence[Row], baseline: Mapping[str, float]) -> list[str]:
  """The table as Markdown.

  Args:
    arms: what `summarise` gave.
    baseline: accuracy and perplexity of the most frequent token.
  """

  def cell(entry: Row, name: str, digits: int) -> str:
    if name not in entry:
      return ''
    told = f'{entry[name]:.{digits}f}'
    error = entry.get(f'{name}_error')
    return told if error is None else f'{told} ± {error:.{digits}f}'

  rows = [
    ['most frequent token', '', '', f'{baseline["accuracy"]:.4f}',
     f'{baseline["perplexity"]:.1f}', ''],
  ]  # fmt: skip
  for entry in arms:
    rows.append([
      TOLD[entry['arm']],
      str(entry['runs']),
      f'{entry["steps"]:,.0f} / {entry["seconds"]:,.0f}',
      cell(entry, 'accuracy', 4),
      cell(entry, 'perplexity', 1),
      cell(entry, 'sst2', 4),
    ])  # fmt: skip
  header = [
    'student', 'seeds', 'steps / seconds', 'masked accuracy', 'perplexity',
    'SST-2 dev',
  ]  # fmt: skip
  return markdown.table(header, rows, 'lrrrrr')


def differences(arms: Sequence[Row]) -> list[str]:
  """How far each arm with several seeds is from no teacher, as Markdown."""
  known = {entry['arm']: entry for entry in arms if entry['runs'] > 1}
  if CONTROL not in known:
    return []
  control = known.pop(CONTROL)

  def cell(entry: Row, name: str) -> str:
    if name not in entry:
      return ''
    difference = entry[name] - control[name]
    errors = [each.get(f'{name}_error', 0.0) for each in (entry, control)]
    error = math.hypot(*errors)
    ratio = f'{difference / error:+.1f}' if error else 'no spread'
    return f'{difference:+.4f} ({ratio})'

  rows = [
    [TOLD[arm], *(cell(entry, name) for name in SCORES)]
    for arm, entry in known.items()
  ]
  header = ['against no teacher', 'masked accuracy', 'perplexity', 'SST-2 dev']
  told = 'Difference of the means, and in brackets that in standard errors:'
  return ['', told, '', *markdown.table(header, rows, 'lrrr')]


def draw(target: pathlib.Path, runs: Mapping[str, pathlib.Path]):
  """Held-out accuracy over the steps, a line for each arm.

  Args:
    target: the picture.
    runs: the workdir of a run of each arm.
  """
  figure = pictures.new_figure(8, 4.5)
  axes = figure.subplots()
  for arm, path in runs.items():
    records = metrics_log.read(Workdir(path).metrics)
    points = pictures.series(records, 'validation/accuracy')
    axes.plot(*points, 'o-', markersize=3, label=TOLD[arm])
  axes.set(xlabel='step', ylabel='masked accuracy, held out')
  axes.grid(alpha=0.3)
  axes.legend(fontsize='small')
  # Another command may be drawing it.
  pictures.save(figure, target, unique=True)
