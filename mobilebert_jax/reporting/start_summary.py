"""What a run says before it begins: what it found, and what it will do.

`StartSummary.lines` is for the terminal, in few lines; `StartSummary.section`
says all of it, for the report.
"""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from mobilebert_jax.reporting.markdown import escape, table

# Lines and columns of the text for the terminal.
MOST_LINES, MOST_COLUMNS = 15, 80
_INDENT = 10
_MOST_CLASSES, _MOST_LISTED = 5, 40
_MOST_WARNINGS = 4
_LONGEST_NAME = 24
# What is suspicious: shares, and rows of a class.
_MUCH_UNKNOWN, _MUCH_CUT, _FEW_ROWS, _ONE_CLASS = 0.03, 0.1, 5, 0.95
# Beyond so many classes a small one is nothing strange.
_MANY_CLASSES = 100
# What tables are filled with where nothing is known.
_NO_NAME = frozenset({
  '', '-', '?', '#n/a', 'n/a', 'na', 'nan', 'nil', 'none', 'null', 'undefined',
})  # fmt: skip
_NO_NUMBER = frozenset({-1.0, -9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0})


@dataclasses.dataclass(frozen=True)
class SplitFacts:
  """What is known of one split.

  Attributes:
    name: its name.
    rows: examples of it.
    seen: how many of them were looked at, the first ones.
    classes: rows (or labels, or words) by class, the largest first; {} for a
      split without.
    numbers: the numbers to learn; empty for a split without.
    lengths: tokens of the rows before they are cut, special tokens included.
    long_share: share of the rows that are cut, or read in several windows;
      None: neither happens.
    unknown_share: share of [UNK] among the tokens.
    blank: rows without any token that the vocabulary has.
  """

  name: str
  rows: int
  seen: int
  classes: Mapping[str, int]
  numbers: Float[np.ndarray, 'N']
  lengths: Int[np.ndarray, 'N']
  long_share: float | None
  unknown_share: float
  blank: int


