"""Words and phrases of the generated entailment task (`entailment.py`).

Each split has phrases and frames of its own, so that a test sentence has a
wording that training never showed. The words themselves are all known from
training: a small model that starts from nothing cannot guess their meaning.
"""

import dataclasses
from collections.abc import Mapping

SPLITS = ('train', 'validation', 'test')


@dataclasses.dataclass(frozen=True)
class Relation:
  """One thing that can be said of a subject, with exactly one true value.

  Attributes:
    values: The possible values.
    phrases: For each split, predicates with a place '{v}' for the value; all
      of them say the same.
  """

  values: tuple[str, ...]
  phrases: Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of subject: what it may be called and what can be said of it.

  Attributes:
    subjects: Noun phrases that begin a sentence.
    pronoun: Its relative pronoun.
    relations: What can be said, by name.
  """

  subjects: tuple[str, ...]
  pronoun: str
  relations: Mapping[str, Relation]


def _phrases(
  train: tuple[str, ...], validation: tuple[str, ...], test: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
  return dict(zip(SPLITS, (train, validation, test)))


def _words(text: str) -> tuple[str, ...]:
  return tuple(text.split())


_COLOURS = _words('red blue green black white brown yellow orange grey purple')

_PEOPLE = Kind(
  subjects=_words(
    'Anna Peter Maria Tom Julia Simon Clara David Emma Oscar Laura Felix '
    'Sarah Paul Nina Victor Alice Henry Rosa Martin'
  ),
  pronoun='who',
  relations={
    'home': Relation(
      _words(
        'Paris London Rome Berlin Madrid Vienna Oslo Lisbon Dublin Prague'
      ),
      _phrases(
        (
          'lives in {v}',
          'has a home in {v}',
          'is at home in {v}',
          'has lived in {v} for years',
          'owns a small house in {v}',
          'sleeps in {v} every night',
        ),
        ('has a small home in {v}', 'has lived for years in {v}'),
        ('lives at home in {v}', 'has owned a house in {v} for years'),
      ),
    ),
    'job': Relation(
      _words(
        'teacher doctor baker farmer painter nurse pilot lawyer writer gardener'
      ),
      _phrases(
        (
          'works as a {v}',
          'is a {v}',
          'has a job as a {v}',
          'has been a {v} for years',
          'earns money as a {v}',
          'is paid to work as a {v}',
        ),
        ('has been paid as a {v} for years', 'now works as a {v}'),
        ('is now paid to work as a {v}', 'has long had a job as a {v}'),
      ),
    ),
    'pet': Relation(
      _words('cat dog horse parrot rabbit hamster goat turtle pony snake'),
      _phrases(
        (
          'keeps a {v}',
          'owns a {v}',
          'has a {v} as a pet',
          'lives with a small {v}',
          'has owned a {v} for years',
          'takes care of a {v}',
        ),
        ('has a small {v} at home', 'has kept a {v} for years'),
        ('keeps a {v} as a pet', 'takes care of a small {v} at home'),
      ),
    ),
    'colour': Relation(
      _COLOURS,
      _phrases(
        (
          'likes {v} best',
          'loves the colour {v}',
          'likes to wear {v}',
          'wears {v} every day',
          'has long preferred {v}',
          'prefers {v} to every other colour',
        ),
        ('prefers the colour {v}', 'loves to wear {v}'),
        ('likes the colour {v} best', 'has preferred to wear {v} for years'),
      ),
    ),
    'age': Relation(
      _words('twenty thirty forty fifty sixty seventy eighty ninety'),
      _phrases(
        (
          'is {v} years old',
          'is {v} years of age',
          'has an age of {v}',
          'turned {v} last week',
          'has just turned {v}',
          'is now {v}',
        ),
        ('is now {v} years old', 'turned {v} just last week'),
        ('has now turned {v}', 'is just {v} years of age'),
      ),
    ),
    'music': Relation(
      _words('piano violin guitar flute trumpet drums cello harp organ banjo'),
      _phrases(
        (
          'plays the {v}',
          'plays music on the {v}',
          'makes music with the {v}',
          'can play the {v}',
          'has learned the {v}',
          'practises the {v} every day',
        ),
        ('has learned music on the {v}', 'plays the {v} every day'),
        ('has learned to play the {v}', 'makes music on the {v} every night'),
      ),
    ),
  },
)

_THINGS = Kind(
  subjects=tuple(
    f'The {noun}'
    for noun in _words(
      'lamp chair table box clock mirror vase bowl shelf basket bench desk'
    )
  ),
  pronoun='which',
  relations={
    'colour': Relation(
      _COLOURS,
      _phrases(
        (
          'is {v}',
          'is painted {v}',
          'has a {v} colour',
          'is {v} in colour',
          'was painted {v} last week',
          'is now {v}',
        ),
        ('is now painted {v}', 'has been {v} for years'),
        ('is of a {v} colour', 'has now been painted {v}'),
      ),
    ),
    'material': Relation(
      _words('wood glass steel stone silver paper leather plastic'),
      _phrases(
        (
          'is made of {v}',
          'was made from {v}',
          'is built from {v}',
          'was built out of {v}',
          'consists of {v}',
          'is a piece of {v}',
        ),
        ('is made out of {v}', 'was built from {v}'),
        ('was made out of a piece of {v}', 'is built of {v}'),
      ),
    ),
    'place': Relation(
      _words('kitchen garden cellar bedroom office garage hall attic'),
      _phrases(
        (
          'is in the {v}',
          'stands in the {v}',
          'is kept in the {v}',
          'can be found in the {v}',
          'has its place in the {v}',
          'was put in the {v}',
        ),
        ('can be kept in the {v}', 'was found in the {v}'),
        ('now stands in the {v}', 'has been put in the {v}'),
      ),
    ),
    'price': Relation(
      _words('two three four five six seven eight nine ten eleven'),
      _phrases(
        (
          'costs {v} euros',
          'is sold for {v} euros',
          'was bought for {v} euros',
          'has a price of {v} euros',
          'is worth {v} euros',
          'can be had for {v} euros',
        ),
        ('has a worth of {v} euros', 'can be bought for {v} euros'),
        ('was sold at a price of {v} euros', 'now costs {v} euros'),
      ),
    ),
  },
)

KINDS = (_PEOPLE, _THINGS)

# '{s}' is the subject, '{who}' its pronoun, '{a}' and '{b}' two predicates.
PREMISES = _phrases(
  (
    '{s} {a} and {b}.',
    '{s} {a}, and also {b}.',
    '{s}, {who} {a}, {b}.',
    'It is true that {s} {a} and {b}.',
    'Everyone knows that {s} {a} and also {b}.',
    'In fact, {s} {a} and {b}.',
  ),
  (
    '{s} {a} and in fact {b}.',
    'It is true that {s}, {who} {a}, {b}.',
  ),
  (
    'Everyone knows that {s}, {who} {a}, also {b}.',
    'In fact, it is true that {s} {a} and also {b}.',
    '{s} {a}, and it is true that {s} {b}.',
  ),
)

HYPOTHESES = _phrases(
  (
    '{s} {a}.',
    'It is true that {s} {a}.',
    'Everyone knows that {s} {a}.',
    'In fact, {s} {a}.',
  ),
  ('{s} in fact {a}.', 'In fact, everyone knows that {s} {a}.'),
  ('It is in fact true that {s} {a}.', '{s} also {a}, as everyone knows.'),
)
