"""Searches: fields, trials, tables, divergence, and starting again."""

import json
import pathlib
import types

import pytest
from safetensors.numpy import load_file

from mobilebert_jax import launch
from mobilebert_jax import sweep as command
from mobilebert_jax.config import run as run_config
from mobilebert_jax.experiments.sweep import grid, search
from mobilebert_jax.runtime import lock
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.files import write_json
from mobilebert_jax.training import setup
from mobilebert_jax.training.failures import NonFiniteError
from mobilebert_jax.training.workdir import Workdir
from tests.support import killing, one_device, tiny

# Whole runs.
pytestmark = pytest.mark.slow

RATES = '--sweep.optimizer.learning_rate'


@pytest.fixture
def config(tmp_path):
  return tiny.write(tmp_path)


def run(config, workdir, *args):
  command.main(['sweep', f'--config={config}', f'--workdir={workdir}', *args])


def summary(workdir):
  return json.loads((workdir / 'sweep.json').read_text())


def test_fields_and_their_values():
  given = command.COMMAND.parse(
    [
      '--config=x',
      '--workdir=w',
      '--sweep.data.buckets=(8,),(8, 16)',
      '--config.seed=1',
      '--sweep.batch_size=16, 32',
    ]
  )
  assert grid.fields_of(given.assignments['sweep']) == {
    'data.buckets': ('(8,)', '(8, 16)'),
    'batch_size': ('16', '32'),
  }
  assert given['config'] == 'x'
  assert given.assignments['config'] == (('seed', '1'),)


def test_every_combination_has_a_directory_of_its_own():
  fields = {'a': ('1', '2'), 'init': ('x/y', 'x_y')}
  trials = grid.trials(fields, tuple)
  assert [trial.values for trial in trials] == [
    {'a': '1', 'init': 'x/y'},
    {'a': '1', 'init': 'x_y'},
    {'a': '2', 'init': 'x/y'},
    {'a': '2', 'init': 'x_y'},
  ]
  names = [trial.name for trial in trials]
  assert len(set(names)) == 4
  assert names[1] == 'a=1,init=x_y'
  assert names[0].startswith('a=1,init=x_y-')
  (long,) = grid.trials({'init': ('y' * 500,)}, tuple)
  assert len(long.name) < 140


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    ([], 'no field to search'),
    (['--sweep.batch_size='], 'such as --sweep.batch_size=16,32'),
    (['--sweep.batch_size=8,,9'], 'must name a field of the config'),
    (['--sweep.=8'], 'must name a field of the config'),
    (['--sweep.seed=1', '--sweep.seed=2'], '--sweep.seed is given twice'),
    (['--sweep.seed=1,1'], 'seed=1 and seed=1 are the same trial'),
    ([f'{RATES}=1e-5,0.00001'], 'are the same trial'),
    (['--sweep.sed=1'], "config has no field 'sed'"),
    (['--sweep.seed=x'], "config.seed is 'x', but must be a whole number"),
    (['--sweep.seed=1,-1'], 'config.seed is -1, but must be at least 0'),
    (['--sweep.seed=1', '--seed=2'], 'there is no flag --seed'),
    (['--sweep.batch_size=8,9'], 'must be a multiple of 8'),
    (['--sweep.task=cola,sst2'], 'have different primary metrics'),
  ],
)
def test_wrong_searches_write_nothing(config, tmp_path, args, message):
  with pytest.raises(InputError, match=message):
    run(config, tmp_path / 'w', *args)
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize('flag', ['config', 'workdir'])
def test_both_flags_are_needed(flag):
  given = {'config': 'x.py', 'workdir': 'w'}
  del given[flag]
  args = [f'--{name}={value}' for name, value in given.items()]
  with pytest.raises(InputError, match=f'the flag --{flag} is missing'):
    command.main(['sweep', '--sweep.seed=1', *args])


def test_a_directory_with_a_run_is_refused(config, tmp_path):
  (tmp_path / 'model_config.json').write_text('{}')
  with pytest.raises(InputError, match='holds a single run'):
    run(config, tmp_path, '--sweep.seed=1')
  (tmp_path / 'file').touch()
  with pytest.raises(InputError, match='is a file'):
    run(config, tmp_path / 'file', '--sweep.seed=1')


def test_one_search_at_a_time_in_a_workdir(config, tmp_path):
  with lock.held(tmp_path / 'w'):
    with pytest.raises(InputError, match='w is in use by another run'):
      run(config, tmp_path / 'w', '--sweep.seed=1')


def test_a_search_with_a_trial_that_diverges(config, tmp_path, capsys):
  args = [f'{RATES}=1e30,1e-3', '--config.num_steps=4']
  with one_device.used():
    run(config, tmp_path / 'w', *args)
  found = summary(tmp_path / 'w')
  good, bad = found['points']
  assert found['best'] == good and good['status'] == 'finished'
  assert good['values'] == {'optimizer.learning_rate': '1e-3'}
  assert (bad['status'], bad['score']) == ('diverged', None)
  assert 'at step' in bad['problem']
  workdir = tmp_path / 'w' / good['directory']
  results = json.loads((workdir / 'results.json').read_text())
  assert results['best']['validation/accuracy'] == good['score']
  best = tmp_path / 'w' / found['best']['directory']
  copy = load_file(tmp_path / 'w' / 'model' / 'model.safetensors')
  original = load_file(best / 'model' / 'model.safetensors')
  assert all((copy[name] == original[name]).all() for name in original)
  table = (tmp_path / 'w' / 'sweep.md').read_text()
  assert table.count('\n| ') == 4 and '| diverged |' in table
  assert (tmp_path / 'w' / 'sweep.png').read_bytes().startswith(b'\x89PNG')
  assert '2 trials, 1 of them diverged: the best' in capsys.readouterr().out

  # Again: nothing is trained, and everything is as before.
  before = (tmp_path / 'w' / 'sweep.json').read_bytes()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(setup, 'build', lambda *_: pytest.fail('trained again'))
    run(config, tmp_path / 'w', *args)
  assert (tmp_path / 'w' / 'sweep.json').read_bytes() == before


