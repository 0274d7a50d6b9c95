"""Runs that are asked to stop, or killed, at any moment."""

import random
import re
import signal
import time

import faults
import pytest

pytestmark = pytest.mark.faults

# Long enough to be hit anywhere; a checkpoint every two steps.
FLAGS = (
  '--config.num_steps=24', '--config.eval_every=6',
  '--config.checkpoint_every=2', '--config.keep_checkpoints=2',
)  # fmt: skip


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  with faults.server(tmp_path_factory.mktemp('signals')) as runs:
    yield runs


@pytest.fixture(scope='module')
def whole(runs, tmp_path_factory):
  """The unbroken run."""
  path = tmp_path_factory.mktemp('whole') / 'run'
  runs.finish(path, *FLAGS)
  return path


def last_step(text):
  steps = re.findall(r'^step (\d+)$', text, re.M)
  return int(steps[-1]) if steps else 0


def first_step(text):
  found = re.search(r'^continuing at step (\d+) of', text, re.M)
  return int(found.group(1)) if found else 0


def test_sigterm_anywhere_loses_no_step(runs, whole, tmp_path):
  """At start-up, in a step, in a save, in an evaluation, in the report."""
  workdir = tmp_path / 'run'

  def stop(when, number=signal.SIGTERM, times=1):
    run = runs.start(workdir, *FLAGS, pause=0.1)
    assert when(run), run.text()
    for _ in range(times):
      run.kill(number)
      time.sleep(0.02)
    assert run.wait() == 75, run.text()
    told = run.text()
    assert 'Traceback' not in told, told
    return told

  # Before anything has begun: at once.
  assert 'the same command starts again' in stop(
    lambda run: run.wait_for(lambda: True)
  )
  assert not (workdir / 'config.json').exists()
  # In the first step's compilation, between two steps, and twice in a row.
  told = stop(lambda run: run.wait_for_text('^evaluated'))
  saved = last_step(told)
  assert f'interrupted: step {saved} of 24 is saved in' in told, told
  for times in (1, 2):
    told = stop(lambda run: run.wait_for_text(r'^step \d'), times=times)
    assert first_step(told) == saved, told
    saved = last_step(told)
    assert f'interrupted: step {saved} of 24 is saved in' in told, told
    assert faults.saved_steps(workdir)[-1] == saved
  # While a checkpoint is being written.
  told = stop(lambda run: run.wait_for(lambda: faults.is_saving(workdir)))
  assert first_step(told) == saved, told
  saved = last_step(told)
  assert faults.saved_steps(workdir)[-1] == saved
  # While the model is evaluated: it is done again, the steps are not.
  told = stop(lambda run: run.wait_for_text(r'^evaluating'))
  assert first_step(told) == saved, told
  saved = last_step(told)
  assert saved % 6 == 0 and not told.rstrip().endswith('evaluated')
  assert faults.saved_steps(workdir)[-1] == saved
  # While the report is written, behind the last step.
  told = stop(
    lambda run: run.wait_for(lambda: (workdir / 'predictions').exists())
  )
  assert first_step(told) == saved, told
  told = runs.finish(workdir, *FLAGS)
  assert first_step(told) == 24, told
  faults.assert_same_run(whole, workdir)


def test_ctrl_c_loses_no_more_than_the_save_interval(runs, whole, tmp_path):
  workdir = tmp_path / 'run'
  run = runs.start(workdir, *FLAGS, pause=0.1)
  assert run.wait_for_text(r'^step 5$')
  run.kill(signal.SIGINT)
  assert run.wait() == 130, run.text()
  assert 'interrupted; the same command continues' in run.text()
  told = runs.finish(workdir, *FLAGS)
  assert first_step(told) >= last_step(run.text()) - 2
  faults.assert_same_run(whole, workdir)


KILLS = 20
SEED = 4


def test_sigkill_at_random_moments(runs, whole, tmp_path):
  """Twenty times in one run: at start-up, in steps, and in saves."""
  workdir = tmp_path / 'run'
  rng = random.Random(SEED)
  kinds = ['start'] * 6 + ['steps'] * 7 + ['save'] * 7
  rng.shuffle(kinds)
  in_saves, moments, done = 0, [], 0
  for kind in kinds:
    run = runs.start(workdir, *FLAGS, pause=0.02)
    if kind == 'start':
      delay = rng.uniform(0, 1.5)
    elif kind == 'steps':
      run.wait_for_text(r'^step \d')
      delay = rng.uniform(0, 0.2)
    else:
      run.wait_for(lambda: faults.is_saving(workdir))
      delay = rng.uniform(0, 0.02)
    time.sleep(delay)
    run.kill()
    status = run.wait()
    was_saving = faults.is_saving(workdir)
    in_saves += was_saving
    text = run.text()
    assert status == -signal.SIGKILL or status == 0, text
    began, ended = first_step(text), last_step(text)
    # Of the steps that an earlier start had done, at most the ones since the
    # last save are done again; a save takes less than the next interval.
    if 'continuing' in text or ended:
      assert began >= done - 4, (moments, done, text)
    done = max(done, ended)
    moments.append((kind, round(delay, 3), ended, 'saving' * was_saving))
    print('killed:', *moments[-1])
  assert in_saves >= 3, moments
  runs.finish(workdir, *FLAGS)
  faults.assert_same_run(whole, workdir, moments)
