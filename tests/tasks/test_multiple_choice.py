"""Pairs of texts for each choice, and the choice that the logits make."""

import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.readers.choice_files import ChoiceExample
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.tasks import multiple_choice as multiple_choice_task
from mobilebert_jax.tasks.multiple_choice import cut_pair, encode
from mobilebert_jax.tasks.task import Splits
from tests.support import batching_runs
from tests.support.squad_files import tokenizer as spelling_tokenizer

EXAMPLES = (
  ChoiceExample('q1', 'ab c', ('d', 'ef', 'g'), ('A', 'B', 'C'), 2, 'high'),
  ChoiceExample('q2', 'a', ('b', 'c'), ('A', 'B'), 0, 'middle'),
  ChoiceExample('q,3', 'b', ('a', 'b', 'c', 'd'), tuple('ABCD'), 3, 'high'),
)
TASK = multiple_choice_task.choice_task(
  'choices', load=lambda data, split: EXAMPLES, splits=Splits(test=())
)


@pytest.fixture(scope='module')
def tokenizer():
  return spelling_tokenizer()


def rows(features):
  column = features.sequences['input_ids']
  return [
    column.values[a:b].tolist()
    for a, b in zip(column.offsets[:-1], column.offsets[1:])
  ]


def random_examples(count):
  """Questions with two to four choices."""
  rng = np.random.default_rng(0)

  def text():
    return 'a' * int(rng.integers(1, 6))

  found = []
  for i in range(count):
    choices = tuple(text() for _ in range(rng.integers(2, 5)))
    answer = int(rng.integers(len(choices)))
    keys = tuple('ABCD'[: len(choices)])
    found.append(ChoiceExample(str(i), text(), choices, keys, answer))
  return found


def test_a_choice_is_a_pair_and_fillers_are_marked(tokenizer):
  features = TASK.encode(EXAMPLES, tokenizer, 12)
  assert features.choices == 4 and len(features) == 3
  assert rows(features)[1] == tokenizer('ab c', 'ef')['input_ids']
  assert rows(features)[3] == rows(features)[7] == [2, 3]
  chex.assert_trees_all_equal(
    dict(features.scalars),
    {
      'labels': np.array([2, 0, 3], np.int32),
      'choice_mask': np.array(
        [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], np.int32
      ),
    },
  )
  batch = features.batch(np.array([1]), 12)
  chex.assert_shape(batch['input_ids'], (1, 4, 12))
  types_ = tokenizer('a', 'b')['token_type_ids']
  assert batch['token_type_ids'][0, 0].tolist() == types_ + [0] * 7


def test_a_split_without_answers_has_no_labels(tokenizer):
  example = ChoiceExample('q', 'a', ('b', 'c'), ('A', 'B'), None)
  features = TASK.encode([example], tokenizer, 12)
  assert set(features.scalars) == {'choice_mask'}
  with pytest.raises(InputError, match='without answers cannot be scored'):
    TASK.score({'logits': np.zeros((1, 2))}, [example], features)


@pytest.mark.parametrize('room', [2, 3, 6, 7, 10, 20])
def test_the_longer_text_is_cut_as_by_the_tokenizer(tokenizer, room):
  for first in range(1, 12):
    for second in range(1, 12):
      texts = 'a' * first, 'b' * second
      expected = tokenizer(
        *texts, truncation='longest_first', max_length=room + 3
      )['input_ids']
      pair = cut_pair(
        *(tokenizer(t, add_special_tokens=False)['input_ids'] for t in texts),
        room,
        'longest_first',
      )
      assert tokenizer.build_inputs_with_special_tokens(*pair) == expected


def test_the_article_is_cut_and_not_the_question():
  first, second = [1, 2, 3, 4], [5, 6, 7]
  assert cut_pair(first, second, 5, 'only_first') == ([1, 2], second)
  assert cut_pair(first, second, 3, 'only_first') == ([], second)
  # The option stands at the end of the second text.
  assert cut_pair(first, second, 2, 'only_first') == ([], [6, 7])
  assert cut_pair(first, second, 7, 'only_first') == (first, second)


