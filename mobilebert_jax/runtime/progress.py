"""Progress bars, of training and of other work; the one module with tqdm."""

import collections
import statistics
import sys
import time

from mobilebert_jax.runtime import distributed

# Without a terminal: a line at most so often, in seconds.
_LINE_EVERY = 20.0
# The time that is left follows from the last steps, once there are a few. A
# step that took so many times the median's time has compiled: it is left out.
_STEPS_REMEMBERED, _STEPS_NEEDED, _COMPILED = 200, 3, 5.0
# Work that takes no longer than this shows nothing.
_PATIENCE = 2.0


class Progress:
  """Shows how far training is; a context manager.

  On a terminal it is a bar on stderr; elsewhere (a log file, a notebook's
  subprocess) a plain line now and then, because a bar would fill the file.

  Args of the constructor:
    total: steps of the whole run.
    done: steps that an earlier start has done.
    batch_size: examples in a step.
  """

  def __init__(self, total: int, done: int, batch_size: int):
    from tqdm import tqdm

    # Of several processes the first one speaks.
    self._is_silent = not distributed.is_primary()
    self._is_terminal = sys.stderr.isatty() and not self._is_silent
    self._bar = tqdm(
      total=total,
      initial=done,
      unit='step',
      dynamic_ncols=True,
      disable=not self._is_terminal,
    )
    self._total, self._done = total, done
    self._batch_size = batch_size
    self._window_start = self._last_step = time.monotonic()
    self._window_first = done
    self._last_line = self._window_start
    self._seconds: collections.deque[float] = collections.deque(
      maxlen=_STEPS_REMEMBERED
    )

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *error: object):
    self._bar.close()

  def advance(self, loss: float):
    """Counts one finished step."""
    self._done += 1
    self._bar.set_postfix_str(
      f'loss {loss:.4f}, {self._speed():.0f} examples/s', refresh=False
    )
    self._bar.update()
    now = time.monotonic()
    self._seconds.append(now - self._last_step)
    self._last_step = now
    has_lines = not self._is_terminal and not self._is_silent
    if has_lines and now - self._last_line > _LINE_EVERY:
      self._last_line = now
      left = self._seconds_left()
      print(
        f'step {self._done}/{self._total}, loss {loss:.4f}, '
        f'{self._speed():.0f} examples/s, '
        + (
          'the first steps compile' if left is None else f'{_clock(left)} left'
        ),
        file=sys.stderr,
        flush=True,
      )

  def examples_per_second(self) -> float:
    """Speed since the last call or `restart_clock`."""
    speed = self._speed()
    self.restart_clock()
    return speed

  def restart_clock(self):
    """Leaves out of the speed what went before, such as an evaluation."""
    self._window_start = self._last_step = time.monotonic()
    self._window_first = self._done

  def say(self, text: str):
    """Prints a line on stdout, above the bar."""
    self._bar.clear()
    distributed.print_on_primary(text)
    self._bar.refresh()

  def _seconds_left(self) -> float | None:
    """Returns how long the steps will take; None: too few are known."""
    if len(self._seconds) < _STEPS_NEEDED:
      return None
    most = _COMPILED * statistics.median(self._seconds)
    usual = statistics.mean(x for x in self._seconds if x <= most)
    return usual * (self._total - self._done)

  def _speed(self) -> float:
    seconds = time.monotonic() - self._window_start
    steps = self._done - self._window_first
    return steps * self._batch_size / max(seconds, 1e-9)


class Work:
  """Shows how far work beside training is; a context manager.

  Work of a moment shows nothing. On a terminal longer work has a bar on
  stderr that goes away at its end; elsewhere a plain line now and then.

  Args of the constructor:
    what: such as 'encoding train'.
    unit: what is counted.
    terminal_only: no lines elsewhere, for programs in a pipe.
  """

  def __init__(self, what: str, unit: str, terminal_only: bool = False):
    from tqdm import tqdm

    self._what, self._unit = what, unit
    # Of several processes the first one speaks.
    is_main = distributed.is_primary()
    self._is_terminal = sys.stderr.isatty() and is_main
    self._has_lines = is_main and not self._is_terminal and not terminal_only
    self._bar = tqdm(
      desc=what,
      unit=f' {unit}',
      dynamic_ncols=True,
      leave=False,
      delay=_PATIENCE,
      disable=not self._is_terminal,
    )
    self._last_line = time.monotonic()

  def __enter__(self) -> 'Work':
    return self

  def __exit__(self, *error: object):
    self._bar.close()

  def is_at(self, done: int, total: int | None = None):
    """Notes how much is done, of how much if it is known."""
    self._bar.total = total
    self._bar.update(done - self._bar.n)
    now = time.monotonic()
    if self._has_lines and now - self._last_line > _LINE_EVERY:
      self._last_line = now
      of = '' if total is None else f' of {total:,}'
      print(
        f'{self._what}: {done:,}{of} {self._unit}', file=sys.stderr, flush=True
      )


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  clock = f'{minutes:02d}:{seconds:02d}'
  return f'{hours}:{clock}' if hours else clock
