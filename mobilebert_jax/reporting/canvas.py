"""Figures without a display, and their files; the one user of matplotlib."""

import os
import pathlib
import warnings
from typing import Any

from mobilebert_jax.runtime import files

_LONGEST_NAME = 24


def figure(width: float, height: float) -> Any:
  """An empty figure of a size in inches, 100 dots each.

  Figures made without pyplot touch no global state and need no display.
  """
  from matplotlib.figure import Figure

  return Figure(figsize=(width, height), layout='constrained')


def save(
  drawn: Any, path: str | os.PathLike[str], unique: bool = False
) -> pathlib.Path:
  """Writes a figure as a PNG that appears only when it is complete.

  The bytes depend on the figure and on matplotlib's version alone.

  Args:
    drawn: the figure.
    path: the file.
    unique: see `files.replacing`.

  Returns:
    The path.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg

  target = files.path(path)
  with files.replacing(target, unique) as partial, warnings.catch_warnings():
    # A script that the font lacks shows as boxes; the report has the text.
    warnings.filterwarnings('ignore', r'Glyph \d+ .* missing from font')
    FigureCanvasAgg(drawn)
    # Tight: the layout alone cuts labels off beside axes of fixed shape.
    drawn.savefig(partial, format='png', bbox_inches='tight')
  return target


def name(text: str) -> str:
  """A name from data on one line, short, and without any markup."""
  text = ' '.join(''.join(c if c.isprintable() else ' ' for c in text).split())
  if len(text) > _LONGEST_NAME:
    text = f'{text[: _LONGEST_NAME - 1]}…'
  # matplotlib reads what stands between dollar signs as a formula.
  return text.replace('$', r'\$')
