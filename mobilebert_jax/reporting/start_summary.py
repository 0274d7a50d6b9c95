"""What a run says before it begins: what it found, and what it will do.

`StartSummary.lines` is for the terminal, in few lines; `StartSummary.section`
says all of it, for the report.
"""

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from mobilebert_jax.reporting.markdown import escape, table

# Lines and columns of the text for the terminal.
MOST_LINES, MOST_COLUMNS = 15, 80
_INDENT = 10
_MOST_CLASSES, _MOST_LISTED = 5, 40
_MOST_WARNINGS = 4
_LONGEST_NAME = 24
# Shares that are suspicious.
_MUCH_UNKNOWN, _MUCH_CUT, _ONE_CLASS = 0.03, 0.1, 0.95


@dataclasses.dataclass(frozen=True)
class SplitFacts:
  """What is known of one split.

  Attributes:
    name: its name.
    rows: examples of it.
    seen: how many of them were looked at, the first ones.
    unit: what an example is, such as 'rows'.
    classes: names and counts, the largest first; () for a split without.
    counted: what those counts are of.
    numbers: the lowest number to learn, the median and the highest; None: there
      are none.
    remarks: what looks odd in them, a sentence each.
    lengths: tokens of the rows before they are cut, special tokens included.
    long_share: share of the rows that are cut, or read in several windows;
      None: neither happens.
    unknown_share: share of [UNK] among the tokens.
    blank: rows without any token that the vocabulary has.
  """

  name: str
  rows: int
  seen: int
  unit: str
  classes: tuple[tuple[str, int], ...]
  counted: str
  numbers: tuple[float, float, float] | None
  remarks: tuple[str, ...]
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
    plan: what the run will do: a heading and a text each.
    notes: what was decided while the data was read, a sentence each.
  """

  splits: Sequence[SplitFacts]
  max_length: int
  is_cut: bool
  plan: Sequence[tuple[str, str]]
  notes: Sequence[str] = ()

  def lines(self) -> list[str]:
    """Returns at most `MOST_LINES` lines of `MOST_COLUMNS` columns."""
    train = self.splits[0]
    entries = [(self.splits[0].unit, self._rows())]
    if train.classes:
      entries.append((_heading(train), self._classes(train)))
    elif train.numbers:
      entries.append(('numbers', _number_range(train.numbers)))
    entries += [
      ('tokens', self._tokens(train)),
      *self.plan,
    ]
    lines = [line for entry in entries for line in _entry(*entry, most=2)]
    warnings = self.warnings()
    shown = warnings[:_MOST_WARNINGS]
    room = MOST_LINES - len(lines)
    pointed: list[str] = []
    for number, text in enumerate(shown):
      entry = _entry('warning', text, most=2)
      # The last line may be needed to say how many are not shown.
      is_last = number == len(warnings) - 1
      if len(pointed) + len(entry) > room - (not is_last):
        break
      pointed += entry
    hidden = len(warnings) - sum(line.startswith('warning') for line in pointed)
    if hidden:
      pointed.append(f'{"":{_INDENT}}{hidden} more warnings are in report.md')
    return [*lines, *pointed][:MOST_LINES]

  def warnings(self) -> list[str]:
    """Returns what a person should look at, a sentence each."""
    train = self.splits[0]
    return [
      *(text for split in self.splits for text in self._text_warnings(split)),
      *(text.removesuffix('.') for text in train.remarks),
      *_class_warnings(train),
    ]

  def section(self) -> Iterator[str]:
    """Yields the report's section about the data, lines of Markdown."""
    yield '## The data'
    yield ''
    for text in self.warnings():
      yield f'- **Look at this**: {escape(text)}.'
    for text in self.notes:
      yield f'- {escape(text)}'
    if self.notes or self.warnings():
      yield ''
    yield from table(
      (
        'split', escape(self.splits[0].unit), 'tokens: median', '95% up to',
        'longest', f'{self._long_word()} ({self.max_length})', '[UNK]',
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
    total = max(1, sum(count for _, count in split.classes))
    text = ', '.join(
      f'{_short(name)} {count:,} ({_percent(count / total)})'
      for name, count in split.classes[:_MOST_CLASSES]
    )
    if len(split.classes) <= _MOST_CLASSES:
      return text
    name, count = split.classes[-1]
    return (
      f'{len(split.classes):,}; {text}, ...; the smallest {_short(name)} '
      f'{count:,}'
    )

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
    if self.splits[0].numbers:
      yield f'Numbers to learn: {_number_range(self.splits[0].numbers)}.'
      yield ''
    if not labelled:
      return
    counts = [dict(split.classes) for split in labelled]
    names = list(dict.fromkeys(name for known in counts for name in known))
    if len(names) > _MOST_LISTED:
      yield f'The {_MOST_LISTED} largest of {len(names):,} classes:'
      yield ''
    heads = (escape(f'{s.name} ({s.counted})') for s in labelled)
    yield from table(
      ('class', *heads),
      (
        (
          escape(name, _LONGEST_NAME * 2) or '*(empty)*',
          *(f'{known.get(name, 0):,}' for known in counts),
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


def _class_warnings(split: SplitFacts) -> Iterator[str]:
  total = sum(count for _, count in split.classes)
  if split.counted != 'rows' or not total:
    return
  name, largest = split.classes[0]
  if largest > _ONE_CLASS * total and len(split.classes) > 1:
    yield f'{_percent(largest / total)} of the rows are of the class {name!r}'


def _heading(split: SplitFacts) -> str:
  return 'classes' if split.counted in ('rows', split.unit) else split.counted


def _number_range(numbers: tuple[float, float, float]) -> str:
  low, median, high = numbers
  return f'from {low:g} to {high:g}, half of them up to {median:.4g}'


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
