"""Real runs of train.py that something happens to, and what must come of it."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from mobilebert_jax.reporting import metrics_log
from mobilebert_jax.runtime import digests
from tests.support import compiled, tiny

_REPO = pathlib.Path(__file__).resolve().parents[2]
# Says what the run is at, and leaves room to be hit there.
SLOW = """
import time
print('begun', flush=True)
from tests.support import hooking
from mobilebert_jax.training.hooks import Hook

class Slow(Hook):
  def after_step(self, step, metrics):
    print('step', step, flush=True)
    time.sleep({pause})

  def before_evaluation(self, step):
    print('evaluating', flush=True)
    time.sleep({pause})

  def after_evaluation(self, step, scores):
    print('evaluated', flush=True)

hooking.add(Slow())
"""


@dataclasses.dataclass
class Running:
  """A run that has been started."""

  pid: int
  output: pathlib.Path
  _server: subprocess.Popen
  _status: int | None = None

  def text(self) -> str:
    """What it has printed."""
    return self.output.read_text(errors='replace')

  def kill(self, number: int = signal.SIGKILL):
    """Sends a signal, if it is still there."""
    if self._status is None:
      with contextlib.suppress(ProcessLookupError):
        os.kill(self.pid, number)

  def wait(self) -> int:
    """Its exit status; minus the signal that killed it."""
    if self._status is None:
      self._status = int(self._server.stdout.readline())
    return self._status

  def wait_for(self, happens: Callable[[], bool], seconds: float = 120) -> bool:
    """Waits until something has happened; False if the run ended before."""
    end = time.monotonic() + seconds
    while not happens():
      if not is_alive(self.pid):
        return happens()
      assert time.monotonic() < end, self.text()
      # Often enough for pauses of 0.02 s; a waiting test takes no core.
      time.sleep(0.004)
    return True

  def wait_for_text(self, pattern: str) -> bool:
    """The same, for a line that it prints."""
    return self.wait_for(lambda: re.search(pattern, self.text(), re.M))


def is_alive(pid: int) -> bool:
  """Whether a process runs; one that has ended waits for its parent as Z."""
  try:
    status = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except (FileNotFoundError, ProcessLookupError):
    return False
  return status.rpartition(')')[2].split()[0] not in 'ZX'


class Runs:
  """Starts runs of one config, one after another, in any workdirs."""

  def __init__(self, server: subprocess.Popen, directory: pathlib.Path):
    self._server, self._directory, self._count = server, directory, 0
    self._last: Running | None = None
    self.config = tiny.write(directory)

  def start(
    self, workdir: pathlib.Path, *flags: str, code: str = '', pause: float = 0
  ) -> Running:
    """Starts train.py; it says which step it is at."""
    if self._last is not None:
      # Where a test has failed, its run may still be there.
      self._last.kill()
      self._last.wait()
    self._count += 1
    output = self._directory / f'output_{self._count}.txt'
    output.touch()
    job = {
      'argv': [f'--config={self.config}', f'--workdir={workdir}', *flags],
      'output': str(output),
      'codes': [SLOW.format(pause=pause), code],
    }
    self._server.stdin.write(json.dumps(job) + '\n')
    self._server.stdin.flush()
    pid = int(self._server.stdout.readline())
    self._last = Running(pid, output, self._server)
    return self._last

  def finish(self, workdir: pathlib.Path, *flags: str, code: str = '') -> str:
    """Runs to the end; returns what was printed."""
    run = self.start(workdir, *flags, code=code)
    assert run.wait() == 0, run.text()
    return run.text()


@contextlib.contextmanager
def server(directory: pathlib.Path) -> Iterator[Runs]:
  """A process that starts runs; its compiled programs are shared by all."""
  process = subprocess.Popen(
    [sys.executable, str(pathlib.Path(__file__).parent / 'fault_server.py')],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    env=os.environ
    | {
      'JAX_PLATFORMS': 'cpu',
      'MPLBACKEND': 'Agg',
      'OPENBLAS_NUM_THREADS': '1',
      'PYTHONPATH': str(_REPO),
      **compiled.environment(),
    },
  )
  try:
    yield Runs(process, directory)
  finally:
    process.stdin.close()
    process.wait()
    process.stdout.close()


def assert_same_run(
  whole: pathlib.Path, broken: pathlib.Path, told: object = ''
):
  """Everything that two finished runs have written is the same, bit for bit."""
  steps = [_steps(path / 'checkpoints') for path in (whole, broken)]
  assert steps[0][-1] == steps[1][-1], told
  last = steps[0][-1]
  for part in ('params', 'train_state', 'run_state'):
    places = [path / f'checkpoints/{last}/{part}' for path in (whole, broken)]
    # The digests are those of the files, and the files are alike.
    assert [digests.problem(place) for place in places] == [None, None], told
    left, right = (
      json.loads((place / digests.NAME).read_text()) for place in places
    )
    assert left == right, (told, part)
  for name in ('model/model.safetensors', 'results.json', 'predictions'):
    assert _content(whole / name) == _content(broken / name), (told, name)
  records = [
    metrics_log.read(path / 'metrics.jsonl') for path in (whole, broken)
  ]
  for record in (*records[0], *records[1]):
    record.pop('examples_per_second', None)
  assert records[0] == records[1], told
  assert_nothing_left_over(broken, told)


def assert_nothing_left_over(workdir: pathlib.Path, told: object = ''):
  """No half-written file is left in the workdir of a finished run."""
  left = [
    str(path.relative_to(workdir))
    for path in workdir.rglob('*')
    if 'partial' in path.name or 'checkpoint-tmp' in path.name
  ]
  assert not left, (told, left)
  for step in _steps(workdir / 'checkpoints'):
    for part in ('params', 'train_state', 'run_state'):
      place = workdir / f'checkpoints/{step}/{part}'
      assert digests.problem(place) is None, told


def tally(fault: str, tried: int, came_of_it: str):
  """Notes that a fault was survived, for docs/explanation/reliability.md.

  Args:
    fault: a row of the table.
    tried: how often it happened; the test has passed, so all were survived.
    came_of_it: what the run did.
  """
  path = os.environ.get('MOBILEBERT_FAULTS_TALLY')
  if path:
    with open(path, 'a', encoding='utf-8') as file:
      file.write(json.dumps([fault, tried, came_of_it]) + '\n')


def saved_steps(workdir: pathlib.Path) -> list[int]:
  """The steps with a checkpoint."""
  return _steps(workdir / 'checkpoints')


def saving(workdir: pathlib.Path) -> set[tuple[str, int]]:
  """Half-written checkpoints: those of now, and those that a kill has left."""
  found = set()
  for path in (workdir / 'checkpoints').glob('*checkpoint-tmp*'):
    with contextlib.suppress(FileNotFoundError):
      found.add((path.name, path.stat().st_ino))
  return found


def _steps(directory: pathlib.Path) -> list[int]:
  return sorted(
    int(path.name) for path in directory.glob('*') if path.name.isdecimal()
  )


def _content(path: pathlib.Path) -> object:
  if path.is_dir():
    return {p.name: p.read_bytes() for p in sorted(path.iterdir())}
  return path.read_bytes()
