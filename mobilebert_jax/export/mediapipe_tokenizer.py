"""How MediaPipe and the Task Library read a text, and where that is not ours.

Their tokenizer knows neither options nor special tokens in a text:

- A to Z become lower case, whatever the model wants; no other letter does.
- Accents stay; nothing is normalised.
- Words end at ASCII white space, not at other spaces; control characters are
  part of a word.
- Symbols outside of ASCII and of Unicode's punctuation are part of a word.
- '[MASK]' in a text is three words.
- A word of more than 100 bytes (not characters) is unknown.
"""

import string
import unicodedata
from collections.abc import Iterator, Mapping

from mobilebert_jax.tokenizer import MobileBertTokenizerFast

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_SPACE = frozenset(' \t\n\f\r')
_PUNCTUATION = frozenset(string.punctuation)
_IDEOGRAPHS = (
  (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
  (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
_LONGEST_WORD = 100


def encode(
  vocabulary: Mapping[str, int], text: str, max_length: int | None = None
) -> list[int]:
  """Returns the ids that MediaPipe gives a text, with [CLS] and [SEP].

  Args:
    vocabulary: ids of tokens.
    text: any text.
    max_length: ids to keep, the last of them [SEP]; None: all.
  """
  pieces = [
    piece
    for word in _words(text.translate(_LOWER))
    for piece in _pieces(vocabulary, word)
  ]
  if max_length is not None:
    pieces = pieces[: max_length - 2]
  return [vocabulary[token] for token in ('[CLS]', *pieces, '[SEP]')]


def differs(tokenizer: MobileBertTokenizerFast, text: str) -> bool:
  """Returns whether MediaPipe reads other tokens than the model's tokenizer."""
  ids = tokenizer(text, truncation=False, verbose=False)['input_ids']
  return list(ids) != encode(tokenizer.get_vocab(), text)


def _words(text: str) -> Iterator[str]:
  """Cuts at white space, and on both sides of punctuation and ideographs."""
  word = ''
  for character in text:
    is_word = _is_word(character)
    if character not in _SPACE and not is_word:
      word += character
      continue
    if word:
      yield word
    word = ''
    if is_word:
      yield character
  if word:
    yield word


def _is_word(character: str) -> bool:
  if character in _PUNCTUATION:
    return True
  if unicodedata.category(character).startswith('P'):
    return True
  return any(low <= ord(character) <= high for low, high in _IDEOGRAPHS)


def _pieces(vocabulary: Mapping[str, int], word: str) -> list[str]:
  """WordPiece: the longest pieces from the left, or one unknown token."""
  pieces: list[str] = []
  start = 0
  if len(word.encode()) > _LONGEST_WORD:
    return ['[UNK]']
  while start < len(word):
    for end in range(len(word), start, -1):
      piece = word[start:end] if start == 0 else f'##{word[start:end]}'
      if piece in vocabulary:
        break
    else:
      return ['[UNK]']
    pieces.append(piece)
    start = end
  return pieces
