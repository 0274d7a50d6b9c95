"""What every encoder of examples does: check the room, work in chunks."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from mobilebert_jax.runtime.errors import InputError

# Enough for the tokenizer's threads; few enough for progress to be seen.
_CHUNK = 1000
# Called with (examples done, examples in all) during long work.
Progress = Callable[[int, int], None]
Example = TypeVar('Example')


def room_for_text(max_length: int, special: int, least: int = 1) -> int:
  """Returns the number of text tokens that fit into a sequence.

  Args:
    max_length: Longest sequence in tokens, special tokens included.
    special: Special tokens of a sequence.
    least: Text tokens that must fit.

  Raises:
    InputError: `max_length` - `special` is less than `least`.
  """
  room = max_length - special
  if room < least:
    raise InputError(
      f'config.data.max_length is {max_length}, but {special} places go to '
      'special '
      f'tokens; use at least {special + least}.'
    )
  return room


def in_chunks(
  examples: Sequence[Example], progress: Progress | None
) -> Iterator[tuple[int, Sequence[Example]]]:
  """Yields examples in chunks of 1,000, as the tokenizer gets them.

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
