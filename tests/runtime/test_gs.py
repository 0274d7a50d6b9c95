"""Whole runs with everything on gs://, against an emulator of the store."""

import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest

from mobilebert_jax import predict
from mobilebert_jax.config import configure
from mobilebert_jax.convert import __main__ as convert
from mobilebert_jax.convert import save
from mobilebert_jax.convert.pretrained import load_pretrained, save_pretrained
from mobilebert_jax.data.readers import choice_files
from mobilebert_jax.data.readers import tfds as readers_tfds
from mobilebert_jax.experiments.sweep import grid, search
from mobilebert_jax.reporting import metrics_log
from mobilebert_jax.runtime import (
  exit_status,
  files,
  local_copies,
  object_store,
)
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training import (
  loop,
  mesh,
  scoring,
  setup,
  starting,
  train_step,
)
from mobilebert_jax.training.checkpoint import Checkpoints
from mobilebert_jax.training.optimizer import make_optimizer
from mobilebert_jax.training.workdir import Workdir
from tests.support import gs, processes, tfds_downloads, tiny

pytestmark = pytest.mark.scale
RUN = f'{gs.BUCKET}/runs/tiny'
# The process kills itself between two checkpoints.
KILLED = """
import os, signal, sys
from mobilebert_jax import launch
from mobilebert_jax.config import overrides
from mobilebert_jax.config.command_line import Flag
from mobilebert_jax.training.hooks import Hook

class Deadly(Hook):
  def after_step(self, step, metrics):
    if step == 5:
      os.kill(os.getpid(), signal.SIGKILL)

train = overrides.run_command('train', '', flags=[Flag('workdir', '')])
given = train.parse(sys.argv[1:])
launch.train(overrides.agreed(given), given['workdir'], [Deadly()])
"""


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
  for needed in ('gcsfs', 'gcp_storage_emulator'):
    # gcsfs reads its settings when it is imported.
    if importlib.util.find_spec(needed) is None:
      pytest.skip(f"{needed} is missing: install the extra 'scale'")
  with gs.emulator(tmp_path_factory.mktemp('cache')) as environment:
    yield environment


@pytest.fixture
def cache(environment, tmp_path, monkeypatch):
  """An empty cache of its own."""
  monkeypatch.setenv(local_copies.VARIABLE, str(tmp_path / 'cache'))
  return tmp_path / 'cache'


def upload(source: pathlib.Path, target: str):
  """Uploads a file, or all files of a directory."""
  for path in [source] if source.is_file() else source.rglob('*'):
    if path.is_file():
      name = '' if source.is_file() else f'/{path.relative_to(source)}'
      object_store.upload(path, files.path(target + name))


def parse(config: pathlib.Path, *args: str):
  return configure(config, args)


@pytest.fixture(scope='module')
def local(tmp_path_factory, environment):
  """A run on this machine: its config file and its workdir."""
  root = tmp_path_factory.mktemp('local')
  config = tiny.write(root)
  loop.train(parse(config), root / 'run')
  return config, root / 'run'


@pytest.fixture(scope='module')
def remote(local, environment, repo):
  """The same run with all on gs://, killed and continued; its overrides."""
  config, workdir = local
  upload(workdir.parent / 'SST-2', f'{gs.BUCKET}/glue/SST-2')
  upload(workdir.parent / 'vocab.txt', f'{gs.BUCKET}/vocab.txt')
  args = (
    f'--config.data.path={gs.BUCKET}/glue',
    f'--config.tokenizer={gs.BUCKET}/vocab.txt',
  )
  killed = subprocess.run(
    [sys.executable, '-c', KILLED, f'--config={config}',
     f'--workdir={RUN}', *args],
    env=environment | {
      'PYTHONPATH': str(repo),
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': '8',
      'JAX_DEFAULT_MATMUL_PRECISION': 'highest',
    },
    capture_output=True,
    text=True,
  )  # fmt: skip
  assert killed.returncode == -signal.SIGKILL, killed.stderr
  # What the checkpoint of step 2 has behind it is there.
  steps = [r['step'] for r in metrics_log.read(f'{RUN}/metrics.jsonl')]
  assert {0, 1} <= set(steps)
  loop.train(parse(config, *args), RUN)
  return args


