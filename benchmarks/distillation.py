"""Which part of the recipe brings what, on real text, at a small scale.

  python benchmarks/distillation.py --text=PATH --task_data=SST-2 --workdir=DIR
      [--seeds=0,1,2] [--arms=none,distillation,...] [--config.NAME.a.b=value]

One vocabulary, one data set and one teacher (the first parts of
configs/recipe_small.py) serve every arm. An arm is a student with the recipe's
settings but for what its name says; all take the same number of steps, and are
fine-tuned alike. Each finished arm is a row of DIR/table.json, from which
table.md and curves.png are made anew; the same command continues, and with
more seeds or arms the table grows. Several commands with arms or seeds of their
own may run at once behind the teacher; one with all of them then collects the
rows.

docs/distillation.md shows and discusses the table.
"""

import argparse
import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mobilebert_jax import attempt, files, losses, preparation
from mobilebert_jax.data import loader
from mobilebert_jax.recipe import chain, recipe
from mobilebert_jax.recipe.recipe import Recipe
from mobilebert_jax.reporting import canvas, curves, markdown, metrics_log
from mobilebert_jax.reporting.report import training_seconds
from mobilebert_jax.run_config import TrainConfig
from mobilebert_jax.workdir import Workdir

RECIPE = 'configs/recipe_small.py'
TEACHER, STUDENT, FINE_TUNED = 'teacher', 'student', 'fine_tuned'
FRESH, ALONE, ALONE_LONGER, FULL = (
  'fresh', 'none', 'none_same_time', 'attention'
)  # fmt: skip
_NO_TEACHER: Mapping[str, Any] = {
  'teacher': None,
  'strategy': 'none',
  'transfer_steps': 0,
}
# Arm -> how its distillation differs from the recipe's; the first one is not
# pre-trained at all.
ARMS: Mapping[str, Mapping[str, Any]] = {
  FRESH: {},
  ALONE: _NO_TEACHER,
  'distillation': {'strategy': 'none', 'transfer_steps': 0, 'copy': ()},
  FULL: {},
  ALONE_LONGER: _NO_TEACHER,
  'copied': {'strategy': 'none', 'transfer_steps': 0},
  'feature_maps': {'attention': 0.0},
  'joint': {'strategy': 'joint'},
  'auxiliary': {'strategy': 'auxiliary', 'transfer_steps': 0},
}
# In the table's order; arms run in that of ARMS, for one needs the time of two.
TOLD: Mapping[str, str] = {
  FRESH: 'no pre-training',
  ALONE: 'no teacher',
  ALONE_LONGER: 'no teacher, the wall time of the full recipe',
  'distillation': '+ distillation',
  'copied': "+ the teacher's embeddings and head",
  'feature_maps': '+ progressive transfer of feature maps',
  FULL: '+ progressive transfer of feature maps and attention',
  'joint': 'the same, all layers at once (joint)',
  'auxiliary': 'the same, beside the distillation (auxiliary)',
}
SCORES = ('accuracy', 'perplexity', 'sst2')
# Arms with all seeds; the others have the first one.
SEEDED = (FRESH, ALONE, ALONE_LONGER, 'distillation', FULL)


