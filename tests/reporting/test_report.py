"""The report: any kind of answer, any text, the same bytes each time."""

import base64
import html.parser
import pathlib
import re

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mobilebert_jax.reporting import html as report_html
from mobilebert_jax.reporting import markdown, report
from mobilebert_jax.reporting import outcomes as reporting_outcomes
from mobilebert_jax.reporting import pictures as reporting_pictures
from mobilebert_jax.reporting.markdown import escape, table
from mobilebert_jax.reporting.outcomes import Breakdown, Outcome

_RESULTS = {
  'task': 'a_task',
  'primary_metric': 'dev/accuracy',
  'first': {'step': 0, 'dev/accuracy': 0.25, 'dev/loss': 1.5},
  'final': {'step': 1000, 'dev/accuracy': 0.5, 'dev/loss': 1.25},
  'best': {'step': 500, 'dev/accuracy': 0.75, 'dev/loss': 1.0},
}
_RECORDS = (
  {'step': 0, 'dev/accuracy': 0.25},
  {'step': 1, 'loss': 1.0, 'examples_per_second': 8.0},
  {'step': 11, 'loss': 0.5, 'examples_per_second': 40.0},
)
_NASTY = (
  'a | b', 'two\nlines\r\nand\ttabs', '<script>alert(1)</script>', '`code`',
  '[link](http://x) ![image](y)', '$x^2$ and $$', '\\| escaped', '& &amp;',
  '# heading', '- list', '---', 'bell\x07 and \x00', '\ud800 half',
  'turned \u202e round', 'line\u2028separator', '中文 \U0001f600', '', '|||',
)  # fmt: skip


def findings(outcomes, labels=(), **changes):
  told = report.Findings(
    results=_RESULTS,
    about=[('model', 'Some | <model>'), ('seed', '0')],
    labels=tuple(labels),
    split='dev',
    outcomes=outcomes,
    tokens={
      'train': np.array([3, 5, 8, 16, 16]), 'dev': np.array([4, 4, 7])
    },
    max_length=16,
    records=_RECORDS,
    batch_size=8,
  )  # fmt: skip
  return told.__class__(**{**vars(told), **changes})


def write(directory, told):
  """The report's text and its pictures; each link must have its file."""
  directory.mkdir(exist_ok=True)
  curves = directory / 'curves.png'
  curves.touch()
  path = report.write(
    directory / 'report.md', directory / 'report', curves, told
  )
  text = path.read_text(encoding='utf-8')
  linked = re.findall(r'!\[[^]]*\]\(([^)]*)\)', text)
  for link in linked:
    assert (directory / link).is_file(), link
  pictures = {p.name: p.read_bytes() for p in (directory / 'report').iterdir()}
  assert {f'report/{name}' for name in pictures} | {'curves.png'} == set(linked)
  assert all(png.startswith(b'\x89PNG') for png in pictures.values())
  page = (directory / 'report.html').read_text(encoding='utf-8')
  # One file: no link, and every picture inside.
  assert page.count('<img alt=') == len(linked) == page.count('src="data:image')
  assert not re.search(r'(href|src)="(?!data:image)', page)
  for png in pictures.values():
    assert base64.b64encode(png).decode() in page
  return text, pictures


def class_outcomes(labels, count=60, wrong_every=5):
  return [
    Outcome(
      f'text {i}',
      labels[i % len(labels)],
      labels[(i + (i % wrong_every == 0)) % len(labels)],
      0.1 + (i % wrong_every == 0) * i,
      i % wrong_every != 0,
    )
    for i in range(count)
  ]


def rows_below(text, heading):
  """The cells of the first table below a heading."""
  lines = text.split(heading, 1)[1].splitlines()
  start = next(i for i, line in enumerate(lines) if line.startswith('| ---'))
  rows = []
  for line in lines[start + 1 :]:
    if not line.startswith('|'):
      break
    rows.append([c.strip() for c in re.split(r'(?<!\\)\|', line)[1:-1]])
  return rows


