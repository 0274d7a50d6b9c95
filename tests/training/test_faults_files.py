"""Files that cannot be written, that have changed, and that are shared."""

import contextlib
import os
import pathlib
import random
import shutil
import subprocess

import jax
import numpy as np
import pytest

from mobilebert_jax.config import configure
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import (
  loop,
  mesh,
  scoring,
  setup,
  starting,
  train_step,
)
from mobilebert_jax.training.checkpoint import Checkpoints, DamagedError
from mobilebert_jax.training.optimizer import make_optimizer
from mobilebert_jax.training.workdir import Workdir
from tests.support import faults

pytestmark = pytest.mark.faults

# Four checkpoints and two evaluations, at 4 and 8.
FLAGS = ('--config.keep_checkpoints=2',)


KILL_AT_5 = """
import os, signal
from tests.support import hooking
from mobilebert_jax.training.hooks import Hook

class Kill(Hook):
  def on_start(self, run, checkpoints):
    self.checkpoints = checkpoints

  def after_step(self, step, metrics):
    if step == 5:
      self.checkpoints.wait()
      os.kill(os.getpid(), signal.SIGKILL)

hooking.add(Kill())
"""


def killed_at_5(runs, workdir):
  """A run that has been killed; its saves of steps 2 and 4 are complete."""
  run = runs.start(workdir, *FLAGS, code=KILL_AT_5)
  assert run.wait() == -9, run.text()
  return run.text()


LIMIT = """
import resource
from tests.support import hooking
from mobilebert_jax.training.hooks import Hook

class Limit(Hook):
  def on_start(self, run, checkpoints):
    self.checkpoints = checkpoints

  def before_save(self, step):
    if step == 6:
      self.checkpoints.wait()
      last = self.checkpoints.directory / '4'
      files = [path for path in last.rglob('*') if path.is_file()]
      largest = max(path.stat().st_size for path in files)
      resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, largest - 1))

hooking.add(Limit())
"""
# The disk is full while the third checkpoint is written.
FILL = """
import pathlib
from tests.support import hooking
from mobilebert_jax.training.hooks import Hook

class Fill(Hook):
  def on_start(self, run, checkpoints):
    self.checkpoints = checkpoints

  def before_save(self, step):
    if step == 6:
      self.checkpoints.wait()
      with pathlib.Path({filler!r}).open('wb', buffering=0) as file:
        try:
          while file.write(bytes(4096)):
            pass
        except OSError:
          pass
        file.truncate(file.tell() - 4 * 4096)

hooking.add(Fill())
"""


def assert_stopped_by_a_full_disk(run, workdir):
  assert run.wait() == 1, run.text()
  text = run.text()
  # Threads of tensorstore print, by ways of their own, that nobody listens.
  (last,) = (line for line in text.splitlines() if line.startswith('error: '))
  assert last.startswith(f'error: {workdir}/checkpoints/6'), text
  assert 'cannot be written: the disk is full' in last
  assert 'MB are free, and a checkpoint takes' in last
  # It is told before the next save and evaluation, those of step 8.
  assert text.count('evaluating') == 2, text
  assert faults.saved_steps(workdir) == [2, 4]


def test_a_file_larger_than_allowed(runs, whole, tmp_path):
  workdir = tmp_path / 'run'
  run = runs.start(workdir, *FLAGS, code=LIMIT, pause=1)
  assert_stopped_by_a_full_disk(run, workdir)
  assert 'continuing at step 4 of 8' in runs.finish(workdir, *FLAGS)
  faults.assert_same_run(whole, workdir)
  faults.tally(
    'a file larger than allowed (RLIMIT_FSIZE), in a save',
    1,
    'exit 1',
  )


@contextlib.contextmanager
def small_disk(place: pathlib.Path, options='size=24m'):
  """A file system of its own, where that is allowed."""
  place.mkdir()
  command = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', place]
  if os.getuid() != 0 or subprocess.run(command).returncode:
    pytest.skip('no right to mount; test_a_file_larger_than_allowed is alike')
  try:
    yield place
  finally:
    subprocess.run(['umount', '-l', place], check=True)


def test_a_full_disk(runs, whole, tmp_path):
  with small_disk(tmp_path / 'disk') as disk:
    workdir, filler = disk / 'run', disk / 'filler'
    code = FILL.format(filler=str(filler))
    run = runs.start(workdir, *FLAGS, code=code, pause=1)
    assert_stopped_by_a_full_disk(run, workdir)
    # Still no room: still one sentence, and still nothing lost.
    run = runs.start(workdir, *FLAGS)
    assert run.wait() == 1, run.text()
    assert run.text().count('error: ') == 1, run.text()
    assert faults.saved_steps(workdir) == [2, 4]
    filler.unlink()
    assert 'continuing at step 4 of 8' in runs.finish(workdir, *FLAGS)
    faults.assert_same_run(whole, workdir)
  faults.tally(
    'a full disk (tmpfs): in a save, and at the next start',
    2,
    'exit 1',
  )


