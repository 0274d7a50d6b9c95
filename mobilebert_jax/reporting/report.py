"""`report.md`: what a run learnt, for people who look rather than read logs."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from mobilebert_jax.metrics import ranking
from mobilebert_jax.reporting import html, pictures
from mobilebert_jax.reporting.markdown import escape, table
from mobilebert_jax.reporting.metrics_log import Record
from mobilebert_jax.reporting.outcomes import (
  LOG_PROBABILITY,
  Breakdown,
  Outcome,
  are_classes,
  confusion,
  most_confused,
  rates,
)
from mobilebert_jax.reporting.start_summary import StartSummary
from mobilebert_jax.runtime import files

# The loss that overfitting is told of, as a multiple of the lowest.
_ROSE = 1.1
_LONGEST_VALUE = 200
# More classes than this make a picture nobody can read.
_MOST_DRAWN = 20
_MOST_CLASSES = 40
_MOST_PAIRS = 15
_MOST_MISTAKES = 15
_LONGEST_TEXT = 400
_LONGEST_ANSWER = 80

# From a picture's name to its file and its link.
PicturePlace = Callable[[str], tuple[pathlib.Path, str]]


@dataclasses.dataclass(frozen=True)
class Findings:
  """What a report says.

  Attributes:
    results: what `results.json` holds.
    about: rows of the table about the run: what, and its value.
    labels: names of the classes; empty for a task without.
    split: the evaluation split that the outcomes are of.
    outcomes: what became of each of its examples with the best weights.
    error_name: what `Outcome.error` is.
    breakdown: scores of parts of that split; None: there are none.
    start: what was found before the run began; None: it is not known.
    tokens: the lengths of the rows, by split.
    max_length: where longer texts are cut.
    records: lines of metrics.jsonl.
    batch_size: examples in a step.
  """

  results: Mapping[str, Any]
  about: Sequence[tuple[str, str]]
  labels: tuple[str, ...]
  split: str
  outcomes: Sequence[Outcome]
  tokens: Mapping[str, Int[np.ndarray, 'N']]
  max_length: int
  records: Sequence[Record]
  batch_size: int
  error_name: str = 'error'
  breakdown: Breakdown | None = None
  start: StartSummary | None = None


def write(
  path: pathlib.Path,
  folder: pathlib.Path,
  curves: pathlib.Path,
  findings: Findings,
) -> pathlib.Path:
  """Writes the report, its pictures, and a page of HTML that holds both.

  The same findings give the same bytes.

  Args:
    path: the Markdown file; appears only when everything is complete. The page
      has the same name, but for .html.
    folder: directory of the pictures, beside `path`.
    curves: the picture of the loss, drawn already, beside `path`.
    findings: what the report says.

  Returns:
    `path`.
  """
  folder.mkdir(parents=True, exist_ok=True)

  def picture(name: str) -> tuple[pathlib.Path, str]:
    return folder / name, f'{folder.name}/{name}'

  lines = [
    *_headline(findings.results, findings.records),
    *_scores(findings.results),
    *_about(findings),
    *(findings.start.section() if findings.start else ()),
    '## Curves',
    '',
    f'![Loss and score over the steps]({curves.name})',
    '',
    *answers_section(
      findings.split,
      findings.outcomes,
      findings.labels,
      picture,
      findings.error_name,
    ),
    *_breakdown(findings.breakdown),
    *_lengths(findings, picture),
    *mistakes_section(
      findings.split, findings.outcomes, findings.labels, findings.error_name
    ),
  ]
  title = f'{findings.results["task"]}: {findings.results["primary_metric"]}'
  page = html.page(lines, path.parent, title)
  files.write_text(path.with_suffix('.html'), page)
  return files.write_text(path, '\n'.join(lines).rstrip() + '\n')


def training_seconds(records: Sequence[Record], batch_size: int) -> float:
  """Returns the seconds spent in training steps, from the logged speeds.

  It counts every start of an interrupted run, and neither evaluations nor
  the reading of data before the first step.
  """
  seconds, last = 0.0, 0
  for record in records:
    speed = record.get('examples_per_second')
    if speed:
      seconds += (record['step'] - last) * batch_size / speed
      last = record['step']
  return seconds


def baseline(results: Mapping[str, Any]) -> tuple[str, float] | None:
  """Returns the best constant answer and its primary score, if both are known.

  Args:
    results: what `results.json` holds.
  """
  known = results.get('baseline') or {}
  value = known.get(results['primary_metric'])
  return None if value is None else (known['answer'], value)


def overfitting(
  records: Sequence[Record], metric: str
) -> tuple[int, float, float] | None:
  """Returns where the evaluation's loss was lowest, if it rose since.

  Args:
    records: lines of metrics.jsonl.
    metric: the primary metric, which names the split.

  Returns:
    The step, the loss there and the last one; None: the last is hardly higher.
  """
  steps, losses = pictures.series(records, f'{metric.partition("/")[0]}/loss')
  if not losses:
    return None
  low = int(np.argmin(losses))
  last = losses[-1]
  if not last > _ROSE * losses[low]:
    return None
  return steps[low], losses[low], last


def _headline(
  results: Mapping[str, Any], records: Sequence[Record]
) -> Iterator[str]:
  metric = results['primary_metric']
  first, best = results['first'], results['best']
  yield f'# {escape(results["task"])}: {escape(metric)} {best[metric]:.4f}'
  yield ''
  yield (
    f'{escape(metric)} was {first[metric]:.4f} before training; the best is '
    f'{best[metric]:.4f}, after {best["step"]:,} of '
    f'{results["final"]["step"]:,} steps. Those weights are in `model/`.'
  )
  yield ''
  constant = baseline(results)
  if constant is not None:
    answer, value = constant
    yield (
      f'Without a model, the best constant answer ({escape(answer)}) scores '
      f'{value:.4f}.'
    )
    yield ''
    if ranking.rank(metric, best[metric]) <= ranking.rank(metric, value):
      yield '**The model is no better than that: it has learnt nothing.**'
      yield ''
  if best['step'] == 0:
    yield '**No step of the training made it better.**'
    yield ''
  rose = overfitting(records, metric)
  if rose is not None:
    step, low, last = rose
    yield (
      f'The loss of the evaluation was lowest at step {step:,} ({low:.4f}) and '
      f'is {last:.4f} at the end: since then the model has come to fit the '
      'training examples alone.'
    )
    yield ''


def _scores(results: Mapping[str, Any]) -> Iterator[str]:
  columns = {name: results[name] for name in ('first', 'final', 'best')}
  names = [name for name in columns['best'] if name != 'step']
  header = ['score'] + [
    f'{name} (step {scores["step"]:,})' for name, scores in columns.items()
  ]
  if results.get('baseline'):
    columns['constant'] = results['baseline']
    header.append(f'constant: {escape(results["baseline"]["answer"])}')
  rows = [
    [
      f'**{escape(name)}**'
      if name == results['primary_metric']
      else escape(name),
      *(_number(scores.get(name)) for scores in columns.values()),
    ]
    for name in names
  ]
  yield from table(header, rows, 'l' + 'r' * len(columns))
  yield ''


def _about(findings: Findings) -> Iterator[str]:
  yield '## The run'
  yield ''
  rows = [
    (what, escape(value, _LONGEST_VALUE)) for what, value in findings.about
  ]
  speeds = [
    record['examples_per_second']
    for record in findings.records
    if record.get('examples_per_second')
  ]
  if speeds:
    rows.append(('speed', f'{np.median(speeds):,.0f} examples/s (median)'))
    seconds = training_seconds(findings.records, findings.batch_size)
    clock = _clock(seconds)
    rows.append(('time', f'{clock} in training steps, without evaluations'))
  yield from table(('what', ''), rows)
  yield ''


def _lengths(findings: Findings, picture: PicturePlace) -> Iterator[str]:
  path, link = picture('lengths.png')
  pictures.draw_lengths(path, findings.tokens, findings.max_length)
  yield '## Lengths'
  yield ''
  yield f'![Tokens of each row]({link})'
  yield ''
  header = (
    'split', 'rows', 'median', '95% up to', 'longest',
    f'fill max_length ({findings.max_length})',
  )  # fmt: skip
  rows = []
  for name, tokens in findings.tokens.items():
    full = int(np.sum(tokens >= findings.max_length))
    median, most = np.percentile(tokens, (50, 95))
    rows.append(
      (
        escape(name),
        f'{len(tokens):,}',
        f'{median:.0f}',
        f'{most:.0f}',
        f'{tokens.max()}',
        f'{full:,} ({full / len(tokens):.1%})',
      )
    )
  yield from table(header, rows, 'lrrrrr')
  yield ''
  yield (
    'Tokens include special tokens. A row that fills max_length has been cut '
    'or split, or is exactly as long.'
  )
  yield ''


def _number(value: Any) -> str:
  return '-' if value is None else f'{value:.4f}'


def _clock(seconds: float) -> str:
  if seconds < 60:
    return f'{seconds:.1f} s'
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours} h {minutes} min' if hours else f'{minutes} min {rest} s'


def answers_section(
  split: str,
  outcomes: Sequence[Outcome],
  labels: Sequence[str],
  picture: PicturePlace,
  error_name: str = 'error',
) -> Iterator[str]:
  """Yields how the answers are spread: by class, as numbers or by certainty.

  Args:
    split: what the outcomes are of.
    outcomes: one for each example.
    labels: names of the classes, or ().
    picture: where a picture goes.
    error_name: what `Outcome.error` is.

  Yields:
    Lines of Markdown.
  """
  yield f'## Answers on {escape(split)} (best weights)'
  yield ''
  if not outcomes:
    yield 'There are none.'
    yield ''
  elif are_numbers(outcomes):
    yield from _numbers(outcomes, picture)
  else:
    right = sum(outcome.is_right for outcome in outcomes)
    share = right / len(outcomes)
    yield f'{right:,} of {len(outcomes):,} are right ({share:.1%}).'
    yield ''
    if are_classes(outcomes, labels):
      yield from _classes(outcomes, labels, picture)
      error_name = LOG_PROBABILITY
    yield from _certainty(outcomes, error_name, picture)


def mistakes_section(
  split: str,
  outcomes: Sequence[Outcome],
  labels: Sequence[str],
  error_name: str = 'error',
) -> Iterator[str]:
  """Yields lines of Markdown: the worst answers with their texts.

  Those come first that the model was surest of: by their confidence, or by the
  error where that is all that is known.
  """
  wrong = [outcome for outcome in outcomes if not outcome.is_right]
  has_confidence = all(o.confidence is not None for o in wrong)
  # The sort is stable: of equally bad ones the first in the data.
  worst = sorted(
    wrong,
    key=lambda o: ((o.confidence or 0.0) if has_confidence else 0.0, o.error),
    reverse=True,
  )[:_MOST_MISTAKES]
  yield f'## Worst mistakes on {escape(split)}'
  yield ''
  if not worst:
    yield 'There is no mistake.'
    return
  column = LOG_PROBABILITY if are_classes(worst, labels) else error_name
  sure = ('confidence',) * has_confidence
  yield from table(
    ('', 'text', 'expected', 'predicted', column, *sure),
    (
      (
        str(rank),
        escape(outcome.text, _LONGEST_TEXT),
        _answer(outcome.expected),
        _answer(outcome.predicted),
        f'{outcome.error:.3g}',
        *([_part(outcome.confidence)] * has_confidence),
      )
      for rank, outcome in enumerate(worst, start=1)
    ),
    'rlllr' + 'r' * has_confidence,
  )


def _breakdown(parts: Breakdown | None) -> Iterator[str]:
  if parts is None or not parts.rows:
    return
  yield f'## {escape(parts.title)}'
  yield ''
  if len(parts.rows) > _MOST_CLASSES:
    yield f'The first {_MOST_CLASSES} of {len(parts.rows):,}:'
    yield ''
  yield from table(
    parts.header,
    (
      (escape(str(name)), *map(_cell, values))
      for name, *values in parts.rows[:_MOST_CLASSES]
    ),
    'l' + 'r' * (len(parts.header) - 1),
  )
  yield ''


def _cell(value: Any) -> str:
  return f'{value:,}' if isinstance(value, int) else _part(value)


def are_numbers(outcomes: Sequence[Outcome]) -> bool:
  """Returns whether the answers are numbers."""
  return bool(outcomes) and not any(
    isinstance(answer, str)
    for outcome in outcomes
    for answer in (outcome.expected, outcome.predicted)
  )


def _numbers(
  outcomes: Sequence[Outcome], picture: PicturePlace
) -> Iterator[str]:
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
  path, link = picture('numbers.png')
  pictures.draw_numbers(path, expected, predicted)
  yield f'![Predicted over expected numbers]({link})'
  yield ''


def _classes(
  outcomes: Sequence[Outcome], labels: Sequence[str], picture: PicturePlace
) -> Iterator[str]:
  counts = confusion(outcomes, labels)
  if len(labels) <= _MOST_DRAWN:
    path, link = picture('confusion.png')
    pictures.draw_confusion(path, counts, labels)
    yield f'![Confusion matrix]({link})'
    yield ''
  else:
    yield 'Most confused:'
    yield ''
    pairs = most_confused(counts, labels, _MOST_PAIRS)
    yield from table(
      ('expected', 'predicted', 'examples'),
      ((_answer(a), _answer(b), f'{count:,}') for a, b, count in pairs),
      'llr',
    )
    yield ''
  shown = rates(counts, labels)
  if len(shown) > _MOST_CLASSES:
    yield f'The {_MOST_CLASSES} largest of {len(shown)} classes:'
    yield ''
    shown = sorted(shown, key=lambda r: r.examples, reverse=True)
  yield from table(
    ('class', 'examples', 'predicted', 'precision', 'recall', 'F1'),
    (
      (
        _answer(rate.label),
        f'{rate.examples:,}',
        f'{rate.predicted:,}',
        *map(_part, (rate.precision, rate.recall, rate.f1)),
      )
      for rate in shown[:_MOST_CLASSES]
    ),
    'lrrrrr',
  )
  yield ''


def _certainty(
  outcomes: Sequence[Outcome], error_name: str, picture: PicturePlace
) -> Iterator[str]:
  values = np.array([o.error for o in outcomes], np.float64)
  what, is_probability = error_name, error_name == LOG_PROBABILITY
  confidences = [o.confidence for o in outcomes if o.confidence is not None]
  if len(confidences) == len(outcomes):
    values, is_probability = np.array(confidences, np.float64), True
    what = 'confidence in the answer'
  elif is_probability:
    values, what = np.exp(-values), 'probability of the right answer'
  path, link = picture('certainty.png')
  pictures.draw_certainty(
    path,
    values,
    np.array([o.is_right for o in outcomes], bool),
    what=what,
    is_probability=is_probability,
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
