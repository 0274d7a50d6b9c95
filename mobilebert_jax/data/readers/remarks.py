"""What reading says: one line on stderr for each thing that was decided.

A file is read several times (for its labels, for each split), and says the same
each time; it is printed once.
"""

import sys

from mobilebert_jax.runtime import distributed

_said: dict[str, None] = {}


def say(text: str):
  """Prints a line on stderr, once for all processes and all readings."""
  if text in _said:
    return
  _said[text] = None
  if distributed.is_primary():
    print(text, file=sys.stderr, flush=True)


def said() -> tuple[str, ...]:
  """Returns what has been said since `forget`, in its order: for a report."""
  return tuple(_said)


def forget():
  """Lets everything be said again: a new run begins."""
  _said.clear()
