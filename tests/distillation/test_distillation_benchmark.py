"""The table of benchmarks/distillation.py, from runs that are made up."""

import importlib
import json
import types

import pytest

from mobilebert_jax.config import run as run_config
from mobilebert_jax.experiments.recipe import chain, recipe
from mobilebert_jax.runtime.errors import InputError


@pytest.fixture(scope='module')
def driver(repo):
  """The script and the module of its table."""
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(repo / 'benchmarks'))
    script = importlib.import_module('distillation')
    yield types.SimpleNamespace(script=script, table=script.table)


@pytest.fixture
def bench(driver, repo, tmp_path):
  loaded = recipe.load(str(repo / driver.script.RECIPE))
  given = chain.Given(tmp_path / 'text', tmp_path, tmp_path / 'task')
  places = chain.directories(given) | {'teacher': str(tmp_path / 'teacher')}
  return driver.script.Bench(loaded, given, places)


def finish(bench, arm, seed, *, seconds=90.0, sst2=0.75, **scores):
  """Leaves behind what a finished arm does."""
  run, tuned = bench.run_of(arm, seed), bench.tuned_of(arm, seed)
  config = bench.student('none', seed)
  steps = config.num_steps
  for place, final in (
    (run, {f'validation/{name}': value for name, value in scores.items()}),
    (tuned, {'validation/accuracy': sst2}),
  ):
    place.path.mkdir()
    place.config.write_text(run_config.to_json(config))
    speed = steps * config.batch_size / seconds
    records = [
      {'step': steps, 'examples_per_second': speed},
      {'step': steps, **final},
    ]
    place.metrics.write_text(''.join(json.dumps(r) + '\n' for r in records))
    place.results.write_text(json.dumps({'final': {'step': steps} | final}))


def test_what_is_finished_is_a_row_of_the_table(bench, driver, tmp_path):
  for seed, accuracy in enumerate((0.2, 0.22, 0.24)):
    finish(bench, 'none', seed, accuracy=accuracy, perplexity=90.0)
    finish(bench, 'attention', seed, accuracy=accuracy + 0.1, perplexity=50.0)
  finish(bench, 'joint', 2, accuracy=0.3, perplexity=51.0, sst2=0.7)
  # Its fine-tuning is not finished.
  finish(bench, 'auxiliary', 0, accuracy=0.3, perplexity=51.0)
  bench.tuned_of('auxiliary', 0).results.unlink()
  bench.write({'accuracy': 0.05, 'perplexity': 600.0})
  content = json.loads((tmp_path / 'table.json').read_text())
  assert [(row['arm'], row['seed']) for row in content['rows']] == [
    *(('none', seed) for seed in range(3)),
    *(('attention', seed) for seed in range(3)),
    ('joint', 2),
  ]
  assert content['rows'][0]['seconds'] == pytest.approx(90)
  told = (tmp_path / 'table.md').read_text()
  # The standard error of 0.20, 0.22 and 0.24 is 0.02 / sqrt(3).
  assert '| no teacher | 3 | 1,800 / 90 | 0.2200 ± 0.0115 | 90.0 | 0.75' in told
  assert '(joint) | 1 | 1,800 / 90 | 0.3000 | 51.0 | 0.7000 |' in told
  # 0.1, and the error of the difference of two such means.
  assert '+0.1000 (+6.1) | -40.0000 (no spread)' in told
  assert (tmp_path / 'curves.png').stat().st_size > 10_000
  assert not list(tmp_path.glob('*partial*'))


def test_as_long_as_the_full_recipe(bench):
  finish(bench, 'none', 1, seconds=100.0)
  with pytest.raises(InputError, match='attention-1 is not finished'):
    bench.student('none_same_time', 1)
  finish(bench, 'attention', 1, seconds=150.0)
  config = bench.student('none_same_time', 1)
  assert (config.num_steps, config.distillation.teacher) == (2_700, None)


def test_which_arms_have_which_seeds(driver):
  chosen = driver.script.chosen
  everything = chosen(None, '0,1')
  assert everything.count(('joint', 0)) == 1 and ('joint', 1) not in everything
  assert {('none', 0), ('none', 1), ('teacher', 1)} <= set(everything)
  assert {arm for arm, _ in everything} == set(driver.table.TOLD)
  assert chosen('joint,none', '1,2') == [
    ('joint', 1), ('none', 1), ('joint', 2), ('none', 2),
  ]  # fmt: skip
  # One that needs the time of others comes behind them.
  order = [arm for arm, seed in everything if seed == 0]
  assert order.index('none_same_time') > order.index('attention')
  with pytest.raises(InputError, match="'both' is none of teacher, fresh"):
    chosen('both', '0')
