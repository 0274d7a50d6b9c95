"""Made-up documents for the tests of pre-training data."""

import json
import pathlib
import random

from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from tests.support.tiny import SPECIAL

# Words of one and of several pieces.
WORDS = tuple(f'w{i}' for i in range(2000))
LONG = tuple(f'v{i}' for i in range(200))
_PIECES = ('##x', '##y', '##z')


def tokenizer() -> MobileBertTokenizerFast:
  """A vocabulary of words, and of stems that go on with '##' pieces."""
  vocab = [*SPECIAL, '.', *WORDS, *LONG, *_PIECES]
  return MobileBertTokenizerFast(vocab={t: i for i, t in enumerate(vocab)})


def write_vocab(directory: pathlib.Path) -> pathlib.Path:
  """The same vocabulary as a file."""
  path = directory / 'vocab.txt'
  path.write_text(''.join(f'{t}\n' for t in [*SPECIAL, '.', *WORDS, *LONG,
                                             *_PIECES]))  # fmt: skip
  return path


def document(rng: random.Random, sentences: int) -> str:
  """Sentences of 1 to 16 words, a third of which have 2 to 4 pieces."""

  def word() -> str:
    if rng.random() < 2 / 3:
      return rng.choice(WORDS)
    return rng.choice(LONG) + ''.join(rng.choices('xyz', k=rng.randint(1, 3)))

  lines = [
    ' '.join(word() for _ in range(rng.randint(1, 16))).capitalize() + '.'
    for _ in range(sentences)
  ]
  return ' '.join(lines)


def write_text(
  path: pathlib.Path, documents: int, sentences: int = 30, seed: int = 0
) -> pathlib.Path:
  """A JSON Lines file of documents."""
  rng = random.Random(seed)
  path.write_text(
    ''.join(
      json.dumps({'text': document(rng, rng.randint(1, 2 * sentences))}) + '\n'
      for _ in range(documents)
    )
  )
  return path