@dataclasses.dataclass(frozen=True)
class StartSummary:
  """Facts of a run.

  Attributes:
    splits: its splits, that of the training first.
    max_length: where longer texts are cut.
    is_cut: whether longer texts are cut, and not read in several windows.
    labels: the classes that the model can tell apart; ().
    plan: what the run will do: a heading and a text each.
    notes: what is strange, beside what the splits tell.
  """

  splits: Sequence[SplitFacts]
  max_length: int
  is_cut: bool
  labels: Sequence[str]
  plan: Sequence[tuple[str, str]]
  notes: Sequence[str] = ()

  def lines(self) -> list[str]:
    """Returns at most `MOST_LINES` lines of `MOST_COLUMNS` columns."""
    train = self.splits[0]
    entries = [('rows', self._rows())]
    if train.classes:
      entries.append(('classes', self._classes(train)))
    elif len(train.numbers):
      entries.append(('numbers', _number_range(train.numbers)))
    entries += [
      ('tokens', self._tokens(train)),
      *self.plan,
    ]
    lines = [line for entry in entries for line in _entry(*entry, most=2)]
    warnings = self.warnings()
    shown = warnings[:_MOST_WARNINGS]
    room = MOST_LINES - len(lines)
    told: list[str] = []
    for number, text in enumerate(shown):
      entry = _entry('warning', text, most=2)
      # The last line may be needed to say how many are not shown.
      is_last = number == len(warnings) - 1
      if len(told) + len(entry) > room - (not is_last):
        break
      told += entry
    hidden = len(warnings) - sum(line.startswith('warning') for line in told)
    if hidden:
      told.append(f'{"":{_INDENT}}{hidden} more warnings are in report.md')
    return [*lines, *told][:MOST_LINES]

  def warnings(self) -> list[str]:
    """Returns what a person should look at, a sentence each."""
    train = self.splits[0]
    return [
      *self.notes,
      *(text for split in self.splits for text in self._text_warnings(split)),
      *_class_warnings(train, self.labels),
      *_number_warnings(train),
    ]

  def section(self) -> Iterator[str]:
    """Yields the report's section about the data, lines of Markdown."""
    yield '## The data'
    yield ''
    for text in self.warnings():
      yield f'- **Look at this**: {escape(text)}.'
    if self.warnings():
      yield ''
    yield from table(
      (
        'split', 'rows', 'tokens: median', '95% up to', 'longest',
        f'{self._long_word()} ({self.max_length})', '[UNK]',
        'without a known token',
      ),
      (self._split_row(split) for split in self.splits),
      'lrrrrrrr',
    )  # fmt: skip
    yield ''
    yield (
      'Tokens are counted before anything is cut, special tokens included.'
      f'{self._sampled()}'
    )
    yield ''
    yield from self._class_table()
    yield from table(
      ('what the run does', ''),
      ((escape(name), escape(text)) for name, text in self.plan),
    )
    yield ''

  def _rows(self) -> str:
    counts = ', '.join(f'{s.name} {s.rows:,}' for s in self.splits)
    return f'{counts}{self._sampled(short=True)}'

  def _sampled(self, short: bool = False) -> str:
    """Says how much was looked at, if it is not all."""
    part = [split.seen for split in self.splits if split.seen < split.rows]
    if not part:
      return ''
    first = f'the first {max(part):,} rows of a split'
    return f' (below: {first})' if short else f' Of large data: {first}.'

  def _classes(self, split: SplitFacts) -> str:
    names, total = list(split.classes), sum(split.classes.values())

    def shown(name: str) -> str:
      count = split.classes[name]
      return f'{_short(name)} {count:,} ({_percent(count / total)})'

    text = ', '.join(map(shown, names[:_MOST_CLASSES]))
    if len(names) > _MOST_CLASSES:
      last = names[-1]
      text = (
        f'{len(names):,}: {text}, ...; the smallest {_short(last)} '
        f'{split.classes[last]:,}'
      )
    return text

  def _tokens(self, split: SplitFacts) -> str:
    if not len(split.lengths):
      return 'there are none'
    median, most = np.percentile(split.lengths, (50, 95))
    text = (
      f'median {median:.0f}, 95% up to {most:.0f}, longest '
      f'{split.lengths.max():,}; '
    )
    if split.long_share is not None:
      text += (
        f'{_percent(split.long_share)} {self._long_word()} {self.max_length}; '
      )
    return f'{text}{_percent(split.unknown_share)} are [UNK]'

  def _long_word(self) -> str:
    return 'cut at' if self.is_cut else 'longer than'

  def _split_row(self, split: SplitFacts) -> tuple[str, ...]:
    counts = ('-',) * 3
    if len(split.lengths):
      median, most = np.percentile(split.lengths, (50, 95))
      counts = (f'{median:.0f}', f'{most:.0f}', f'{split.lengths.max():,}')
    long = '-' if split.long_share is None else _percent(split.long_share)
    return (
      escape(split.name), f'{split.rows:,}', *counts, long,
      _percent(split.unknown_share), f'{split.blank:,}',
    )  # fmt: skip

  def _class_table(self) -> Iterator[str]:
    labelled = [split for split in self.splits if split.classes]
    if not labelled:
      if len(self.splits[0].numbers):
        yield f'Numbers to learn: {_number_range(self.splits[0].numbers)}.'
        yield ''
      return
    names = list(dict.fromkeys(n for split in labelled for n in split.classes))
    if len(names) > _MOST_LISTED:
      yield f'The {_MOST_LISTED} largest of {len(names):,} classes:'
      yield ''
    yield from table(
      ('class', *(escape(split.name) for split in labelled)),
      (
        (
          escape(name, _LONGEST_NAME * 2) or '*(empty)*',
          *(f'{split.classes.get(name, 0):,}' for split in labelled),
        )
        for name in names[:_MOST_LISTED]
      ),
      'l' + 'r' * len(labelled),
    )
    yield ''

  def _text_warnings(self, split: SplitFacts) -> Iterator[str]:
    if split.unknown_share > _MUCH_UNKNOWN:
      yield (
        f'{split.name}: {_percent(split.unknown_share)} of the tokens are '
        '[UNK]: the vocabulary may not fit the text'
      )
    if split.blank:
      rows = 'row has' if split.blank == 1 else 'rows have'
      yield f'{split.name}: {split.blank:,} {rows} no token that is known'
    is_train = split is self.splits[0]
    if is_train and self.is_cut and (split.long_share or 0) > _MUCH_CUT:
      yield (
        f'{_percent(split.long_share or 0)} of the texts are cut; '
        f'config.data.max_length={int(np.percentile(split.lengths, 95))} '
        'would hold 95% of them whole'
      )


