"""How the errors of a command become one sentence and an exit status."""

import sys
from collections.abc import Callable, Sequence

from mobilebert_jax.errors import InputError


def run(main: Callable[[Sequence[str]], None], doc: str | None) -> int:
  """Runs a command and turns its errors into an exit status.

  Args:
    main: takes the command line.
    doc: what --help prints.

  Returns:
    0; 2 for a wrong input; 1 for a run that failed; 130 when interrupted.
  """
  if any(arg in ('-h', '--help', '-help') for arg in sys.argv[1:]):
    print((doc or '').strip())
    return 0
  try:
    main(sys.argv)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except FloatingPointError as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('interrupted; the same command continues.', file=sys.stderr)
    return 130
  return 0
