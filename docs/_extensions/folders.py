"""Draws the package's folders and who imports whom, as an SVG.

The folders and their order are those that the test of the layering reads.
"""

import ast
import html
import pathlib
import runpy

_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
_PACKAGE = _REPOSITORY / 'mobilebert_jax'
_LIST = _REPOSITORY / 'tests' / 'support' / 'folders.py'

_MONO = 'font-family="monospace"'
_ROW, _COLUMN, _LEFT, _TOP = 26, 24, 560, 132


def draw(path: pathlib.Path):
  """Writes the picture."""
  folders = runpy.run_path(str(_LIST))['FOLDERS']
  names = list(folders)
  width, height = _LEFT + _COLUMN * len(names) + 16, _TOP + _ROW * len(names)
  out = [
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    'font-family="sans-serif" font-size="13">',
    f'<rect width="{width}" height="{height}" fill="#fff"/>',
  ]
  for row, name in enumerate(names):
    y = _TOP + _ROW * row
    if row % 2 == 0:
      out.append(_box(0, y, width, _ROW, '#f3f6fb'))
    out.append(_text(12, y + 18, f'{name}/', f'{_MONO} font-weight="bold"'))
    out.append(_text(170, y + 18, folders[name], 'fill="#444"'))
    x = _LEFT + _COLUMN * row + _COLUMN // 2
    turned = f'transform="translate({x + 4} {_TOP - 8}) rotate(-90)"'
    out.append(_text(0, 0, name, f'{_MONO} font-size="11" {turned}'))
    out.append(_box(x - 9, y + 4, 18, 18, '#c9d6ee'))
    for other in imported(name) & set(names[:row]):
      x = _LEFT + _COLUMN * names.index(other) + _COLUMN // 2
      out.append(f'<circle cx="{x}" cy="{y + 13}" r="5" fill="#2f5fb3"/>')
  path.write_text('\n'.join([*out, '</svg>\n']), encoding='utf-8')


def imported(name: str) -> set[str]:
  """The folders and modules of the package that a folder imports from."""
  found = set()
  for path in (_PACKAGE / name).rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
      if isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
          parts = f'{node.module}.{alias.name}'.split('.')
          if parts[0] == 'mobilebert_jax':
            found.add(parts[1])
  return found - {name}


def _text(x: int, y: int, text: str, style: str) -> str:
  return f'<text x="{x}" y="{y}" {style}>{html.escape(text)}</text>'


def _box(x: int, y: int, width: int, height: int, fill: str) -> str:
  return (
    f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="3" '
    f'fill="{fill}"/>'
  )