def state_of(workdir: Workdir):
  """Everything in the last checkpoint."""
  config = workdir.read_config()
  task = setup.find_task(config)
  model = starting.resume(config, task, workdir).model
  tx = make_optimizer(config.optimizer, 8)
  abstract, _ = train_step.abstract_state(model, tx, mesh.make_mesh())
  with Checkpoints(workdir.checkpoints, read_only=True) as checkpoints:
    state, values = checkpoints.restore(abstract)
  state = state.replace(key=jax.random.key_data(state.key))
  return jax.device_get(state), values


def test_a_killed_and_continued_run_is_the_local_run(local, remote):
  one, other = Workdir(local[1]), Workdir(files.path(RUN))
  chex.assert_trees_all_equal(state_of(one), state_of(other))
  for name in (
    'results.json', 'model/model.safetensors', 'model/config.json',
    'model/tokenizer.json', 'model_config.json', 'tokenizer/vocab.txt',
    'predictions/SST-2.tsv', 'predictions/SST-2-validation.tsv',
    'report/lengths.png', 'report/confusion.png',
  ):  # fmt: skip
    there = (other.path / name).read_bytes()
    assert there == (one.path / name).read_bytes(), name
  assert other.curves.read_bytes().startswith(b'\x89PNG')
  assert 'gs://bucket/glue' in other.report.read_text()
  told = [metrics_log.read(place.metrics) for place in (one, other)]
  for record in (*told[0], *told[1]):
    record.pop('examples_per_second', None)
  assert told[0] == told[1]
  # One file of events for each start.
  assert len(list((other.path / 'tensorboard').iterdir())) == 2
  names = [found.name for found in object_store.find(other.path)]
  assert not [n for n in names if 'partial' in n or 'tmp' in n]


def test_a_finished_run_is_not_run_again(local, remote, capsys):
  before = object_store.find(files.path(RUN))
  loop.train(parse(local[0], *remote), RUN)
  assert f'everything else in {RUN}' in capsys.readouterr().out
  assert object_store.find(files.path(RUN)) == before


# What two processes share is shown on a disk (test_processes), what a run
# leaves on gs:// above.
@pytest.mark.long
def test_several_processes_share_a_workdir(local, remote, tmp_path, repo):
  place = f'{gs.BUCKET}/runs/two'
  processes.run(
    [repo / 'train.py', f'--config={local[0]}', f'--workdir={place}', *remote],
    tmp_path,
    count=2,
    devices=4,
  )
  one, other = Workdir(local[1]), Workdir(files.path(place))
  for name in ('first', 'final', 'best'):
    chex.assert_trees_all_close(
      one.read_results()[name], other.read_results()[name], rtol=1e-5
    )
  assert len(metrics_log.read(other.metrics)) == len(
    metrics_log.read(one.metrics)
  )
  chex.assert_trees_all_close(
    state_of(one)[0].params, state_of(other)[0].params, rtol=1e-4, atol=1e-6
  )


def test_a_search_on_gs_is_the_local_search(local, remote, tmp_path):
  args = (*remote, '--config.num_steps=2')
  points = [
    grid.GridTrial(
      {'optimizer.learning_rate': rate},
      parse(local[0], *args, f'--config.optimizer.learning_rate={rate}'),
    )
    for rate in ('0.001',)
  ]
  place = files.path(f'{gs.BUCKET}/search')
  found = [search.search(points, where) for where in (place, tmp_path / 'here')]
  assert found[0] == found[1]
  for name in ('sweep.md', 'sweep.json', f'{search.MODEL}/model.safetensors'):
    assert (place / name).read_bytes() == (
      tmp_path / 'here' / name
    ).read_bytes()
  assert (place / 'sweep.png').exists()


@pytest.mark.parametrize('part', ['', '/checkpoints/4', '/model'])
def test_evaluation_reads_from_gs_what_it_reads_here(local, remote, part):
  config, workdir = local
  there = scoring.score(parse(config, *remote), RUN + part)
  assert there == scoring.score(parse(config), f'{workdir}{part}')


