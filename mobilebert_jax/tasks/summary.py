"""What is in a split: counts of classes, ranges of numbers, what looks odd.

Pure functions of examples; `Task.summarize` is one of them. Nothing is decided
here: what looks odd is pointed at, and may be right.
"""

import collections
import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mobilebert_jax.data.readers.choice_files import ChoiceExample
from mobilebert_jax.data.readers.conll import Sentence
from mobilebert_jax.data.readers.squad import Question

# What programs write where a value is missing.
_MISSING = frozenset(
  ('', '-', '?', 'nan', 'null', 'none', 'na', 'n/a', '#n/a', 'nil', 'undefined')
)
_SENTINELS = (-1.0, -9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0, 99999.0)
_INTEGER = re.compile(r'[+-]?\d+(\.0+)?')
# A class with fewer rows can hardly be learnt, and often is a slip.
_RARE = 5
# Of a class that is rare beside others, and not because the data is small.
_RARE_SHARE = 0.001
_SHOWN = 5
_PREFIX = re.compile(r'[a-z]{2,3}:')
_PREFIXED = 0.9


@dataclasses.dataclass(frozen=True)
class Numbers:
  """The numbers of a split: lowest, median and highest."""

  lowest: float
  median: float
  highest: float


@dataclasses.dataclass(frozen=True)
class SplitSummary:
  """What is in a split.

  Attributes:
    rows: How many examples there are.
    unit: What an example is: 'rows', 'sentences', 'questions', 'documents'.
    classes: Each class that occurs or is known, with its count; the most
      frequent ones first, equal ones in the order of the labels. () where
      there are no classes.
    counted: What those counts are of: 'rows', or 'entities' of sentences.
    unlabelled: Examples without a label.
    numbers: Of a target that is a number; None: it is none.
    remarks: What looks odd, a sentence each, the worst first.
  """

  rows: int
  unit: str = 'rows'
  classes: tuple[tuple[str, int], ...] = ()
  counted: str = 'rows'
  unlabelled: int = 0
  numbers: Numbers | None = None
  remarks: tuple[str, ...] = ()


def of_rows(examples: Sequence[Any], unit: str = 'rows') -> SplitSummary:
  """Returns the number of examples, where there is nothing else to tell."""
  return SplitSummary(len(examples), unit)


def of_classes(
  names: Sequence[str], labels: Iterable[Any], unit: str = 'rows'
) -> SplitSummary:
  """Counts classes.

  Args:
    names: The names of the classes, by their indices.
    labels: For each row the index of its class, a tuple of several, or None
      where it has no label.
    unit: What a row is called.
  """
  counts: collections.Counter[int] = collections.Counter()
  rows = unlabelled = 0
  for label in labels:
    rows += 1
    if label is None:
      unlabelled += 1
    else:
      counts.update(label if isinstance(label, tuple) else (label,))
  ranked = sorted(range(len(names)), key=lambda i: (-counts[i], i))
  classes = tuple((names[i], counts[i]) for i in ranked)
  remarks = () if unlabelled == rows else odd_classes(dict(classes))
  return SplitSummary(rows, unit, classes, 'rows', unlabelled, remarks=remarks)


def of_numbers(values: Iterable[float | None]) -> SplitSummary:
  """Tells the range of the numbers to predict; None: there is none."""
  listed = list(values)
  known = np.array([value for value in listed if value is not None], float)
  if not known.size:
    return SplitSummary(len(listed), unlabelled=len(listed))
  return SplitSummary(
    len(listed),
    unlabelled=len(listed) - len(known),
    numbers=Numbers(
      float(known.min()), float(np.median(known)), float(known.max())
    ),
    remarks=odd_numbers(known.tolist()),
  )


def of_sentences(sentences: Sequence[Sentence]) -> SplitSummary:
  """Counts the entities of each type; tags in IOB1 or IOB2."""
  counts: collections.Counter[str] = collections.Counter()
  words = prefixed = 0
  for sentence in sentences:
    before = ''
    for tag in sentence.tags:
      kind = tag[2:]
      if kind and (tag.startswith('B-') or kind != before):
        counts[kind] += 1
      before = kind
    words += len(sentence.words)
    prefixed += sum(_PREFIX.match(word) is not None for word in sentence.words)
  remarks = list(odd_classes(counts, 'entities'))
  if words and prefixed / words > _PREFIXED:
    example = sentences[0].words[0]
    remarks.insert(
      0, f'{prefixed:,} of {words:,} words begin as {example!r} does, with the '
      'name of a language; take it off, or it is learnt as a part of each word.'
    )  # fmt: skip
  if words and not counts:
    remarks.insert(0, 'no word has a tag but O.')
  classes = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
  return SplitSummary(
    len(sentences),
    'sentences',
    tuple(classes),
    'entities',
    remarks=tuple(remarks),
  )


