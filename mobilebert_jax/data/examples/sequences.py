"""The sequences of pre-training: which part of a text goes into which.

A sequence is a row of positions in the tokens of its text, so that drawing and
shuffling millions of them costs little; `frame` makes the model's input.

Pairs follow BERT's create_pretraining_data.py (Devlin et al. 2019, appendix
A.2): sentences of a document are gathered until they fill a sequence and are
divided into A and B at random; half of the time B is replaced by sentences of
another document, and the sentences that it replaces are used again. One thing
differs: with the probability `short` each sequence has another target length.
Google's script draws it once for each document, and a book would become
thousands of sequences of, say, five tokens.

Without next-sentence prediction a sequence has one segment (Liu et al. 2019,
section 4.2, 'doc-sentences'): as many whole sentences of a document as fit.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from mobilebert_jax.data.examples.chunks import room_for_text
from mobilebert_jax.data.random_streams import Draws, Stream, philox
from mobilebert_jax.data.readers import sentences as sentence_ends
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizer

# What a sentence is: one of the lines, or what punctuation marks end.
Sentences = Literal['marks', 'lines']
# Sentences given to the tokenizer at once.
_CHUNK = 2000


@dataclasses.dataclass(frozen=True, eq=False)
class TokenisedText:
  """Documents that have a token at least, of sentences that have one.

  Attributes:
    tokens: All tokens, int32; none is special but [UNK].
    sentences: Sentence i is `tokens[sentences[i]:sentences[i + 1]]`.
    documents: Document i has the sentences `documents[i]` to
      `documents[i + 1]` - 1.
    without_token: How many documents have been left out.
  """

  tokens: Int[np.ndarray, 'tokens']
  sentences: Int[np.ndarray, 'sentences+1']
  documents: Int[np.ndarray, 'documents+1']
  without_token: int = 0

  def __len__(self) -> int:
    return len(self.documents) - 1


def tokenise(
  documents: Iterable[Document],
  tokenizer: MobileBertTokenizer,
  kind: Sentences,
  progress: Callable[[int], None] = lambda done: None,
) -> TokenisedText:
  """Cuts documents into sentences and these into tokens.

  Args:
    documents: The texts; each is let go when its tokens are there.
    tokenizer: Makes the tokens. '[SEP]' and the like
      in the text are ordinary text.
    kind: What a sentence is.
    progress: Called with the number of documents done.
  """
  tokens: list[np.ndarray] = []
  lengths: list[np.ndarray] = []
  counts: list[int] = []

  def sentences() -> Iterable[str]:
    for document in documents:
      result = (
        document.lines()
        if kind == 'lines'
        else sentence_ends.split(document.text)
      )
      counts.append(len(result))
      yield from result
      progress(len(counts))

  for chunk in _chunks(sentences()):
    rows = tokenizer(
      chunk,
      add_special_tokens=False,
      return_token_type_ids=False,
      return_attention_mask=False,
      split_special_tokens=True,
      verbose=False,
    )['input_ids']
    tokens.append(np.fromiter(itertools.chain.from_iterable(rows), np.int32))
    lengths.append(np.fromiter(map(len, rows), np.int64, len(rows)))
  return _joined(tokens, lengths, counts)


def _joined(
  tokens: Sequence[np.ndarray],
  lengths: Sequence[np.ndarray],
  counts: Sequence[int],
) -> TokenisedText:
  """Leaves out sentences without tokens and documents without sentences."""
  sizes = np.concatenate([np.zeros(0, np.int64), *lengths])
  owners = np.repeat(np.arange(len(counts)), counts)
  owners, sizes = owners[sizes > 0], sizes[sizes > 0]
  sentences = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
  per_document = np.bincount(owners, minlength=len(counts))
  documents = np.cumsum(per_document[per_document > 0])
  return TokenisedText(
    np.concatenate([np.zeros(0, np.int32), *tokens]),
    sentences,
    np.concatenate([[0], documents]).astype(np.int64),
    len(counts) - len(documents),
  )


def _chunks(sentences: Iterable[str]) -> Iterable[list[str]]:
  iterator = iter(sentences)
  while chunk := list(itertools.islice(iterator, _CHUNK)):
    yield chunk


# [CLS] A [SEP] B [SEP], and [CLS] A [SEP].
_SPECIAL_IN_PAIR, _SPECIAL = 3, 2
# A pair has a token of each side at least; so has a shortened one.
_SHORTEST = 2
# Columns of what `draw` returns.
IS_RANDOM, IS_FORCED = 4, 5
# Where A and B begin and end, whether B is random, and whether it had to be.
_Sequence = tuple[int, int, int, int, int, int]


class Layout(NamedTuple):
  """How sequences are made.

  Attributes:
    max_length: Longest sequence, special tokens included.
    next_sentence: Pairs for next-sentence prediction; False: one segment.
    short: Share of the sequences that have a random target length.
  """

  max_length: int
  next_sentence: bool
  short: float

  @property
  def special(self) -> int:
    """The special tokens of a sequence."""
    return _SPECIAL_IN_PAIR if self.next_sentence else _SPECIAL

  def room(self) -> int:
    """Returns the number of text tokens in a sequence.

    Raises:
      InputError: There is no room.
    """
    return room_for_text(self.max_length, self.special, least=_SHORTEST)


def draw(
  text: TokenisedText,
  layout: Layout,
  seed: int,
  stream: int = 0,
  repeat: int = 0,
) -> Int[np.ndarray, 'N 6']:
  """Makes the sequences of a text; a pure function of its arguments.

  Args:
    text: The documents; random sentences come from another one of them.
    layout: How to make them.
    seed: At least 0.
    stream: Number of the text, so that others are drawn otherwise.
    repeat: Number of the pass over this text.

  Returns:
    One row for each sequence: where A begins and ends in `text.tokens`, the
    same for B (0 and 0 without it), whether B is random, and whether it had to
    be, since A is a sentence alone with none to follow.

  Raises:
    InputError: No room in a sequence, or pairs of fewer than two documents.
  """
  room = layout.room()
  if layout.next_sentence and len(text) < 2:
    empty = text.without_token
    more = f' with a token, and {empty} without' if empty else ''
    raise InputError(
      f'next-sentence prediction needs two documents, but the text has '
      f'{len(text)}{more}; give more, see config.options.documents, or use '
      'config.options.next_sentence=False.'
    )
  ends = text.sentences.tolist()
  borders = text.documents.tolist()
  make = _Drawing.pairs if layout.next_sentence else _Drawing.segments
  rows: list[_Sequence] = []
  for document in range(len(text)):
    draws = Draws(Stream.SEQUENCES, seed, repeat, document, stream)
    drawing = _Drawing(ends, borders, document, room, layout.short, draws)
    rows.extend(make(drawing))
  return np.array(rows, np.int64).reshape(-1, 6)


def shuffled(
  sequences: Int[np.ndarray, 'N 6'], seed: int, stream: int = 0
) -> Int[np.ndarray, 'N 6']:
  """Returns the rows in a random order; arguments as `draw`."""
  words = philox(Stream.SHUFFLE, seed, stream).random_raw(len(sequences))
  return sequences[np.argsort(words, kind='stable')]


def learnable(
  sequences: Int[np.ndarray, 'N 6'],
  tokens: Int[np.ndarray, 'tokens'],
  is_special: Any,
) -> Int[np.ndarray, 'M 6']:
  """Leaves out sequences that have unknown tokens alone."""
  before = np.concatenate([[0], np.cumsum(~is_special[tokens])])
  counts = before[sequences[:, 1:4:2]] - before[sequences[:, 0:4:2]]
  return sequences[counts.sum(axis=1) > 0]


def frame(
  sequence: Sequence[int],
  tokens: Int[np.ndarray, 'tokens'],
  cls_id: int,
  sep_id: int,
) -> tuple[Int[np.ndarray, 'S'], Int[np.ndarray, 'S']]:
  """Frames a sequence: [CLS] A [SEP] B [SEP], or [CLS] A [SEP].

  Args:
    sequence: A row of `draw`.
    tokens: Its text's.
    cls_id: The id of [CLS].
    sep_id: The id of [SEP].
  """
  a, a_end, b, b_end = sequence[:4]
  parts: list[Any] = [[cls_id], tokens[a:a_end], [sep_id]]
  if b_end > b:
    parts += [tokens[b:b_end], [sep_id]]
  ids = np.concatenate(parts, dtype=np.int32)
  types = np.zeros(len(ids), np.int32)
  types[a_end - a + _SPECIAL :] = 1
  return ids, types


class _Drawing(NamedTuple):
  """The sequences of one document, drawn one after another.

  Attributes:
    ends: Sentence i of the text is tokens `ends[i]` to `ends[i + 1]` - 1.
    borders: Document i is sentences `borders[i]` to `borders[i + 1]` - 1.
    document: Number of the document.
    room: Tokens of text in a sequence.
    short: Share of the sequences that have a random target length.
    draws: The document's random stream.
  """

  ends: Sequence[int]
  borders: Sequence[int]
  document: int
  room: int
  short: float
  draws: Draws

  def pairs(self) -> Iterator[_Sequence]:
    """Yields pairs for next-sentence prediction."""
    ends, draws = self.ends, self.draws
    first, stop = self.borders[self.document : self.document + 2]
    target = self._target()
    at = first
    while at < stop:
      if at + 1 < stop and ends[at + 1] - ends[first] < target:
        at += 1
        continue
      # The sentences `first` to `at` fill the target, or the document ends.
      count = at - first + 1
      border = first + 1 + (draws.below(count - 1) if count > 1 else 0)
      a, a_end = ends[first], ends[border]
      is_forced = count == 1
      is_random = is_forced or draws.chance(0.5)
      if is_random:
        b, b_end = self._elsewhere(target - (a_end - a))
        # What B replaces is used again.
        first = border
      else:
        b, b_end = a_end, ends[at + 1]
        first = at + 1
      borders = _cut(a, a_end, b, b_end, self.room, draws)
      yield *borders, int(is_random), int(is_forced)
      at = first
      target = self._target()

  def segments(self) -> Iterator[_Sequence]:
    """Yields runs of whole sentences, without a second segment."""
    ends = self.ends
    first, stop = self.borders[self.document : self.document + 2]
    at, end = ends[first], ends[stop]
    while at < end:
      limit = at + self._target()
      border = ends[bisect.bisect_right(ends, limit, first, stop + 1) - 1]
      # A sentence that is longer than a sequence is cut.
      after = border if border > at else min(limit, end)
      yield at, after, 0, 0, 0, 0
      at = after

  def _target(self) -> int:
    """Draws the length that the next sequence is filled to."""
    if self.draws.chance(self.short):
      return _SHORTEST + self.draws.below(self.room - _SHORTEST + 1)
    return self.room

  def _elsewhere(self, wanted: int) -> tuple[int, int]:
    """Draws sentences of another document, of `wanted` tokens or more."""
    count = len(self.borders) - 1
    other = (self.document + 1 + self.draws.below(count - 1)) % count
    first, stop = self.borders[other : other + 2]
    first += self.draws.below(stop - first)
    # The sentence with which there are enough, or the document's last one.
    ends = self.ends
    last = bisect.bisect_left(ends, ends[first] + wanted, first + 1, stop)
    return ends[first], ends[last]


def _cut(
  a: int, a_end: int, b: int, b_end: int, room: int, draws: Draws
) -> tuple[int, int, int, int]:
  """Takes tokens from the longer side, each from its front or its back."""
  sizes = (a_end - a, b_end - b)
  excess = max(0, sum(sizes) - room)
  alone = min(excess, abs(sizes[0] - sizes[1]))
  # Once they are equal, B loses one first.
  from_a, from_b = (excess - alone) // 2, (excess - alone + 1) // 2
  if sizes[0] > sizes[1]:
    from_a += alone
  else:
    from_b += alone
  front_a, front_b = draws.heads(from_a), draws.heads(from_b)
  return (
    a + front_a,
    a_end - (from_a - front_a),
    b + front_b,
    b_end - (from_b - front_b),
  )