@dataclasses.dataclass(frozen=True)
class Bench:
  """What all arms share."""

  recipe: Recipe
  given: chain.Given
  places: Mapping[str, str]

  def path(self, arm: str, seed: int) -> pathlib.Path:
    """The workdir of an arm's run."""
    return self.given.workdir / f'{arm}-{seed}'

  def student(self, arm: str, seed: int) -> TrainConfig:
    """The run of an arm."""
    base = self.recipe.runs[STUDENT]
    changed = dataclasses.replace(
      base,
      seed=seed,
      distillation=dataclasses.replace(base.distillation, **ARMS[arm]),
    )
    if arm == ALONE_LONGER:
      changed = dataclasses.replace(changed, num_steps=self._longer(seed))
    return recipe.resolve(changed, self.places)

  def _longer(self, seed: int) -> int:
    """Steps without a teacher in the time of the full recipe."""
    started = Workdir(self.path(ALONE_LONGER, seed))
    if started.config.exists():
      steps = started.read_config().num_steps
      assert steps is not None
      return steps
    base = self.recipe.runs[STUDENT]
    assert base.num_steps is not None
    times = [
      training_seconds(
        metrics_log.read(Workdir(self.path(arm, seed)).metrics),
        base.batch_size,
      )
      for arm in (FULL, ALONE)
    ]
    return round(base.num_steps * times[0] / times[1])

  def run(self, arm: str, seed: int) -> dict[str, Any]:
    """Trains and fine-tunes; a row of the table."""
    path = self.path(arm, seed)
    row: dict[str, Any] = {'arm': arm, 'seed': seed}
    if arm == FRESH:
      row |= {'steps': 0, 'seconds': 0.0}
    else:
      config = self.student(arm, seed)
      done = attempt.train(config, path)
      if done.results is None:
        return row | {'problem': done.problem}
      records = metrics_log.read(Workdir(path).metrics)
      final = done.results['final']
      row |= {
        'steps': final['step'],
        'seconds': training_seconds(records, config.batch_size),
        'accuracy': final['validation/accuracy'],
        'perplexity': final['validation/perplexity'],
      }
    after = attempt.train(
      self.fine_tuning(arm, seed), self.given.workdir / f'{arm}-{seed}-sst2'
    )
    if after.results is not None:
      row['sst2'] = after.results['final']['validation/accuracy']
    return row | {'problem': after.problem}

  def fine_tuning(self, arm: str, seed: int) -> TrainConfig:
    """The run behind that of an arm."""
    tuned = dataclasses.replace(self.recipe.runs[FINE_TUNED], seed=seed)
    if arm == FRESH:
      student = self.recipe.runs[STUDENT]
      tuned = dataclasses.replace(
        tuned, init='scratch', model=student.model, tokenizer=student.tokenizer
      )
    model = Workdir(self.path(arm, seed)).model
    return recipe.resolve(tuned, {**self.places, STUDENT: str(model)})


