"""The tags of entities: IOB1 and IOB2 (Tjong Kim Sang and Veenstra, 1999).

A word outside of entities is O; inside one of type X it is I-X or B-X. In
IOB2 B- marks the first word of every entity; in IOB1 it marks only the first
word of an entity that follows another one of the same type at once.

Also which tags a task has, and sentences checked against them.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from mobilebert_jax.data.readers.conll import Sentence
from mobilebert_jax.runtime.errors import InputError

Scheme = Literal['IOB2', 'IOB1']

OUTSIDE = 'O'
# seqeval drops hyphens around a type, so that no type may begin or end so.
_TAG = re.compile(r'[BI]-[^-\s](?:\S*[^-\s])?\Z')


def is_tag(tag: str) -> bool:
  """Returns whether this is O, B-X or I-X."""
  return tag == OUTSIDE or _TAG.match(tag) is not None


def type_of(tag: str) -> str:
  """Returns the type of the entity; '' outside."""
  return tag[2:]


def violation(tags: Sequence[str], scheme: Scheme) -> int | None:
  """Returns the index of the first tag that the scheme forbids, if any."""
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
  """Converts tags of either scheme to IOB2."""
  return [
    f'B-{type_of(tag)}' if begins else tag for tag, begins in _begins(tags)
  ]


def to_iob1(tags: Sequence[str]) -> list[str]:
  """Converts tags of either scheme to IOB1.

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
  """Returns the tag of what follows in the same word: I-X for B-X."""
  return f'I-{type_of(tag)}' if tag.startswith('B-') else tag


def _begins(tags: Sequence[str]) -> Iterator[tuple[str, bool]]:
  """Yields each tag, and whether an entity begins there (as conlleval)."""
  before = ''
  for tag in tags:
    kind = type_of(tag)
    yield tag, bool(kind) and (tag.startswith('B-') or kind != before)
    before = kind


def choose_labels(
  given: tuple[str, ...], training: Callable[[], Sequence[Sentence]]
) -> tuple[str, ...]:
  """Chooses a task's labels: those given, or the training data's.

  Args:
    given: `TaggingOptions.labels`.
    training: Gives the checked training sentences; not called if labels are
      given.

  Raises:
    InputError: As `check_labels`, or what `training` raises.
  """
  if not given:
    return labels_of(training())
  check_labels(given)
  return given


def check_labels(labels: Sequence[str]):
  """Checks `TaggingOptions.labels`.

  Raises:
    InputError: There is no O, a tag is given twice or is none, or a type has
      no B-.
  """
  where = 'config.options.labels'
  wrong = [label for label in labels if not is_tag(label)]
  if wrong:
    raise InputError(f'{where} has {wrong[0]!r}; expected O, B-TYPE or I-TYPE.')
  twice = [label for label in labels if labels.count(label) > 1]
  if twice:
    raise InputError(f'{where} has {twice[0]!r} twice; give every tag once.')
  needed = {OUTSIDE, *(f'B-{type_of(x)}' for x in labels if x != 'O')}
  missing = sorted(needed - set(labels))
  if missing:
    raise InputError(
      f'{where} lacks {", ".join(missing)}; expected O and a B- for every '
      'type, because tags are learnt in IOB2.'
    )


def check_sentence(
  sentence: Sentence, scheme: Scheme, labels: Sequence[str] | None
) -> Sentence:
  """Returns the sentence if its tags are tags, in the scheme, and known.

  Raises:
    InputError: They are not; the message names file and line.
  """
  tags = sentence.tags
  for word, tag in enumerate(tags):
    if not is_tag(tag):
      raise InputError(
        f'{sentence.place(word)}: the tag is {tag!r}; expected O, B-TYPE or '
        'I-TYPE.'
      )
  index = violation(tags, scheme)
  if index is not None:
    other = 'IOB1' if scheme == 'IOB2' else 'IOB2'
    before = tags[index - 1] if index else 'the beginning of the sentence'
    raise InputError(
      f'{sentence.place(index)}: {tags[index]} after {before} is not {scheme}; '
      f'correct it, or set config.options.scheme={other} if the file is in '
      f'{other}.'
    )
  for word, tag in enumerate(to_iob2(tags)):
    if labels is not None and tag not in labels:
      raise InputError(
        f'{sentence.place(word)}: the tag {tags[word]} is unknown; the tags of '
        f'the training data (or config.options.labels) are {", ".join(labels)}.'
      )
  return sentence


def labels_of(sentences: Sequence[Sentence]) -> tuple[str, ...]:
  """Returns O, then B- and I- of each type that occurs, sorted."""
  kinds = {type_of(tag) for s in sentences for tag in s.tags} - {''}
  return (
    OUTSIDE,
    *(f'{prefix}-{kind}' for kind in sorted(kinds) for prefix in 'BI'),
  )
