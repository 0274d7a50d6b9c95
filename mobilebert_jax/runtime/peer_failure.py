"""What a process prints when another process of its run is lost."""

import atexit
import subprocess

# In the messages of JAX's runtime.
_SIGNS = ('Gloo ', 'CoordinationService')
_SCRIPT = 'trap "" INT TERM HUP; read word || echo "$1" >&2'
_shell: subprocess.Popen[bytes] | None = None


class LostProcessError(RuntimeError):
  """Another process of the run has stopped."""


def is_lost(error: BaseException | None) -> bool:
  """Returns whether an error came from another process out of reach.

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
  """Prints a message on stderr if this process is killed or aborted.

  When a process is lost, JAX's runtime ends the others by an abort, with a
  message of its own (`DistributedRuntimeClient`); Python is not asked. So a
  shell waits for a word that says that this process ended by itself, and prints
  the message if that does not come.
  """
  global _shell
  _shell = subprocess.Popen(
    ['sh', '-c', _SCRIPT, '-', text],
    stdin=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
  )
  atexit.register(clear_message)


def clear_message():
  """Takes the message back: this process ends by itself."""
  if _shell is not None and _shell.poll() is None:
    _shell.communicate(b'ended\n')