def test_commands_read_and_write_gs(local, remote, tmp_path, repo, environment):
  here, there = tmp_path / 'out.jsonl', f'{gs.BUCKET}/out.jsonl'
  assert not exit_status.run(
    predict.main,
    [
      'predict',
      'classify',
      f'--model={local[1]}',
      'a good film',
      f'--output={here}',
    ],
  )
  assert not exit_status.run(
    predict.main,
    [
      'predict',
      'classify',
      f'--model={RUN}',
      'a good film',
      f'--output={there}',
    ],
  )
  assert files.path(there).read_text() == here.read_text()
  scored = subprocess.run(
    [sys.executable, repo / 'eval.py', f'--config={local[0]}', *remote,
     f'--checkpoint={RUN}'],
    env=environment | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True, text=True, check=True,
  ).stdout  # fmt: skip
  results = json.loads((local[1] / 'results.json').read_text())
  accuracy = json.loads(scored)['validation/accuracy']
  assert accuracy == results['final']['validation/accuracy']
  target = f'{gs.BUCKET}/converted'
  assert exit_status.run(convert.main, ['convert', f'{RUN}/model', target]) == 0
  assert exit_status.run(convert.main, ['convert', f'{RUN}/model', target]) == 2
  assert (
    exit_status.run(
      convert.main, ['convert', f'{RUN}/model', target, '--force']
    )
    == 0
  )


def test_models_and_tokenizers_load_from_gs(local, remote, cache):
  model, params, _ = load_pretrained(None, local[1] / 'model')
  for name in (f'{RUN}/model', f'{RUN}/model/model.safetensors'):
    loaded = load_pretrained(None, name)
    assert loaded.model.config == model.config
    chex.assert_trees_all_equal(loaded.params, params)
  parts = files.path(f'{gs.BUCKET}/parts')
  save_pretrained(parts, model, params, max_shard_size=4000)
  chex.assert_trees_all_equal(load_pretrained(None, parts).params, params)
  assert len(list(parts.glob('model-*.safetensors'))) > 1
  # A directory never holds two models.
  save_pretrained(parts, model, params)
  assert [p.name for p in parts.glob('model*')] == ['model.safetensors']
  encoded = [
    MobileBertTokenizerFast.from_pretrained(name)(['a good film'])['input_ids']
    for name in (
      local[1] / 'tokenizer', f'{RUN}/tokenizer', f'{RUN}/tokenizer/vocab.txt'
    )
  ]  # fmt: skip
  assert encoded[0] == encoded[1] == encoded[2]


def test_a_directory_with_config_json_is_complete(cache, monkeypatch):
  place, sent = files.path(f'{gs.BUCKET}/atomic'), []
  real = object_store.upload

  def watched(source, target):
    sent.append(target.name)
    if target.name == 'b' and len(sent) > 4:
      raise KeyboardInterrupt
    real(source, target)

  monkeypatch.setattr(object_store, 'upload', watched)

  def write():
    with save.atomic_directory(place) as partial:
      (partial / 'sub').mkdir()
      for name in ('config.json', 'a', 'b', 'sub/z'):
        (partial / name).write_text(name)

  write()
  assert sent == ['a', 'b', 'z', 'config.json']
  assert (place / 'sub/z').read_text() == 'sub/z'
  with pytest.raises(KeyboardInterrupt):
    write()
  assert not (place / 'config.json').exists()


def test_a_file_that_fails_leaves_the_old_object(environment):
  place = files.path(f'{gs.BUCKET}/old.txt')
  files.write_text(place, 'old')
  with pytest.raises(ValueError), files.replacing(place) as partial:
    partial.write_text('half')
    raise ValueError
  assert place.read_text() == 'old'


def test_metrics_are_there_after_a_flush_and_cut_at_the_checkpoint(environment):
  place = f'{gs.BUCKET}/metrics'
  with metrics_log.MetricsLog(place, -1) as log:
    log.write(1, {'loss': 1.0})
    log.flush()
    log.write(2, {'loss': 2.0})
    steps = [r['step'] for r in metrics_log.read(f'{place}/metrics.jsonl')]
    assert steps == [1]
  with metrics_log.MetricsLog(place, 1) as log:
    log.write(2, {'loss': 3.0})
  assert metrics_log.read(f'{place}/metrics.jsonl') == [
    {'step': 1, 'loss': 1.0}, {'step': 2, 'loss': 3.0}
  ]  # fmt: skip


