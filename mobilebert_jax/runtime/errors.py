"""The exceptions that are told in one sentence, without a traceback."""

import contextlib
from collections.abc import Callable, Iterator


class InputError(ValueError):
  """A wrong value, file or flag, told in one sentence.

  The message names what is wrong, where (field, or file and line) and what
  would be right. The commands print it without a traceback and exit with
  status 2; every exception but those of this module is a defect of this
  package.
  """


class RunError(RuntimeError):
  """A run that its surroundings have stopped, told in one sentence.

  A full disk, too little memory, a data loader that broke: the input may be
  right, and the run can continue once the cause is removed. The commands exit
  with status 1.
  """


@contextlib.contextmanager
def reworded(change: Callable[[str], str]) -> Iterator[None]:
  """Changes the message of an InputError that the block raises.

  Args:
    change: takes the message, returns what is said instead.

  Raises:
    InputError: the block raised one.
  """
  try:
    yield
  except InputError as error:
    raise InputError(change(str(error))) from None
