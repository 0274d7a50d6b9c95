"""The best constant answer of each kind of task, and what it scores."""

import numpy as np
import pytest

from mobilebert_jax.config.task_options import NullSpanOptions, SpanOptions
from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.data.readers.choice_files import ChoiceExample
from mobilebert_jax.data.readers.conll import Sentence
from mobilebert_jax.data.readers.squad import Answer, Question
from mobilebert_jax.metrics import classification as scores
from mobilebert_jax.metrics import ranking
from mobilebert_jax.tasks import classification, multiple_choice
from mobilebert_jax.tasks.classification import TextExample
from mobilebert_jax.tasks.pretraining import masked_lm
from mobilebert_jax.tasks.squad import task as squad
from mobilebert_jax.tasks.tagging import task as tagging
from mobilebert_jax.tasks.targets import MultiLabel, Regression, SingleLabel


def texts(labels):
  return [TextExample(str(i), 'x', label=y) for i, y in enumerate(labels)]


def baseline(target, names, train, examples):
  return classification.baseline(
    target, names, next(iter(names)), texts(train), None, {}, texts(examples),
    None,
  )  # fmt: skip


def test_one_class_is_the_largest_of_the_training_data():
  found = baseline(
    SingleLabel(('no', 'yes')), {'accuracy': scores.accuracy},
    [1, 1, 0], [0, 0, 0, 1],
  )  # fmt: skip
  assert found.answer == "always 'yes'"
  assert found.scores == {'accuracy': 0.25}


def test_of_two_classes_the_one_with_the_better_score():
  """F1 of class 1 is 0 where it is never the answer."""
  both = scores.mean_of(scores.accuracy, scores.f1)
  found = baseline(
    SingleLabel(('not', 'same')), {'mean': both, 'f1': scores.f1},
    [1, 0, 0] * 20, [1, 0, 0],
  )  # fmt: skip
  # Always 0: (2/3 + 0) / 2; always 1: (1/3 + 1/2) / 2.
  assert found.answer == "always 'same'"
  assert found.scores == {
    'mean': pytest.approx(5 / 12), 'f1': pytest.approx(0.5)
  }  # fmt: skip


def test_correlations_of_a_constant_are_zero():
  names = {
    'pearson': scores.pearson, 'spearman': scores.spearman,
    'mse': scores.mean_squared_error,
  }  # fmt: skip
  found = baseline(Regression(), names, [1.0, 2.0, 3.0], [0.0, 4.0])
  assert found.answer == 'always 2'
  assert found.scores == {'pearson': 0.0, 'spearman': 0.0, 'mse': 4.0}


def test_several_labels_take_as_many_as_score_best():
  names = {'micro_f1': scores.micro_f1}
  train = [(0, 1), (0, 1), (0,), (2,)]
  found = baseline(MultiLabel(('a', 'b', 'c')), names, train, train)
  # {a}: 6/10; {a, b}: 10/14.
  assert found.answer == "always 'a, b'"
  assert found.scores['micro_f1'] == pytest.approx(10 / 14)


def test_choices_have_a_place():
  def questions(answers):
    return [
      ChoiceExample(str(i), 'q', ('a', 'b', 'c'), ('0', '1', '2'), answer=y)
      for i, y in enumerate(answers)
    ]

  found = multiple_choice.baseline(
    questions([2, 2, 1]), None, {}, questions([2, 1, 0, 2]), None
  )
  assert found.answer == 'always choice 3'
  assert found.scores == {'accuracy': 0.5}


def test_tags_are_all_outside():
  sentences = [
    Sentence(('Anna', 'lives', 'here'), ('B-PER', 'O', 'O'), ()),
    Sentence(('no',), ('O',), ()),
  ]
  found = tagging.baseline('IOB2', [], None, {}, sentences, None)
  assert found.answer == 'all O'
  assert found.scores['f1'] == 0.0 and found.scores['accuracy'] == 0.75


def test_questions_have_no_answer():
  context = 'Ada wrote it.'
  questions = [
    Question('0', 'Who?', context, (Answer('Ada', 0),)),
    Question('1', 'When?', context, ()),
    Question('2', 'Where?', context, ()),
  ]
  found = squad.baseline(NullSpanOptions(), [], None, {}, questions, None)
  assert found.scores['exact'] == pytest.approx(2 / 3)
  assert found.scores['HasAns_f1'] == 0.0 and found.scores['NoAns_f1'] == 1.0
  assert not any(name.startswith('best_') for name in found.scores)
  found = squad.baseline(SpanOptions(), [], None, {}, questions[:1], None)
  assert found.scores == {'exact_match': 0.0, 'f1': 0.0}


@pytest.mark.parametrize(
  ('question', 'word'),
  [
    ('Who wrote it?', 'who'), ('In what year was it?', 'what'),
    ('Is it so?', 'other'), ('HOW many?', 'how'),
  ],
)  # fmt: skip
def test_question_words(question, word):
  assert squad.question_word(question) == word


def test_masked_tokens_are_guessed_by_their_frequency():
  """[CLS] and [SEP] do not count: p = (n + 1) / (N + V)."""
  rows = [[2, 7, 7, 8, 3], [2, 7, 9, 3]]
  features = Features(
    sequences={'input_ids': Ragged.from_rows(rows)}, scalars={},
    pad={'input_ids': 0}, max_length=8,
  )  # fmt: skip
  predictions = {
    'counts': np.array([[0, 1, 0], [0, 0, 1]], bool),
    'target': np.array([[0, 7, 0], [0, 0, 9]]),
  }
  found = masked_lm.baseline([], features, predictions, [], features)
  # 5 tokens of text, ids up to 9: V = 10.
  nll = -np.log([4 / 15, 2 / 15])
  assert found.scores['perplexity'] == pytest.approx(np.exp(nll.mean()))
  assert found.scores['accuracy'] == 0.5


def test_lower_is_better_for_errors_alone():
  assert ranking.rank('validation/perplexity', 3.0) > ranking.rank(
    'validation/perplexity', 4.0
  )
  assert ranking.rank('v/accuracy', 0.4) > ranking.rank('v/accuracy', 0.3)
  assert ranking.rank('v/accuracy', float('nan')) < ranking.rank('v/f1', -1.0)
