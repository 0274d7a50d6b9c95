"""What every `Task.encode` does: check the room, work in chunks."""

from collections.abc import Iterator, Sequence
from typing import Any

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.task import Progress

# Enough for the tokenizer's threads; few enough for progress to be seen.
_CHUNK = 1000


def room_for_text(max_length: int, special: int, least: int = 1) -> int:
  """The tokens of text that a sequence has room for.

  Args:
    max_length: Longest sequence in tokens, special tokens included.
    special: Special tokens of a sequence.
    least: Tokens of text that there must be room for.

  Raises:
    InputError: There is less room.
  """
  room = max_length - special
  if room < least:
    raise InputError(
      f'config.data.max_length is {max_length}, but {special} places go to '
      'special '
      f'tokens; use at least {special + least}'
    )
  return room


def in_chunks(
  examples: Sequence[Any], progress: Progress | None
) -> Iterator[tuple[int, Sequence[Any]]]:
  """Examples as the tokenizer gets them: many at once, but not all.

  Args:
    examples: What to encode.
    progress: Called when a chunk has been dealt with.

  Yields:
    The index of a chunk's first example, and the chunk.
  """
  for start in range(0, len(examples), _CHUNK):
    chunk = examples[start : start + _CHUNK]
    yield start, chunk
    if progress:
      progress(start + len(chunk), len(examples))
