"""A process of several dies: the others stop, say why, and nothing is lost."""

import json
import re
import signal
import time

import chex
import pytest
from safetensors.numpy import load_file

from tests.support import compiled, processes, tiny
from tests.support.faults import SLOW, saved_steps

pytestmark = pytest.mark.faults

# What must have happened within a minute.
SOON = 60


def trouble(hosts, victim, number):
  """Sends a signal to one process; returns the others' statuses."""
  hosts[victim].process.send_signal(number)
  start = time.monotonic()
  others = [host for host in hosts if host is not hosts[victim]]
  statuses = processes.wait(others, SOON)
  assert time.monotonic() - start < SOON
  return statuses


def said(host):
  """The sentence; a shell may say it a moment after the process has ended."""
  for _ in range(100):
    found = re.findall('^error: .*\n', host.text(), re.M)
    if found:
      return found
    time.sleep(0.05)
  return []


# What happens, at which step, to which process.
TROUBLES = (
  ('a worker is killed', 3, 1, signal.SIGKILL),
  ('the first one is killed', 5, 0, signal.SIGKILL),
  # A host that hangs, or cannot be reached: only the heartbeats tell.
  ('a worker is frozen', 7, 1, signal.SIGSTOP),
)


@pytest.mark.parametrize(
  'troubles',
  [
    pytest.param(TROUBLES[:1], id='one'),
    # Two minutes: a pair of processes for each.
    pytest.param(TROUBLES, id='all', marks=pytest.mark.long),
  ],
)
def test_the_others_stop_and_say_why_and_the_run_continues(
  repo, tmp_path, troubles
):
  config = tiny.write(tmp_path)
  slow = tmp_path / 'slow_train.py'
  slow.write_text(
    SLOW.format(pause=0.5)
    + f'\nimport runpy\nrunpy.run_path({str(repo / "train.py")!r}, '
    "run_name='__main__')\n"
  )
  env = {
    'PYTHONPATH': str(repo),
    **compiled.environment(),
  }
  flags = [f'--config={config}', '--config.checkpoint_every=1']
  workdir, whole = tmp_path / 'broken', tmp_path / 'whole'
  command = [slow, *flags, f'--workdir={workdir}']
  for index, (what, step, victim, number) in enumerate(troubles):
    out = tmp_path / f'out_{index}'
    with processes.started(command, out, 2, 1, env) as hosts:
      processes.wait_for_text(hosts[0], rf'^step {step}$', 120)
      (status,) = trouble(hosts, victim, number)
      told = processes.told(hosts)
    assert status not in (0, 2), (what, told)
    sentences = said(hosts[1 - victim])
    assert len(sentences) == 1, (what, told)
    assert 'another process of the run' in sentences[0], what
    assert 'the same command on every process continues' in sentences[0], what
    # While a step is saved in the background, the one before it is on disk.
    assert saved_steps(workdir)[-1] >= step - 2, what

  done = saved_steps(workdir)[-1]
  command = [repo / 'train.py', *flags, f'--workdir={workdir}']
  first, _ = processes.run(command, tmp_path / 'last', 2, 1, env=env)
  assert f'continuing at step {done} of 8.' in first
  command = [repo / 'train.py', *flags, f'--workdir={whole}']
  processes.run(command, tmp_path / 'single', 1, 2, env=env)
  weights = [load_file(p / 'model/model.safetensors') for p in (whole, workdir)]
  chex.assert_trees_all_close(*weights, rtol=1e-5, atol=1e-6)
  finals = [
    json.loads((path / 'results.json').read_text())['final']
    for path in (whole, workdir)
  ]
  chex.assert_trees_all_close(*finals, rtol=1e-5, atol=1e-6)