def test_a_checkpoint_that_lost_an_object_is_not_read(local, remote):
  """zarr would take a missing chunk for zeros."""
  checkpoint = files.path(RUN) / 'checkpoints/8'
  lost = checkpoint / 'params/mobilebert.pooler.kernel/0.0'
  content = lost.read_bytes()
  lost.unlink()
  try:
    with pytest.raises(InputError, match=f'{lost} is missing'):
      scoring.score(parse(local[0], *remote), str(checkpoint))
  finally:
    lost.write_bytes(content)


# A run on a disk passes a damaged checkpoint over in test_faults_files.
@pytest.mark.long
def test_a_checkpoint_that_lost_an_object_is_passed_over(local, remote, capsys):
  place = f'{gs.BUCKET}/damaged'
  copy = local_copies.directory(files.path(RUN))
  upload(copy, place)
  lost = files.path(place) / 'checkpoints/8/params/mobilebert.pooler.kernel/0.0'
  lost.unlink()
  (files.path(place) / 'results.json').unlink()
  results = loop.train(parse(local[0], *remote), place)
  told = capsys.readouterr().out
  assert f'{lost} is missing' in told and 'continuing at step 6 of 8' in told
  assert results == json.loads((local[1] / 'results.json').read_text())


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    (('--config.data.path=gs://nobody/glue',), 'no bucket gs://nobody.'),
    (
      ('--config.data.path=gs://bucket/none',),
      r"data.path='gs://bucket/none': expected the files train.tsv there or "
      "in 'gs://bucket/none/SST-2'",
    ),
    (
      ('--config.tokenizer=gs://bucket/none.txt',),
      'gs://bucket/none.txt is no file',
    ),
    (('--config.init=gs://bucket/none',), 'gs://bucket/none does not exist'),
    (
      ('--config.data.source=tfds', '--config.data.path=gs://bucket/none'),
      'glue/sst2 is not prepared in gs://bucket/none',
    ),
  ],
  ids=('bucket', 'data', 'tokenizer', 'model', 'tfds'),
)
def test_what_is_not_there_is_told_at_once(local, remote, args, message):
  place = f'{gs.BUCKET}/never'
  with pytest.raises(InputError, match=message):
    loop.train(parse(local[0], *remote, *args), place)
  assert not object_store.find(files.path(place))


def test_a_workdir_must_be_in_a_bucket_and_free(local, remote):
  with pytest.raises(InputError, match='there is no bucket gs://nobody'):
    loop.train(parse(local[0]), 'gs://nobody/run')
  with pytest.raises(InputError, match='is not empty and holds no run'):
    loop.train(parse(local[0]), f'{gs.BUCKET}/glue')
  with pytest.raises(InputError, match='no such directory'):
    scoring.score(parse(local[0]), f'{gs.BUCKET}/none')


def test_prepared_tfds_data_is_copied_and_read(tmp_path, cache, monkeypatch):
  tiny.write_data(tmp_path)
  with tfds_downloads.replaced(tmp_path):
    readers_tfds.prepare('glue/sst2', str(tmp_path / 'tfds'))
  place = f'{gs.BUCKET}/tfds'
  upload(tmp_path / 'tfds', place)
  files.write_text(files.path(f'{place}/squad/other'), 'not asked for')
  rows = [
    list(readers_tfds.read_split('glue/sst2', 'train', ('sentence',), where))
    for where in (str(tmp_path / 'tfds'), place)
  ]
  assert rows[0] == rows[1] and len(rows[0]) == 40
  monkeypatch.setenv('TFDS_DATA_DIR', place)
  assert readers_tfds.is_prepared('glue/sst2')
  assert not list(cache.rglob('other'))
  with pytest.raises(InputError, match='prepared on a local disk'):
    readers_tfds.prepare('glue/sst2', place)


def test_a_directory_of_many_files_is_copied_at_once(tmp_path, cache):
  for group in choice_files.RACE_GROUPS:
    for number in range(12):
      article = {
        'id': f'{group}{number}.txt', 'article': f'Text {number}.',
        'questions': ['Q?'], 'options': [['a', 'b', 'c', 'd']],
        'answers': ['A'],
      }  # fmt: skip
      path = tmp_path / 'race/dev' / group / f'{number}.txt'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(json.dumps(article))
  upload(tmp_path / 'race', f'{gs.BUCKET}/race')
  here = list(choice_files.read_race(tmp_path / 'race/dev'))
  there = list(choice_files.read_race(files.path(f'{gs.BUCKET}/race/dev')))
  assert here == there and len(here) == 24