def test_headline_scores_and_time(tmp_path):
  text, _ = write(
    tmp_path, findings(class_outcomes(('no', 'yes')), ('no', 'yes'))
  )
  assert text.startswith('# a\\_task: dev/accuracy 0.7500\n')
  assert 'was 0.2500 before training; the best is 0.7500, after 500' in text
  scores = rows_below(text, '# a')
  assert ['**dev/accuracy**', '0.2500', '0.5000', '0.7500'] in scores
  about = dict(rows_below(text, '## The run'))
  assert about['model'] == 'Some \\| &lt;model&gt;'
  # 1 step at 8 and 10 steps at 40 examples a second, 8 examples each.
  assert about['time'].startswith('3.0 s ')
  assert report.training_seconds(_RECORDS, 8) == 3.0


def test_classes(tmp_path):
  labels = ('no', 'yes', 'may | be')
  text, pictures = write(tmp_path, findings(class_outcomes(labels), labels))
  assert set(pictures) == {'confusion.png', 'certainty.png', 'lengths.png'}
  assert '48 of 60 are right (80.0%).' in text
  # Examples 0, 15, 30 and 45 of "no" are taken for "yes".
  assert rows_below(text, 'Confusion')[0] == [
    'no', '20', '20', '0.800', '0.800', '0.800'
  ]  # fmt: skip
  worst = rows_below(text, '## Worst')
  assert worst[0] == ['1', 'text 55', 'yes', 'may \\| be', '55.1']
  assert len(worst) == 12


def test_rates_are_those_of_scikit_learn():
  rng = np.random.default_rng(0)
  expected, predicted = rng.integers(0, 6, (2, 200))
  # Class 5 is never expected, class 4 never predicted.
  expected[expected == 5] = 4
  predicted[predicted == 4] = 5
  labels = [f'class {i}' for i in range(6)]
  outcomes = [
    Outcome('', labels[a], labels[b], 0.0, bool(a == b))
    for a, b in zip(expected, predicted)
  ]
  counts = reporting_outcomes.confusion(outcomes, labels)
  np.testing.assert_array_equal(
    counts, sklearn_metrics.confusion_matrix(expected, predicted)
  )
  found = reporting_outcomes.rates(counts, labels)
  reference = sklearn_metrics.precision_recall_fscore_support(
    expected, predicted, labels=range(6), zero_division=np.nan
  )
  for name, values in zip(('precision', 'recall', 'f1'), reference[:3]):
    ours = [getattr(r, name) for r in found]
    np.testing.assert_allclose(
      [np.nan if v is None else v for v in ours], values, rtol=1e-12
    )
  assert [r.examples for r in found] == list(reference[3])
  assert found[5].recall is None and found[4].precision is None


def test_many_classes_make_tables(tmp_path):
  labels = [f'class {i}' for i in range(60)]
  outcomes = class_outcomes(labels, 600, wrong_every=7)
  text, pictures = write(tmp_path, findings(outcomes, labels))
  assert 'confusion.png' not in pictures
  pairs = rows_below(text, 'Most confused')
  counts = [int(row[2]) for row in pairs]
  assert len(pairs) == 15 and counts == sorted(counts, reverse=True)
  assert 'The 40 largest of 60 classes' in text


def test_numbers(tmp_path):
  expected = np.linspace(0, 5, 11)
  outcomes = [
    Outcome(f'text {i}', float(x), float(x) + i / 10, i / 10, False)
    for i, x in enumerate(expected)
  ]
  text, pictures = write(tmp_path, findings(outcomes))
  assert set(pictures) == {'numbers.png', 'lengths.png'}
  assert 'the mean absolute error is 0.500' in text
  assert 'always giving the median would err by 1.364' in text
  assert rows_below(text, '## Worst')[0] == [
    '1', 'text 10', '5.000', '6.000', '1'
  ]  # fmt: skip


