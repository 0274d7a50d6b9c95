"""Sentences in columns, one word a line, as the CoNLL shared tasks have them.

The first column is the word and the last one its tag; blank lines end
sentences. Columns are separated by a TAB (WNUT-17) or by spaces (CoNLL-2003),
and a line whose word is -DOCSTART- begins a document.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterator, Sequence

from mobilebert_jax.data.readers.lines import read_lines
from mobilebert_jax.runtime.errors import InputError

_DOCUMENT = '-DOCSTART-'
_SPACES = re.compile(' +')


@dataclasses.dataclass(frozen=True)
class Sentence:
  """One sentence with a tag for each word.

  Attributes:
    words: The words, none of them empty.
    tags: Their tags as the file spells them.
    lines: The lines of the file, without line ends.
    before: The lines between the sentence before and this one, likewise.
    separator: What stands between the columns: a TAB or a space.
    source: The file.
    number: The number of the first word's line, counted from 1.
  """

  words: tuple[str, ...]
  tags: tuple[str, ...]
  lines: tuple[str, ...]
  before: tuple[str, ...] = ()
  separator: str = ' '
  source: str = ''
  number: int = 1

  def place(self, word: int) -> str:
    """Returns where a word is, 'file:line', for messages."""
    return f'{self.source}:{self.number + word}'


def read_sentences(path: pathlib.Path) -> Iterator[Sentence]:
  """Reads a file of columns.

  Args:
    path: A UTF-8 file. All its lines have the same number of columns, at
      least two.

  Yields:
    The sentences in their order.

  Raises:
    InputError: The file is missing, not UTF-8 or without a sentence; a line
      has another number of columns, or an empty word or tag.
  """
  columns = _Columns(path)
  before: list[str] = []
  rows: list[Sequence[str]] = []
  lines: list[str] = []
  is_empty = True
  number = 0

  def sentence(end: int) -> Sentence:
    words, tags = zip(*((row[0], row[-1]) for row in rows))
    return Sentence(
      words, tags, tuple(lines), tuple(before), columns.separator, str(path),
      end - len(rows),
    )  # fmt: skip

  for number, raw in read_lines(path):
    line = raw.rstrip('\r\n')
    row = columns.split(line, number)
    if row is None or row[0] == _DOCUMENT:
      if rows:
        is_empty = False
        yield sentence(number)
        before, rows, lines = [], [], []
      before.append(line)
    else:
      rows.append(row)
      lines.append(line)
  if rows:
    yield sentence(number + 1)
  elif is_empty:
    raise InputError(
      f'{path}: there is no sentence; expected lines with a word and its tag, '
      'and blank lines between sentences.'
    )


class _Columns:
  """Splits lines; the first one says how, and into how many columns."""

  def __init__(self, path: pathlib.Path):
    self._path = path
    self._count = 0
    self.separator = ' '

  def split(self, line: str, number: int) -> Sequence[str] | None:
    """Splits a line into its columns; None for a blank line."""
    # WNUT-17 separates sentences by lines with a TAB.
    if not line.strip(' \t'):
      return None
    if not self._count:
      self.separator = '\t' if '\t' in line else ' '
    is_tab = self.separator == '\t'
    row = line.split('\t') if is_tab else _SPACES.split(line.strip(' '))
    if not self._count and len(row) > 1:
      self._count = len(row)
    if len(row) < 2 or len(row) != self._count:
      kind = 'tab' if is_tab else 'space'
      raise InputError(
        f'{self._path}:{number}: {len(row)} {kind}-separated column(s); '
        + (
          f'expected {self._count} as in the lines above.'
          if self._count
          else 'expected at least a word and its tag.'
        )
      )
    for cell, name in ((row[0], 'word'), (row[-1], 'tag')):
      if not cell.strip(' '):
        raise InputError(
          f'{self._path}:{number}: the {name} is empty; expected the word in '
          'the first column and its tag in the last.'
        )
    return row


def tagged_lines(sentence: Sentence, predicted: Sequence[str]) -> Iterator[str]:
  """Yields a sentence's lines with a further column, and those before it.

  This is what conlleval and WNUT-17's wnuteval read: the gold tag in the last
  column but one, the predicted one in the last.
  """
  for line in sentence.before:
    is_blank = not line.strip(' \t')
    yield '' if is_blank else sentence.separator.join([line.rstrip(), 'O'])
  for line, tag in zip(sentence.lines, predicted, strict=True):
    yield sentence.separator.join([line.rstrip(' '), tag])
