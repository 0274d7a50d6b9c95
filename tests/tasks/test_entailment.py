import collections
import re

import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import entailment
from mobilebert_jax.tasks import entailment as entailment_task

EXAMPLES = {'train': 3000, 'validation': 900, 'test': 900}


@pytest.fixture(scope='module')
def pairs():
  return {name: entailment.generate(name, n) for name, n in EXAMPLES.items()}


def words(pairs):
  text = ' '.join(f'{pair.premise} {pair.hypothesis}' for pair in pairs)
  return set(re.findall(r'\w+', text.lower()))


def test_each_label_is_one_third(pairs):
  for name, split in pairs.items():
    counts = collections.Counter(pair.label for pair in split)
    assert counts == dict.fromkeys(entailment.LABELS, EXAMPLES[name] // 3)


def test_a_shorter_split_is_the_start_of_a_longer_one(pairs):
  assert entailment.generate('test', 100) == pairs['test'][:100]
  assert entailment.generate('test', 100, seed=2) != pairs['test'][:100]


def test_no_pair_comes_twice(pairs):
  every = [
    (pair.premise, pair.hypothesis)
    for split in pairs.values()
    for pair in split
  ]
  assert len(set(every)) == len(every)


def pattern(sentence):
  """The sentence without what it says: names, verbs and values."""
  relations = entailment_task.RELATIONS.values()
  slots = set(entailment_task.NAMES)
  for relation in relations:
    slots |= {
      *relation.values,
      *(form for verb in relation.verbs for form in verb),
    }
  return re.sub(r'\w+', lambda m: '_' if m[0] in slots else m[0], sentence)


def test_no_wording_is_shared_between_splits(pairs):
  patterns = {
    name: {pattern(s) for p in split for s in (p.premise, p.hypothesis)}
    for name, split in pairs.items()
  }
  assert not patterns['train'] & patterns['validation']
  assert not patterns['train'] & patterns['test']
  assert not patterns['validation'] & patterns['test']
  assert all(len(found) > 20 for found in patterns.values())


def test_no_word_is_new_in_the_test(pairs):
  known = words(pairs['train'])
  assert words(pairs['validation']) <= known
  assert words(pairs['test']) <= known


def test_sentences_are_well_formed(pairs):
  for split in pairs.values():
    for pair in split:
      for sentence in (pair.premise, pair.hypothesis):
        assert re.fullmatch(r"[A-Z][\w' ,]*\.", sentence), sentence
        assert '  ' not in sentence


@pytest.mark.parametrize('side', ['premise', 'hypothesis'])
@pytest.mark.parametrize(
  'vectors',
  [TfidfVectorizer(ngram_range=(1, 2), min_df=2), CountVectorizer()],
  ids=['ngrams', 'bag_of_words'],
)
def test_one_sentence_alone_does_not_tell_the_label(pairs, side, vectors):
  model = make_pipeline(vectors, LogisticRegression(max_iter=300))
  texts = {k: [getattr(p, side) for p in split] for k, split in pairs.items()}
  labels = {k: [pair.label for pair in split] for k, split in pairs.items()}
  model.fit(texts['train'], labels['train'])
  for name in ('validation', 'test'):
    assert model.score(texts[name], labels[name]) < 0.45
  # The same classifier does learn what a sentence tells.
  told = {name: ['in' in t.split() for t in texts[name]] for name in texts}
  model.fit(texts['train'], told['train'])
  assert model.score(texts['test'], told['test']) > 0.95


def test_more_pairs_than_there_are(monkeypatch):
  monkeypatch.setitem(entailment.FRAMES, 'test', ('{s} {p}.',))
  monkeypatch.setattr(entailment, 'NAMES', ('Anna', 'Peter'))
  with pytest.raises(InputError, match='split has not many more than'):
    entailment.generate('test', 10_000)
