"""Commands over several runs that are killed in the middle of one of them."""

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tests.support import compiled

# The process kills itself, so that the moment is the same every time.
_IN_A_RUN = """
import os, signal, sys
sys.path.insert(0, {repo!r})
from tests.support import hooking
from mobilebert_jax.training.hooks import Hook
from mobilebert_jax import {package} as command

class Deadly(Hook):
  def on_start(self, run, checkpoints):
    self.config = run.config

  def after_step(self, step, metrics):
    config = self.config
    if {moment}:
      os.kill(os.getpid(), signal.SIGKILL)

hooking.add(Deadly())
command.main(sys.argv)
"""
_AT_A_FILE = """
import os, re, signal, sys
from mobilebert_jax import {package} as command
replace = os.replace
def deadly(source, target):
  if re.search({pattern!r}, str(target)):
    os.kill(os.getpid(), signal.SIGKILL)
  replace(source, target)
os.replace = deadly
command.main(sys.argv)
"""


def run(
  repo: pathlib.Path,
  package: str,
  moment: str,
  args: Sequence[str],
  devices: int = 8,
  environment: Mapping[str, str] | None = None,
):
  """Runs `python -m mobilebert_jax.<package>` until it is killed.

  Args:
    repo: The checkout's root.
    package: The name of the command.
    moment: When it is killed: an expression of `config` and `step`, evaluated
      when a step is done.
    args: The command's arguments.
    devices: How many it has in the suite's environment.
    environment: All of its environment variables; None: the suite's.
  """
  script = _IN_A_RUN.format(repo=str(repo), package=package, moment=moment)
  _run(repo, script, args, devices, environment)


def run_to_file(
  repo: pathlib.Path,
  package: str,
  pattern: str,
  args: Sequence[str],
  devices: int = 8,
):
  """Runs it until it is killed with a file that is all but there.

  Args:
    repo: The checkout's root.
    package: The name of the command.
    pattern: A regular expression that its path has. It is written, but not
      yet under this name.
    args: The command's arguments.
    devices: How many it has.
  """
  script = _AT_A_FILE.format(package=package, pattern=pattern)
  _run(repo, script, args, devices, None)


def _run(
  repo: pathlib.Path,
  script: str,
  args: Sequence[str],
  devices: int,
  environment: Mapping[str, str] | None,
):
  if environment is None:
    environment = os.environ | {
      'PYTHONPATH': str(repo),
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': str(devices),
      'JAX_DEFAULT_MATMUL_PRECISION': 'highest',
      # What one has compiled, the next one, which goes on from there, reads.
      **compiled.environment(),
    }
  killed = subprocess.run(
    [sys.executable, '-c', script, *args],
    env=environment,
    capture_output=True,
    text=True,
  )
  assert killed.returncode == -signal.SIGKILL, killed.stderr


def assert_same_models(
  runs: Sequence[str], unbroken: pathlib.Path, broken: pathlib.Path
):
  """The saved models of two chains of runs are the same, byte for byte."""
  for name in runs:
    left, right = (
      where / name / 'model' / 'model.safetensors'
      for where in (unbroken, broken)
    )
    assert left.read_bytes() == right.read_bytes(), name
