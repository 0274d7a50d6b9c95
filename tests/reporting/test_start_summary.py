"""What a run says at its start: in few lines, with what is suspicious."""

import numpy as np
import pytest

from mobilebert_jax.reporting import start_summary
from mobilebert_jax.reporting.start_summary import SplitFacts, StartSummary

_PLAN = [
  ('model', 'MobileBertForSequenceClassification, 24,000,000 parameters'),
  ('steps', '300 of 32 examples, 3 epochs of 100; evaluated every 100'),
  ('compiles', 'bucketed rows of 16, 32, 64 tokens; 64 of 16 for evaluation'),
  ('devices', '1 x cpu with 16.0 GiB; mesh data 1, fsdp 1, tensor 1; float32'),
  ('writes', 'runs/sst2'),
]


def facts(**changes):
  values = {
    'name': 'train',
    'rows': 1000,
    'seen': 1000,
    'unit': 'rows',
    'classes': (('yes', 600), ('no', 400)),
    'counted': 'rows',
    'numbers': None,
    'remarks': (),
    'lengths': np.arange(1, 101),
    'long_share': 0.0,
    'unknown_share': 0.001,
    'blank': 0,
  }
  return SplitFacts(**{**values, **changes})


def summary(*splits, **changes):
  values = {'max_length': 128, 'is_cut': True, 'plan': _PLAN, **changes}
  return StartSummary(splits=splits, **values)


def test_a_clean_set_is_told_in_few_lines_without_warning():
  lines = summary(facts(), facts(name='validation', rows=90, seen=90)).lines()
  assert lines[:3] == [
    'rows      train 1,000, validation 90',
    'classes   yes 600 (60%), no 400 (40%)',
    'tokens    median 50, 95% up to 95, longest 100; 0.0% cut at 128; 0.1% are '
    '[UNK]',
  ]
  assert lines[-1] == 'writes    runs/sst2'
  assert not any('warning' in line for line in lines)


def warned(told):
  """The text of the warnings, on one line."""
  lines = told.lines()
  first = next(i for i, line in enumerate(lines) if line.startswith('warning'))
  return ' '.join(line[10:] for line in lines[first:])


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    ({'unknown_share': 0.35}, '35% of the tokens are [UNK]'),
    ({'blank': 3}, '3 rows have no token that is known'),
    ({'blank': 1}, '1 row has no token that is known'),
    (
      {'long_share': 0.89, 'lengths': np.full(100, 300)},
      '89% of the texts are cut; config.data.max_length=300',
    ),
    (
      {'remarks': ("the class 'nan' (20 rows) looks like a mark.",)},
      "the class 'nan' (20 rows) looks like a mark",
    ),
    (
      {'classes': (('yes', 990), ('no', 10))},
      "99% of the rows are of the class 'yes'",
    ),
  ],
)
def test_what_is_suspicious_is_pointed_at(changes, expected):
  told = summary(facts(**changes))
  assert expected in warned(told)
  # All of it is in the report as well.
  assert expected.replace('[', '\\[').replace(']', '\\]').replace(
    '_', '\\_'
  ) in '\n'.join(told.section())


def test_numbers_have_a_range():
  told = summary(facts(classes=(), numbers=(-1.0, 0.5, 5.0)))
  assert not told.warnings()
  assert told.lines()[1] == 'numbers   from -1 to 5, half of them up to 0.5'
  assert 'Numbers to learn: from -1 to 5' in '\n'.join(told.section())


def test_entities_are_called_so_and_may_be_of_one_type():
  told = summary(facts(classes=(('PER', 990), ('LOC', 10)), counted='entities'))
  assert told.lines()[1] == 'entities  PER 990 (99%), LOC 10 (1.0%)'
  assert not told.warnings()


@pytest.mark.parametrize('count', [1, 6, 200])
@pytest.mark.parametrize('blank', [0, 7])
def test_it_never_takes_more_than_15_lines_of_80(count, blank):
  classes = [(f'{"a long name " * 3}{i}', 1000 - i) for i in range(count)]
  classes += [('nan', 3), ('x' * 100, 1)]
  splits = [
    facts(
      name=f'split_{i}', classes=tuple(classes), unknown_share=0.5,
      blank=blank, seen=100, remarks=('odd ' * 40,) * 3,
    )
    for i in range(12)
  ]  # fmt: skip
  lines = summary(*splits).lines()
  assert len(lines) <= start_summary.MOST_LINES
  assert all(len(line) <= start_summary.MOST_COLUMNS for line in lines)
  assert 'more warnings are in report.md' in lines[-1]


def test_many_classes_have_their_number_and_the_smallest():
  classes = tuple((f'c{i}', 100 - i) for i in range(60))
  told = summary(facts(classes=classes))
  text = ' '.join(line.strip() for line in told.lines())
  assert 'classes   60; c0 100 (2.4%), c1 99' in text
  assert 'the smallest c59 41' in text
  assert 'c5 95' not in text
  report = '\n'.join(told.section())
  assert 'The 40 largest of 60 classes:' in report
  assert '| c39 | 61 |' in report and '| c40 | 60 |' not in report


def test_of_large_data_it_is_said_how_much_was_seen():
  told = summary(facts(rows=5_000_000, seen=100_000))
  assert told.lines()[0] == (
    'rows      train 5,000,000 (below: the first 100,000 rows of a split)'
  )
  assert 'Of large data: the first 100,000 rows' in '\n'.join(told.section())
