"""Entity scores against a scorer written from the definitions."""

import numpy as np
import pytest

from mobilebert_jax.metrics import tagging
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.tagging import iob

TAGS = ('O', 'B-PER', 'I-PER', 'B-LOC', 'I-LOC', 'B-creative-work')
ADVERSARIAL = [
  # An I- without B-, at the beginning and after O.
  ['I-PER', 'I-PER', 'O', 'I-LOC'],
  # Types that change without a B-.
  ['B-PER', 'I-LOC', 'I-LOC', 'I-PER'],
  ['I-PER', 'I-LOC', 'B-LOC', 'I-PER'],
  # Neighbours.
  ['B-PER', 'B-PER', 'I-PER', 'B-LOC'],
  ['I-PER', 'B-PER', 'I-PER', 'I-PER'],
  # A B- that IOB1 does not allow, alone and continued.
  ['O', 'B-PER', 'O', 'O'],
  ['O', 'B-PER', 'I-PER', 'O'],
  ['I-LOC', 'B-PER', 'I-PER', 'I-PER'],
  ['O', 'O', 'O', 'O'],
  ['I-creative-work', 'B-creative-work', 'I-creative-work', 'O'],
]


def reference_entities(tags, rule):
  """Entities (type, first, behind the last) by one of three rules."""
  found, start = [], None
  tags = [*tags, 'O']
  for i, tag in enumerate(tags):
    before = tags[i - 1] if i else 'O'
    same = tag[2:] == before[2:]
    goes_on = start is not None and tag[0] == 'I' and same
    if start is not None and not goes_on:
      # seqeval reads no entity from B-X before B-Y, which IOB1 does not know.
      broken = rule == 'IOB1' and before[0] == tag[0] == 'B' and not same
      found += [] if broken else [(before[2:], start, i)]
      start = None
    if tag == 'O' or goes_on:
      continue
    begins = {
      'IOB2': tag[0] == 'B',
      'IOB1': tag[0] == 'I' or same,
      'conlleval': True,
    }[rule]
    start = i if begins else None
  return found


def reference_score(gold, predicted, rule, kind=None):
  """Precision, recall, F1 and support from sets of entities."""
  sets = [
    {
      (sentence, *entity)
      for sentence, tags in enumerate(side)
      for entity in reference_entities(tags, rule)
      if kind in (None, entity[0])
    }
    for side in (gold, predicted)
  ]
  hits = len(sets[0] & sets[1])
  precision = hits / len(sets[1]) if sets[1] else 0.0
  recall = hits / len(sets[0]) if sets[0] else 0.0
  f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
  return precision, recall, f1, len(sets[0])


def random_tags(seed):
  """Sentences of random tags."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(1, 12, 60)
  return [[str(tag) for tag in rng.choice(TAGS, n)] for n in lengths]


def disturbed(sentences, seed, share):
  """A copy with a share of the tags drawn anew."""
  rng = np.random.default_rng(seed)
  return [
    [str(rng.choice(TAGS)) if rng.random() < share else tag for tag in tags]
    for tags in sentences
  ]


def pairs():
  for seed in range(5):
    gold = random_tags(seed)
    yield gold, disturbed(gold, seed, 0.2)
    yield gold, disturbed(gold, seed, 1.0)
  for first in ADVERSARIAL:
    for second in ADVERSARIAL:
      yield [first, ADVERSARIAL[0]], [second, ADVERSARIAL[0]]
  yield [['O']], [['O']]
  yield [['B-PER']], [['O']]
  yield [['O']], [['I-PER']]


@pytest.mark.parametrize('scheme', ['IOB2', 'IOB1'])
def test_strict_scores_agree(scheme):
  for gold, predicted in pairs():
    found = tagging.strict(gold, predicted, scheme)
    expected = reference_score(gold, predicted, scheme)
    assert found == pytest.approx(expected, rel=0, abs=1e-9)
    types = tagging.by_type(gold, predicted, scheme)
    for kind, score in types.items():
      expected = reference_score(gold, predicted, scheme, kind)
      assert score == pytest.approx(expected, rel=0, abs=1e-9)


def test_lenient_scores_agree_with_conlleval():
  for gold, predicted in pairs():
    found = tagging.lenient(gold, predicted)
    expected = reference_score(gold, predicted, 'conlleval')
    assert found == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize('scheme', ['IOB2', 'IOB1'])
def test_entities_are_those_that_are_scored(scheme):
  for tags in (*ADVERSARIAL, *random_tags(7)):
    found = tagging.entities(tags, scheme)
    assert found == reference_entities(tags, scheme)


def test_types_are_in_alphabetical_order_and_have_counts():
  gold = [['B-b', 'O', 'B-a', 'I-a']]
  found = tagging.by_type(gold, [['B-c', 'O', 'B-a', 'I-a']], 'IOB2')
  assert list(found) == ['a', 'b', 'c']
  assert [score.support for score in found.values()] == [1, 1, 0]
  assert found['a'].f1 == 1.0


def test_nothing_to_score():
  for function in (
    lambda: tagging.strict([], [], 'IOB2'),
    lambda: tagging.lenient([], []),
  ):
    with pytest.raises(InputError, match='no sentence to score'):
      function()


def test_both_schemes_keep_the_entities():
  """Conversion gives valid tags with the entities that conlleval sees."""
  for tags in (*ADVERSARIAL, *random_tags(8)):
    entities = reference_entities(tags, 'conlleval')
    for scheme, convert in (('IOB2', iob.to_iob2), ('IOB1', iob.to_iob1)):
      converted = convert(tags)
      assert iob.violation(converted, scheme) is None
      assert reference_entities(converted, scheme) == entities
      assert reference_entities(converted, 'conlleval') == entities


@pytest.mark.parametrize(
  ('tags', 'scheme', 'index'),
  [
    (['O', 'I-PER'], 'IOB2', 1),
    (['B-LOC', 'I-PER'], 'IOB2', 1),
    (['I-PER'], 'IOB2', 0),
    (['B-PER', 'I-PER', 'B-PER'], 'IOB2', None),
    (['B-PER'], 'IOB1', 0),
    (['I-LOC', 'B-PER'], 'IOB1', 1),
    (['I-PER', 'I-LOC', 'B-LOC', 'I-LOC'], 'IOB1', None),
  ],
)
def test_violations_of_a_scheme(tags, scheme, index):
  assert iob.violation(tags, scheme) == index


@pytest.mark.parametrize(
  ('tag', 'right'),
  [
    ('O', True), ('B-PER', True), ('I-creative-work', True), ('B-', False),
    ('B--x', False), ('I-x-', False), ('PER', False), ('o', False),
    ('E-PER', False), ('B-a b', False), ('', False),
  ],
)  # fmt: skip
def test_what_is_a_tag(tag, right):
  assert iob.is_tag(tag) == right
