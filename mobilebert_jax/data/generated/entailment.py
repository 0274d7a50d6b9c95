"""A three-way entailment task made from a seed, in the shape of MNLI.

A premise and a hypothesis each say one thing about one person:

- entailment: they say the same in other words;
- contradiction: they cannot both be true (a car that is red is not blue);
- neutral: they speak of different people or of different things.

Neither sentence alone tells anything about the label. The hypothesis is drawn
before the label; and for each label the premise has the same distribution,
because people, properties and values are uniform in every case. The label can
only be found by comparing the two. (On MNLI the hypothesis alone gives it away
in more than half of the cases: Gururangan et al., 2018.)
"""

import dataclasses
import random
from collections.abc import Iterator

from mobilebert_jax.data.generated.entailment_phrases import (
  FRAMES,
  NAMES,
  RELATIONS,
)
from mobilebert_jax.runtime.errors import InputError

LABELS = ('entailment', 'neutral', 'contradiction')

# A new version of the words or the rules is a new data set: change the seed.
_SEED = 1
# The share of neutral pairs about different things, not different people: most,
# because a small model is slower to learn that names matter, too.
_OTHER_THING = 0.8
# Draws in search of a pair that has not come before.
_TRIES = 1000


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two sentences and one of `LABELS` that relates them."""

  premise: str
  hypothesis: str
  label: str


def generate(split: str, count: int, seed: int = _SEED) -> tuple[Pair, ...]:
  """Makes the first `count` pairs of a split.

  Of any three in a row from the start each has another label, no pair comes
  twice, and a longer result begins with the shorter one.

  Args:
    split: 'train', 'validation' or 'test'; wordings are never shared.
    count: Number of pairs.
    seed: Another seed is another data set.

  Raises:
    InputError: There are not so many pairs in the split.
  """
  pairs = _pairs(split, random.Random(f'{seed}/{split}'))
  return tuple(next(pairs) for _ in range(count))


def _pairs(split: str, rng: random.Random) -> Iterator[Pair]:
  seen: set[Pair] = set()
  while True:
    for label in rng.sample(LABELS, len(LABELS)):
      yield _new_pair(label, split, rng, seen)


def _new_pair(
  label: str, split: str, rng: random.Random, seen: set[Pair]
) -> Pair:
  for _ in range(_TRIES):
    pair = _pair(label, split, rng)
    if pair not in seen:
      seen.add(pair)
      return pair
  raise InputError(
    f'the generated {split} split has not many more than {len(seen)} pairs; '
    'ask for fewer'
  )


def _pair(label: str, split: str, rng: random.Random) -> Pair:
  name, (asked, other) = rng.choice(NAMES), rng.sample(list(RELATIONS), 2)
  value = rng.choice(RELATIONS[asked].values)
  about, told = name, asked
  same = label == 'entailment'
  if label == 'neutral':
    if rng.random() < _OTHER_THING:
      told = other
    else:
      about = rng.choice([n for n in NAMES if n != name])
      # ... of whom the premise may say the same or another thing.
      same = rng.random() < 0.5
  values = RELATIONS[told].values
  fact = value if same else rng.choice([v for v in values if v != value])
  return Pair(
    premise=_sentence(about, told, fact, split, rng),
    hypothesis=_sentence(name, asked, value, split, rng),
    label=label,
  )


def _sentence(
  name: str, relation: str, value: str, split: str, rng: random.Random
) -> str:
  frame = rng.choice(FRAMES[split])
  simple, progressive = rng.choice(RELATIONS[relation].verbs)
  verb = progressive if ' is ' in frame else simple
  rest = RELATIONS[relation].rest.format(v=value)
  return frame.format(s=name, p=f'{verb} {rest}')