def test_a_changed_object_is_copied_again(cache):
  place = files.path(f'{gs.BUCKET}/changing.txt')
  for text in ('one', 'two', 'one'):
    files.write_text(place, text)
    copy = local_copies.file(place)
    assert copy.read_text() == text and copy.name == place.name


def random_object(name: str, size: int) -> pathlib.Path:
  place = files.path(f'{gs.BUCKET}/{name}')
  content = np.random.default_rng(0).bytes(size)
  with files.replacing(place) as partial:
    partial.write_bytes(content)
  return place


def watch_reads(monkeypatch) -> list[tuple[int, int]]:
  """The ranges that are read from now on."""
  ranges, real = [], object_store.read

  def read(name, start, stop):
    ranges.append((start, stop))
    return real(name, start, stop)

  monkeypatch.setattr(object_store, 'read', read)
  monkeypatch.setattr(local_copies, '_BLOCK', 1000)
  return ranges


def test_a_stopped_copy_continues(cache, monkeypatch):
  place, ranges = random_object('stopped', 5500), watch_reads(monkeypatch)
  real = object_store.read

  def stopped(name, start, stop):
    if start == 3000:
      raise KeyboardInterrupt
    return real(name, start, stop)

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(object_store, 'read', stopped)
    local_copies.file(place)
  assert not list(cache.rglob('stopped'))
  ranges.clear()
  assert local_copies.file(place).read_bytes() == place.read_bytes()
  assert ranges == [(3000, 4000), (4000, 5000), (5000, 5500)]
  local_copies.file(place)
  assert len(ranges) == 3


def test_a_damaged_copy_is_never_used(cache, monkeypatch):
  place, ranges = random_object('spoilt', 2500), watch_reads(monkeypatch)
  wanted = object_store.get(place)
  partial = cache / 'objects' / f'{local_copies._key(wanted)}.partial'
  partial.parent.mkdir(parents=True)
  partial.write_bytes(b'x' * 1000)
  with pytest.raises(InputError, match='has changed while it was copied'):
    local_copies.file(place)
  assert ranges[0] == (1000, 2000) and not list(cache.rglob('spoilt'))
  assert local_copies.file(place).read_bytes() == place.read_bytes()


def test_an_object_that_is_removed_meanwhile_is_told(cache, monkeypatch):
  place = random_object('removed', 10)
  found = object_store.get(place)
  place.unlink()
  monkeypatch.setattr(object_store, 'get', lambda place: found)
  with pytest.raises(InputError, match='gs://bucket/removed has been removed'):
    local_copies.file(place)


def test_a_disk_without_room_is_told_at_once(cache, monkeypatch):
  place, ranges = random_object('large', 5000), watch_reads(monkeypatch)
  full = shutil.disk_usage('/')._replace(free=4999)
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: full)
  with pytest.raises(InputError, match='5,000 bytes are to be copied to'):
    local_copies.file(place)
  assert not ranges


def test_processes_of_a_host_share_one_copy(cache, environment, repo):
  place = random_object('shared', 20_000)
  code = (
    'import sys, time\n'
    'from mobilebert_jax.runtime import files, local_copies, object_store\n'
    'real = object_store.read\n'
    'def read(*args):\n'
    '  print(args[1], flush=True)\n'
    '  time.sleep(0.1)\n'
    '  return real(*args)\n'
    'object_store.read = read\n'
    'local_copies._BLOCK = 1000\n'
    'print(local_copies.file(files.path(sys.argv[1])))\n'
  )
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', code, os.fspath(place)],
      env=dict(os.environ) | {'PYTHONPATH': str(repo)},
      stdout=subprocess.PIPE,
      text=True,
    )
    for _ in range(2)
  ]
  told = [process.communicate()[0].split() for process in processes]
  assert told[0][-1] == told[1][-1]
  copy = pathlib.Path(told[0][-1])
  assert copy.read_bytes() == place.read_bytes()
  assert sorted(map(len, told)) == [1, 21]
