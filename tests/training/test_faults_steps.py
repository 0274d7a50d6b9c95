"""Batches, data, memory and clocks that go wrong in a run."""

import json
import math
import re
import signal

import pytest

from mobilebert_jax.reporting import metrics_log
from tests.support import faults

pytestmark = pytest.mark.faults


# A column of zeros, and of what is not a number in the steps named; it is in
# the loss, so the compiled step meets it.
POISON = """
import types
from tests.support import hooking
import numpy as np
from mobilebert_jax import launch
from mobilebert_jax.training import mesh as sharding

def with_poison(inputs):
  def loss(outputs, batch):
    batch = dict(batch)
    poison = batch.pop('poison').sum()
    first, *rest = inputs.task.loss(outputs, batch)
    return (first._replace(sum=first.sum + poison), *rest)

  with_poison.mesh = inputs.mesh
  return inputs._replace(task=types.SimpleNamespace(loss=loss))

def poison(number, step):
  def poisoned(state, batch):
    rows = batch['input_ids'].shape[0]
    value = np.nan if number in {steps} else 0.0
    column = np.full((rows,), value, np.float32)
    more = sharding.put_batch({{'poison': column}}, with_poison.mesh)
    return step(state, dict(batch) | more)

  return poisoned

POISONED = hooking.changed_steps(poison, with_poison)
launch.method_for = lambda config: POISONED
"""
# model_inputs takes known columns only, so that the model never sees it.
SKIP = '--config.nonfinite=skip'


def test_a_nan_batch_stops_the_run(runs, tmp_path):
  run = runs.start(tmp_path / 'run', code=POISON.format(steps='(5,)'))
  assert run.wait() == 1, run.text()
  last = run.text().splitlines()[-1]
  assert last.startswith('error: the loss is nan at step 5; the last good')
  assert f'{tmp_path}/run/checkpoints/4' in last
  assert faults.saved_steps(tmp_path / 'run') == [2, 4]
  faults.tally(
    'a NaN batch, nonfinite=stop',
    1,
    'exit 1, names the last checkpoint',
  )


def test_nan_batches_are_skipped_and_counted(runs, tmp_path):
  """The same bits with and without a kill behind them."""
  code = POISON.format(steps='(3, 5, 6)')
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  told = runs.finish(whole, SKIP, code=code)
  assert 'step 5: the loss is nan; the step is skipped' in told
  results = json.loads((whole / 'results.json').read_text())
  assert results['skipped_steps'] == 3
  assert all(math.isfinite(value) for value in results['final'].values())
  records = metrics_log.read(whole / 'metrics.jsonl')
  counts = {r['step']: r['skipped_steps'] for r in records if 'epoch' in r}
  assert counts == {1: 0, 3: 1, 5: 2, 6: 3, 8: 3}
  run = runs.start(broken, SKIP, code=code, pause=0.1)
  assert run.wait_for_text('^step 7$')
  run.kill()
  assert run.wait() == -signal.SIGKILL
  runs.finish(broken, SKIP, code=code)
  faults.assert_same_run(whole, broken)
  faults.tally(
    'NaN batches, nonfinite=skip, and a SIGKILL behind them',
    3,
    'skipped and counted',
  )


def test_too_many_nan_batches_in_a_row_stop_the_run(runs, tmp_path):
  code = POISON.format(steps='range(2, 99)')
  flags = (SKIP, '--config.num_steps=20')
  run = runs.start(tmp_path / 'run', *flags, code=code)
  assert run.wait() == 1, run.text()
  last = run.text().splitlines()[-1]
  assert 'the loss is nan at step 12, after 10 skipped ones' in last
  faults.tally(
    '11 NaN batches in a row, nonfinite=skip',
    1,
    'exit 1',
  )


# In grain's threads, in the second epoch.
WORKER = """
from mobilebert_jax.data.batching import loader

plan = loader.batch_plan

def no_plan(lengths, batch_size, seed, epoch, **options):
  if epoch == 1:
    raise OSError(5, 'Input/output error', 'data/part-00001')
  return plan(lengths, batch_size, seed, epoch, **options)

loader.batch_plan = no_plan
"""


