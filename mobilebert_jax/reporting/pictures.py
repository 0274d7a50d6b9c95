"""Pictures of a run, and what pictures share; the one user of matplotlib."""

import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mobilebert_jax.reporting.metrics_log import Record
from mobilebert_jax.runtime import files

_LONGEST_NAME = 24


def new_figure(width: float, height: float) -> Any:
  """Returns an empty figure of a size in inches, 100 dots each.

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


def short_name(text: str) -> str:
  """Returns a name from data on one line, short, and without any markup."""
  text = ' '.join(''.join(c if c.isprintable() else ' ' for c in text).split())
  if len(text) > _LONGEST_NAME:
    text = f'{text[: _LONGEST_NAME - 1]}…'
  # matplotlib reads what stands between dollar signs as a formula.
  return text.replace('$', r'\$')


# Weight of the newest value in the smoothed loss.
NEWEST_WEIGHT = 0.1


def draw_curves(
  path: str | os.PathLike[str],
  records: Sequence[Record],
  metric: str,
  constant: tuple[str, float] | None = None,
  best_step: int | None = None,
) -> pathlib.Path:
  """Draws training loss, evaluation loss and a score.

  Every logged loss is a point; the line is their moving average.

  Args:
    path: the PNG to write; appears only when it is complete.
    records: lines of metrics.jsonl.
    metric: name of the score, such as 'validation/accuracy'.
    constant: the best constant answer, and its score.
    best_step: where the best weights are from.

  Returns:
    The path.
  """
  figure = new_figure(9, 3.6)
  left, right = figure.subplots(1, 2)
  steps, losses = series(records, 'loss')
  left.plot(steps, losses, '.', color='tab:blue', alpha=0.35, markersize=4)
  left.plot(steps, smooth(losses), color='tab:blue', label='training')
  split = metric.partition('/')[0]
  left.plot(
    *series(records, f'{split}/loss'), 'o-', color='tab:orange', label=split
  )
  left.set(xlabel='step', ylabel='loss')
  left.legend()
  right.plot(*series(records, metric), 'o-', color='tab:green', label=split)
  if constant is not None:
    name, value = constant
    right.axhline(
      value, color='gray', linestyle='--', label=short_name(name)
    )  # fmt: skip
    right.legend()
  right.set(xlabel='step', ylabel=metric)
  if best_step is not None:
    for axes in (left, right):
      axes.axvline(best_step, color='black', linewidth=0.8, linestyle=':')
  for axes in (left, right):
    axes.grid(alpha=0.3)
  return save(figure, path)


def series(
  records: Sequence[Record], name: str
) -> tuple[list[int], list[float]]:
  """Returns the steps at which a value was logged, and the values."""
  points = [(r['step'], r[name]) for r in records if name in r]
  return [step for step, _ in points], [value for _, value in points]


def smooth(values: Sequence[float], new: float = NEWEST_WEIGHT) -> list[float]:
  """Returns the exponential moving average, from the first value on.

  m[0] = x[0]; m[t] = (1 - new) m[t-1] + new x[t].

  Args:
    values: the values.
    new: the weight of the newest one.
  """
  smooth: list[float] = []
  for value in values:
    old = smooth[-1] if smooth else value
    smooth.append(old + new * (value - old))
  return smooth


# Cells beyond these many classes are too small for numbers.
_MOST_NUMBERED = 12
# Up to so many classes the cells are wide enough for most names.
_MOST_LARGE = 4
_RIGHT, _WRONG = 'tab:green', 'tab:red'
_BINS = 40
_Path = str | os.PathLike[str]


def draw_confusion(
  path: _Path, counts: Int[np.ndarray, 'C C'], labels: Sequence[str]
) -> pathlib.Path:
  """Draws how often each class is taken for each, in parts of its examples.

  Args:
    path: the file.
    counts: examples by expected (rows) and predicted class (columns).
    labels: names of the classes.

  Returns:
    The path.
  """
  shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  cell = 1.1 if len(labels) <= _MOST_LARGE else 0.55
  size = 1.4 + cell * len(labels)
  figure = new_figure(size + 1.6, size)
  axes = figure.subplots()
  image = axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
  names = [short_name(label) for label in labels]
  positions = range(len(labels))
  wide = max(map(len, names)) > 12 * cell
  side = 'right' if wide else 'center'
  axes.set_xticks(positions, names, rotation=40 * wide, ha=side)
  axes.set_yticks(positions, names)
  axes.set(xlabel='predicted', ylabel='expected')
  if len(labels) <= _MOST_NUMBERED:
    for (i, j), share in np.ndenumerate(shares):
      # White on dark cells.
      color = 'white' if share > 0.55 else 'black'
      text = f'{counts[i, j]:,}\n{share:.0%}'
      axes.text(j, i, text, ha='center', va='center', color=color, fontsize=9)
  bar = figure.colorbar(image, ax=axes, shrink=0.8)
  bar.set_label('part of the expected class')
  return save(figure, path)


def draw_certainty(
  path: _Path,
  values: Float[np.ndarray, 'N'],
  is_right: np.ndarray,
  *,
  what: str,
  is_probability: bool,
) -> pathlib.Path:
  """Draws how right and wrong answers are spread over certainty.

  Args:
    path: the file.
    values: of each answer.
    is_right: whether it counts as right, bool [N].
    what: what the values are.
    is_probability: whether they are from 0 to 1.
  """
  if not is_probability:
    values = _clipped(values)
  top = 1.0 if is_probability else float(values.max(initial=0)) or 1.0
  figure = new_figure(6.5, 3.4)
  axes = figure.subplots()
  axes.hist(
    [values[is_right], values[~is_right]],
    bins=np.linspace(0, top, _BINS // 2 + 1).tolist(),
    stacked=True,
    color=[_RIGHT, _WRONG],
    label=[f'right ({is_right.sum():,})', f'wrong ({(~is_right).sum():,})'],
  )
  axes.set(xlabel=what, ylabel='examples', xlim=(0, top))
  axes.legend()
  axes.grid(alpha=0.3, axis='y')
  return save(figure, path)


def draw_numbers(
  path: _Path,
  expected: Float[np.ndarray, 'N'],
  predicted: Float[np.ndarray, 'N'],
) -> pathlib.Path:
  """Draws predicted over expected numbers, and how the errors are spread."""
  figure = new_figure(9, 4)
  left, right = figure.subplots(1, 2)
  low, high = float(expected.min()), float(expected.max())
  # Dense clouds stay readable where points let through what is below.
  alpha = float(np.clip(200 / max(len(expected), 1), 0.08, 0.8))
  left.plot([low, high], [low, high], color='gray', linewidth=1, label='exact')
  left.plot(expected, predicted, 'o', markersize=4, alpha=alpha, mew=0)
  left.set(xlabel='expected', ylabel='predicted', aspect='equal')
  left.legend()
  errors = predicted - expected
  bins = min(_BINS, 8 + len(errors) // 8)
  right.hist(errors, bins=bins, color='tab:blue')
  right.axvline(0, color='gray', linewidth=1)
  right.set(xlabel='predicted - expected', ylabel='examples')
  for axes in (left, right):
    axes.grid(alpha=0.3)
  return save(figure, path)


def draw_lengths(
  path: _Path, tokens: Mapping[str, Int[np.ndarray, 'N']], max_length: int
) -> pathlib.Path:
  """Draws how long the rows of each split are.

  Args:
    path: the file.
    tokens: the lengths, by split.
    max_length: where longer texts are cut.
  """
  longest = max(int(rows.max()) for rows in tokens.values())
  width = max(1, -(-longest // _BINS))
  edges = (np.arange(-(-longest // width) + 1) * width + 0.5).tolist()
  figure = new_figure(6.5, 3.4)
  axes = figure.subplots()
  for number, (name, rows) in enumerate(tokens.items()):
    shares = np.full(len(rows), 100 / len(rows))
    style: dict[str, Any] = {'color': f'C{number}', 'label': short_name(name)}
    axes.hist(rows, edges, weights=shares, alpha=0.35, **style)
    style.pop('label')
    axes.hist(rows, edges, weights=shares, histtype='step', **style)
  if 2 * longest > max_length:
    axes.axvline(max_length, color='black', linestyle='--', linewidth=1)
    axes.text(
      max_length, 1.01, f'max_length {max_length}', ha='right', va='bottom',
      fontsize=9, transform=axes.get_xaxis_transform(),
    )  # fmt: skip
  axes.set(xlabel='tokens', ylabel='part of the split in %', xlim=(0, None))
  axes.legend()
  axes.grid(alpha=0.3, axis='y')
  return save(figure, path)


def _clipped(values: Float[np.ndarray, 'N']) -> Float[np.ndarray, 'N']:
  """Cuts values at their 99th percentile's double: most are seen then."""
  finite = values[np.isfinite(values)]
  top = 2 * float(np.percentile(finite, 99)) if len(finite) else 1.0
  return np.minimum(values, top or 1.0)
