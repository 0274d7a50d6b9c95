"""A little data of each of the user's own kinds, which a tiny model can learn.

`write(kind, root)` makes `root/data` and `root/vocab.txt`.
"""

import csv
import json
import pathlib

import numpy as np

from tests.support import custom_runs

GOOD, BAD = ('good', 'fine', 'great'), ('bad', 'dull', 'poor')
THINGS = ('film', 'plot', 'book', 'song')
NAMES = ('anna', 'ben', 'carl', 'dora')
WORDS = (
  *GOOD, *BAD, *THINGS, *NAMES, 'a', 'the', 'is', 'likes', 'what', 'who', '.',
  '?', 'does', 'one', 'two',
)  # fmt: skip


def write(kind: str, root: pathlib.Path) -> pathlib.Path:
  """Data for the task 'custom_<kind>', with a test file; returns `root`."""
  custom_runs.write_vocab(root, WORDS)
  (root / 'data').mkdir()
  rows, suffix = _MAKERS[kind](np.random.default_rng(0)), _SUFFIXES[kind]
  for split, part, labelled in (
    ('train', rows[:64], True), ('test', rows[64:], False),
  ):  # fmt: skip
    part = [row if labelled else _unlabelled(row) for row in part]
    path = root / 'data' / f'{split}{suffix}'
    if suffix == '.jsonl':
      path.write_text(''.join(f'{json.dumps(row)}\n' for row in part))
      continue
    with path.open('w', newline='') as file:
      delimiter = '\t' if suffix == '.tsv' else ','
      table = csv.DictWriter(file, part[0], delimiter=delimiter)
      table.writeheader()
      table.writerows(part)
  return root


def _unlabelled(row):
  hidden = ('label', 'score', 'tags', 'answer', 'answers')
  return {name: value for name, value in row.items() if name not in hidden}


def classification(rng):
  """Three labels by the word."""
  rows = []
  for i in range(70):
    words, label = ((GOOD, 'pos'), (BAD, 'neg'), (('a',), 'none'))[i % 3]
    text = f'the {rng.choice(THINGS)} is {rng.choice(words)}'
    rows.append({'id': f'r{i}', 'text': text, 'label': label})
  return rows


def multi(rng):
  """A label for each of two words that are there."""
  rows = []
  for i in range(70):
    present = [name for name, bit in (('one', 1), ('two', 2)) if i % 4 & bit]
    text = f'the {rng.choice(THINGS)} {" ".join(present)}'
    rows.append({'text': text, 'label': present})
  return rows


def regression(rng):
  """The number of good words."""
  rows = []
  for i in range(70):
    words = [rng.choice(GOOD if j < i % 4 else BAD) for j in range(3)]
    rows.append({'text': ' '.join(words), 'score': str(0.5 * (i % 4))})
  return rows


def tagging(rng):
  """Names are persons."""
  rows = []
  for _ in range(70):
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    tokens = [str(name), 'likes', 'the', str(thing)]
    rows.append({'tokens': tokens, 'tags': ['B-PER', 'O', 'O', 'O']})
  return rows


def qa(rng):
  """Who likes something?"""
  rows = []
  for _ in range(70):
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    rows.append(
      {
        'question': 'who likes what ?',
        'context': f'the {thing} . {name} likes the {thing} .',
        'answers': str(name),
      }
    )
  return rows


def choice(rng):
  """The good one of two or three."""
  rows = []
  for i in range(70):
    choices = [str(rng.choice(BAD)) for _ in range(2 + i % 2)]
    choices = list(dict.fromkeys([*choices, 'poor', 'dull']))[: 2 + i % 2]
    answer = int(rng.integers(len(choices)))
    choices[answer] = str(rng.choice(GOOD))
    rows.append(
      {'question': 'what is the film ?', 'choices': choices, 'answer': answer}
    )
  return rows


_MAKERS = {
  'classification': classification,
  'multi': multi,
  'regression': regression,
  'tagging': tagging,
  'qa': qa,
  'choice': choice,
}
_SUFFIXES = {
  'classification': '.csv',
  'multi': '.jsonl',
  'regression': '.tsv',
  'tagging': '.jsonl',
  'qa': '.jsonl',
  'choice': '.jsonl',
}