def of_questions(questions: Sequence[Question]) -> SplitSummary:
  """Counts the questions that their text answers, and those it does not."""
  known = [q.answers for q in questions if q.answers is not None]
  answered = sum(bool(answers) for answers in known)
  counts = (('answered', answered), ('no answer', len(known) - answered))
  classes = tuple(sorted(counts, key=lambda item: -item[1]))
  unlabelled = len(questions) - len(known)
  return SplitSummary(
    len(questions), 'questions', classes if known else (), 'questions',
    unlabelled,
  )  # fmt: skip


def of_choices(examples: Sequence[ChoiceExample]) -> SplitSummary:
  """Counts how often each place holds the right choice, from 1."""
  most = max((len(example.choices) for example in examples), default=0)
  names = [f'choice {i + 1}' for i in range(most)]
  answers = [example.answer for example in examples]
  result = of_classes(names, answers, 'questions')
  # What is rare there is rare by chance.
  return dataclasses.replace(result, counted='questions', remarks=())


def odd_classes(
  counts: Mapping[str, int], counted: str = 'rows'
) -> tuple[str, ...]:
  """Points at classes that may be none.

  Args:
    counts: How often each class occurs.
    counted: What the counts are of.

  Returns:
    Sentences on names that mark missing values ('', 'nan', 'NULL', -1 among
    numbers), names that differ in case or spelling alone, names that no row
    has, and rare ones.
  """
  remarks = []
  for name, count in counts.items():
    if is_missing(name, counts):
      remarks.append(
        f'the class {name!r} ({count:,} {counted}) looks like a mark for rows '
        'without a label.'
      )
  alike: dict[str, list[str]] = {}
  for name in counts:
    alike.setdefault(_folded(name), []).append(name)
  for names in alike.values():
    if len(names) > 1:
      shown = ', '.join(f'{name!r} ({counts[name]:,})' for name in names)
      remarks.append(f'these classes differ in their spelling alone: {shown}.')
  total = sum(counts.values())
  absent = [name for name, count in counts.items() if not count]
  rare = [
    name
    for name, count in counts.items()
    if 0 < count < _RARE and count < _RARE_SHARE * total
  ]
  for listed, what in ((absent, f'no {counted}'), (rare, f'few {counted}')):
    if listed and total:
      some = ', '.join(
        f'{name!r}' + (f' ({counts[name]})' if counts[name] else '')
        for name in listed[:_SHOWN]
      )
      more = f' and {len(listed) - _SHOWN} more' if len(listed) > _SHOWN else ''
      remarks.append(f'there are {what} of {some}{more}.')
  return tuple(remarks)


def is_missing(name: str, names: Iterable[str]) -> bool:
  """Returns whether a class looks like a mark for missing labels.

  Args:
    name: The class.
    names: All classes, this one too.
  """
  if name.strip().casefold() in _MISSING:
    return True
  others = [other for other in names if other != name]
  if not _INTEGER.fullmatch(name) or len(others) < 2:
    return False
  if not all(_INTEGER.fullmatch(other) for other in others):
    return False
  values = [float(other) for other in others]
  # With 1 among them, -1 is the other side: -1, 0, 1.
  is_side = float(name) == -1 and set(values) <= {0.0, 1.0}
  return _is_apart(float(name), values) and not is_side


def odd_numbers(values: Sequence[float]) -> tuple[str, ...]:
  """Points at numbers such as -999 that stand apart from all others."""
  counts = collections.Counter(values)
  remarks = []
  for value in _SENTINELS:
    others = [other for other in counts if other != value]
    if counts[value] and len(others) > 1 and _is_apart(value, others):
      remarks.append(
        f'the number {value:g} ({counts[value]:,} rows) stands apart from the '
        f'others, {min(others):g} to {max(others):g}: it looks like a mark for '
        'rows without one.'
      )
  if len(counts) == 1:
    remarks.append(f'all numbers are {next(iter(counts)):g}.')
  return tuple(remarks)


def _is_apart(value: float, others: Sequence[float]) -> bool:
  """Returns whether a sentinel is of another kind than the other numbers."""
  if value not in _SENTINELS:
    return False
  low, high = min(others), max(others)
  if value == -1:
    return low >= 0
  # Further away than the others are from each other.
  gap = low - value if value < low else value - high
  return gap > high - low


def _folded(name: str) -> str:
  if _INTEGER.fullmatch(name):
    return name
  text = unicodedata.normalize('NFKC', name).casefold()
  return ' '.join(re.split(r'[\s_-]+', text)).strip(' .')
