"""Keeps training rows out, to judge where the development set is small.

  python benchmarks/hold_out.py DIR TARGET

DIR holds train.tsv and dev.tsv with a header line, as SST-2's. TARGET gets both
again: 10,000 rows of the training set, always the same ones, stand in front of
the development set's, and are trained on no more. Of SST-2 many of them are
parts of the same sentences as rows that are trained on, so they are easier.
"""

import argparse
import pathlib

import numpy as np

from mobilebert_jax.runtime import files

ROWS = 10_000


def split(source: pathlib.Path, target: pathlib.Path):
  """Writes files whose development set has the rows kept out in front."""
  if (target / 'dev.tsv').exists():
    return
  head, *rows = (source / 'train.tsv').read_text('utf-8').splitlines()
  _, *dev = (source / 'dev.tsv').read_text('utf-8').splitlines()
  kept = np.random.default_rng(0).permutation(len(rows)) < ROWS
  target.mkdir(parents=True, exist_ok=True)
  parts = {
    'train.tsv': [row for row, out in zip(rows, kept) if not out],
    'dev.tsv': [row for row, out in zip(rows, kept) if out] + dev,
  }
  for name, lines in parts.items():
    files.write_text(target / name, '\n'.join([head, *lines]) + '\n')


def main():
  """Splits the files named on the command line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('directory', type=pathlib.Path)
  parser.add_argument('target', type=pathlib.Path)
  args = parser.parse_args()
  split(args.directory, args.target)


if __name__ == '__main__':
  main()
