"""Scores of SQuAD predictions and of trivial answers, with 95% intervals.

  python benchmarks/squad_intervals.py {1.1,2.0} DIR PREDICTIONS
      [--limit N] [--train]

DIR holds the official files, PREDICTIONS is a predictions.json. The intervals
are those of 2,000 bootstrap samples of the questions. Trivial answers: none,
the most frequent answer of the training file, and the first five words of the
text.
"""

import argparse
import collections
import itertools
import json
import pathlib
import sys

import bootstrap
import numpy as np

from mobilebert_jax.data.readers import squad
from mobilebert_jax.metrics import squad as squad_metrics

_WORDS = 5


def interval(values: np.ndarray) -> str:
  """Mean and percentile interval, in percent."""
  low, high = bootstrap.interval(np.mean, values)
  return f'{values.mean():7.2%} [{low:.2%}, {high:.2%}]'


def scores(version: str, texts: list[str], golds: list[list[str]]):
  """Exact match and F1 of each question."""
  if version == '2.0':
    return squad_metrics.raw_scores_v2(texts, golds)
  pairs = list(zip(texts, golds))
  return (
    np.array([squad_metrics.exact_match(*pair) for pair in pairs]),
    np.array([squad_metrics.f1(*pair) for pair in pairs]),
  )


def main():
  """Prints one line for each kind of answer."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('version', choices=('1.1', '2.0'))
  parser.add_argument('directory', type=pathlib.Path)
  parser.add_argument('predictions', type=pathlib.Path)
  parser.add_argument('--limit', type=int, help='the first questions alone')
  parser.add_argument(
    '--train', action='store_true', help='PREDICTIONS answer the training file'
  )
  args = parser.parse_args()
  with_null = args.version == '2.0'
  train, dev = (
    squad.read_file(
      squad.find_file(args.directory, f'{part}-v{args.version}'),
      with_null=with_null,
    )
    for part in ('train', 'train' if args.train else 'dev')
  )
  asked = list(itertools.islice(dev, args.limit))
  frequent = collections.Counter(
    question.answers[0].text for question in train if question.answers
  ).most_common(1)[0][0]
  given = json.loads(args.predictions.read_text(encoding='utf-8'))
  golds = [[a.text for a in question.answers] for question in asked]
  kinds = {
    'the model': [given[question.id] for question in asked],
    'no answer': [''] * len(asked),
    f'always {frequent!r}': [frequent] * len(asked),
    f'first {_WORDS} words': [
      ' '.join(question.context.split()[:_WORDS]) for question in asked
    ],
  }
  print(f'{len(asked)} questions')
  for name, texts in kinds.items():
    exact, shared = scores(args.version, texts, golds)
    print(f'{name:24} exact {interval(exact)}  F1 {interval(shared)}')


if __name__ == '__main__':
  sys.exit(main())
