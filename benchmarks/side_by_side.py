"""Times contenders in one process, in turns, and prints ratios of medians.

Machines are noisy: what runs in turns meets the same noise, so the ratio says
more than either time.
"""

import statistics
import time
from collections.abc import Callable, Mapping


def measure(
  contenders: Mapping[str, Callable[[], None]],
  *,
  rounds: int,
  budget_s: float,
) -> dict[str, list[float]]:
  """Seconds of each call, after one warm-up each.

  Args:
    contenders: name -> a call that returns when its result is there.
    rounds: how often each is called; fewer where `budget_s` ends first, but
      at least three times.
    budget_s: seconds for all of it, warm-up apart.
  """
  for call in contenders.values():
    call()
  times: dict[str, list[float]] = {name: [] for name in contenders}
  start = time.perf_counter()
  for turn in range(rounds):
    if turn >= 3 and time.perf_counter() - start > budget_s:
      break
    for name, call in contenders.items():
      begin = time.perf_counter()
      call()
      times[name].append(time.perf_counter() - begin)
  return times


def table_row(
  title: str, times: Mapping[str, list[float]], baseline: str
) -> str:
  """A Markdown row: median milliseconds, and speed relative to a baseline."""
  base = statistics.median(times[baseline])
  cells = [title]
  for seconds in times.values():
    median = statistics.median(seconds)
    cells.append(f'{1000 * median:.1f} ({base / median:.2f}x)')
  cells.append(str(min(len(seconds) for seconds in times.values())))
  return '| ' + ' | '.join(cells) + ' |'


def table_head(names: list[str]) -> str:
  """The Markdown rows above."""
  cells = ['case', *names, 'rounds']
  return '| ' + ' | '.join(cells) + ' |\n|' + '---|' * len(cells)


def machine() -> str:
  """What it runs on, in one line."""
  import os
  import platform

  import jax

  return (
    f'{platform.machine()}, {os.cpu_count()} cores, '
    f'{jax.devices()[0].device_kind}, Python {platform.python_version()}, '
    f'jax {jax.__version__}'
  )
