"""The report's sections about answers: right, wrong, and worst."""

import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mobilebert_jax.reporting import classes, pictures
from mobilebert_jax.reporting.markdown import escape, table
from mobilebert_jax.reporting.outcome import Outcome

# More classes than this make a picture nobody can read.
_MOST_DRAWN = 20
_MOST_CLASSES = 40
_MOST_PAIRS = 15
_MOST_MISTAKES = 15
_LONGEST_TEXT = 400
_LONGEST_ANSWER = 80

# Gives a picture's file and its link by its name.
Place = Callable[[str], tuple[pathlib.Path, str]]


def section(
  split: str, outcomes: Sequence[Outcome], labels: Sequence[str], place: Place
) -> Iterator[str]:
  """How the answers are spread: by class, as numbers, or by certainty.

  Args:
    split: what the outcomes are of.
    outcomes: one for each example.
    labels: names of the classes, or ().
    place: where a picture goes.

  Yields:
    Lines of Markdown.
  """
  yield f'## Answers on {escape(split)} (best weights)'
  yield ''
  if not outcomes:
    yield 'There are none.'
    yield ''
  elif are_numbers(outcomes):
    yield from _numbers(outcomes, place)
  else:
    right = sum(outcome.is_right for outcome in outcomes)
    share = right / len(outcomes)
    yield f'{right:,} of {len(outcomes):,} are right ({share:.1%}).'
    yield ''
    is_classes = classes.are_classes(outcomes, labels)
    if is_classes:
      yield from _classes(outcomes, labels, place)
    yield from _certainty(outcomes, is_classes, place)


def mistakes(
  split: str, outcomes: Sequence[Outcome], labels: Sequence[str]
) -> Iterator[str]:
  """The worst answers with their texts; lines of Markdown."""
  wrong = [outcome for outcome in outcomes if not outcome.is_right]
  # The sort is stable: of equally bad ones the first in the data.
  worst = sorted(wrong, key=lambda o: o.error, reverse=True)
  worst = worst[:_MOST_MISTAKES]
  yield f'## Worst mistakes on {escape(split)}'
  yield ''
  if not worst:
    yield 'There is no mistake.'
    return
  is_class = not are_numbers(worst) and classes.are_classes(worst, labels)
  yield from table(
    (
      '',
      'text',
      'expected',
      'predicted',
      '-log p(expected)' if is_class else 'error',
    ),
    (
      (
        str(place),
        escape(outcome.text, _LONGEST_TEXT),
        _answer(outcome.expected),
        _answer(outcome.predicted),
        f'{outcome.error:.3g}',
      )
      for place, outcome in enumerate(worst, start=1)
    ),
    'rlllr',
  )


def are_numbers(outcomes: Sequence[Outcome]) -> bool:
  """Whether the answers are numbers."""
  return bool(outcomes) and not any(
    isinstance(answer, str)
    for outcome in outcomes
    for answer in (outcome.expected, outcome.predicted)
  )


def _numbers(outcomes: Sequence[Outcome], place: Place) -> Iterator[str]:
  expected = np.array([o.expected for o in outcomes], np.float64)
  predicted = np.array([o.predicted for o in outcomes], np.float64)
  errors = np.abs(predicted - expected)
  constant = float(np.mean(np.abs(expected - np.median(expected))))
  yield (
    f'Over {len(outcomes):,} examples the mean absolute error is '
    f'{errors.mean():.3f} and half of the errors are below '
    f'{np.median(errors):.3f}; always giving the median would err by '
    f'{constant:.3f}.'
  )
  yield ''
  path, link = place('numbers.png')
  pictures.numbers(path, expected, predicted)
  yield f'![Predicted over expected numbers]({link})'
  yield ''


def _classes(
  outcomes: Sequence[Outcome], labels: Sequence[str], place: Place
) -> Iterator[str]:
  counts = classes.confusion(outcomes, labels)
  if len(labels) <= _MOST_DRAWN:
    path, link = place('confusion.png')
    pictures.confusion(path, counts, labels)
    yield f'![Confusion matrix]({link})'
    yield ''
  else:
    yield 'Most confused:'
    yield ''
    pairs = classes.most_confused(counts, labels, _MOST_PAIRS)
    yield from table(
      ('expected', 'predicted', 'examples'),
      ((_answer(a), _answer(b), f'{count:,}') for a, b, count in pairs),
      'llr',
    )
    yield ''
  rates = classes.rates(counts, labels)
  if len(rates) > _MOST_CLASSES:
    yield f'The {_MOST_CLASSES} largest of {len(rates)} classes:'
    yield ''
    rates = sorted(rates, key=lambda r: r.examples, reverse=True)
  yield from table(
    ('class', 'examples', 'predicted', 'precision', 'recall', 'F1'),
    (
      (
        _answer(rate.label),
        f'{rate.examples:,}',
        f'{rate.predicted:,}',
        *map(_part, (rate.precision, rate.recall, rate.f1)),
      )
      for rate in rates[:_MOST_CLASSES]
    ),
    'lrrrrr',
  )
  yield ''


def _certainty(
  outcomes: Sequence[Outcome], is_log_probability: bool, place: Place
) -> Iterator[str]:
  error = np.array([o.error for o in outcomes], np.float64)
  path, link = place('certainty.png')
  pictures.certainty(
    path,
    error,
    np.array([o.is_right for o in outcomes], bool),
    is_log_probability=is_log_probability,
  )
  yield f'![How certain right and wrong answers are]({link})'
  yield ''


def _answer(value: str | float) -> str:
  if isinstance(value, str):
    # An empty answer is an answer, too: a question may have none.
    return escape(value, _LONGEST_ANSWER) or '*(empty)*'
  return f'{value:.3f}'


def _part(value: float | None) -> str:
  return '-' if value is None else f'{value:.3f}'
