"""Several processes on the loopback, as several hosts: train.py and eval.py.

Each run is one process's run in everything that it leaves behind.
"""

import json
import re
import signal

import chex
import pytest
from safetensors.numpy import load_file

from mobilebert_jax.reporting import metrics_log
from tests.support import compiled, processes, tiny
from tests.support.faults import SLOW

pytestmark = pytest.mark.scale

# 7: no batch of evaluation is a multiple of the devices.
FLAGS = ('--config.eval_batch_size=7', '--config.log_every=1')
# What gloo says by itself: several threads a sentence each, in pieces.
NOISE = re.compile(
  r'^(?:\d*(?:\[Gloo\] Rank | is connected to | peer ranks\. |'
  r'Expected number of connected peer ranks is : )+\d*)+\n+',
  re.M,
)
SCRIPT = """
import sys
from mobilebert_jax.runtime import distributed
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.config import flags
from mobilebert_jax.config.command_line import Command, Flag
from mobilebert_jax.runtime.errors import InputError


def main(argv):
  how = Flag('how', '', is_positional=True)
  given = Command('x', '', (how, *flags.PROCESSES)).parse(argv[1:])
  distributed.initialize(given.only(tuple(distributed.FLAGS)))
  index = distributed.process_index()
  assert distributed.process_count() == 3
  distributed.print_on_primary(f'told by {index}')
  distributed.barrier('together')
  assert distributed.run_on_primary(lambda: [index, 'x']) == [0, 'x']
  assert distributed.gather(index * 10) == [0, 10, 20]
  assert distributed.raise_on_all(lambda: index) == index
  distributed.check_same('answer', 42)

  def row(bad):
    if index in bad:
      raise InputError(f'row {index} is bad.')

  for bad, call in (
    ((2,), distributed.raise_on_all),
    ((1, 2), distributed.raise_on_all),
    ((0,), distributed.run_on_primary),
  ):
    try:
      call(lambda: row(bad))
    except InputError as error:
      print(f'refused: {error}', flush=True)
  if given['how'] == 'well':
    rows_and_trees(index)
  elif given['how'] == 'differs':
    distributed.check_same('answer', index // 2)
  elif given['how'] == 'defect':
    distributed.raise_on_all(lambda: 1 // (index - 1))


def rows_and_trees(index):
  # Any order of devices, and a mesh whose 'tensor' joins the processes.
  import jax
  import numpy as np
  from mobilebert_jax.training import mesh as sharding

  devices = [jax.devices()[i] for i in (2, 0, 1)]
  whole = {'x': np.arange(12).reshape(6, 2)}
  for sizes, order in (((3, 1, 1), (1, 2, 0)), ((1, 1, 3), (0, 0, 0))):
    mesh = sharding.make_mesh(*sizes, devices=devices)
    count, parts = sharding.host_parts(mesh)
    assert (count, parts) == (sizes[0], (order[index],)), (count, parts)
    rows = np.arange(6).reshape(count, -1)[list(parts)].ravel()
    batch = sharding.put_batch({'x': whole['x'][rows]}, mesh)
    assert batch['x'].shape == (6, 2)
    assert (sharding.fetch_tree(batch)['x'] == whole['x']).all()
    places = {'x': sharding.batch_sharding(mesh)}
    tree = sharding.put_tree(whole, places)
    assert (sharding.fetch_tree(tree)['x'] == whole['x']).all()


sys.exit(exit_status.run(main))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('processes')


@pytest.fixture(scope='module')
def config(folder):
  return tiny.write(folder)


@pytest.fixture(scope='module')
def env(repo):
  return {
    'PYTHONPATH': str(repo),
    # The same programs are compiled again and again.
    **compiled.environment(),
  }


def train(repo, config, workdir, *flags):
  return [
    repo / 'train.py', f'--config={config}', f'--workdir={workdir}', *FLAGS,
    *flags,
  ]  # fmt: skip


@pytest.fixture(scope='module')
def single(repo, folder, config, env):
  """The run of one process with as many devices as the others have together."""
  workdir = folder / 'single'
  command = train(repo, config, workdir)
  processes.run(command, folder / 'single_out', 1, devices=4, env=env)
  return workdir


def content(workdir):
  """All files but those with times in them, and checkpoints."""
  return {
    str(path.relative_to(workdir)): path
    for path in sorted(workdir.rglob('*'))
    if path.is_file()
    and path.relative_to(workdir).parts[0] not in ('checkpoints', 'tensorboard')
  }


def assert_same_run(whole, other):
  """Same files; the same numbers but for rounding; the same predictions."""
  left, right = content(whole), content(other)
  assert set(left) == set(right)
  assert (other / 'results.json').exists()
  scores = [
    json.loads((path / 'results.json').read_text()) for path in (whole, other)
  ]
  for when in ('first', 'final', 'best'):
    chex.assert_trees_all_close(
      *(found.pop(when) for found in scores), rtol=1e-5, atol=1e-6
    )
  assert scores[0] == scores[1]
  weights = [load_file(p / 'model/model.safetensors') for p in (whole, other)]
  chex.assert_trees_all_close(*weights, rtol=1e-5, atol=1e-6)
  records = [metrics_log.read(p / 'metrics.jsonl') for p in (whole, other)]
  for record in (*records[0], *records[1]):
    record.pop('examples_per_second', None)
  chex.assert_trees_all_close(*records, rtol=1e-4, atol=1e-6)
  for name in left:
    if name.startswith('predictions') and name.endswith('.tsv'):
      assert left[name].read_bytes() == right[name].read_bytes(), name
  boards = list((other / 'tensorboard').iterdir())
  assert boards, 'no TensorBoard events'


def test_two_processes_are_one_run(repo, folder, config, env, single):
  workdir = folder / 'two'
  command = train(repo, config, workdir)
  first, second = processes.run(command, folder / 'two_out', 2, 2, env=env)
  assert_same_run(single, workdir)
  assert len(list((workdir / 'tensorboard').iterdir())) == 1
  assert first.count('step 8: validation/accuracy') == 1
  assert first.count(f'everything else in {workdir}.') == 1
  assert NOISE.sub('', second) == ''


def test_stopped_on_two_processes_and_continued_on_four(
  repo, folder, config, env, single
):
  """Other processes, other devices, and another mesh: parameters divided."""
  workdir = folder / 'moved'
  slow = folder / 'slow_train.py'
  slow.write_text(
    SLOW.format(pause=0.5)
    + f'\nimport runpy\nrunpy.run_path({str(repo / "train.py")!r}, '
    "run_name='__main__')\n"
  )
  command = [slow, *train(repo, config, workdir)[1:]]
  with processes.started(command, folder / 'stopped', 2, 2, env=env) as hosts:
    processes.wait_for_text(hosts[0], r'^step 3$', 120)
    # Only one host is told; all stop at the same step.
    hosts[1].process.send_signal(signal.SIGTERM)
    assert processes.wait(hosts, 60) == [75, 75], processes.told(hosts)
    told = re.search(r'interrupted: step (\d+) of 8 is saved', hosts[0].text())
  step = int(told.group(1))
  assert 3 <= step < 8
  flags = ('--config.mesh.data=1', '--config.mesh.fsdp=-1')
  command = train(repo, config, workdir, *flags)
  texts = processes.run(command, folder / 'continued', 4, 1, env=env)
  assert f'continuing at step {step} of 8.' in texts[0]
  assert 'continuing' not in ''.join(texts[1:])
  assert_same_run(single, workdir)
  shards = list((workdir / 'checkpoints/8/params').rglob('*'))
  assert len({path.name for path in shards if 'kernel' in str(path)}) > 1


def test_eval_on_two_processes_gives_the_score_of_training(
  repo, folder, config, env, single
):
  final = json.loads((single / 'results.json').read_text())['final']
  command = [
    repo / 'eval.py', f'--config={config}', f'--checkpoint={single}', *FLAGS,
    '--config.mesh.fsdp=2',
  ]  # fmt: skip
  first, second = processes.run(command, folder / 'eval', 2, 2, env=env)
  scores = json.loads(NOISE.sub('', first))
  chex.assert_trees_all_close(scores, final, rtol=1e-5)
  assert scores['validation/accuracy'] == final['validation/accuracy']
  assert NOISE.sub('', second) == ''


def test_wrong_input_is_one_sentence_and_exit_2_everywhere(
  repo, folder, config, env
):
  rows = folder / 'bad' / 'SST-2'
  tiny.write_data(folder / 'bad')
  path = rows / 'train.tsv'
  path.write_text(path.read_text().replace('\t1', '\tone', 1))
  workdir = folder / 'refused'
  command = train(repo, config, workdir, f'--config.data.path={rows}')
  texts = processes.run(command, folder / 'bad_out', 2, 1, 2, env=env)
  for text in texts:
    lines = NOISE.sub('', text).splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith('error: ')
    assert 'train.tsv' in lines[0]
  assert not workdir.exists()


def test_another_command_in_one_process_is_refused(repo, folder, config, env):
  command = train(repo, config, folder / 'mixed')
  seeds = (('--config.seed=1',), ('--config.seed=2',))
  texts = processes.run(
    command, folder / 'mixed_out', 2, 1, 2, env=env, own=seeds
  )
  expected = (
    'error: the command of process 1 is another than that of process 0; start '
    'the same on all of them.\n'
  )
  assert [NOISE.sub('', text) for text in texts] == [expected] * 2


@pytest.mark.parametrize('end', ['well', 'differs', 'defect'])
def test_what_processes_agree_about(folder, env, end):
  script = folder / 'agreeing.py'
  script.write_text(SCRIPT)
  with processes.started([script, end], folder / end, 3, 1, env) as hosts:
    statuses = processes.wait(hosts, 60)
  refused = ''.join(f'refused: row {row} is bad.\n' for row in (2, 1, 0))
  rests = []
  for index, host in enumerate(hosts):
    told = 'told by 0\n' if index == 0 else ''
    assert host.text().startswith(told + refused), processes.told(hosts)
    rests.append(host.text().removeprefix(told + refused))
  if end == 'well':
    assert statuses == [0, 0, 0]
    assert [NOISE.sub('', rest) for rest in rests] == ['', '', '']
  elif end == 'differs':
    assert statuses == [2, 2, 2]
    assert rests == [rests[0]] * 3
    assert 'the answer of process 2 is another' in rests[0]
  else:
    assert statuses == [75, 1, 75]
    assert 'ZeroDivisionError' in rests[1]
    for rest in (rests[0], rests[2]):
      assert 'another process of the run has stopped (process 1: ' in rest
      assert 'the same command on every process continues' in rest