def test_texts_as_answers(tmp_path):
  outcomes = [
    Outcome('who?', 'Paris', 'paris', 0.0, True),
    Outcome('when?', '', '1789', 3.5, False),
  ]
  # The labels of the task are of another kind than the answers.
  text, pictures = write(tmp_path, findings(outcomes, ('O', 'B-PER')))
  assert set(pictures) == {'certainty.png', 'lengths.png'}
  assert '1 of 2 are right (50.0%).' in text
  assert rows_below(text, '## Worst') == [
    ['1', 'when?', '*(empty)*', '1789', '3.5']
  ]


def test_without_mistakes_and_without_answers(tmp_path):
  right = [Outcome('x', 'yes', 'yes', 0.0, True)]
  text, _ = write(tmp_path / 'right', findings(right, ('no', 'yes')))
  assert text.endswith('There is no mistake.\n')
  text, _ = write(tmp_path / 'none', findings([], ('no', 'yes')))
  assert 'There are none.' in text


@pytest.mark.slow
def test_extreme_numbers(tmp_path):
  labels = ('no', 'yes')
  extreme = [Outcome('x', 'no', 'yes', np.inf, False)]
  text, _ = write(tmp_path / 'classes', findings(extreme, labels))
  assert rows_below(text, '## Worst')[0][-1] == 'inf'
  write(tmp_path / 'texts', findings(extreme))
  one = [Outcome('x', 2.0, 2.0, 0.0, False)]
  write(tmp_path / 'numbers', findings(one))


def test_any_text_stays_in_its_cell(tmp_path):
  labels = tuple(text or 'empty' for text in _NASTY)
  outcomes = [
    Outcome(text, label, labels[0], 1.0 - i / 100, False)
    for i, (text, label) in enumerate(zip(_NASTY, labels))
  ]
  changes = {'about': [('data', text) for text in _NASTY]}
  text, _ = write(tmp_path, findings(outcomes, labels, **changes))
  worst = rows_below(text, '## Worst')
  assert [row[0] for row in worst] == [str(i) for i in range(1, 16)]
  assert all(len(row) == 5 for row in worst)
  assert len(rows_below(text, '## The run')) == len(_NASTY) + 2
  assert '<' not in text.replace('&lt;', '')
  assert not re.search('[\x00-\x09\x0b-\x1f\u202e\u2028]', text)


class _Cells(html.parser.HTMLParser):
  """Collects the texts of the cells, as a browser shows them."""

  def __init__(self):
    super().__init__()
    self.cells, self.tags = [], set()

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    if tag == 'td':
      self.cells.append('')

  def handle_data(self, data):
    if self.cells:
      self.cells[-1] += data


def test_a_page_shows_any_text_as_itself():
  """Whatever the text: it is in a cell of its own, and no mark of HTML."""
  lines = table(('a', 'b'), [(escape(text), 'x') for text in _NASTY], 'lr')
  parser = _Cells()
  parser.feed(report_html.page(lines, pathlib.Path(), '<b> & c'))
  assert len(parser.cells) == 2 * len(_NASTY)
  for text, cell in zip(_NASTY, parser.cells[::2]):
    shown = ''.join(map(markdown._visible, text))
    assert ' '.join(shown.split()) == cell.strip()
  assert not parser.tags & {'script', 'b', 'code', 'em', 'strong'}


def test_a_page_has_headings_marks_and_lists(tmp_path):
  (tmp_path / 'p.png').write_bytes(b'png')
  lines = [
    '# One \\* two', '', 'some **bold** and `code`', 'on a line', '',
    '- **Look**: 1\\_2', '- b', '', '![A picture](p.png)', '*(empty)*',
  ]  # fmt: skip
  lines.insert(9, '')
  page = report_html.page(lines, tmp_path, 'title')
  assert '<h1>One * two</h1>' in page
  assert '<p>some <strong>bold</strong> and <code>code</code> on a line' in page
  assert '<li><strong>Look</strong>: 1_2</li>\n<li>b</li>' in page
  assert '<img alt="A picture" src="data:image/png;base64,cG5n">' in page
  assert '<p><em>(empty)</em></p>' in page