def test_a_read_only_workdir(runs, whole, tmp_path):
  place = tmp_path / 'place'
  place.mkdir()
  killed_at_5(runs, place / 'begun')
  with read_only(place):
    for name in ('begun', 'new', 'new/below'):
      run = runs.start(place / name, *FLAGS)
      assert run.wait() == 2, run.text()
      assert f'error: {place / name} cannot be written: ' in run.text()
      assert 'Traceback' not in run.text()
      assert 'parameters' not in run.text() and 'continuing' not in run.text()
  runs.finish(place / 'begun', *FLAGS)
  faults.assert_same_run(whole, place / 'begun')
  faults.tally(
    'a read-only workdir: begun, new, and below a new one',
    3,
    'exit 2',
  )


@contextlib.contextmanager
def read_only(place):
  """Root may write where rights forbid it, but not on a read-only mount."""
  if os.getuid() != 0:
    shutil.copytree(place, place.with_name('kept'))
    for path in (place, place / 'begun', place / 'begun/run.lock'):
      path.chmod(0o555)
    yield
    for path in (place, place / 'begun', place / 'begun/run.lock'):
      path.chmod(0o755)
    return
  if subprocess.run(['mount', '--bind', place, place]).returncode:
    pytest.skip('root without the right to mount: nothing is read-only')
  try:
    remount = ['mount', '-o', 'remount,ro,bind', place]
    subprocess.run(remount, check=True)
    yield
  finally:
    subprocess.run(['umount', '-l', place], check=True)


def arrays_of(path):
  return [file for file in sorted(path.rglob('*')) if file.is_file()]


def flip(path, rng):
  content = bytearray(path.read_bytes())
  content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  path.write_bytes(content)


def test_a_damaged_newest_checkpoint(runs, whole, tmp_path):
  """Flipped, cut, gone: each time the run goes back to the one before."""
  workdir, rng = tmp_path / 'run', random.Random(1)
  killed_at_5(runs, workdir)
  newest = workdir / 'checkpoints/4'
  damages = {
    'params': lambda path: flip(path, rng),
    'train_state': lambda path: path.write_bytes(path.read_bytes()[:-1]),
    'run_state': lambda path: path.unlink(),
  }
  for part, damage in damages.items():
    assert faults.saved_steps(workdir) == [2, 4]
    files = [
      file
      for file in arrays_of(newest / part)
      if file.name not in ('commit_success.txt', 'digests.json')
    ]
    damage(rng.choice(files))
    text = killed_at_5(runs, workdir)
    assert f'the checkpoint {newest} is damaged: {newest}/{part}/' in text, text
    assert 'it is removed, and its steps are done again' in text
    assert 'continuing at step 2 of 8' in text
  runs.finish(workdir, *FLAGS)
  faults.assert_same_run(whole, workdir)
  faults.tally(
    'the newest checkpoint: a flipped bit, cut short, a file gone',
    3,
    'goes back to the one before',
  )


def test_when_every_checkpoint_is_damaged(runs, tmp_path):
  workdir = tmp_path / 'run'
  killed_at_5(runs, workdir)
  for step in (2, 4):
    for file in arrays_of(workdir / f'checkpoints/{step}/params'):
      file.write_bytes(b'')
  run = runs.start(workdir, *FLAGS)
  assert run.wait() == 2, run.text()
  assert 'no checkpoint in' in run.text() and 'Traceback' not in run.text()
  assert 'nothing has been removed' in run.text()
  assert faults.saved_steps(workdir) == [2, 4]
  faults.tally(
    'all checkpoints damaged',
    1,
    'exit 2, nothing removed',
  )


