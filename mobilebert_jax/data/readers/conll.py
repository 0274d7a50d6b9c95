"""Sentences in columns, one word a line, as the CoNLL shared tasks have them.

The first column is the word and the last one its tag; blank lines end
sentences. Columns are separated by a TAB (WNUT-17) or by spaces (CoNLL-2003),
and a line whose word is -DOCSTART- begins a document.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterator, Sequence

from mobilebert_jax.data.readers import remarks
from mobilebert_jax.data.readers.bad_rows import BadRows
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


def read_sentences(
  path: pathlib.Path, bad: BadRows | None = None
) -> Iterator[Sentence]:
  """Reads a file of columns.

  Lines that are no words are left out: comments ('# sent_id = 1' and the like,
  where a sentence begins) and a line above all words that names the columns.
  The word '#' is a word.

  Args:
    path: A UTF-8 file. All its lines have the same number of columns, at
      least two, but for those of -DOCSTART-.
    bad: Counts the sentences that have a wrong line; None: they are refused.

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
  wrong: InputError | None = None
  is_empty = True
  comments = number = 0

  def sentence(end: int) -> Sentence:
    words, tags = zip(*((row[0], row[-1]) for row in rows))
    return Sentence(
      words, tags, tuple(lines), tuple(before), columns.separator, str(path),
      end - len(rows),
    )  # fmt: skip

  for number, raw in read_lines(path, bad=bad):
    line = raw.rstrip('\r\n')
    if not (rows or wrong) and columns.is_comment(line):
      comments += 1
      continue
    if is_empty and not rows and columns.is_header(line):
      remarks.say(
        f'{path}:{number}: {line!r} names the columns; it is no word.'
      )
      continue
    is_border = columns.is_border(line)
    if not is_border:
      try:
        row = columns.split(line, number)
      except InputError as error:
        if bad is None:
          raise
        wrong = wrong or error
      else:
        rows.append(row)
        lines.append(line)
      continue
    if wrong is not None and bad is not None:
      bad.add(wrong)
    elif rows:
      is_empty = False
      yield sentence(number)
    if rows or wrong:
      before, rows, lines, wrong = [], [], [], None
    before.append(line)
  if wrong is not None and bad is not None:
    bad.add(wrong)
  elif rows:
    is_empty = False
    yield sentence(number + 1)
  if comments:
    remarks.say(f'{path}: {comments:,} lines of comments are left out.')
  if is_empty and not (bad and bad.messages):
    raise InputError(
      f'{path}: there is no sentence; expected lines with a word and its tag, '
      'and blank lines between sentences.'
    )


# What the first and the last column are called, in lines that name columns.
_WORD_NAMES = frozenset(('word', 'words', 'token', 'tokens', 'form', 'text'))
_TAG_NAMES = frozenset(
  ('tag', 'tags', 'label', 'labels', 'ner', 'ner_tag', 'ner_tags', 'entity',
   'iob', 'bio', 'iob2', 'ner-tag', 'misc')
)  # fmt: skip
# '# sent_id = 1', as CoNLL-U has them; '# id 5f2\tdomain=en' of MultiCoNER.
_COMMENT = re.compile(r'#\s*[\w.:-]+\s*=(\s|\Z)|#\s*id\s')


class _Columns:
  """Splits lines; the first one with a word says how, and how many."""

  def __init__(self, path: pathlib.Path):
    self._path = path
    self.separator, self._count = ' ', 0
    candidates = (
      line.rstrip('\r\n')
      for _, line in read_lines(path, bad=BadRows())
      if not self.is_border(line.rstrip('\r\n'))
    )
    first = second = next(candidates, '')
    while second.startswith('#'):
      second = next(candidates, '')
    # A file of words '#' alone has no other line to show.
    example = second or first
    if example:
      self.separator = '\t' if '\t' in example else ' '
      self._count = len(self._cells(example))

  def is_border(self, line: str) -> bool:
    """Returns whether a line ends a sentence: a blank one, or a document's."""
    # WNUT-17 separates sentences by lines with a TAB.
    if not line.strip(' \t'):
      return True
    return (
      line.startswith(_DOCUMENT) and re.split('[ \t]', line)[0] == _DOCUMENT
    )

  def is_comment(self, line: str) -> bool:
    """Returns whether a line at the beginning of a sentence is a comment."""
    if not line.startswith('#'):
      return False
    cells = self._cells(line)
    if len(cells) != self._count:
      return True
    has_space = self.separator == '\t' and ' ' in cells[0].strip()
    return has_space or _COMMENT.match(line) is not None

  def is_header(self, line: str) -> bool:
    """Returns whether a line above all words names the columns."""
    cells = [cell.strip().casefold() for cell in self._cells(line)]
    return cells[0] in _WORD_NAMES and cells[-1] in _TAG_NAMES

  def split(self, line: str, number: int) -> Sequence[str]:
    """Splits a line into its columns.

    Raises:
      InputError: It has another number of columns, or one that is empty.
    """
    row = self._cells(line)
    if len(row) < 2 or len(row) != self._count:
      kind = 'tab' if self.separator == '\t' else 'space'
      raise InputError(
        f'{self._path}:{number}: {len(row)} {kind}-separated column(s); '
        + (
          f'expected {self._count} as in the lines above.'
          if self._count > 1
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

  def _cells(self, line: str) -> list[str]:
    if self.separator == '\t':
      return line.split('\t')
    return _SPACES.split(line.strip(' '))


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
