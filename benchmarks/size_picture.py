"""Draws accuracy against size, from the tables of RESULTS.md.

  python benchmarks/size_picture.py [--output=docs/images/accuracy_and_size.png]

Left, the formats of one small model of SST-2, equalised ("16, 8 and 4 bits");
right, another one with fewer blocks ("Fewer blocks"). Bars are the 95%
intervals of the difference to the whole model in float32, as in the tables.
"""

import argparse
import pathlib
import re
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

RESULTS = pathlib.Path(__file__).with_name('RESULTS.md')
IMAGE = RESULTS.parents[1] / 'docs' / 'images' / 'accuracy_and_size.png'
NUMBER = r'[+-]?\d+\.\d+'
# A cell such as '+0.02 (-0.02 to +0.06), 99.96%, 0.3%; 2.77 MB'.
CELL = re.compile(rf'({NUMBER}) \(({NUMBER}) to ({NUMBER})\),.*; ({NUMBER}) MB')
INTERVAL = re.compile(rf'({NUMBER}) \[({NUMBER}), ({NUMBER})\]')


class Point(NamedTuple):
  """A file: its size in MB, its accuracy, and the interval of that."""

  name: str
  size: float
  accuracy: float
  low: float
  high: float


def rows(text: str, heading: str) -> list[list[str]]:
  """Returns the cells of the first table below a heading, header included."""
  lines = text.partition(f'## {heading}\n')[2].splitlines()
  start = next(i for i, line in enumerate(lines) if line.startswith('|'))
  table = []
  for line in lines[start:]:
    if not line.startswith('|'):
      break
    table.append([cell.strip() for cell in line.strip('|').split('|')])
  return [table[0], *table[2:]]


def of_formats(text: str, format: str) -> list[Point]:
  """Returns the kinds of one format, of the equalised model."""
  header, *table = rows(text, '16, 8 and 4 bits')
  [found] = [row for row in table if row[0] == f'{format}, tame, equalised']
  plain = float(re.findall(rf'({NUMBER}) in float32', text)[0])
  points = []
  for name, cell in zip(header[1:], found[1:], strict=True):
    match = CELL.fullmatch(cell)
    assert match is not None, cell
    difference, low, high, size = map(float, match.groups())
    accuracy = (plain + x / 100 for x in (difference, low, high))
    points.append(Point(name, size, *accuracy))
  return points


def of_blocks(text: str, weights: str) -> list[Point]:
  """Returns models with fewer blocks, of float or int8 weights."""
  _, *table = rows(text, 'Fewer blocks')
  whole = float(table[0][4])
  points = []
  for name, blocks, kind, _, score, against, _, size, _ in table:
    if kind != weights or 'as long' in name or 'fine-tuned' in name:
      continue
    match = INTERVAL.search(against)
    ends = (
      [whole + float(x) for x in match.groups()[1:]] if match else [whole] * 2
    )
    points.append(Point(f'{blocks} blocks', float(size), float(score), *ends))
  return points


def draw(axis: Axes, points: list[Point], colour: str, label: str = ''):
  """Draws points with their intervals, each with a line of the legend."""
  for point, marker in zip(points, 'osDv^P'):
    ends = point.accuracy - point.low, point.high - point.accuracy
    axis.errorbar(
      point.size, point.accuracy, [[max(x, 0)] for x in ends],
      fmt=marker, capsize=3, color=colour, alpha=0.8,
      label=f'{label}{point.name}, {point.size:.2f} MB',
    )  # fmt: skip


def main():
  """Parses the command line and writes the picture."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--output', type=pathlib.Path, default=IMAGE)
  given = parser.parse_args()
  text = RESULTS.read_text(encoding='utf-8')
  figure, axes = plt.subplots(
    1, 2, figsize=(10, 4), layout='constrained', sharey=True
  )
  for number, point in enumerate(of_formats(text, 'onnx')):
    draw(axes[0], [point], f'C{number}')
  draw(axes[1], of_blocks(text, 'float'), 'C0', 'float32, ')
  draw(axes[1], of_blocks(text, 'int8'), 'C1', 'dynamic, ')
  axes[0].set(title='One model in every format', ylabel='accuracy')
  axes[1].set(title='Another one with fewer blocks, distilled')
  for axis in axes:
    # Of a height in which a point (0.01) can be seen for what it is.
    axis.set(xlabel='MB (ONNX)', xlim=(0, None), ylim=(0.87, 0.91))
    axis.grid(alpha=0.3)
    axis.legend(loc='lower right', fontsize=8)
  figure.savefig(given.output, dpi=110)


if __name__ == '__main__':
  main()
