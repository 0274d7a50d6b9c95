"""Messages on peer failure: when another process of the run is lost."""

import atexit
import subprocess

# In the messages of JAX's runtime.
_SIGNS = ('Gloo ', 'CoordinationService')
_SCRIPT = 'trap "" INT TERM HUP; read word || echo "$1" >&2'
_shell: subprocess.Popen[bytes] | None = None


class LostProcessError(RuntimeError):
  """Another process of the run has stopped."""


def is_lost(error: BaseException | None) -> bool:
  """Returns whether an error came from a process that cannot be reached.

  What was raised first counts: later errors come from cleaning up.
  """
  while error is not None:
    if isinstance(error, LostProcessError):
      return True
    # The CPU's collectives tell it by a ValueError or a JaxRuntimeError. Those
    # of a TPU wait, until the heartbeats end the process.
    if any(sign in str(error) for sign in _SIGNS):
      return True
    error = error.__cause__ or error.__context__
  return False


def set_message(text: str):
  """Starts a shell that prints a message if this process is killed.

  When a process is lost, JAX's runtime ends the others by an abort, with a
  message of its own (`DistributedRuntimeClient`); Python is not asked. The
  shell prints unless `clear_message` was called before this process ended.

  Args:
    text: what the shell prints on stderr.
  """
  global _shell
  _shell = subprocess.Popen(
    ['sh', '-c', _SCRIPT, '-', text],
    stdin=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
  )
  atexit.register(clear_message)


def clear_message():
  """Ends the shell without a message."""
  if _shell is not None and _shell.poll() is None:
    _shell.communicate(b'ended\n')
