"""Markdown that any text may be put into."""

import unicodedata
from collections.abc import Iterable, Sequence

# Characters that mean something to Markdown inside of a line.
_SPECIAL = frozenset('\\`*_[]|~$^')
_ENTITIES = {'&': '&amp;', '<': '&lt;', '>': '&gt;'}
# What would begin a list or a heading, where the text begins a line.
_FIRST = frozenset('-+=#.')
# Hidden characters that writing systems and emoji need.
_JOINERS = '\u200c\u200d'


def escape(text: str, longest: int | None = None) -> str:
  """Escapes a text so that it shows as itself, also in a cell of a table.

  Args:
    text: anything: pipes, line breaks, HTML, control characters, characters
      that turn the direction of writing.
    longest: cut to so many characters, an ellipsis included; None: whole.
  """
  text = ' '.join(''.join(map(_visible, text)).split())
  if longest is not None and len(text) > longest:
    text = text[: longest - 1].rstrip() + '…'
  escaped = ''.join(map(_escaped, text))
  return f'\\{escaped}' if escaped[:1] in _FIRST else escaped


def table(
  header: Sequence[str], rows: Iterable[Sequence[str]], align: str = ''
) -> list[str]:
  """Returns the lines of a table; its cells are Markdown already.

  Args:
    header: names of the columns.
    rows: cells.
    align: 'l' or 'r' for each column; '' is left for all.
  """
  align = align or 'l' * len(header)
  marks = ['---:' if side == 'r' else '---' for side in align]
  return [_line(header), _line(marks), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
  return f'| {" | ".join(cells)} |'


def _visible(char: str) -> str:
  category = unicodedata.category(char)
  if category == 'Cs':
    # Half of a surrogate pair cannot be written as UTF-8.
    return '\ufffd'
  if category == 'Cc':
    return ' '
  return '' if category == 'Cf' and char not in _JOINERS else char


def _escaped(char: str) -> str:
  if char in _ENTITIES:
    return _ENTITIES[char]
  return f'\\{char}' if char in _SPECIAL else char
