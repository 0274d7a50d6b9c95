"""The tags of entities: IOB1 and IOB2 (Tjong Kim Sang and Veenstra, 1999).

A word outside of entities is O; inside one of type X it is I-X or B-X. In
IOB2 B- marks the first word of every entity; in IOB1 it marks only the first
word of an entity that follows another one of the same type at once. BIOES
marks the last word too (E-), and an entity of one word (S-); BILOU calls the
two L- and U-. Both are brought to IOB2.

Also which scheme data is in, which tags a task has, and sentences checked
against them.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Literal

from mobilebert_jax.config.task_options import TaggingOptions
from mobilebert_jax.data.readers import bad_rows, remarks
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.data.readers.conll import Sentence
from mobilebert_jax.runtime.errors import InputError

Scheme = Literal['IOB2', 'IOB1']

OUTSIDE = 'O'
# What the user may ask for.
AskedScheme = Literal['auto', 'IOB2', 'IOB1', 'BIOES']
# seqeval drops hyphens around a type, so that no type may begin or end so.
_TYPE = r'-[^-\s](?:\S*[^-\s])?\Z'
_TAG = re.compile(f'[BI]{_TYPE}')
# Further prefixes of BIOES and BILOU, and what they are in the former.
_FURTHER = {'E': 'E', 'S': 'S', 'L': 'E', 'U': 'S'}
_BIOES_TAG = re.compile(f'[BIESLU]{_TYPE}')


def is_tag(tag: str, scheme: AskedScheme = 'IOB2') -> bool:
  """Returns whether this is O, B-X or I-X, or one of BIOES."""
  pattern = _BIOES_TAG if scheme == 'BIOES' else _TAG
  return tag == OUTSIDE or pattern.match(tag) is not None


def find_scheme(sentences: Iterable[Sentence]) -> AskedScheme:
  """Finds the scheme that most entities show.

  E-, S-, L- or U- anywhere: BIOES. Else entities that follow none of their
  type decide: more of them begin with I- in IOB1, with B- in IOB2. Without any
  entity it is IOB2.
  """
  begun = {'B': 0, 'I': 0}
  for sentence in sentences:
    before = ''
    for tag in sentence.tags:
      if tag[:1] in _FURTHER and _BIOES_TAG.match(tag):
        return 'BIOES'
      kind = type_of(tag) if _TAG.match(tag) else ''
      if kind and kind != before:
        begun[tag[0]] += 1
      before = kind
  return 'IOB1' if begun['I'] > begun['B'] else 'IOB2'


def from_bioes(tags: Sequence[str]) -> list[str]:
  """Converts tags of BIOES or BILOU to IOB2, as conlleval reads them."""
  converted = []
  before, is_open = '', False
  for tag in tags:
    kind = type_of(tag)
    if not kind:
      converted.append(OUTSIDE)
      before, is_open = '', False
      continue
    mark = _FURTHER.get(tag[0], tag[0])
    begins = mark in 'BS' or kind != before or not is_open
    converted.append(f'{"B" if begins else "I"}-{kind}')
    before, is_open = kind, mark in 'BI'
  return converted


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


@dataclasses.dataclass(frozen=True)
class Tagging:
  """How a task's data is tagged.

  Attributes:
    labels: The tags in IOB2, in the order of the logits.
    scheme: What scores and written predictions are in.
    source: What the files are in: the same, or BIOES.
    repairs: Whether tags that the scheme forbids are repaired, not refused.
  """

  labels: tuple[str, ...]
  scheme: Scheme
  source: AskedScheme
  repairs: bool

  def read(self, sentences: Iterable[Sentence], bad: BadRows) -> list[Sentence]:
    """Returns the sentences with their tags checked, and repaired.

    What is repaired is counted and said.

    Args:
      sentences: Of one file.
      bad: Counts the sentences that cannot be used.
    """
    known = frozenset(self.labels)
    checked = []
    repaired, first = 0, ''
    for sentence in sentences:
      with bad.row():
        result, count = check_sentence(
          sentence, self.source, self.repairs, self.labels and known
        )
        if count and not repaired:
          first = sentence.place(violation(sentence.tags, self.scheme) or 0)
        repaired += count
        checked.append(result)
    if repaired:
      remarks.say(
        f'{checked[0].source}: {repaired:,} tags that {self.source} forbids '
        f'begin entities, as conlleval reads them (the first: {first}; '
        'config.options.repair_tags=False refuses them).'
      )
    return checked


def find_tagging(
  options: TaggingOptions,
  training: Callable[[BadRows], Iterable[Sentence]],
  where: Any,
  policy: bad_rows.Policy,
) -> Tagging:
  """Finds the labels and the scheme, as far as the options leave them open.

  Args:
    options: What the user says.
    training: Gives the training sentences; not called if nothing is open.
    where: The training data, for messages.
    policy: What becomes of sentences that cannot be used.

  Raises:
    InputError: As `check_labels`; or the training data is missing or wrong.
  """
  if options.labels:
    check_labels(options.labels)
    source = options.scheme
    if source == 'auto':
      # Without a training file: what is wrong is said when it is wanted.
      try:
        source = _found_scheme(training(BadRows()), where)
      except InputError:
        source = 'IOB2'
    return _tagging(options, source, options.labels)
  with bad_rows.collect(where, policy) as bad:
    sentences = list(training(bad))
    source = options.scheme
    if source == 'auto':
      source = _found_scheme(sentences, where)
    read = _tagging(options, source, ()).read(sentences, bad)
  return _tagging(options, source, labels_of(read))


def _tagging(
  options: TaggingOptions, source: AskedScheme, labels: tuple[str, ...]
) -> Tagging:
  scheme: Scheme = 'IOB1' if source == 'IOB1' else 'IOB2'
  return Tagging(labels, scheme, source, options.repair_tags)


_NAMES = {
  'IOB1': 'IOB1, and so are scores',
  'BIOES': 'BIOES; they are learnt, scored and written in IOB2',
}


def _found_scheme(sentences: Iterable[Sentence], where: Any) -> AskedScheme:
  scheme = find_scheme(sentences)
  if scheme in _NAMES:
    remarks.say(f'{where}: the tags are in {_NAMES[scheme]}.')
  return scheme


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
  sentence: Sentence,
  scheme: AskedScheme,
  repairs: bool,
  labels: Collection[str],
) -> tuple[Sentence, int]:
  """Checks the tags of a sentence.

  Args:
    sentence: Its tags are in the scheme.
    scheme: What the file is in.
    repairs: Whether tags that the scheme forbids are repaired.
    labels: The tags in IOB2 that are known; empty: any.

  Returns:
    The sentence, in IOB2 if it was in BIOES, and how many tags were repaired.

  Raises:
    InputError: There is no such tag, or not in the scheme, or it is not known;
      the message names file and line.
  """
  tags = tuple(unicodedata.normalize('NFC', tag) for tag in sentence.tags)
  for word, tag in enumerate(tags):
    if not is_tag(tag, scheme):
      more = ', or E-TYPE and S-TYPE' if scheme == 'BIOES' else ''
      raise InputError(
        f'{sentence.place(word)}: the tag is {tag!r}; expected O, B-TYPE or '
        f'I-TYPE{more}.'
      )
  read, count = tags, 0
  if scheme == 'BIOES':
    read = tuple(from_bioes(tags))
  else:
    index = violation(tags, 'IOB1' if scheme == 'IOB1' else 'IOB2')
    if index is not None and not repairs:
      other = 'IOB1' if scheme == 'IOB2' else 'IOB2'
      before = tags[index - 1] if index else 'the beginning of the sentence'
      raise InputError(
        f'{sentence.place(index)}: {tags[index]} after {before} is not '
        f'{scheme}; correct it, set config.options.scheme={other} if the file '
        f'is in {other}, or config.options.repair_tags=True to read it as '
        'conlleval does.'
      )
    if index is not None:
      read = tuple((to_iob2 if scheme == 'IOB2' else to_iob1)(tags))
      count = sum(a != b for a, b in zip(tags, read))
  for word, tag in enumerate(to_iob2(read)):
    if labels and tag not in labels:
      raise InputError(
        f'{sentence.place(word)}: the tag {tags[word]} is unknown; the tags of '
        'the training data (or config.options.labels) are '
        f'{", ".join(sorted(labels))}.'
      )
  if read == sentence.tags:
    return sentence, count
  return _with_tags(sentence, read), count


def _with_tags(sentence: Sentence, tags: tuple[str, ...]) -> Sentence:
  """Returns a sentence with other tags, in its lines too."""
  lines = tuple(
    line.rstrip().removesuffix(old) + new
    for line, old, new in zip(sentence.lines, sentence.tags, tags, strict=True)
  )
  return dataclasses.replace(sentence, tags=tags, lines=lines)


def labels_of(sentences: Sequence[Sentence]) -> tuple[str, ...]:
  """Returns O, then B- and I- of each type that occurs, sorted."""
  kinds = {type_of(tag) for s in sentences for tag in s.tags} - {''}
  return (
    OUTSIDE,
    *(f'{prefix}-{kind}' for kind in sorted(kinds) for prefix in 'BI'),
  )
