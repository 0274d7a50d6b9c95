"""From questions with choices to rows of tokens, a row for each choice."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.data.readers.choice_files import ChoiceExample
from mobilebert_jax.tasks.encoding import in_chunks, room_for_text
from mobilebert_jax.tasks.task import Progress

# Which text of a pair is cut if both together are too long.
Cut = Literal['longest_first', 'only_first']
# The column that says which choices are there: 1, or 0 for a filler.
MASK = 'choice_mask'

_SPECIAL = 3


def encode(
  cut: Cut,
  examples: Sequence[ChoiceExample],
  tokenizer: Any,
  max_length: int,
  progress: Progress | None = None,
) -> Features:
  """Tokenises the pair of each choice.

  An example with fewer choices than the longest one has fillers at its end:
  empty texts, which `choice_mask` marks with 0.

  Args:
    cut: See `cut_pair`.
    examples: What to encode.
    tokenizer: Called as transformers' tokenizers are.
    max_length: Longest sequence, special tokens included.
    progress: Called with the examples done and all of them.

  Returns:
    Sequence columns input_ids and token_type_ids with `choices` rows for each
    example; choice_mask (int32 [N, choices]), and labels (int32 [N]) if every
    example has an answer.

  Raises:
    InputError: `max_length` leaves no room for two texts.
  """
  room = room_for_text(max_length, _SPECIAL, least=2)
  choices = max(len(example.choices) for example in examples)
  frame = tokenizer.build_inputs_with_special_tokens
  types_of = tokenizer.create_token_type_ids_from_sequences
  ids: list[list[int]] = []
  types: list[list[int]] = []
  for _, chunk in in_chunks(examples, progress):
    tokens = _tokens(chunk, tokenizer)
    for example in chunk:
      for choice in example.choices:
        pair = cut_pair(tokens[example.text], tokens[choice], room, cut)
        ids.append(frame(*pair))
        types.append(types_of(*pair))
      missing = choices - len(example.choices)
      ids += [frame([])] * missing
      types += [types_of([])] * missing
  mask = [
    [int(i < len(example.choices)) for i in range(choices)]
    for example in examples
  ]
  answers = [example.answer for example in examples]
  labels = {} if None in answers else {'labels': np.array(answers, np.int32)}
  return Features(
    sequences={
      'input_ids': Ragged.from_rows(ids),
      'token_type_ids': Ragged.from_rows(types),
    },
    scalars={**labels, MASK: np.array(mask, np.int32)},
    pad={'input_ids': tokenizer.pad_token_id, 'token_type_ids': 0},
    choices=choices,
    max_length=max_length,
  )


def cut_pair(
  first: Sequence[int], second: Sequence[int], room: int, cut: Cut
) -> tuple[Sequence[int], Sequence[int]]:
  """Cuts two texts until both together fit.

  'longest_first' takes tokens from the end of the longer one (as transformers
  does). 'only_first' takes them from the end of the first one; a second text
  that alone is too long loses its beginning, because what tells choices apart
  is at its end.

  Args:
    first: Tokens of the first text.
    second: Tokens of the second text.
    room: Tokens of both together.
    cut: Which one is cut.
  """
  if len(first) + len(second) <= room:
    return first, second
  if cut == 'only_first':
    second = second[max(0, len(second) - room) :]
    return first[: room - len(second)], second
  shorter = min(len(first), len(second), room // 2)
  longer = room - shorter
  if len(first) > len(second):
    return first[:longer], second[:shorter]
  return first[:shorter], second[:longer]


def _tokens(
  examples: Sequence[ChoiceExample], tokenizer: Any
) -> dict[str, list[int]]:
  """The tokens of each text; an article is tokenised only once."""
  texts = list(
    dict.fromkeys(
      text for example in examples for text in (example.text, *example.choices)
    )
  )
  encoded = tokenizer(
    texts,
    add_special_tokens=False,
    truncation=False,
    padding=False,
    verbose=False,
  )
  return dict(zip(texts, encoded['input_ids'], strict=True))
