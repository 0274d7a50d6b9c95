"""How the errors of a command become one sentence and an exit status."""

import sys
from collections.abc import Callable, Sequence

from mobilebert_jax.runtime import distributed, preemption
from mobilebert_jax.runtime.errors import InputError, RunError


def run(
  main: Callable[[Sequence[str]], None],
  argv: Sequence[str] | None = None,
  *,
  continues: bool = False,
) -> int:
  """Runs a command and turns its errors into an exit status.

  Args:
    main: takes the command line.
    argv: the program's name and its arguments; None: those of the process.
    continues: whether the command, repeated, goes on where it was stopped.

  Returns:
    0: finished; 1: the run failed; 2: a wrong input; 75: stopped by SIGTERM;
    130: stopped by Ctrl-C.
  """
  try:
    with preemption.stop_at_once():
      main(sys.argv if argv is None else argv)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except FloatingPointError as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  except RunError as error:
    print(f'error: {error}', file=sys.stderr)
    distributed.leave(1)
    return 1
  except preemption.Interrupted as stop:
    print(stop, file=sys.stderr)
    return preemption.STATUS
  except SystemExit as stop:
    # With 0 the help has been printed.
    if stop.code:
      raise
  except KeyboardInterrupt:
    repeated = 'continues' if continues else 'starts again'
    print(f'interrupted; the same command {repeated}.', file=sys.stderr)
    distributed.leave(130)
    return 130
  except Exception as error:
    distributed.fail(error)
    raise
  return 0