def unigram(config: TrainConfig, tokenizer: Any) -> dict[str, float]:
  """Scores of a model that knows only how frequent each token is."""
  task = preparation.find_task(config)
  train, held_out = (
    preparation.load_split(config, task, tokenizer, name).features
    for name in ('train', 'validation')
  )
  counts = np.ones(len(tokenizer))
  for row in range(0, len(train), max(1, len(train) // 20_000)):
    ids = train.tokens(row)  # type: ignore[union-attr]
    np.add.at(counts, ids, 1)
  counts[list(tokenizer.all_special_ids)] = 1e-9
  probability = counts / counts.sum()
  right, nll, total = 0, 0.0, 0
  for batch, _ in loader.eval_batches(
    held_out, batch_size=config.eval_batch_size, batching='padded'
  ):
    labels = batch['labels'][batch['weights'] > 0]
    labels = labels[labels != losses.IGNORE_INDEX]
    right += int((labels == probability.argmax()).sum())
    nll -= float(np.log(probability[labels]).sum())
    total += len(labels)
  return {'accuracy': right / total, 'perplexity': math.exp(nll / total)}


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Mean and standard error of each arm's scores."""
  found = []
  for arm in TOLD:
    mine = [r for r in rows if r['arm'] == arm and r.get('sst2') is not None]
    if not mine:
      continue
    entry: dict[str, Any] = {'arm': arm, 'runs': len(mine)}
    for name in (*SCORES, 'seconds', 'steps'):
      if name not in mine[0]:
        continue
      values = np.array([row[name] for row in mine], float)
      entry[name] = float(values.mean())
      if len(values) > 1:
        spread = values.std(ddof=1) / math.sqrt(len(values))
        entry[f'{name}_error'] = float(spread)
    found.append(entry)
  return found


def lines(
  arms: Sequence[Mapping[str, Any]],
  teacher: Mapping[str, Any],
  baseline: Mapping[str, float],
) -> list[str]:
  """The table as Markdown."""

  def cell(entry: Mapping[str, Any], name: str, digits: int) -> str:
    if name not in entry:
      return ''
    told = f'{entry[name]:.{digits}f}'
    error = entry.get(f'{name}_error')
    return told if error is None else f'{told} ± {error:.{digits}f}'

  rows = [
    ['most frequent token', '', '', f'{baseline["accuracy"]:.4f}',
     f'{baseline["perplexity"]:.1f}', ''],
    ['the teacher', '', '', f'{teacher["validation/accuracy"]:.4f}',
     f'{teacher["validation/perplexity"]:.1f}', ''],
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


def differences(arms: Sequence[Mapping[str, Any]]) -> list[str]:
  """How far each arm with several seeds is from no teacher, as Markdown."""
  known = {entry['arm']: entry for entry in arms if entry['runs'] > 1}
  if ALONE not in known:
    return []
  control = known.pop(ALONE)

  def cell(entry: Mapping[str, Any], name: str) -> str:
    if name not in entry:
      return ''
    difference = entry[name] - control[name]
    error = math.hypot(entry[f'{name}_error'], control[f'{name}_error'])
    ratio = f'{difference / error:+.1f}' if error else 'no spread'
    return f'{difference:+.4f} ({ratio})'

  rows = [
    [TOLD[arm], *(cell(entry, name) for name in SCORES)]
    for arm, entry in known.items()
  ]
  header = ['against no teacher', 'masked accuracy', 'perplexity', 'SST-2 dev']
  told = 'Difference of the means, and in brackets that in standard errors:'
  return ['', told, '', *markdown.table(header, rows, 'lrrr')]


def draw(bench: Bench, rows: Sequence[Mapping[str, Any]], seed: int):
  """Held-out accuracy over the steps, a line for each arm."""
  figure = canvas.figure(8, 4.5)
  axes = figure.subplots()
  for row in rows:
    if row['seed'] == seed and row['arm'] != FRESH:
      path = bench.path(row['arm'], seed)
      records = metrics_log.read(Workdir(path).metrics)
      points = curves.series(records, 'validation/accuracy')
      axes.plot(*points, 'o-', markersize=3, label=TOLD[row['arm']])
  axes.set(xlabel='step', ylabel='masked accuracy, held out')
  axes.grid(alpha=0.3)
  axes.legend(fontsize='small')
  canvas.save(figure, bench.given.workdir / 'curves.png')


def main():
  """Runs what is missing, and writes the table after every arm."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  for name in ('text', 'task_data', 'workdir'):
    parser.add_argument(f'--{name}', type=pathlib.Path, required=True)
  parser.add_argument('--seeds', default='0,1,2')
  parser.add_argument('--arms', default=','.join(ARMS))
  args, overrides = parser.parse_known_args()
  loaded = recipe.load(RECIPE, ['distillation.py', *overrides])
  given = chain.Given(args.text, args.workdir, args.task_data, workers=2)
  shared = dataclasses.replace(loaded, runs={TEACHER: loaded.runs[TEACHER]})
  summary = chain.run(shared, given)
  teacher = summary['runs'][0]['results']['final']
  places = chain.directories(given) | {
    TEACHER: str(Workdir(given.workdir / TEACHER).model)
  }
  bench = Bench(loaded, given, places)
  tokenizer = Workdir(given.workdir / TEACHER).read_tokenizer()
  baseline = unigram(bench.student(ALONE, 0), tokenizer)
  seeds = [int(seed) for seed in args.seeds.split(',')]
  chosen = args.arms.split(',')
  todo = [(arm, seed) for seed in seeds for arm in chosen if arm in SEEDED]
  todo += [(arm, seeds[0]) for arm in chosen if arm not in SEEDED]
  rows: list[dict[str, Any]] = []
  for arm, seed in todo:
    rows.append(bench.run(arm, seed))
    print(json.dumps(rows[-1]), flush=True)
    files.write_json(
      given.workdir / 'table.json',
      {'unigram': baseline, 'teacher': teacher, 'rows': rows,
       'cpu': jax.devices()[0].device_kind},
    )  # fmt: skip
    arms = summarise(rows)
    files.write_lines(
      given.workdir / 'table.md',
      [*lines(arms, teacher, baseline), *differences(arms)],
    )
    draw(bench, rows, seeds[0])


if __name__ == '__main__':
  main()