def test_a_data_worker_that_dies(runs, whole, tmp_path):
  workdir = tmp_path / 'run'
  run = runs.start(workdir, code=WORKER)
  assert run.wait() == 1, run.text()
  last = run.text().splitlines()[-1]
  assert last.startswith('error: the batch of step 6 could not be made: ')
  assert "Input/output error: 'data/part-00001'" in last
  assert 'Traceback' not in run.text()
  assert faults.saved_steps(workdir)[-1] == 4
  assert 'continuing at step 4 of 8' in runs.finish(workdir)
  faults.assert_same_run(whole, workdir)
  faults.tally(
    'a data worker that raises',
    1,
    'exit 1, names the cause',
  )


# With every step the clock is set hours forwards or backwards, in a save only
# backwards: orbax's patience with a save, five minutes, ends by the clock.
CLOCK = """
import random, time
from tests.support import hooking
from mobilebert_jax.training.hooks import Hook

now, now_ns, rng, offset = time.time, time.time_ns, random.Random(7), 0.0

class SetClock(Hook):
  def on_start(self, run, checkpoints):
    self.checkpoints = checkpoints

  def after_step(self, step, metrics):
    global offset
    hours = rng.uniform(-9, 9)
    if hours > 0:
      self.checkpoints.wait()
    offset += 3600 * hours

time.time = lambda: now() + offset
time.time_ns = lambda: now_ns() + int(offset * 1e9)
hooking.add(SetClock())
"""


def test_a_clock_that_jumps(runs, whole, tmp_path):
  workdir = tmp_path / 'run'
  run = runs.start(workdir, code=CLOCK, pause=0.1)
  assert run.wait_for_text('^step 5$')
  run.kill()
  run.wait()
  told = runs.finish(workdir, code=CLOCK)
  assert re.search('continuing at step [24] of 8', told), told
  faults.assert_same_run(whole, workdir)
  for record in metrics_log.read(workdir / 'metrics.jsonl'):
    assert 0 < record.get('examples_per_second', 1) < 1e6, record
  faults.tally(
    'a clock set by hours at every step, and a SIGKILL',
    8,
    'nothing changes',
  )


# At every look, also in a save: worse than any clock.
MAD_CLOCK = """
import random, time

now, rng = time.time, random.Random(7)
time.time = lambda: now() + rng.uniform(-9000, 9000)
"""


def test_a_clock_that_jumps_in_a_save(runs, whole, tmp_path):
  """The save may be given up; that is told, and nothing else is lost."""
  workdir = tmp_path / 'run'
  run = runs.start(workdir, code=MAD_CLOCK, pause=0.1)
  assert run.wait() == 1, run.text()
  assert 'or the clock was set meanwhile' in run.text().splitlines()[-1]
  runs.finish(workdir)
  faults.assert_same_run(whole, workdir)
  faults.tally(
    'a clock that jumps by hours within a save',
    1,
    'exit 1, says why',
  )


def test_a_model_that_does_not_fit(runs, tmp_path):
  """XLA's own error, of an allocation that no machine can make."""
  flags = ('--config.model.intermediate_size=20000000000',)
  run = runs.start(tmp_path / 'run', *flags)
  assert run.wait() == 1, run.text()
  last = run.text().splitlines()[-1]
  assert last.startswith('error: the memory does not suffice (640,000.0 MB')
  for told in (
    'batch_size (8)', 'accumulation_steps (1)', 'remat=full (none)',
    'dtype=bfloat16 (float32)', 'data.max_length (8)', 'mesh.fsdp (1)',
    'optimizer.moments_dtype=bfloat16 (float32)',
  ):  # fmt: skip
    assert told in last, last
  assert 'Traceback' not in run.text()
  faults.tally(
    "out of memory (the CPU's RESOURCE_EXHAUSTED)",
    1,
    'exit 1, names the settings',
  )