def test_what_a_reader_should_know_first(tmp_path):
  constant = {'answer': "always 'yes'", 'dev/accuracy': 0.8}
  results = {**_RESULTS, 'baseline': constant}
  records = [
    *_RECORDS, {'step': 500, 'dev/loss': 1.0}, {'step': 1000, 'dev/loss': 1.25}
  ]  # fmt: skip
  text, _ = write(tmp_path, findings([], results=results, records=records))
  assert "constant answer (always 'yes') scores 0.8000" in text
  assert 'The model is no better than that: it has learnt nothing.' in text
  assert 'lowest at step 500 (1.0000) and is 1.2500 at the end' in text
  assert ['**dev/accuracy**', '0.2500', '0.5000', '0.7500', '0.8000'] in (
    rows_below(text, '# a')
  )
  best = {**_RESULTS['first']}
  text, _ = write(tmp_path, findings([], results={**results, 'best': best}))
  assert 'No step of the training made it better.' in text


def test_the_surest_mistakes_come_first_and_parts_have_a_table(tmp_path):
  outcomes = [
    Outcome('a', 'x', 'y', 2.0, False, confidence=0.2),
    Outcome('b', 'x', 'y', 1.0, False, confidence=0.9),
    Outcome('c', 'x', 'x', 0.0, True, confidence=0.7),
  ]
  parts = Breakdown('Types', ('type', 'n', 'F1'), (('A|B', 1200, 0.5),))
  changes = {'error_name': 'wrong entities', 'breakdown': parts}
  text, _ = write(tmp_path, findings(outcomes, **changes))
  assert [row[1] for row in rows_below(text, '## Worst')] == ['b', 'a']
  assert '| wrong entities | confidence |' in text
  assert rows_below(text, '## Types') == [['A\\|B', '1,200', '0.500']]


def test_escape():
  assert escape('a|b_c*d') == r'a\|b\_c\*d'
  assert escape('a\n  b') == 'a b'
  assert escape('x' * 30, 10) == 'x' * 9 + '…'
  # The limit counts what a reader sees, and cuts no escape in two.
  assert escape('|' * 30, 5) == r'\|\|\|\|…'
  assert escape('<b>') == '&lt;b&gt;'
  assert escape('- a') == r'\- a'
  assert escape('\u200e中\u200d') == '中\u200d'
  assert table(('a', 'b'), [('1', '2')], 'lr') == [
    '| a | b |', '| --- | ---: |', '| 1 | 2 |'
  ]  # fmt: skip


def test_names_in_pictures():
  assert reporting_pictures.short_name('$x$\n y') == r'\$x\$ y'
  assert reporting_pictures.short_name('n' * 40) == 'n' * 23 + '…'
  assert reporting_pictures.short_name('a\x00b') == 'a b'


@pytest.mark.slow
def test_the_same_findings_give_the_same_bytes(tmp_path):
  labels = ('no', 'yes')
  told = findings(class_outcomes(labels), labels)
  first = write(tmp_path / 'first', told)
  assert write(tmp_path / 'second', told) == first
  # Once more in the same place, as after a kill: no file is left over.
  assert write(tmp_path / 'first', told) == first


@pytest.mark.parametrize(
  ('seconds', 'told'),
  [(59.94, '59.9 s'), (61, '1 min 1 s'), (7384, '2 h 3 min')],
)
def test_times(tmp_path, seconds, told):
  records = [{'step': 1, 'loss': 1.0, 'examples_per_second': 8 / seconds}]
  text, _ = write(tmp_path, findings([], records=records))
  assert dict(rows_below(text, '## The run'))['time'].startswith(told)


def test_the_workdir_has_its_report():
  from mobilebert_jax.training.workdir import Workdir

  workdir = Workdir(pathlib.Path('w'))
  assert workdir.report == pathlib.Path('w/report.md')
  assert workdir.pictures == pathlib.Path('w/report')
