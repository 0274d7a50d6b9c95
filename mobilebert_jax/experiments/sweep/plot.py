"""The scores of a search as a picture: one panel for each field."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_jax.reporting import canvas

_WIDTH, _HEIGHT = 3.6, 3.2


def draw(
  path: str | os.PathLike[str], summary: Mapping[str, Any]
) -> pathlib.Path:
  """Draws every point in a panel for each field that was searched.

  A line joins the best score of each value. Points that diverged are crosses
  at the lower edge.

  Args:
    path: the PNG to write; appears only when it is complete.
    summary: `fields`, `primary_metric` and `points`, each point with `values`
      by field, `score` (None without one) and `status`.

  Returns:
    The path.
  """
  names = summary['fields']
  figure = canvas.figure(_WIDTH * len(names) + 0.8, _HEIGHT)
  panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
  for panel, name in zip(panels, names):
    _draw_field(panel, name, summary['points'])
  panels[0].set_ylabel(canvas.name(summary['primary_metric']))
  return canvas.save(figure, path)


def _draw_field(panel: Any, name: str, points: Sequence[Mapping[str, Any]]):
  values = _in_order({point['values'][name] for point in points})
  best: dict[int, float] = {}
  for point in points:
    place, score = values.index(point['values'][name]), point['score']
    if score is not None:
      panel.plot(place, score, 'o', color='tab:blue', alpha=0.5)
      best[place] = max(score, best.get(place, score))
    elif point['status'] == 'diverged':
      panel.plot(
        place, 0.02, 'x', color='tab:red', transform=panel.get_xaxis_transform()
      )
  places = sorted(best)
  panel.plot(places, [best[place] for place in places], color='tab:green')
  panel.set_xticks(
    range(len(values)), [canvas.name(value) for value in values], rotation=45
  )
  panel.set_xlim(-0.5, len(values) - 0.5)
  panel.set_xlabel(canvas.name(name))
  panel.grid(alpha=0.3)


def _in_order(values: set[str]) -> list[str]:
  """Numbers by size, everything else by name."""
  try:
    return sorted(values, key=float)
  except ValueError:
    return sorted(values)