def test_eval_of_a_damaged_checkpoint_is_an_error(runs, whole, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(whole, workdir)
  array = next((workdir / 'checkpoints/8/params').rglob('0.0*'))
  flip(array, random.Random(2))
  config = configure(runs.config, FLAGS)
  with pytest.raises(InputError, match=f'checkpoints/8 is damaged: {array}'):
    scoring.score(config, workdir / 'checkpoints/8')
  faults.tally(
    'eval.py on a damaged checkpoint',
    1,
    'exit 2, names the file',
  )


FLIPS = 60


def test_no_flipped_bit_is_taken_for_good(whole, tmp_path):
  """Anywhere in a checkpoint: it is found, or it has changed nothing."""
  workdir, rng = tmp_path / 'run', random.Random(3)
  shutil.copytree(whole, workdir)
  config = Workdir(workdir).read_config()
  task = setup.find_task(config)
  model = starting.resume(config, task, Workdir(workdir)).model
  tx = make_optimizer(config.optimizer, 8)
  abstract, _ = train_step.abstract_state(model, tx, mesh.make_mesh())

  def restored():
    with Checkpoints(workdir / 'checkpoints', read_only=True) as checkpoints:
      state, values = checkpoints.restore(abstract, 8)
    key = jax.random.key_data(state.key)
    return jax.device_get(state.replace(key=key)), values

  right, right_values = restored()
  files = [file for file in arrays_of(workdir / 'checkpoints/8')
           if file.stat().st_size]  # fmt: skip
  found = 0
  for file in rng.choices(files, k=FLIPS):
    before = file.read_bytes()
    flip(file, rng)
    try:
      state, values = restored()
      jax.tree.map(np.testing.assert_array_equal, state, right)
      assert values == right_values, file
    except DamagedError:
      found += 1
    file.write_bytes(before)
  print(f'{found} of {FLIPS} flips found, the others without effect')
  assert found > FLIPS // 2
  faults.tally(
    'one flipped bit anywhere in a checkpoint',
    FLIPS,
    f'{found} found, {FLIPS - found} in bytes that decide nothing',
  )


def test_a_damaged_best_checkpoint(runs, tmp_path):
  """The best weights are in model/ as well."""
  flags = ('--config.eval_every=2', '--config.keep_checkpoints=1')
  whole, workdir = tmp_path / 'whole', tmp_path / 'run'
  runs.finish(whole, *flags, code=BEST_AT_2)
  shutil.copytree(whole, workdir)
  (workdir / 'results.json').unlink()
  assert faults.saved_steps(workdir) == [2, 8]
  flip(next((workdir / 'checkpoints/2/params').rglob('0.0*')), random.Random(5))
  told = runs.finish(workdir, *flags, code=BEST_AT_2)
  assert f'the same weights are taken from {workdir}/model' in told
  assert faults.saved_steps(workdir) == [8]
  faults.assert_same_run(whole, workdir)
  faults.tally(
    'the best checkpoint damaged before the report',
    1,
    'the same weights from model/',
  )


BEST_AT_2 = """
from tests.support import hooking
from mobilebert_jax.training import setup

count = 0

def worse_and_worse(scores):
  global count
  count += 1
  # But for the first evaluation, of the untrained model.
  return {**scores, 'accuracy': 1 / count if count > 1 else 0.0}

setup.find_task = hooking.find_task_with_scores(worse_and_worse)
"""


def test_two_runs_in_one_workdir(runs, whole, tmp_path):
  """The second is refused; a reader and a killed one's heir are not."""
  workdir = tmp_path / 'run'
  config = configure(runs.config, FLAGS)
  first = runs.start(workdir, *FLAGS, pause=0.5)
  assert first.wait_for_text('^step 5$')
  with pytest.raises(InputError, match=f'another run, process {first.pid} on'):
    loop.train(config, workdir)
  assert scoring.score(config, workdir)['step'] >= 2
  assert first.text().count('interrupted') == 0
  first.kill()
  assert first.wait() == -9
  runs.finish(workdir, *FLAGS)
  faults.assert_same_run(whole, workdir)
  faults.tally(
    'a second run in the workdir, a reader, a SIGKILL',
    1,
    'exit 2 for the second run alone',
  )


def test_what_a_power_cut_leaves(runs, whole, tmp_path):
  """A half-made start; torn lines; files of a save that came to no end."""
  workdir = tmp_path / 'run'
  (workdir / 'tokenizer').mkdir(parents=True)
  (workdir / 'run.lock').write_text('process 1 on another host\n')
  (workdir / 'model_config.json').write_text('{"hidden')
  (workdir / 'config.json.partial').write_text('{"task')
  killed_at_5(runs, workdir)
  with (workdir / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 6, "lo')
  (events,) = (workdir / 'tensorboard').iterdir()
  events.write_bytes(events.read_bytes()[:-7])
  shutil.copytree(
    workdir / 'checkpoints/4', workdir / 'checkpoints/6.orbax-checkpoint-tmp'
  )
  runs.finish(workdir, *FLAGS)
  faults.assert_same_run(whole, workdir)
  faults.tally(
    'a half-made start, torn metrics, torn events, a broken save',
    4,
    'continues',
  )
