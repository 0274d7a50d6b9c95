"""Development scores of a GLUE task beside trivial answers, with intervals.

  python benchmarks/glue_intervals.py TASK GLUE_DIR PREDICTIONS.tsv

PREDICTIONS.tsv is a run's predictions/*-validation.tsv (STS-B's are clipped to
the scale there). The intervals are those of 2,000 bootstrap samples of the
examples. Trivial answers: the training set's most frequent label or mean; for
two sentences and a number also the share of words that they have in common.
"""

import argparse
import pathlib
import sys

import bootstrap
import numpy as np

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.tasks.classification import TextExample
from mobilebert_jax.tasks.glue import TABLE, GlueTask


def read(path: pathlib.Path, row: GlueTask) -> dict[str, float]:
  """Predictions by id: indices of classes, or numbers."""
  header, *lines = path.read_text(encoding='utf-8').splitlines()
  assert header == 'index\tprediction', path
  cells = (line.split('\t') for line in lines)
  if row.table.labels:
    return {id_: row.table.labels.index(word) for id_, word in cells}
  return {id_: float(word) for id_, word in cells}


def common_words(example: TextExample) -> float:
  """Words in both sentences over words in either."""
  first, second = (
    set(text.lower().split()) for text in (example.text, example.pair or '')
  )
  return len(first & second) / len(first | second)


def tell(name: str, row: GlueTask, guesses: np.ndarray, truth: np.ndarray):
  """Prints every score of the task with its 95% interval."""
  for score, function in row.scores.items():
    low, high = bootstrap.interval(function, guesses, truth)
    value = function(guesses, truth)
    print(f'{name:22} {score:9} {value:7.4f} [{low:.4f}, {high:.4f}]')


def main():
  """Prints one line for each kind of answer and score."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('task', choices=TABLE)
  parser.add_argument('directory', type=pathlib.Path)
  parser.add_argument('predictions', type=pathlib.Path)
  args = parser.parse_args()
  row = TABLE[args.task]
  data = DataConfig(source='files', path=str(args.directory))
  train, dev = (
    row.table.load(data, split)
    for split in (row.table.splits.train, row.table.splits.evaluation[0])
  )
  labels = np.array([example.label for example in train])
  truth = np.array([example.label for example in dev])
  found = read(args.predictions, row)
  tell('predicted', row, np.array([found[e.id] for e in dev]), truth)
  if row.table.labels:
    constant = np.bincount(labels).argmax()
    tell(row.target.labels[constant], row, np.full_like(truth, constant), truth)
  else:
    mean = labels.mean()
    tell(f'always {mean:.2f}', row, np.full_like(truth, mean), truth)
    overlap = np.array([common_words(example) for example in dev])
    tell('words in common', row, overlap, truth)


if __name__ == '__main__':
  sys.exit(main())