def test_race_cuts_the_article(tokenizer):
  task = TASKS['race'].make_task({}, DataConfig())
  example = ChoiceExample('q', 'a' * 30, ('b c', 'b d'), ('A', 'B'), 0, 'high')
  features = task.encode([example], tokenizer, 8)
  ends = [tokenizer.decode(row[-4:-1]) for row in rows(features)]
  assert ends == ['[SEP] b c', '[SEP] b d']


def test_a_length_without_room_for_two_texts(tokenizer):
  with pytest.raises(InputError, match=r'max_length is 4, .* at least 5'):
    encode('only_first', EXAMPLES, tokenizer, 4)


def test_fillers_count_neither_in_the_loss_nor_in_the_choice(tokenizer):
  features = TASK.encode(EXAMPLES, tokenizer, 12)
  logits = jnp.array(
    [[0.0, 1.0, 2.0, 9.0], [1.0, 0.0, 9.0, 9.0], [0.0, 0.0, 0.0, 1.0]]
  )
  batch = {k: jnp.asarray(v) for k, v in features.scalars.items()}
  batch['weights'] = jnp.array([1.0, 1.0, 0.0])

  def mean(logits):
    outputs = types.SimpleNamespace(logits=logits)
    (term,) = TASK.loss(outputs, batch)
    return term.sum / term.weight

  value, gradient = jax.value_and_grad(mean)(logits)
  first = np.log(np.exp([0.0, 1.0, 2.0]).sum()) - 2
  second = np.log(np.exp([1.0, 0.0]).sum()) - 1
  chex.assert_trees_all_close(value, (first + second) / 2, rtol=1e-6)
  assert np.all(np.isfinite(gradient))
  chex.assert_trees_all_equal(gradient[:2, 3], np.zeros(2, np.float32))
  kept = TASK.predict(types.SimpleNamespace(logits=logits), batch)['logits']
  assert kept[0, 3] == kept[1, 2] == jnp.finfo(jnp.float32).min
  assert kept.argmax(-1).tolist() == [2, 0, 3]


def predicted(*choices):
  logits = np.full((len(choices), 4), np.finfo(np.float32).min, np.float32)
  for row, example in enumerate(EXAMPLES):
    logits[row, : len(example.choices)] = 0
    logits[row, choices[row]] = np.log(3)
  return {'logits': logits}


def test_scores_of_all_and_of_each_group(tokenizer):
  features = TASK.encode(EXAMPLES, tokenizer, 12)
  assert TASK.score(predicted(2, 1, 0), EXAMPLES, features) == {
    'accuracy': 1 / 3, 'accuracy_high': 0.5, 'accuracy_middle': 0.0,
  }  # fmt: skip
  assert TASK.score(predicted(2, 0, 3), EXAMPLES, features)['accuracy'] == 1.0


def test_outcomes(tokenizer):
  features = TASK.encode(EXAMPLES, tokenizer, 12)
  found = TASK.outcomes(predicted(2, 1, 3), EXAMPLES, features)
  assert [outcome.is_right for outcome in found] == [True, False, True]
  assert found[1].text == 'a | b | c'
  assert (found[1].expected, found[1].predicted) == ('b', 'c')
  assert found[1].error == pytest.approx(np.log(4))
  assert found[0].error == pytest.approx(np.log(5 / 3))


def test_predictions_have_the_official_format(tokenizer, tmp_path):
  features = TASK.encode(EXAMPLES, tokenizer, 12)
  arguments = ('test', predicted(2, 1, 3), EXAMPLES, features)
  path = TASK.write_predictions(tmp_path, *arguments)
  assert path == tmp_path / 'test.csv'
  assert path.read_text() == 'q1,C\nq2,B\n"q,3",D\n'
  swag = TASKS['swag'].make_task({}, DataConfig())
  path = swag.write_predictions(tmp_path, *arguments)
  assert path.read_text() == ',pred\n0,C\n1,B\n2,D\n'
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_batches_do_not_change_loss_scores_or_logits(tokenizer):
  scores = batching_runs.check(TASK, random_examples(30), tokenizer, 16)
  assert 0 < scores['validation/accuracy'] < 1
