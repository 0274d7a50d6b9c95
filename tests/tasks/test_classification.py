"""One label, several labels, a number: columns, losses, scores, outcomes."""

import types

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import classification
from mobilebert_jax.tasks.classification import (
  Submission,
  TextExample,
  classification_task,
  submission_writer,
)
from mobilebert_jax.tasks.targets import MultiLabel, Regression, SingleLabel

NAMES = ('art', 'law', 'sea')
TARGETS = {
  'single': (SingleLabel(NAMES), (2, 0), '{}'.format),
  'multi': (MultiLabel(NAMES), ((0, 2), ()), str),
  'number': (Regression(), (3.8, -1.0), '{:.3f}'.format),
}


class Tokenizer:
  """One token for each word."""

  pad_token_id = 0

  def __call__(self, text, pair, **options):
    del pair, options
    ids = [[1, *(len(word) for word in t.split()), 2] for t in text]
    return {
      'input_ids': ids,
      'token_type_ids': [[0] * len(row) for row in ids],
    }


def make(kind):
  target, labels, word = TARGETS[kind]
  task = classification_task(
    kind,
    target,
    load=lambda data, split: (),
    write_predictions=submission_writer(
      target, Submission({'test': f'{kind}.tsv'}, word)
    ),
  )
  examples = tuple(
    TextExample(str(i), f'text {i}', label=label)
    for i, label in enumerate(labels)
  )
  return task, examples, task.encode(examples, Tokenizer(), 8)


@pytest.mark.parametrize(
  ('kind', 'column', 'dtype'),
  [
    ('single', [2, 0], np.int32),
    ('multi', [[1, 0, 1], [0, 0, 0]], np.float32),
    ('number', [np.float32(3.8), -1.0], np.float32),
  ],
)
def test_the_column_of_labels(kind, column, dtype):
  _, _, features = make(kind)
  batch = features.batch(np.array([1, 0]), 8)
  assert batch['labels'].dtype == dtype
  chex.assert_trees_all_equal(batch['labels'], np.array(column, dtype)[::-1])


@pytest.mark.parametrize(
  ('kind', 'logits', 'expected'),
  [
    ('single', [[0.0, 0.0, 1.0]] * 2, np.log(2 + np.e) - 1),
    (
      'multi',
      [[1.0, -2.0, 0.0]] * 2,
      (np.log1p(np.exp(-1)) + np.log1p(np.exp(-2)) + np.log(2)) / 3,
    ),
    ('number', [[3.0]] * 2, 0.64),
  ],
)
def test_the_loss_counts_rows_of_weight_one(kind, logits, expected):
  task, _, features = make(kind)
  outputs = types.SimpleNamespace(logits=jnp.array(logits))
  batch = features.batch(np.array([0, 1]), 8, real=1)
  (term,) = task.loss(outputs, batch)
  assert term.sum / term.weight == pytest.approx(expected, rel=1e-6)
  kept = task.predict(outputs, batch)
  chex.assert_trees_all_equal(kept, {'logits': jnp.array(logits)})


@pytest.mark.parametrize(
  ('kind', 'logits', 'scores', 'told', 'error'),
  [
    (
      'single',
      [[0, 0, 9], [0, 5, 0]],
      {'accuracy': 0.5},
      [('sea', 'sea', True), ('art', 'law', False)],
      [2 * np.exp(-9), 5 + 2 * np.exp(-5)],
    ),
    (
      'multi',
      [[9, -9, 9], [-9, 5, -9]],
      {'micro_f1': 0.8, 'macro_f1': 2 / 3, 'accuracy': 0.5},
      [('art, sea', 'art, sea', True), ('none', 'law', False)],
      [3 * np.exp(-9), 5 + 2 * np.exp(-9) + np.exp(-5)],
    ),
    (
      'number',
      [[3.5], [0.0]],
      {'pearson': 1.0, 'spearman': 1.0},
      [(3.8, 3.5, False), (-1.0, 0.0, False)],
      [0.3, 1.0],
    ),
  ],
)
def test_scores_and_outcomes(kind, logits, scores, told, error):
  task, examples, features = make(kind)
  predictions = {'logits': np.array(logits, np.float32)}
  found = task.score(predictions, examples, features)
  assert found == pytest.approx(scores)
  assert task.primary_metric == f'validation/{next(iter(scores))}'
  outcomes = task.outcomes(predictions, examples, features)
  assert [(o.expected, o.predicted, o.is_right) for o in outcomes] == told
  costs = np.array([outcome.error for outcome in outcomes])
  # Second-order terms of the logarithms are below 1e-4.
  chex.assert_trees_all_close(costs, np.array(error, float), atol=1e-4)
  assert [outcome.text for outcome in outcomes] == ['text 0', 'text 1']


@pytest.mark.parametrize('kind', TARGETS)
def test_the_model_learns_of_its_labels(kind):
  task, _, _ = make(kind)
  overrides = task.model_overrides()
  assert overrides['num_labels'] == (1 if kind == 'number' else 3)
  assert overrides['problem_type'] == task.problem_type
  assert ('id2label' in overrides) == (kind != 'number')


@pytest.mark.parametrize(
  ('kind', 'lines'),
  [
    ('single', ['0\t2', '1\t0']),
    ('multi', ['0\t[1 0 1]', '1\t[0 0 0]']),
    ('number', ['0\t9.000', '1\t0.000']),
  ],
)
def test_a_table_of_decisions(kind, lines, tmp_path):
  task, examples, features = make(kind)
  logits = np.array([[9.0, -1.0, 10.0], [0.0, -1.0, -2.0]], np.float32)
  path = task.write_predictions(
    tmp_path, 'test', {'logits': logits}, examples, features
  )
  assert path.read_text() == '\n'.join(['index\tprediction', *lines, ''])
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('kind', TARGETS)
def test_a_split_without_labels_is_not_scored(kind):
  task, _, _ = make(kind)
  examples = (TextExample('0', 'a'), TextExample('1', 'b'))
  features = task.encode(examples, Tokenizer(), 8)
  assert isinstance(features, Features) and not features.scalars
  for function in (task.score, task.outcomes):
    with pytest.raises(InputError, match='without labels'):
      function({'logits': np.zeros((2, 3))}, examples, features)


def test_every_kind_has_default_scores():
  kinds = {target.problem_type for target, _, _ in TARGETS.values()}
  assert set(classification.SCORES) == kinds
