"""Scores of tags or choices beside trivial answers, with 95% intervals.

  python benchmarks/tagging_choice_intervals.py tags TRAIN PREDICTED.conll
  python benchmarks/tagging_choice_intervals.py choices TRAIN DEV PREDICTED.csv

`tags`: TRAIN is the training file and PREDICTED a run's predictions/*.conll
(with the gold tags). Trivial: all words O; and each word the tag that it has
most often in the training file. `choices`: CommonsenseQA's files; trivial: the
choice that is right most often in the training file, and chance. The intervals
are those of 2,000 bootstrap samples of sentences or questions.
"""

import collections
import csv
import pathlib
import sys
from collections.abc import Callable, Sequence

import bootstrap
import numpy as np

from mobilebert_jax.data.readers import choice_files, conll
from mobilebert_jax.metrics import tagging


def interval(counts: np.ndarray, score: Callable[[np.ndarray], float]) -> str:
  """The score of summed counts, and its percentile interval."""
  low, high = bootstrap.interval(lambda part: score(part.sum(axis=0)), counts)
  return f'{score(counts.sum(axis=0)):7.2%} [{low:.2%}, {high:.2%}]'


def f1(counts: np.ndarray) -> float:
  """F1 of (right, gold, predicted)."""
  right, gold, predicted = counts
  return 2 * right / (gold + predicted) if gold + predicted else 0.0


def entity_counts(
  gold: Sequence[str], found: Sequence[str]
) -> tuple[int, int, int]:
  """Entities of a sentence: right, gold, predicted."""
  sides = [set(tagging.entities(side, 'IOB2')) for side in (gold, found)]
  return len(sides[0] & sides[1]), len(sides[0]), len(sides[1])


def share(counts: np.ndarray) -> float:
  """The share of right answers of (right, all)."""
  return counts[0] / counts[1]


def tags(train: pathlib.Path, predictions: pathlib.Path):
  """Prints F1 of entities."""
  seen: dict[str, collections.Counter[str]] = {}
  for sentence in conll.read_sentences(train):
    for word, tag in zip(sentence.words, sentence.tags):
      seen.setdefault(word.lower(), collections.Counter())[tag] += 1
  rows: dict[str, list[tuple[int, int, int]]] = {}
  for sentence in conll.read_sentences(predictions):
    gold = [line.split(sentence.separator)[-2] for line in sentence.lines]
    frequent = [
      seen[word.lower()].most_common(1)[0][0] if word.lower() in seen else 'O'
      for word in sentence.words
    ]
    for name, found in (
      ('predicted', sentence.tags),
      ('all words O', ['O'] * len(gold)),
      ('most frequent tag of the word', frequent),
    ):
      rows.setdefault(name, []).append(entity_counts(gold, found))
  for name, counts in rows.items():
    print(f'{name:32} F1 {interval(np.array(counts), f1)}')


def choices(train: pathlib.Path, dev: pathlib.Path, predictions: pathlib.Path):
  """Prints accuracies."""
  answers = collections.Counter(
    example.answer for example in choice_files.read_commonsenseqa(train, True)
  )
  frequent = answers.most_common(1)[0][0]
  examples = list(choice_files.read_commonsenseqa(dev, True))
  with predictions.open(encoding='utf-8') as file:
    predicted = dict(csv.reader(file))
  rows = {
    'predicted': [
      predicted[example.id] == example.keys[example.answer or 0]
      for example in examples
    ],
    'most frequent position': [
      example.answer == frequent for example in examples
    ],
    'chance': [1 / len(example.choices) for example in examples],
  }
  for name, right in rows.items():
    counts = np.stack([np.array(right, float), np.ones(len(right))], axis=1)
    print(f'{name:32} accuracy {interval(counts, share)}')


def main(arguments: Sequence[str]) -> int:
  """Runs one of the two."""
  kinds = {'tags': (tags, 2), 'choices': (choices, 3)}
  if not arguments or arguments[0] not in kinds:
    print(__doc__)
    return 2
  function, count = kinds[arguments[0]]
  if len(arguments) != count + 1:
    print(__doc__)
    return 2
  function(*map(pathlib.Path, arguments[1:]))
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
