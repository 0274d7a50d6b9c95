"""A three-way entailment task made from a seed, in the shape of MNLI.

A premise says two things about one subject, a hypothesis says one:

- entailment: the premise says the same in other words;
- contradiction: the premise gives the same property another value;
- neutral: the premise is about another subject, or about other properties.

Neither sentence alone tells anything about the label. The hypothesis is drawn
before the label; and for each label the premise has the same distribution,
because subjects, properties and values are drawn uniformly in every case. The
label can only be found by comparing the two. (On MNLI the hypothesis alone
gives it away in more than half of the cases: Gururangan et al., 2018.)
"""

import dataclasses
import random
from collections.abc import Iterator

from mobilebert_jax.data.entailment_phrases import (
  HYPOTHESES,
  KINDS,
  PREMISES,
  SPLITS,
  Kind,
)

LABELS = ('entailment', 'neutral', 'contradiction')

# A new version of the words or the rules is a new data set: change the seed.
_SEED = 1


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
  """
  pairs = _pairs(split, random.Random(f'{seed}/{split}'))
  return tuple(next(pairs) for _ in range(count))


def _pairs(split: str, rng: random.Random) -> Iterator[Pair]:
  seen = set()
  while True:
    for label in rng.sample(LABELS, len(LABELS)):
      pair = _pair(label, split, rng)
      while (pair.premise, pair.hypothesis) in seen:
        pair = _pair(label, split, rng)
      seen.add((pair.premise, pair.hypothesis))
      yield pair


def _pair(label: str, split: str, rng: random.Random) -> Pair:
  # As many sentences about each property: kinds have different numbers.
  kind = rng.choices(KINDS, [len(kind.relations) for kind in KINDS])[0]
  subject = rng.choice(kind.subjects)
  asked, first, second = rng.sample(list(kind.relations), 3)
  value = rng.choice(kind.relations[asked].values)
  facts = {
    name: rng.choice(kind.relations[name].values) for name in (first, second)
  }
  about = subject
  if label != 'neutral' or rng.random() < 0.5:
    # The premise speaks of the property, in place of its second one.
    del facts[second]
    others = [v for v in kind.relations[asked].values if v != value]
    same = label == 'entailment' or (label == 'neutral' and rng.random() < 0.5)
    facts[asked] = value if same else rng.choice(others)
    if label == 'neutral':
      about = rng.choice([s for s in kind.subjects if s != subject])
  return Pair(
    premise=_sentence(PREMISES[split], about, facts, kind, split, rng),
    hypothesis=_sentence(
      HYPOTHESES[split], subject, {asked: value}, kind, split, rng
    ),
    label=label,
  )


def _sentence(
  frames: tuple[str, ...],
  subject: str,
  facts: dict[str, str],
  kind: Kind,
  split: str,
  rng: random.Random,
) -> str:
  predicates = [
    rng.choice(kind.relations[name].phrases[split]).format(v=value)
    for name, value in facts.items()
  ]
  rng.shuffle(predicates)
  sentence = rng.choice(frames).format(
    s=subject, who=kind.pronoun, **dict(zip('ab', predicates))
  )
  inner = sentence[1:].replace('The ', 'the ')
  return sentence[0] + inner


__all__ = ['LABELS', 'SPLITS', 'Pair', 'generate']
