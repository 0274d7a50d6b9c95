"""SQuAD's scores against the rules written out a second time."""

import re
import string

import numpy as np
import pytest

from mobilebert_jax.metrics import squad
from mobilebert_jax.runtime.errors import InputError

WORDS = (
  'The', 'a', 'AN', 'the,', 'a.b', "the'", 'Café', 'cafe\u0301', 'İstanbul',
  'ß', '', ' ', '\t', '\u00a0', '\u3000', '--', '“quoted”', '$5', '1,000',
  '1000', 'theory', 'an-a', 'The-The', 'ſ', '北京', 'x_y', 'DON\'T', 'dont',
  'B', 'b', 'b!', '!', '\u2019s', 'one', 'two', 'One', 'a\u0301',
)  # fmt: skip


class Rules:
  """The two scripts' rules, character by character and word by word."""

  @staticmethod
  def words(text):
    kept = ''.join(c for c in text.lower() if c not in set(string.punctuation))
    cut = ''
    # Runs of word characters are looked at one after another.
    for run in re.findall(r'\w+|\W+', kept):
      cut += ' ' if run in ('a', 'an', 'the') else run
    return cut.split()

  @classmethod
  def exact(cls, prediction, golds):
    return max(
      1.0 * (' '.join(cls.words(prediction)) == ' '.join(cls.words(gold)))
      for gold in golds
    )

  @classmethod
  def f1_one(cls, prediction, gold, version):
    left, right = cls.words(prediction), cls.words(gold)
    if version == 2 and (not left or not right):
      return 1.0 * (left == right)
    shared, rest = 0, list(right)
    for word in left:
      if word in rest:
        rest.remove(word)
        shared += 1
    return 2 * shared / (len(left) + len(right)) if shared else 0.0

  @classmethod
  def f1(cls, prediction, golds, version):
    return max(cls.f1_one(prediction, gold, version) for gold in golds)

  @classmethod
  def golds_v2(cls, golds):
    return [gold for gold in golds if cls.words(gold)] or ['']

  @classmethod
  def report_v2(cls, predictions, golds, odds, threshold):
    """evaluate-v2.0.py's numbers, in percent, by question."""
    rows = []
    for text, answers in zip(predictions, golds):
      counted = cls.golds_v2(answers)
      rows.append((cls.exact(text, counted), cls.f1(text, counted, 2)))
    out = {}
    kept = [
      row if not odd > threshold else (1.0 * (not answers),) * 2
      for row, odd, answers in zip(rows, odds, golds)
    ]
    groups = {
      '': range(len(golds)),
      'HasAns_': [i for i, answers in enumerate(golds) if answers],
      'NoAns_': [i for i, answers in enumerate(golds) if not answers],
    }
    for prefix, chosen in groups.items():
      for place, name in enumerate(('exact', 'f1')):
        if chosen:
          total = sum(kept[i][place] for i in chosen)
          out[prefix + name] = 100.0 * total / len(chosen)
    for place, name in enumerate(('exact', 'f1')):
      current = best = sum(1 for answers in golds if not answers)
      at = 0.0
      for i in sorted(range(len(golds)), key=lambda i: odds[i]):
        if golds[i]:
          current += rows[i][place]
        elif predictions[i]:
          current -= 1
        if current > best:
          best, at = current, odds[i]
      out[f'best_{name}'] = 100.0 * best / len(golds)
      out[f'best_{name}_thresh'] = at
    return out


def texts(rng, count):
  return [' '.join(rng.choice(WORDS, rng.integers(0, 6))) for _ in range(count)]


def data(seed, count=400, null_share=0.4):
  """Predictions, gold answers and null odds with ties and empty answers."""
  rng = np.random.default_rng(seed)
  golds = [texts(rng, rng.integers(1, 5)) for _ in range(count)]
  predictions = [
    rng.choice(gold) if rng.random() < 0.4 else texts(rng, 1)[0]
    for gold in golds
  ]
  predictions = [
    '' if rng.random() < 0.1 else str(text) for text in predictions
  ]
  unanswerable = rng.random(count) < null_share
  with_null = [[] if no else g for no, g in zip(unanswerable, golds)]
  odds = np.round(rng.standard_normal(count), 1).tolist()
  return predictions, golds, with_null, odds


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('The  Cat, sat!', 'cat sat'),
    ('a an the', ''),
    ('theory of an-archy', 'theory of anarchy'),
    ('The "A" Team', 'team'),
    ('U.S.A.', 'usa'),
    ('\u2018tis', '\u2018tis'),
    ('an apple a day', 'apple day'),
    ('in\u00a0the\nhouse', 'in house'),
    ('', ''),
  ],
)
def test_normalize(text, expected):
  assert squad.normalize(text) == expected


