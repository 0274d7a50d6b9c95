"""A run that is killed again and again ends with the same bits."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import chex
import jax
import pytest
from safetensors.numpy import load_file

from mobilebert_jax.reporting import metrics_log
from mobilebert_jax.training import mesh, setup, starting, train_step
from mobilebert_jax.training.checkpoint import Checkpoints
from mobilebert_jax.training.optimizer import make_optimizer
from mobilebert_jax.training.workdir import Workdir
from tests.support import tiny

# Whole runs.
pytestmark = pytest.mark.slow

# The steps are slowed down so that the kill hits one of them.
SCRIPT = """
import sys, time
sys.path.insert(0, {repo!r})
from mobilebert_jax import launch
from mobilebert_jax.config import overrides
from mobilebert_jax.config.command_line import Flag
from mobilebert_jax.training.hooks import Hook

class Slow(Hook):
  def after_step(self, step, metrics):
    print('step', step, flush=True)
    time.sleep({pause})

train = overrides.run_command('train', '', flags=[Flag('workdir', '')])
given = train.parse(sys.argv[1:])
launch.train(overrides.agreed(given), given['workdir'], [Slow()])
"""


def start(repo, config, workdir, pause):
  script = SCRIPT.format(repo=str(repo), pause=pause)
  return subprocess.Popen(
    [sys.executable, '-c', script, f'--config={config}',
     f'--workdir={workdir}', '--config.keep_checkpoints=9'],
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
    # A cache that others share might be killed with it, half-written.
    env=os.environ
    | {'JAX_PLATFORMS': 'cpu', 'JAX_ENABLE_COMPILATION_CACHE': '0'},
  )  # fmt: skip


def kill_at(process, step, delay):
  """Kills the process a moment after it reports a step."""
  for line in process.stdout:
    if line == f'step {step}\n':
      time.sleep(delay)
      os.kill(process.pid, signal.SIGKILL)
      break
  process.stdout.close()
  return process.wait()


def finish(process):
  output = process.stdout.read()
  process.stdout.close()
  assert process.wait() == 0
  return output


def final_state(path: pathlib.Path):
  """Everything in the last checkpoint, on the host."""
  workdir = Workdir(path)
  config = workdir.read_config()
  task = setup.find_task(config)
  model = starting.resume(config, task, workdir).model
  tx = make_optimizer(config.optimizer, 8)
  abstract, _ = train_step.abstract_state(model, tx, mesh.make_mesh())
  with Checkpoints(workdir.checkpoints) as checkpoints:
    state, values = checkpoints.restore(abstract)
    assert checkpoints.steps() == [2, 4, 6, 8]
  return jax.device_get(
    state.replace(key=jax.random.key_data(state.key))
  ), values


def test_killed_at_a_random_step_ends_with_the_same_bits(repo, tmp_path):
  config = tiny.write(tmp_path)
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  unbroken = start(repo, config, whole, 0)
  rng = random.Random(os.getpid())
  step, delay = rng.randrange(2, 8), rng.uniform(0, 0.1)
  code = kill_at(start(repo, config, broken, 0.1), step, delay)
  assert code == -signal.SIGKILL, f'step {step}, delay {delay}'
  assert 'step 8' in finish(unbroken)
  output = finish(start(repo, config, broken, 0))
  assert 'step 8' in output
  # Killed after step 4, the checkpoint of step 2 is complete for sure.
  assert step < 5 or 'step 1\n' not in output

  told = f'killed at step {step} after {delay} s'
  _assert_same_run(whole, broken, told)


def _assert_same_run(whole, broken, told):
  states = [final_state(path) for path in (whole, broken)]
  chex.assert_trees_all_equal(*states, custom_message=told)
  best = [
    load_file(path / 'model/model.safetensors') for path in (whole, broken)
  ]
  chex.assert_trees_all_equal(*best, custom_message=told)
  results = [(path / 'results.json').read_text() for path in (whole, broken)]
  assert results[0] == results[1], told
  records = [
    metrics_log.read(path / 'metrics.jsonl') for path in (whole, broken)
  ]
  for record in (*records[0], *records[1]):
    record.pop('examples_per_second', None)
  assert records[0] == records[1], told
