"""Pairs of segments for next-sentence prediction.

Devlin et al. 2019, section 3.1: half of the time B is what follows A, half of
the time it comes from another document. Labels as in transformers: 0 follows,
1 is random.
"""

from collections.abc import Sequence

import numpy as np

from mobilebert_jax.data.readers import sentences as sentence_ends
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.classification import TextExample

FOLLOWS, RANDOM = 0, 1
_STREAM = 2


def segments(
  document: Document, *, lines: bool, sentences: int
) -> tuple[str, ...]:
  """A document in segments of so many sentences (the last may have fewer).

  Args:
    document: The text.
    lines: Whether each line is a sentence, as in BERT's own format; else
      `data.sentences` tells where sentences end.
    sentences: Sentences in a segment.
  """
  parts = document.lines() if lines else sentence_ends.split(document.text)
  parts = [part.strip() for part in parts if part.strip()]
  return tuple(
    ' '.join(parts[start : start + sentences])
    for start in range(0, len(parts), sentences)
  )


def make_pairs(
  documents: Sequence[Document],
  segmented: Sequence[Sequence[str]],
  seed: int,
) -> tuple[TextExample, ...]:
  """One pair for every segment that another one follows.

  Whether B follows is a fair coin; a random B is a random segment of a random
  other document. The result depends on the arguments alone.

  Args:
    documents: Where the segments come from.
    segmented: The segments of each document.
    seed: Of the coins.

  Raises:
    InputError: Fewer than two documents have a segment, or none has two.
  """
  full = [i for i, parts in enumerate(segmented) if parts]
  places = [(i, j) for i in full for j in range(len(segmented[i]) - 1)]
  if len(full) < 2 or not places:
    raise InputError(
      f'{len(full)} documents with text, {len(places)} pairs of neighbouring '
      'segments; next-sentence prediction needs two documents and a pair (see '
      'config.options.documents, config.options.sentences and '
      'config.options.sentences_per_segment)'
    )
  position = {document: n for n, document in enumerate(full)}
  words = np.random.Philox(
    key=np.array([seed, 0], np.uint64),
    counter=np.array([0, 0, 0, _STREAM], np.uint64),
  ).random_raw(len(places) * 3)
  examples = []
  for (i, j), (coin, other, segment) in zip(
    places, words.reshape(-1, 3).tolist(), strict=True
  ):
    label, second = FOLLOWS, segmented[i][j + 1]
    if coin >> 63:
      # Any document but this one.
      step = 1 + other % (len(full) - 1)
      chosen = segmented[full[(position[i] + step) % len(full)]]
      label, second = RANDOM, chosen[segment % len(chosen)]
    id_ = f'{documents[i].id}#{j}'
    examples.append(TextExample(id_, segmented[i][j], second, label))
  return tuple(examples)
