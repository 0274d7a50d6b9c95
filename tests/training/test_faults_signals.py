"""Runs that are asked to stop, or killed, at any moment."""

import random
import re
import signal
import time

import pytest

from tests.support import faults

pytestmark = pytest.mark.faults

# Long enough to be hit anywhere; a checkpoint every two steps.
FLAGS = (
  '--config.num_steps=30', '--config.eval_every=10',
  '--config.checkpoint_every=2', '--config.keep_checkpoints=2',
)  # fmt: skip


# What a run says of a step, not of an evaluation.
STEP = re.compile(r'^step (\d+)$', re.M)


def last_step(text):
  steps = STEP.findall(text)
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
    lambda run: run.wait_for_text('^begun')
  )
  assert not (workdir / 'config.json').exists()
  # In the first step's compilation, between two steps, and twice in a row.
  told = stop(lambda run: run.wait_for_text('^evaluated'))
  saved = last_step(told)
  assert f'interrupted: step {saved} of 30 is saved in' in told, told
  for times in (1, 2):
    told = stop(lambda run: run.wait_for_text(STEP.pattern), times=times)
    assert first_step(told) == saved, told
    saved = last_step(told)
    assert f'interrupted: step {saved} of 30 is saved in' in told, told
    assert faults.saved_steps(workdir)[-1] == saved
  # While a checkpoint is being written.
  told = stop(lambda run: run.wait_for(lambda: faults.saving(workdir)))
  assert first_step(told) == saved, told
  saved = last_step(told)
  assert faults.saved_steps(workdir)[-1] == saved
  # While the model is evaluated: it is done again, the steps are not.
  told = stop(lambda run: run.wait_for_text(r'^evaluating'))
  assert first_step(told) == saved, told
  saved = last_step(told)
  assert saved % 10 == 0 and not told.rstrip().endswith('evaluated')
  assert faults.saved_steps(workdir)[-1] == saved
  # While the report is written, behind the last step.
  told = stop(
    lambda run: run.wait_for(lambda: (workdir / 'predictions').exists())
  )
  assert first_step(told) == saved, told
  told = runs.finish(workdir, *FLAGS)
  assert first_step(told) == 30, told
  faults.assert_same_run(whole, workdir)
  faults.tally(
    'SIGTERM: at start-up, in the first step, between steps, twice in a row, '
    'in a save, in an evaluation, in the report', 7, 'exit 75, no step lost',
  )  # fmt: skip


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
  faults.tally('Ctrl-C between steps', 1, 'exit 130')


SEED = 4
# How often a run is killed at start-up, in steps, and in saves; and how many of
# all the kills must hit a save.
FEW = ({'start': 1, 'steps': 2, 'save': 3}, 1)
MANY = ({'start': 5, 'steps': 7, 'save': 8}, 5)


def moment(rng, kind, run, workdir, left):
  """Waits for a random moment of a run."""
  if kind == 'start':
    time.sleep(rng.uniform(0, 1.5))
    return
  if kind == 'steps':
    count = rng.randint(1, 6)
    run.wait_for(lambda: len(STEP.findall(run.text())) >= count)
    time.sleep(rng.uniform(0, 0.1))
    return
  saved = faults.saved_steps(workdir)
  wanted = max(saved, default=0) + rng.choice((0, 2))
  run.wait_for(
    lambda: (
      max(faults.saved_steps(workdir), default=0) >= wanted
      and faults.saving(workdir) - left
    )
  )
  time.sleep(rng.uniform(0, 0.02))


@pytest.mark.parametrize(
  ('kills', 'least_in_saves'),
  [
    pytest.param(*FEW, id='six'),
    # The same, more often: two minutes.
    pytest.param(*MANY, id='twenty', marks=pytest.mark.long),
  ],
)
def test_sigkill_at_random_moments(
  runs, whole, tmp_path, kills, least_in_saves
):
  """Again and again in one run: at start-up, in steps, and in saves."""
  workdir = tmp_path / 'run'
  rng = random.Random(SEED)
  kinds = [kind for kind, count in kills.items() for _ in range(count)]
  rng.shuffle(kinds)
  in_saves, moments, done = 0, [], 0
  for kind in kinds:
    left = faults.saving(workdir)
    run = runs.start(workdir, *FLAGS, pause=0.02)
    moment(rng, kind, run, workdir, left)
    run.kill()
    assert run.wait() == -signal.SIGKILL, (moments, run.text())
    was_saving = bool(faults.saving(workdir) - left)
    in_saves += was_saving
    began, ended = first_step(run.text()), last_step(run.text())
    # Of the steps that an earlier start had done, at most those since the last
    # complete save are done again; a save may take as long as an interval.
    if 'continuing' in run.text() or ended:
      assert began >= done - 4, (moments, done, run.text())
    done = max(done, ended)
    moments.append((kind, began, ended, 'in a save' * was_saving))
    print('killed:', *moments[-1])
  assert in_saves >= least_in_saves, moments
  runs.finish(workdir, *FLAGS)
  faults.assert_same_run(whole, workdir, moments)
  if kills == MANY[0]:
    # The table has the many; the few are like some of them.
    faults.tally(
      f'SIGKILL at random moments of one run, {in_saves} of them in a save',
      len(kinds), 'continues from the last checkpoint',
    )  # fmt: skip