def test_all_trials_diverged(config, tmp_path, monkeypatch):
  def diverge(config, path):
    path.mkdir()
    raise NonFiniteError('the loss is nan')

  monkeypatch.setattr(launch, 'train', diverge)
  with pytest.raises(FloatingPointError, match='every trial diverged'):
    run(config, tmp_path / 'w', '--sweep.seed=1,2')
  found = summary(tmp_path / 'w')
  assert found['best'] is None
  assert [row['problem'] for row in found['points']] == ['the loss is nan'] * 2
  assert not (tmp_path / 'w' / 'model').exists()


@pytest.fixture
def quick(monkeypatch):
  """Runs without a model: a score for each seed; one of them is killed."""
  trained = []

  def train(config, path):
    place = Workdir(path)
    path.mkdir(exist_ok=True)
    place.config.write_text(run_config.to_json(config))
    trained.append(config.seed)
    if config.seed == quick.killed:
      raise KeyboardInterrupt
    place.model.mkdir()
    (place.model / 'model.safetensors').write_text(str(config.seed))
    metric = 'validation/accuracy'
    score = (config.seed * 7 % 5) / 5
    results = {'task': 'sst2', 'primary_metric': metric, 'final': {}}
    results['best'] = {'step': 4, metric: score}
    write_json(place.results, results)
    return results

  monkeypatch.setattr(launch, 'train', train)
  quick = types.SimpleNamespace(trained=trained, killed=None)
  return quick


@pytest.mark.parametrize('killed', [1, 2, 3])
def test_a_search_continues_where_it_was_stopped(
  config, tmp_path, quick, killed
):
  args = ['--sweep.seed=1,2,3']
  broken, whole = tmp_path / 'broken', tmp_path / 'whole'
  quick.killed = killed
  with pytest.raises(KeyboardInterrupt):
    run(config, broken, *args)
  if killed > 1:
    states = [row['status'] for row in summary(broken)['points']]
    assert states.count('finished') == killed - 1
  quick.killed = None
  quick.trained.clear()
  run(config, broken, *args)
  assert quick.trained == list(range(killed, 4))
  run(config, whole, *args)
  for name in ('sweep.json', 'sweep.md', 'model/model.safetensors'):
    assert (broken / name).read_bytes() == (whole / name).read_bytes()
  # 7, 14 and 21 modulo 5 are 2, 4 and 1.
  assert [row['values']['seed'] for row in summary(whole)['points']] == [
    '2', '1', '3',
  ]  # fmt: skip
  assert (whole / 'model' / 'model.safetensors').read_text() == '2'
  # More values: only the new ones run.
  quick.trained.clear()
  run(config, whole, '--sweep.seed=1,2,3,4')
  assert quick.trained == [4]
  # Another config in the same directory is refused before anything runs.
  with pytest.raises(InputError, match='made by another config'):
    run(config, whole, '--sweep.seed=1,2', '--config.num_steps=9')
  assert quick.trained == [4]


@pytest.mark.long
def test_a_killed_search_continues(config, repo, tmp_path):
  args = ['--sweep.seed=1,2,3', '--config.num_steps=4']
  broken, whole = tmp_path / 'broken', tmp_path / 'whole'
  flags = [f'--config={config}', f'--workdir={broken}']
  moment = 'config.seed == 2 and step == 3'
  killing.run(repo, 'sweep', moment, [*flags, *args])
  states = [row['status'] for row in summary(broken)['points']]
  assert sorted(states) == ['finished', 'not finished', 'not finished']
  first = broken / 'seed=1' / 'results.json'
  time = first.stat().st_mtime_ns
  run(config, broken, *args)
  assert first.stat().st_mtime_ns == time
  run(config, whole, *args)
  for name in ('sweep.json', 'sweep.md'):
    assert (broken / name).read_bytes() == (whole / name).read_bytes()


def test_the_picture_takes_any_values(tmp_path):
  rows = [
    {'values': {'init': 'a/$b', 'x': '1e-5'}, 'score': 0.5, 'status': ''},
    {'values': {'init': 'c', 'x': '2'}, 'score': None, 'status': 'diverged'},
    {'values': {'init': 'c', 'x': '1e-5'}, 'score': None, 'status': 'not'},
  ]
  found = {'fields': ['init', 'x'], 'primary_metric': 'v/a', 'points': rows}
  path = search.draw(tmp_path / 'p.png', found)
  assert path.read_bytes().startswith(b'\x89PNG')
  assert search._in_order({'1e-5', '2', '0.1'}) == ['1e-5', '0.1', '2']
  assert [p.name for p in pathlib.Path(tmp_path).iterdir()] == ['p.png']
