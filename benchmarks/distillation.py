"""Which part of the recipe brings what, on real text, at a small scale.

  python benchmarks/distillation.py --text=PATH --task_data=SST-2 --workdir=DIR
      [--seeds=0,1,2] [--arms=none,distillation,...] [--config.NAME.a.b=value]

One vocabulary, one data set and one teacher (the first parts of
configs/recipe_small.py) serve every arm. An arm is a student with the recipe's
settings but for what its name says; all take the same number of steps, and are
fine-tuned alike. Without --arms, those that the conclusions rest on are run
with every seed, the others with the first.

Whatever is finished in DIR is a row of table.json, table.md and curves.png,
which are made anew after every arm. So the same command continues, the table
grows with more seeds or arms, and several commands with arms or seeds of their
own may run at once behind the teacher.

docs/explanation/distillation.md shows and discusses the table.
"""

import argparse
import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import distillation_table as table
import jax
import numpy as np

from mobilebert_jax import losses as losses_task
from mobilebert_jax.config import command_line
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.data.batching import loader
from mobilebert_jax.experiments import trial
from mobilebert_jax.experiments.recipe import chain, recipe
from mobilebert_jax.experiments.recipe.recipe import Recipe
from mobilebert_jax.reporting import metrics_log
from mobilebert_jax.reporting.report import training_seconds
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import setup
from mobilebert_jax.training.workdir import Workdir

