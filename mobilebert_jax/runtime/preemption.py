"""Being asked to stop: SIGTERM, from a scheduler, a cloud or a person.

A command that has not begun its steps stops at once (`stop_at_once`). A run
that has stops at the next border between two steps, where it can save
(`Watch`). Either way it ends with `Interrupted`, which is exit status 75
(EX_TEMPFAIL of sysexits.h): the same command continues.

With several processes JAX's own preemption service listens instead: one host
is told, and all stop at the same border
(jax.experimental.multihost_utils.reached_preemption_sync_point).
"""

import contextlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

STATUS = 75

_AGAIN_S = 0.05

# The preemption service wants numbers that only rise, over all runs of a
# process; all processes pass the same borders.
_borders = itertools.count(1)


class Interrupted(SystemExit):
  """The process has been asked to stop; nothing is lost.

  A SystemExit, so that no `except Exception` takes it for a failure, and a
  program that does not know it exits with the right status.
  """

  def __init__(self, message: str):
    super().__init__(STATUS)
    self.message = message

  def __str__(self) -> str:
    return self.message


@contextlib.contextmanager
def stop_at_once() -> Iterator[None]:
  """Turns SIGTERM into `Interrupted` wherever the program is."""

  def stop(signum: int, frame: Any):
    del signum, frame
    raise Interrupted('interrupted; the same command starts again.')

  with _handling(stop), _asking_again():
    yield


class Watch:
  """Notes SIGTERM, for a loop that stops at a border; a context manager.

  Outside of the main thread, where Python allows no signal handlers, only
  JAX's service is heard.
  """

  def __init__(self):
    self._is_asked = False
    self._stack = contextlib.ExitStack()

  def __enter__(self) -> 'Watch':
    if not _has_service():
      self._stack.enter_context(_handling(self._note))
    return self

  def __exit__(self, kind: Any, *error: object):
    self._stack.close()
    # Asked behind the last border: now there is nothing left to wait for.
    if self._is_asked and kind is None:
      raise Interrupted('interrupted; the same command continues.')

  def asked(self) -> bool:
    """Returns whether to stop here: at this border, the same in every process.

    Every process must ask at every border.
    """
    if not self._is_asked and _has_service():
      from jax.experimental import multihost_utils

      border = next(_borders)
      if multihost_utils.reached_preemption_sync_point(border):
        self._is_asked = True
    return self._is_asked

  def check(self):
    """Raises `Interrupted` if it is time to stop."""
    if self.asked():
      raise Interrupted('interrupted; the same command continues.')

  def _note(self, signum: int, frame: Any):
    del signum, frame
    self._is_asked = True


@contextlib.contextmanager
def _asking_again() -> Iterator[None]:
  """Sends SIGTERM anew where Python has dropped an `Interrupted`.

  Nothing can be raised out of a finaliser or a callback of the garbage
  collector (JAX has one), and a signal may come just there.
  """
  old = sys.unraisablehook

  def on_unraisable(dropped: Any):
    if not isinstance(dropped.exc_value, Interrupted):
      old(dropped)
      return
    # Later: now it would be dropped again.
    again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGTERM))
    again.daemon = True
    again.start()

  sys.unraisablehook = on_unraisable
  try:
    yield
  finally:
    sys.unraisablehook = old


def _has_service() -> bool:
  """Returns whether JAX listens to SIGTERM: after jax.distributed's start."""
  import jax

  return jax.distributed.is_initialized()


@contextlib.contextmanager
def _handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
  """A handler of SIGTERM for a while; the old one comes back."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  old = signal.signal(signal.SIGTERM, handler)
  try:
    yield
  finally:
    # None: it was not set by Python, and Python cannot put it back.
    if old is not None and signal.getsignal(signal.SIGTERM) is handler:
      signal.signal(signal.SIGTERM, old)
