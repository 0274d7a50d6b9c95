"""What is said when another process of the run is lost."""

import atexit
import subprocess

# In the messages of JAX's runtime.
_SIGNS = ('Gloo ', 'CoordinationService')
_SCRIPT = 'trap "" INT TERM HUP; read word || echo "$1" >&2'
_shell: subprocess.Popen[bytes] | None = None


class LostProcessError(RuntimeError):
  """Another process of the run has stopped."""


def is_lost(error: BaseException | None) -> bool:
  """Whether an error came from another process that cannot be reached.

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


def leave(text: str):
  """Lets a shell speak for this process, should it be killed.

  When a process is lost, JAX's runtime ends the others by an abort, with a
  message of its own (`DistributedRuntimeClient`); Python is not asked. The
  shell waits for a word that says that this process ended by itself.

  Args:
    text: what it prints on stderr.
  """
  global _shell
  _shell = subprocess.Popen(
    ['sh', '-c', _SCRIPT, '-', text],
    stdin=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
  )
  atexit.register(take_back)


def take_back():
  """This process ends by itself: the shell has nothing to say."""
  if _shell is not None and _shell.poll() is None:
    _shell.communicate(b'ended\n')
