"""Times contenders in worker processes that take turns, one call at a time.

Of two libraries in one process, one's threads still spin when the other's turn
begins, and PyTorch and the newest jax want different Pythons. So each library
has a process; a turn is a pause, an untimed call and a timed one, and nobody
else computes meanwhile.

A benchmark calls `serve` where it is started with `--worker`, and `Worker` to
start itself so.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

# Seconds for threads that spin to go to sleep.
_PAUSE = 0.1

Call = Callable[[], None]


class Times(NamedTuple):
  """Milliseconds of one contender's calls."""

  median: float
  least: float
  rounds: int


class Worker:
  """A process of this benchmark, under some Python.

  Args:
    python: the interpreter.
    arguments: for the benchmark, beside '--worker'.
    environment: of the process; None: this one's.
  """

  def __init__(
    self,
    python: str,
    arguments: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
  ):
    self._process = subprocess.Popen(
      [python, sys.argv[0], *arguments, '--worker'],
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
      env=None if environment is None else dict(environment),
    )  # fmt: skip

  def ask(self, **question: Any) -> Any:
    """Sends a question to the worker and returns its answer."""
    assert self._process.stdin is not None
    self._process.stdin.write(json.dumps(question) + '\n')
    self._process.stdin.flush()
    return self._answer()

  def _answer(self) -> Any:
    assert self._process.stdout is not None
    # Libraries print, too.
    for line in self._process.stdout:
      if line.startswith(_MARK):
        return json.loads(line.removeprefix(_MARK))
    raise SystemExit('a worker has ended; what it said is above.')

  def close(self):
    """Ends the process."""
    assert self._process.stdin is not None
    self._process.stdin.close()
    self._process.wait()


_MARK = 'answer: '


def serve(make: Callable[..., Call], versions: Callable[[], str]):
  """Answers questions until there are no more: the worker's whole life.

  Args:
    make: gives a contender's call from what 'make' asks for.
    versions: says of what the worker is made.
  """
  calls: dict[str, Call] = {}
  for line in sys.stdin:
    question = json.loads(line)
    answer: Any = None
    match question.pop('do'):
      case 'versions':
        answer = versions()
      case 'make':
        name = question['name']
        try:
          calls[name] = make(**question)
          for _ in range(2):
            calls[name]()
        except Exception as error:
          calls.pop(name, None)
          answer = f'{type(error).__name__}: {error}'.splitlines()[0][:200]
      case 'time':
        call = calls[question['name']]
        time.sleep(_PAUSE)
        call()
        start = time.perf_counter()
        call()
        answer = 1000 * (time.perf_counter() - start)
      case 'drop':
        calls.clear()
    print(_MARK + json.dumps(answer), flush=True)


def measure(
  workers: Mapping[str, Worker],
  contenders: Mapping[str, str],
  *,
  rounds: int,
  **wanted: Any,
) -> dict[str, Times]:
  """Times contenders in turns; one that cannot be made is left out and named.

  Args:
    workers: by name.
    contenders: name -> name of the worker that has it.
    rounds: how often each is timed.
    **wanted: what all are asked to make, beside their names.
  """
  made = []
  for name, worker in contenders.items():
    problem = workers[worker].ask(do='make', name=name, **wanted)
    if problem is None:
      made.append(name)
    else:
      print(f'({name} is left out: {problem})', file=sys.stderr)
  times: dict[str, list[float]] = {name: [] for name in made}
  for _ in range(rounds):
    for name in made:
      times[name].append(workers[contenders[name]].ask(do='time', name=name))
  for worker in workers.values():
    worker.ask(do='drop')
  return {
    name: Times(statistics.median(values), min(values), len(values))
    for name, values in times.items()
  }


def table_head(names: Iterable[str]) -> str:
  """The head of a Markdown table of these contenders."""
  cells = ['case', *names, 'best peer / best of ours']
  return '| ' + ' | '.join(cells) + ' |\n|' + '---|' * len(cells)


def table_row(
  title: str,
  times: Mapping[str, Times],
  names: Iterable[str],
  is_ours: Callable[[str], bool],
  is_peer: Callable[[str], bool],
) -> str:
  """A Markdown row: medians (least) in milliseconds, and the ratio.

  Args:
    title: of the row.
    times: of those that ran.
    names: of the columns.
    is_ours: whether a contender is this package's.
    is_peer: whether it counts as a peer: of the same precision.
  """
  cells = [title]
  for name in names:
    t = times.get(name)
    cells.append('-' if t is None else f'{t.median:.1f} ({t.least:.1f})')
  ours = [t.median for name, t in times.items() if is_ours(name)]
  peers = [t.median for name, t in times.items() if is_peer(name)]
  ratio = f'{min(peers) / min(ours):.2f}' if ours and peers else '-'
  return '| ' + ' | '.join([*cells, ratio]) + ' |'
