"""The quickstart's task: entailment between sentences made from a seed.

Three classes, in the shape of MNLI. A premise and a hypothesis each say one
thing about one person:

- entailment: they say the same in other words;
- contradiction: they cannot both be true (a car that is red is not blue);
- neutral: they speak of different people or of different things.

Neither sentence alone tells anything about the label. The hypothesis is drawn
before the label; and for each label the premise has the same distribution,
because people, properties and values are uniform in every case. The label can
only be found by comparing the two. (On MNLI the hypothesis alone gives it away
in more than half of the cases: Gururangan et al., 2018.)

Each split has sentence frames of its own, so that no sentence of the test has
a pattern that training showed. The words themselves are all known from
training: a small model that starts from nothing cannot guess the meaning of a
new one.
"""

import dataclasses
import random
from collections.abc import Iterator

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.random_streams import generator_named
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.classification import (
  Submission,
  TextExample,
  classification_task,
  submission_writer,
)
from mobilebert_jax.tasks.targets import SingleLabel
from mobilebert_jax.tasks.task import fixed

SPLITS = ('train', 'validation', 'test')

# Few words, so that a small model sees every pair of them often: it has to
# learn from nothing which words are the same, and which exclude each other.
NAMES = ('Anna', 'Peter', 'Maria', 'Oscar', 'Julia')


@dataclasses.dataclass(frozen=True)
class Relation:
  """One thing that can be said of a person, with exactly one true value.

  Attributes:
    values: The possible values.
    verbs: Ways to say it, each in the simple and in the progressive form.
    rest: What follows the verb, with a place '{v}' for the value.
  """

  values: tuple[str, ...]
  verbs: tuple[tuple[str, str], ...]
  rest: str


RELATIONS = {
  'city': Relation(
    ('Paris', 'London', 'Rome', 'Berlin'),
    (('lives', 'living'), ('stays', 'staying'), ('resides', 'residing')),
    'in {v}',
  ),
  'job': Relation(
    ('teacher', 'doctor', 'baker', 'farmer'),
    (('works', 'working'), ('serves', 'serving'), ('acts', 'acting')),
    'as a {v}',
  ),
  'car': Relation(
    ('red', 'blue', 'green', 'black'),
    (('drives', 'driving'), ('uses', 'using'), ('steers', 'steering')),
    'a {v} car',
  ),
}

# A frame is an opening, a core and an end; '{s}' is the name, '{p}' the
# predicate, in the progressive form behind 'is'.
_OPENINGS = ('', 'Today ', 'Now ', 'Surely ')
_CORES = (
  '{s} {p}',
  '{s} is {p}',
  '{s} now {p}',
  '{s} is now {p}',
  '{s} still {p}',
  '{s} is still {p}',
)
_ENDS = ('.', ' now.', ' today.', ' again.')
# No English sentence has both of these, or one of them twice.
_CLASHES = (('today', 'now'), ('still', 'again'))


def _frames() -> dict[str, tuple[str, ...]]:
  """Divides the frames so that each part occurs in every split."""
  frames: dict[str, list[str]] = {split: [] for split in SPLITS}
  for i, opening in enumerate(_OPENINGS):
    for j, core in enumerate(_CORES):
      for k, end in enumerate(_ENDS):
        frame = opening + core + end
        words = frame.lower().strip('.').split()
        if all(words.count(a) + words.count(b) < 2 for a, b in _CLASHES):
          number = (i + j + k) % 6
          split = {0: 'test', 3: 'validation'}.get(number, 'train')
          frames[split].append(frame)
  return {split: tuple(frames[split]) for split in SPLITS}


FRAMES = _frames()


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
  pairs = _pairs(split, generator_named(f'{seed}/{split}'))
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
    'ask for fewer.'
  )


def _pair(label: str, split: str, rng: random.Random) -> Pair:
  name, (asked, other) = rng.choice(NAMES), rng.sample(list(RELATIONS), 2)
  value = rng.choice(RELATIONS[asked].values)
  about, topic = name, asked
  same = label == 'entailment'
  if label == 'neutral':
    if rng.random() < _OTHER_THING:
      topic = other
    else:
      about = rng.choice([n for n in NAMES if n != name])
      # ... of whom the premise may say the same or another thing.
      same = rng.random() < 0.5
  values = RELATIONS[topic].values
  fact = value if same else rng.choice([v for v in values if v != value])
  return Pair(
    premise=_sentence(about, topic, fact, split, rng),
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


_TRAIN_EXAMPLES = 12_000
_EVAL_EXAMPLES = 900


def load(data: DataConfig, split: str) -> tuple[TextExample, ...]:
  """Makes the pairs of a split, the same in every run.

  Raises:
    InputError: `data.source` is not 'generated'.
  """
  if data.source != 'generated':
    raise InputError(
      f'config.data.source={data.source!r} does not fit the task entailment; '
      'use '
      '"generated".'
    )
  is_train = split == 'train'
  count = data.limit(is_train=is_train) or (
    _TRAIN_EXAMPLES if is_train else _EVAL_EXAMPLES
  )
  return tuple(
    TextExample(
      str(number),
      pair.premise,
      pair.hypothesis,
      LABELS.index(pair.label),
    )
    for number, pair in enumerate(generate(split, count))
  )


_TARGET = SingleLabel(LABELS)

ENTAILMENT = classification_task(
  'entailment',
  _TARGET,
  load=load,
  write_predictions=submission_writer(
    _TARGET,
    Submission(
      files={
        'validation': 'entailment-validation.tsv',
        'test': 'entailment.tsv',
      },
      word=LABELS.__getitem__,
    ),
  ),
)

SPECS = (fixed(ENTAILMENT),)
