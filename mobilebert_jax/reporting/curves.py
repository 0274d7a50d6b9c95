"""Loss and score over the steps, as a picture."""

import os
import pathlib
from collections.abc import Sequence

from mobilebert_jax.reporting import canvas
from mobilebert_jax.reporting.metrics_log import Record

# Weight of the newest value in the smoothed loss.
NEW = 0.1


def draw(
  path: str | os.PathLike[str], records: Sequence[Record], metric: str
) -> pathlib.Path:
  """Draws training loss, evaluation loss and a score.

  Args:
    path: the PNG to write; appears only when it is complete.
    records: lines of metrics.jsonl.
    metric: name of the score, such as 'validation/accuracy'.

  Returns:
    The path.
  """
  figure = canvas.figure(9, 3.6)
  left, right = figure.subplots(1, 2)
  steps, losses = series(records, 'loss')
  left.plot(steps, losses, color='tab:blue', alpha=0.3, linewidth=1)
  left.plot(steps, smooth(losses), color='tab:blue', label='training')
  split = metric.partition('/')[0]
  left.plot(
    *series(records, f'{split}/loss'), 'o-', color='tab:orange', label=split
  )
  left.set(xlabel='step', ylabel='loss')
  left.legend()
  right.plot(*series(records, metric), 'o-', color='tab:green')
  right.set(xlabel='step', ylabel=metric)
  for axes in (left, right):
    axes.grid(alpha=0.3)
  return canvas.save(figure, path)


def series(
  records: Sequence[Record], name: str
) -> tuple[list[int], list[float]]:
  """The steps at which a value was logged, and the values."""
  points = [(r['step'], r[name]) for r in records if name in r]
  return [step for step, _ in points], [value for _, value in points]


def smooth(values: Sequence[float], new: float = NEW) -> list[float]:
  """Exponential moving average that starts at the first value.

  Args:
    values: the values.
    new: the weight of the newest one.
  """
  smooth: list[float] = []
  for value in values:
    old = smooth[-1] if smooth else value
    smooth.append(old + new * (value - old))
  return smooth
