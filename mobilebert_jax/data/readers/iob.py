"""The tags of entities: IOB1 and IOB2 (Tjong Kim Sang and Veenstra, 1999).

A word outside of entities is O; inside one of type X it is I-X or B-X. In
IOB2 B- marks the first word of every entity; in IOB1 it marks only the first
word of an entity that follows another one of the same type at once.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

Scheme = Literal['IOB2', 'IOB1']

OUTSIDE = 'O'
# seqeval drops hyphens around a type, so that no type may begin or end so.
_TAG = re.compile(r'[BI]-[^-\s](?:\S*[^-\s])?\Z')


def is_tag(tag: str) -> bool:
  """Whether this is O, B-X or I-X."""
  return tag == OUTSIDE or _TAG.match(tag) is not None


def type_of(tag: str) -> str:
  """The type of the entity; '' outside."""
  return tag[2:]


def violation(tags: Sequence[str], scheme: Scheme) -> int | None:
  """The index of the first tag that the scheme forbids there, if any."""
  before = OUTSIDE
  for index, tag in enumerate(tags):
    same = type_of(tag) == type_of(before)
    if scheme == 'IOB2' and tag.startswith('I-') and not same:
      return index
    if scheme == 'IOB1' and tag.startswith('B-') and not same:
      return index
    before = tag
  return None


def to_iob2(tags: Sequence[str]) -> list[str]:
  """The same entities in IOB2, of tags in either scheme."""
  return [
    f'B-{type_of(tag)}' if begins else tag for tag, begins in _begins(tags)
  ]


def to_iob1(tags: Sequence[str]) -> list[str]:
  """The same entities in IOB1, of tags in either scheme.

  An I- without a beginning (as a model may predict) begins an entity, as in
  conlleval.
  """
  converted = []
  before = ''
  for tag, begins in _begins(tags):
    kind = type_of(tag)
    follows = begins and kind == before
    converted.append(f'{"B" if follows else "I"}-{kind}' if kind else tag)
    before = kind
  return converted


def continued(tag: str) -> str:
  """The tag of what follows in the same word: I-X for B-X."""
  return f'I-{type_of(tag)}' if tag.startswith('B-') else tag


def _begins(tags: Sequence[str]) -> Iterator[tuple[str, bool]]:
  """Each tag, and whether an entity begins there, as conlleval sees it."""
  before = ''
  for tag in tags:
    kind = type_of(tag)
    yield tag, bool(kind) and (tag.startswith('B-') or kind != before)
    before = kind