@pytest.mark.parametrize('seed', range(5))
def test_each_answer_agrees_with_the_rules(seed):
  predictions, golds, *_ = data(seed)
  for text, answers in zip(predictions, golds):
    assert squad.exact_match(text, answers) == Rules.exact(text, answers)
    for version in (1, 2):
      mine = squad.f1(text, answers, wordless_match=version == 2)
      assert mine == pytest.approx(Rules.f1(text, answers, version), abs=1e-9)


@pytest.mark.parametrize('seed', range(5))
def test_version_1(seed):
  predictions, golds, *_ = data(seed)
  scores = squad.scores_v1(predictions, golds)
  pairs = list(zip(predictions, golds))
  exact = np.mean([Rules.exact(*pair) for pair in pairs])
  f1 = np.mean([Rules.f1(*pair, 1) for pair in pairs])
  assert scores == pytest.approx({'exact_match': exact, 'f1': f1}, abs=1e-9)
  assert all(0.1 < value < 0.9 for value in scores.values())


@pytest.mark.parametrize('threshold', [-0.5, 0.0, 0.3, 99.0, None])
@pytest.mark.parametrize('seed', range(3))
def test_version_2(seed, threshold):
  predictions, _, golds, odds = data(seed)
  scores = squad.scores_v2(predictions, golds, odds, threshold)
  if threshold is None:
    threshold = scores['best_f1_thresh']
  expected = Rules.report_v2(predictions, golds, odds, threshold)
  shares = {
    name: value if name.endswith('thresh') else value / 100
    for name, value in expected.items()
  }
  assert scores == pytest.approx(shares, abs=1e-9)
  assert list(scores) == list(expected)


@pytest.mark.parametrize('null_share', [0.0, 1.0])
def test_only_one_kind_of_question(null_share):
  predictions, _, golds, odds = data(7, null_share=null_share)
  scores = squad.scores_v2(predictions, golds, odds)
  expected = Rules.report_v2(predictions, golds, odds, scores['best_f1_thresh'])
  assert set(scores) == set(expected)
  assert ('HasAns_f1' in scores) == (null_share == 0)
  assert scores['f1'] == pytest.approx(expected['f1'] / 100, abs=1e-9)
  if null_share == 1:
    assert (scores['best_f1'], scores['best_f1_thresh']) == (1.0, 0.0)


def test_the_threshold_with_ties_counts_them_one_by_one():
  """Equal odds: the official script stops in the middle of them."""
  golds = [['x'], ['x'], [], ['x']]
  scores = squad.scores_v2(['x', 'x', 'y', 'no'], golds, [1, 1, 1, 2])
  # Both right answers are in before the wrong one is: 3 of 4.
  assert (scores['best_f1'], scores['best_f1_thresh']) == (0.75, 1.0)
  # A threshold cannot separate them: only 2 of 4.
  assert scores['f1'] == 0.5


def test_the_two_scripts_differ_on_answers_without_words():
  assert squad.exact_match('the', ['The']) == 1
  assert squad.f1('the', ['The']) == 0
  assert squad.f1('the', ['The'], wordless_match=True) == 1
  assert squad.golds_v2(['the', 'cat']) == ['cat']
  assert squad.golds_v2(['the', '!']) == ['']


def test_nothing_to_score():
  with pytest.raises(InputError, match='no question to score'):
    squad.scores_v1([], [])
  with pytest.raises(InputError, match='no question to score'):
    squad.scores_v2([], [], [])
  with pytest.raises(InputError, match='question 1 has no answer'):
    squad.scores_v1(['x', 'y'], [['x'], []])
  with pytest.raises(ValueError, match='1 predictions, 2 questions'):
    squad.scores_v1(['x'], [['x'], ['y']])
