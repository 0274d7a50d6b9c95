"""One HTML file of a report in Markdown, with its pictures inside.

It reads the Markdown that `report` writes, and no more: headings, paragraphs,
lists of points, tables and pictures on lines of their own; in a line **bold**,
*emphasis* and `code`; backslashes and entities as `markdown.escape` makes them.
"""

import base64
import pathlib
import re
from collections.abc import Iterator, Sequence

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem;
  max-width: 62rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem;
  border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; margin-bottom: 1.2rem; }
table { border-collapse: collapse; }
td, th { border-bottom: 1px solid var(--line); padding: .25rem .7rem;
  text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { background: var(--soft); overflow-wrap: normal; }
td.r, th.r { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; overflow-wrap: normal; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
code { background: var(--soft); padding: 0 .2em; border-radius: 3px; }
"""
_PICTURE = re.compile(r'!\[([^]]*)\]\(([^)]*)\)\Z')
_HEADING = re.compile(r'(#{1,3}) (.*)\Z')
# A cell ends at a bar without a backslash before it; so does a mark.
_BAR = re.compile(r'(?<!\\)\|')
_INLINE = (
  (re.compile(r'(?<!\\)`([^`]*)`'), r'<code>\1</code>'),
  (re.compile(r'(?<!\\)\*\*(.+?)(?<!\\)\*\*'), r'<strong>\1</strong>'),
  (re.compile(r'(?<!\\)\*(.+?)(?<!\\)\*'), r'<em>\1</em>'),
)
_ESCAPE = re.compile(r'\\([\\`*_\[\]|~$^+=#.-])')
# What stands for an escaped sign until the marks have been read.
_PRIVATE = 0xE000


def page(lines: Sequence[str], folder: pathlib.Path, title: str) -> str:
  """Returns the HTML of a report.

  Args:
    lines: the report, without line ends.
    folder: where the links of its pictures begin.
    title: of the page; any text.
  """
  body = '\n'.join(_blocks(lines, folder))
  name = title.replace('&', '&amp;').replace('<', '&lt;')
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width">\n'
    f'<title>{name}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n'
    '</body>\n</html>\n'
  )


def _blocks(lines: Sequence[str], folder: pathlib.Path) -> Iterator[str]:
  """Yields the blocks; blank lines part them."""
  block: list[str] = []
  for line in [*lines, '']:
    if line.strip():
      block.append(line)
    elif block:
      yield _block(block, folder)
      block = []


def _block(lines: Sequence[str], folder: pathlib.Path) -> str:
  heading, picture = _HEADING.match(lines[0]), _PICTURE.match(lines[0])
  if heading and len(lines) == 1:
    level = len(heading[1])
    return f'<h{level}>{_inline(heading[2])}</h{level}>'
  if picture and len(lines) == 1:
    return _image(picture[1], folder / picture[2])
  if lines[0].startswith('|'):
    return _table(lines)
  if all(line.startswith('- ') for line in lines):
    points = '\n'.join(f'<li>{_inline(line[2:])}</li>' for line in lines)
    return f'<ul>\n{points}\n</ul>'
  return f'<p>{_inline(" ".join(lines))}</p>'


def _table(lines: Sequence[str]) -> str:
  header, marks, *rows = map(_cells, lines)
  sides = [' class="r"' if mark.endswith(':') else '' for mark in marks]

  def row(cells: Sequence[str], kind: str) -> str:
    shown = ''.join(
      f'<{kind}{side}>{_inline(cell)}</{kind}>'
      for cell, side in zip(cells, sides)
    )
    return f'<tr>{shown}</tr>'

  body = '\n'.join(row(cells, 'td') for cells in rows)
  return (
    f'<div class="wide"><table>\n<thead>{row(header, "th")}</thead>\n'
    f'<tbody>\n{body}\n</tbody>\n</table></div>'
  )


def _cells(line: str) -> list[str]:
  # An escaped backslash before a bar does not escape the bar.
  hidden = line.replace('\\\\', chr(_PRIVATE))
  return [
    cell.strip().replace(chr(_PRIVATE), '\\\\')
    for cell in _BAR.split(hidden)[1:-1]
  ]


def _inline(text: str) -> str:
  """Returns a line's HTML; what was escaped is text and no mark."""
  signs: list[str] = []

  def hide(match: re.Match[str]) -> str:
    signs.append(match[1])
    return f'{chr(_PRIVATE)}{len(signs) - 1}{chr(_PRIVATE)}'

  text = _ESCAPE.sub(hide, text.replace(chr(_PRIVATE), '\ufffd'))
  for pattern, replacement in _INLINE:
    text = pattern.sub(replacement, text)
  return re.sub(
    f'{chr(_PRIVATE)}([0-9]+){chr(_PRIVATE)}',
    lambda match: signs[int(match[1])],
    text,
  )


def _image(name: str, path: pathlib.Path) -> str:
  data = base64.b64encode(path.read_bytes()).decode()
  return f'<p><img alt="{name}" src="data:image/png;base64,{data}"></p>'
