"""What is told of a split: counts, ranges, and what looks odd."""

import pytest

from mobilebert_jax.data.readers.choice_files import ChoiceExample
from mobilebert_jax.data.readers.conll import Sentence
from mobilebert_jax.data.readers.squad import Answer, Question
from mobilebert_jax.tasks import summary


def counted(*names):
  """SplitSummary of a split in which each class occurs ten times."""
  return summary.of_classes(names, list(range(len(names))) * 10)


def test_classes_with_their_counts():
  found = summary.of_classes(('a', 'b', 'c'), [1, 1, 0, None, 1, 2])
  assert found.rows == 6 and found.unlabelled == 1
  assert found.classes == (('b', 3), ('a', 1), ('c', 1))
  assert found.numbers is None and found.remarks == ()
  several = summary.of_classes(('a', 'b'), [(0, 1), (), (1,)])
  assert several.rows == 3 and several.classes == (('b', 2), ('a', 1))
  hidden = summary.of_classes(('a', 'b'), [None, None])
  assert hidden.unlabelled == 2 and hidden.remarks == ()


@pytest.mark.parametrize('name', ['', ' ', 'nan', 'NULL', 'None', 'N/A', '?'])
def test_a_mark_for_missing_labels_is_pointed_at(name):
  (remark,) = counted('yes', 'no', name).remarks
  assert f'{name!r} (10 rows)' in remark and 'without a label' in remark


@pytest.mark.parametrize(
  ('names', 'odd'),
  [
    (('0', '1', '2', '-1'), ['-1']),
    (('1', '2', '3', '-999'), ['-999']),
    (('1', '2', '3', '999'), ['999']),
    (('-1', '1'), []),
    (('-1', '0', '1'), []),
    (('-2', '-1', '0', '1'), []),
    (('yes', 'no', '-1'), []),
    (('banana', 'nil return', 'nano'), []),
  ],
)
def test_numbers_as_classes(names, odd):
  remarks = counted(*names).remarks
  assert [r.split("'")[1] for r in remarks] == odd


def test_classes_that_differ_in_spelling_alone():
  (remark,) = counted('Fixed', 'fixed', 'open').remarks
  assert "'Fixed' (10), 'fixed' (10)" in remark
  assert counted('re-open', 're open').remarks and not counted('a', 'b').remarks


def test_absent_and_rare_classes():
  names = ('a', 'b', 'c', *'defghij')
  labels = [0] * 9000 + [1] * 4
  absent, rare = summary.of_classes(names, labels).remarks
  assert "no rows of 'c', 'd', 'e', 'f', 'g' and 3 more" in absent
  assert "few rows of 'b' (4)" in rare
  # A small file is no reason to speak of rare classes.
  assert summary.of_classes(('a', 'b'), [0] * 9 + [1]).remarks == ()


@pytest.mark.parametrize(
  ('values', 'odd'),
  [
    ([1, 2, 3, 4, 5, -999], -999),
    ([0, 1, 2, 3, 4, 5, -1, -1], -1),
    ([0.5, 1, 3, 9999], 9999),
    ([-1, -0.5, 0, 0.5, 1], None),
    ([-1000, -999, -998, 5], None),
    ([990, 999, 1005], None),
    ([1.0, 2.0], None),
  ],
)
def test_a_number_that_stands_apart(values, odd):
  found = summary.of_numbers([*values, None])
  assert found.unlabelled == 1 and found.rows == len(values) + 1
  assert found.numbers.lowest == min(values)
  assert found.numbers.highest == max(values)
  if odd is None:
    assert found.remarks == ()
  else:
    assert f'the number {odd} (' in found.remarks[0]


def test_a_constant_number_and_none():
  assert summary.of_numbers([2.0, 2.0]).remarks == ('all numbers are 2.',)
  assert summary.of_numbers([None]).numbers is None


def sentence(words, tags):
  return Sentence(tuple(words.split()), tuple(tags.split()), ())


def test_entities_and_words_with_the_name_of_a_language():
  found = summary.of_sentences([
    sentence('Anna met Bo Li', 'B-PER O B-PER I-PER'),
    sentence('in Rome', 'O I-LOC'),
  ])  # fmt: skip
  assert found.classes == (('PER', 2), ('LOC', 1))
  assert (found.unit, found.counted) == ('sentences', 'entities')
  assert found.remarks == ()
  (remark,) = summary.of_sentences(
    [sentence('en:Rome en:fell', 'B-LOC O')]
  ).remarks
  assert "2 of 2 words begin as 'en:Rome'" in remark
  (remark,) = summary.of_sentences([sentence('a b', 'O O')]).remarks
  assert 'no word has a tag but O' in remark


def test_questions_choices_and_rows():
  questions = [
    Question('1', 'q', 'c', (Answer('c', 0),)),
    Question('2', 'q', 'c', ()),
    Question('3', 'q', 'c', ()),
    Question('4', 'q', 'c'),
  ]
  found = summary.of_questions(questions)
  assert found.classes == (('no answer', 2), ('answered', 1))
  assert found.unlabelled == 1
  choices = [
    ChoiceExample('1', 'q', ('a', 'b'), ('0', '1'), 1),
    ChoiceExample('2', 'q', ('a', 'b', 'c'), ('0', '1', '2'), 1),
  ]
  assert summary.of_choices(choices).classes[0] == ('choice 2', 2)
  assert summary.of_rows(range(5)).rows == 5
