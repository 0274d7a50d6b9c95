"""Documents as tokens in one array, with the borders of their sentences."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from mobilebert_jax.data.readers import sentences as sentence_ends
from mobilebert_jax.data.readers.documents import Document

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
  """

  tokens: Int[np.ndarray, 'tokens']
  sentences: Int[np.ndarray, 'sentences+1']
  documents: Int[np.ndarray, 'documents+1']

  def __len__(self) -> int:
    return len(self.documents) - 1


def tokenise(
  documents: Iterable[Document],
  tokenizer: Any,
  kind: Sentences,
  progress: Callable[[int], None] = lambda done: None,
) -> TokenisedText:
  """Cuts documents into sentences and these into tokens.

  Args:
    documents: The texts; each is let go when its tokens are there.
    tokenizer: Called as transformers' tokenizers are. '[SEP]' and the like
      in the text are ordinary text.
    kind: What a sentence is.
    progress: Called with the number of documents done.
  """
  tokens: list[np.ndarray] = []
  lengths: list[np.ndarray] = []
  counts: list[int] = []

  def sentences() -> Iterable[str]:
    for document in documents:
      found = (
        document.lines()
        if kind == 'lines'
        else sentence_ends.split(document.text)
      )
      counts.append(len(found))
      yield from found
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
  )


def _chunks(sentences: Iterable[str]) -> Iterable[list[str]]:
  iterator = iter(sentences)
  while chunk := list(itertools.islice(iterator, _CHUNK)):
    yield chunk