RECIPE = 'configs/recipe_small.py'
TEACHER, STUDENT, FINE_TUNED = 'teacher', 'student', 'fine_tuned'
FRESH, ALONE, ALONE_LONGER, FULL = (
  'fresh', table.CONTROL, 'none_same_time', 'attention'
)  # fmt: skip
_NO_TEACHER: Mapping[str, Any] = {
  'teacher': None,
  'strategy': 'none',
  'transfer_steps': 0,
}
# Arm -> how its distillation differs from the recipe's; the first two have no
# student to pre-train. One needs the time of two that are before it.
ARMS: Mapping[str, Mapping[str, Any]] = {
  TEACHER: {},
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
# Arms that have every seed where no arms are named; the others have the first.
SEEDED = (TEACHER, FRESH, ALONE, ALONE_LONGER, 'distillation', FULL)


@dataclasses.dataclass(frozen=True)
class Bench:
  """What all arms share."""

  recipe: Recipe
  given: chain.Given
  places: Mapping[str, str]

  def run_of(self, arm: str, seed: int) -> Workdir:
    """What is fine-tuned."""
    name = TEACHER if arm == TEACHER else f'{arm}-{seed}'
    return Workdir(self.given.workdir / name)

  def tuned_of(self, arm: str, seed: int) -> Workdir:
    """The run behind it."""
    return Workdir(self.given.workdir / f'{arm}-{seed}-sst2')

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
    started = self.run_of(ALONE_LONGER, seed)
    if started.config.exists():
      steps = started.read_config().num_steps
      assert steps is not None
      return steps
    base = self.recipe.runs[STUDENT]
    assert base.num_steps is not None
    times = []
    for arm in (FULL, ALONE):
      done = self.run_of(arm, seed)
      if not done.results.exists():
        raise InputError(
          f'{ALONE_LONGER} needs the time of {FULL} and {ALONE} with seed '
          f'{seed}, but {done.path} is not finished; run that first.'
        )
      records = metrics_log.read(done.metrics)
      times.append(training_seconds(records, base.batch_size))
    return round(base.num_steps * times[0] / times[1])

  def run(self, arm: str, seed: int) -> str | None:
    """Trains and fine-tunes; returns how it diverged, if it did."""
    if arm not in (TEACHER, FRESH):
      place = self.run_of(arm, seed).path
      problem = trial.train(self.student(arm, seed), place).problem
      if problem:
        return problem
    config = self.fine_tuning(arm, seed)
    return trial.train(config, self.tuned_of(arm, seed).path).problem

  def fine_tuning(self, arm: str, seed: int) -> TrainConfig:
    """The run behind that of an arm."""
    tuned = dataclasses.replace(self.recipe.runs[FINE_TUNED], seed=seed)
    if arm == FRESH:
      student = self.recipe.runs[STUDENT]
      tuned = dataclasses.replace(
        tuned, init='scratch', model=student.model, tokenizer=student.tokenizer
      )
    model = str(self.run_of(arm, seed).model)
    return recipe.resolve(tuned, {**self.places, STUDENT: model})

  def rows(self) -> list[dict[str, Any]]:
    """A row for each arm and seed that is finished, whoever ran it."""
    return [
      self._row(arm, seed)
      for arm in ARMS
      for seed in sorted(self._seeds(arm))
      if self.tuned_of(arm, seed).results.exists()
    ]

  def _seeds(self, arm: str) -> Iterator[int]:
    for path in self.given.workdir.glob(f'{arm}-*-sst2'):
      yield int(path.name.split('-')[1])

  def _row(self, arm: str, seed: int) -> dict[str, Any]:
    tuned = self.tuned_of(arm, seed).read_results()
    assert tuned is not None
    row = {'arm': arm, 'seed': seed, 'steps': 0, 'seconds': 0.0}
    row['sst2'] = tuned['final']['validation/accuracy']
    if arm == FRESH:
      return row
    place = self.run_of(arm, seed)
    results = place.read_results()
    assert results is not None
    final, size = results['final'], place.read_config().batch_size
    return row | {
      'steps': final['step'],
      'seconds': training_seconds(metrics_log.read(place.metrics), size),
      'accuracy': final['validation/accuracy'],
      'perplexity': final['validation/perplexity'],
    }

  def write(self, baseline: Mapping[str, float]):
    """Makes the table and the picture of all that is finished."""
    rows, root = self.rows(), self.given.workdir
    content = {
      'unigram': dict(baseline),
      'rows': rows,
      'cpu': jax.devices()[0].device_kind,
    }
    arms = table.summarise(rows)
    told = [*table.lines(arms, baseline), *table.differences(arms)]
    # Another command may be doing the same.
    text = json.dumps(content, indent=2, sort_keys=True) + '\n'
    files.write_text(root / 'table.json', text, unique=True)
    files.write_text(root / 'table.md', '\n'.join(told) + '\n', unique=True)
    runs: dict[str, pathlib.Path] = {}
    for row in rows:
      if row['arm'] not in (TEACHER, FRESH):
        runs.setdefault(row['arm'], self.run_of(row['arm'], row['seed']).path)
    table.draw(root / 'curves.png', runs)


def unigram(config: TrainConfig, tokenizer: Any) -> dict[str, float]:
  """Scores of a model that knows only how frequent each token is."""
  task = setup.find_task(config)
  train, held_out = (
    setup.load_split(config, task, tokenizer, name).features
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
    labels = labels[labels != losses_task.IGNORE_INDEX]
    right += int((labels == probability.argmax()).sum())
    nll -= float(np.log(probability[labels]).sum())
    total += len(labels)
  return {'accuracy': right / total, 'perplexity': math.exp(nll / total)}


def chosen(arms: str | None, seeds: str) -> list[tuple[str, int]]:
  """The arms and seeds to run, seed by seed.

  Args:
    arms: names with commas, each of which then has every seed; None: all.
    seeds: numbers with commas.

  Raises:
    InputError: there is no such arm.
  """
  names = list(ARMS) if arms is None else arms.split(',')
  for name in names:
    if name not in ARMS:
      raise InputError(f'--arms: {name!r} is none of {", ".join(ARMS)}.')
  numbers = [int(seed) for seed in seeds.split(',')]
  found = [
    (arm, seed)
    for seed in numbers
    for arm in names
    if arms is not None or arm in SEEDED
  ]
  if arms is None:
    found += [(arm, numbers[0]) for arm in names if arm not in SEEDED]
  return found


def main():
  """Runs what is missing, and writes the table after every arm."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  for name in ('text', 'task_data', 'workdir'):
    parser.add_argument(f'--{name}', type=pathlib.Path, required=True)
  parser.add_argument('--seeds', default='0,1,2')
  parser.add_argument('--arms')
  args, overrides = parser.parse_known_args()
  todo = chosen(args.arms, args.seeds)
  loaded = recipe.load(RECIPE, command_line.assignments(overrides))
  given = chain.Given(args.text, args.workdir, args.task_data, workers=2)
  shared = dataclasses.replace(loaded, runs={TEACHER: loaded.runs[TEACHER]})
  chain.run(shared, given)
  teacher = Workdir(given.workdir / TEACHER)
  places = chain.directories(given) | {TEACHER: str(teacher.model)}
  bench = Bench(loaded, given, places)
  baseline = unigram(bench.student(ALONE, 0), teacher.read_tokenizer())
  for arm, seed in todo:
    problem = bench.run(arm, seed)
    if problem:
      print(f'{arm}, seed {seed}: {problem}', flush=True)
    bench.write(baseline)
    for row in bench.rows():
      if (row['arm'], row['seed']) == (arm, seed):
        print(json.dumps(row), flush=True)


if __name__ == '__main__':
  main()
