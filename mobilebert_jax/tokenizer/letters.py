"""Tells from a vocabulary's tokens whether capitals and accents count in it.

A bare `vocab.txt` does not say. Lower-casing text for a vocabulary with
capitals, or taking accents off for one with accents, turns much of a text into
[UNK], and nobody would see why.
"""

import functools
import unicodedata
from collections.abc import Iterable
from typing import Any

# Of the tokens with letters. Vocabularies with capitals have them in a tenth
# of their tokens and more, lower-cased ones in none but those that somebody
# put in by hand; languages with accents have them in some hundredths.
_CAPITALS = 0.05
_ACCENTS = 0.01


def deduce(tokens: Iterable[str]) -> tuple[dict[str, Any], str | None]:
  """Finds out how texts for a vocabulary are to be prepared.

  Args:
    tokens: its tokens; those in brackets such as [CLS] are passed over.

  Returns:
    Arguments of the tokenizer, {} for a lower-cased vocabulary without
    accents; and a phrase that says why, None where there is nothing to say.
  """
  words = [
    word
    for token in tokens
    if not _is_special(token) and any(map(str.isalpha, word := _bare(token)))
  ]
  # Not str.isupper, which is true of letters such as ℝ that stay as they are.
  capitals = [word for word in words if word.lower() != word]
  accents = [word for word in words if any(map(_has_accent, word))]
  shown = ', '.join(repr(word) for word in capitals[:3])
  if capitals and len(capitals) >= _CAPITALS * len(words):
    return (
      {'do_lower_case': False},
      f'{len(capitals):,} of its {len(words):,} words and pieces have capitals '
      f'({shown}), so texts are not lower-cased',
    )
  if accents and len(accents) >= _ACCENTS * len(words):
    shown = ', '.join(repr(word) for word in accents[:3])
    return (
      {'strip_accents': False},
      f'{len(accents):,} of its {len(words):,} words and pieces have accents '
      f'({shown}), so accents stay in texts',
    )
  if capitals:
    return (
      {},
      f'texts are lower-cased, so {len(capitals):,} of its tokens that have '
      f'capitals ({shown}) are never used',
    )
  return {}, None


def _bare(token: str) -> str:
  return token.removeprefix('##')


def _is_special(token: str) -> bool:
  return token[:1] + token[-1:] in ('[]', '<>')


@functools.cache
def _has_accent(character: str) -> bool:
  """Returns whether one character is a letter with a mark upon it."""
  if character.isascii():
    return False
  parts = unicodedata.normalize('NFD', character)
  return len(parts) > 1 and any(
    unicodedata.category(part) == 'Mn' for part in parts
  )