def _class_warnings(split: SplitFacts, labels: Sequence[str]) -> Iterator[str]:
  counts = split.classes
  if not counts:
    return
  odd = [n for n in counts if n.strip().casefold() in _NO_NAME or n == '-1']
  if odd:
    listed = ', '.join(f'{name!r} ({counts[name]:,})' for name in odd[:3])
    yield f'classes that may mean no label: {listed}'
  folded: dict[str, list[str]] = {}
  for name in counts:
    folded.setdefault(name.strip().casefold(), []).append(name)
  alike = [names for names in folded.values() if len(names) > 1]
  if alike:
    listed = '; '.join(', '.join(map(repr, names)) for names in alike[:3])
    yield f'classes that differ in case or spaces alone: {listed}'
  absent = [name for name in labels if name not in counts]
  if absent and split.seen == split.rows:
    listed = ', '.join(map(repr, absent[:3]))
    more = ', ...' if len(absent) > 3 else ''
    yield f'no row of the training data is of the class {listed}{more}'
  rare = [name for name, count in counts.items() if count < _FEW_ROWS]
  if rare and len(counts) <= _MANY_CLASSES and split.seen == split.rows:
    listed = ', '.join(f'{name!r} ({counts[name]})' for name in rare[:3])
    more = ', ...' if len(rare) > 3 else ''
    yield f'classes with fewer than {_FEW_ROWS} rows: {listed}{more}'
  name, largest = next(iter(counts.items()))
  share = largest / sum(counts.values())
  if share > _ONE_CLASS and len(counts) > 1 and name != 'O':
    yield f'{_percent(share)} of the rows are of the class {name!r}'


def _number_warnings(split: SplitFacts) -> Iterator[str]:
  numbers = split.numbers
  if not len(numbers):
    return
  values, counts = np.unique(numbers, return_counts=True)
  if len(values) == 1:
    yield f'all numbers are {values[0]:g}: there is nothing to learn'
    return
  for at, inner in ((0, values[1:]), (len(values) - 1, values[:-1])):
    value, count = float(values[at]), int(counts[at])
    # Far from all others, or below zero where nothing else is.
    is_apart = abs(value) > 10 * np.abs(inner).max() or value < 0 <= inner[0]
    if value in _NO_NUMBER and is_apart:
      yield (
        f'the number {value:g} ({count:,} row{"s" * (count > 1)}) may mean that there is none; '
        'it is learnt like any other'
      )


def _number_range(numbers: Float[np.ndarray, 'N']) -> str:
  return (
    f'from {numbers.min():g} to {numbers.max():g}, mean {numbers.mean():.4g}, '
    f'half of them up to {np.median(numbers):.4g}'
  )


def _percent(share: float) -> str:
  if 0 < share < 0.001:
    return '<0.1%'
  return f'{share:.1%}' if share < 0.1 else f'{share:.0%}'


def _short(name: str) -> str:
  shown = ' '.join(name.split())
  if shown != name or not shown or not shown.isprintable():
    shown = repr(name)
  if len(shown) > _LONGEST_NAME:
    shown = f'{shown[: _LONGEST_NAME - 1]}…'
  return shown


def _entry(name: str, text: str, most: int) -> list[str]:
  """Returns the lines of an entry: the name, and the text beside it."""
  wrapped = textwrap.wrap(
    text,
    MOST_COLUMNS - _INDENT,
    max_lines=most,
    placeholder=' ...',
    break_on_hyphens=False,
  )
  heads = [name, *[''] * len(wrapped)]
  return [f'{head:{_INDENT}}{line}' for head, line in zip(heads, wrapped)]
