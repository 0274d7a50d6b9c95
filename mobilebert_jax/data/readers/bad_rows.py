"""Rows that are wrong: all of them are counted, then refused or left out.

A reader wraps what it does with a row:

    with bad_rows.collect(path, policy) as bad:
      for row in rows(path, bad):
        with bad.row():
          examples.append(example(row))
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

from mobilebert_jax.data.readers import remarks
from mobilebert_jax.runtime.errors import InputError

Policy = Literal['error', 'skip']
# What a message shows of many.
_SHOWN = 3


class BadRows:
  """The wrong rows of a file.

  Attributes:
    messages: What is wrong with each, in the order of the file.
  """

  def __init__(self):
    self.messages: list[str] = []

  def add(self, error: InputError):
    """Counts a row that cannot be used."""
    self.messages.append(str(error))

  @contextlib.contextmanager
  def row(self) -> Iterator[None]:
    """Counts the row that the block reads, if it raises an InputError."""
    try:
      yield
    except InputError as error:
      self.add(error)


@contextlib.contextmanager
def collect(where: Any, policy: Policy) -> Iterator[BadRows]:
  """Collects the wrong rows of a file; at the end they decide.

  Args:
    where: The file, for messages.
    policy: 'error' refuses them, all in one message; 'skip' leaves them out
      and says so.

  Raises:
    InputError: There are some, and the policy is 'error'.
  """
  bad = BadRows()
  try:
    yield bad
  except InputError as error:
    # Something that ends the file, or a file of nothing else.
    if not bad.messages:
      raise
    raise InputError(f'{error} Before, {_listed(bad.messages)}') from None
  if not bad.messages:
    return
  if policy == 'skip':
    remarks.say(
      f'{where}: {len(bad.messages):,} rows are left out '
      f'(config.data.bad_rows). The first: {bad.messages[0]}'
    )
  elif len(bad.messages) == 1:
    raise InputError(bad.messages[0])
  else:
    raise InputError(
      f'{where}: {_listed(bad.messages)} Correct them, or leave all of them '
      "out with config.data.bad_rows='skip'."
    )


def refuse(error: InputError, bad: BadRows | None):
  """Raises the error of a row, or counts it where rows are counted."""
  if bad is None:
    raise error
  bad.add(error)


def _listed(messages: list[str]) -> str:
  count = len(messages)
  shown = ' '.join(f'({i}) {m}' for i, m in enumerate(messages[:_SHOWN], 1))
  first = f'; the first {_SHOWN}' if count > _SHOWN else ''
  rows = 'rows are' if count > 1 else 'row is'
  return f'{count:,} {rows} wrong{first}: {shown}'
