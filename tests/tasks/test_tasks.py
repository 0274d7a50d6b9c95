import types

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.readers import tfds as readers_tfds
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import TASKS, task
from mobilebert_jax.tasks.classification import TextExample
from mobilebert_jax.tasks.entailment import ENTAILMENT

SST2 = TASKS['sst2'].make_task({}, DataConfig())


class WordTokenizer:
  """Called as transformers' tokenizers are; a word's id is its length."""

  pad_token_id = 0

  def __call__(self, text, pair, *, truncation, max_length, padding):
    assert (truncation, padding) == ('longest_first', False)
    ids, types_ = [], []
    for i, first in enumerate(text):
      a = [len(word) for word in first.split()]
      b = [len(word) for word in pair[i].split()] if pair else []
      while len(a) + len(b) + (3 if pair else 2) > max_length:
        (a if len(a) > len(b) else b).pop()
      head, tail = [101, *a, 102], [*b, 102] if pair else []
      ids.append(head + tail)
      types_.append([0] * len(head) + [1] * len(tail))
    return {'input_ids': ids, 'token_type_ids': types_}


def files(path, **changes):
  return DataConfig(source='files', path=str(path), **changes)


@pytest.fixture
def sst2(tmp_path):
  folder = tmp_path / 'SST-2'
  folder.mkdir()
  (folder / 'train.tsv').write_text(
    'sentence\tlabel\ngood \t1\nbad\t0\nmeh\t0\n'
  )
  (folder / 'dev.tsv').write_text('sentence\tlabel\na fine film\t1\nno\t0\n')
  (folder / 'test.tsv').write_text('index\tsentence\n0\tone\n1\ttwo\n')
  return tmp_path


def test_every_task_is_complete():
  assert {'entailment', 'sst2', 'mnli'} <= set(TASKS)
  for name in ('entailment', 'sst2', 'mnli'):
    record = TASKS[name].make_task({}, DataConfig())
    assert record.name == name
    assert record.head is models.MobileBertForSequenceClassification
    overrides = record.model_overrides()
    assert overrides['num_labels'] == len(record.labels)
    assert overrides['id2label'] == dict(enumerate(record.labels))
    assert record.splits.all()[0] == 'train'


def test_the_best_checkpoint_needs_an_evaluation_split():
  record = SST2
  with pytest.raises(ValueError, match='must begin with an evaluation split'):
    task.Task(**{**vars(record), 'primary_metric': 'dev/accuracy'})


def test_sst2_from_files(sst2):
  load = SST2.load
  assert load(files(sst2), 'train') == (
    TextExample('0', 'good ', label=1),
    TextExample('1', 'bad', label=0),
    TextExample('2', 'meh', label=0),
  )
  assert load(files(sst2 / 'SST-2'), 'test') == (
    TextExample('0', 'one'),
    TextExample('1', 'two'),
  )
  limited = files(sst2, train_examples=2, eval_examples=1)
  assert len(load(limited, 'train')) == 2
  assert len(load(limited, 'validation')) == 1


def test_both_sources_give_the_same_examples(sst2, monkeypatch):
  stored = [(2, 'meh', 0), (0, 'good ', 1), (1, 'bad', 0)]
  monkeypatch.setattr(
    readers_tfds,
    'read_split',
    lambda name, split, columns, path: iter(
      [{'idx': i, 'sentence': text, 'label': y} for i, text, y in stored]
    ),
  )
  load = SST2.load
  tfds = load(DataConfig(source='tfds', path='x'), 'train')
  assert tfds == load(files(sst2), 'train')


def test_wrong_sources():
  for name in ('sst2', 'mnli'):
    with pytest.raises(InputError, match='use "tfds" or "files"'):
      TASKS[name].make_task({}, DataConfig()).load(
        DataConfig(source='generated'), 'train'
      )
  with pytest.raises(InputError, match='use "generated"'):
    ENTAILMENT.load(DataConfig(source='tfds'), 'train')


def test_missing_files_are_named(tmp_path):
  with pytest.raises(InputError, match=r'expected the files train\.tsv there'):
    SST2.load(files(tmp_path), 'train')


def test_entailment_is_generated():
  load = ENTAILMENT.load
  data = DataConfig(source='generated', train_examples=30, eval_examples=9)
  assert len(load(data, 'train')) == 30
  test = load(data, 'test')
  assert [example.id for example in test] == [str(i) for i in range(9)]
  assert {example.label for example in test} == {0, 1, 2}
  assert all(example.pair for example in test)


def test_encoding_pairs_cuts_the_longer_text():
  reports = []
  features = SST2.encode(
    [
      TextExample('0', 'a bb ccc dddd', 'x yy', 2),
      TextExample('1', 'a', 'b', 0),
    ],
    WordTokenizer(),
    max_length=7,
    progress=lambda done, of: reports.append((done, of)),
  )
  batch = features.batch(np.array([0, 1]), length=7)
  chex.assert_trees_all_equal(
    batch['input_ids'],
    np.array(
      [[101, 1, 2, 102, 1, 2, 102], [101, 1, 102, 1, 102, 0, 0]], np.int32
    ),
  )
  chex.assert_trees_all_equal(
    batch['token_type_ids'],
    np.array([[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]], np.int32),
  )
  chex.assert_trees_all_equal(batch['labels'], np.array([2, 0], np.int32))
  assert reports == [(2, 2)]


def test_a_length_without_room_for_text():
  examples = [TextExample('0', 'a', 'b', 2)]
  with pytest.raises(InputError, match=r'max_length is 3, .* at least 4'):
    SST2.encode(examples, WordTokenizer(), max_length=3)


def test_a_split_without_labels_is_not_scored():
  examples = [TextExample('0', 'a')]
  features = SST2.encode(examples, WordTokenizer(), max_length=8)
  assert not features.scalars
  with pytest.raises(InputError, match='without labels'):
    SST2.score({'logits': np.zeros((1, 2))}, examples, features)


def test_loss_and_scores_of_logits():
  logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], np.float32)
  outputs = types.SimpleNamespace(logits=jnp.asarray(logits))
  batch = {
    'labels': jnp.array([0, 0, 1]),
    'weights': jnp.array([1.0, 1.0, 0.0]),
  }
  record = SST2
  (term,) = record.loss(outputs, batch)
  expected = np.log1p(np.exp(-2)) + np.log1p(np.exp(1))
  chex.assert_trees_all_close(term.sum / term.weight, expected / 2, rtol=1e-6)
  chex.assert_trees_all_equal(
    record.predict(outputs, batch), {'logits': logits}
  )
  examples = [
    TextExample(str(i), 'x', label=y) for i, y in enumerate([0, 0, 1])
  ]
  features = SST2.encode(examples, WordTokenizer(), max_length=8)
  scores = record.score({'logits': logits}, examples, features)
  assert scores == {'accuracy': 1 / 3}
