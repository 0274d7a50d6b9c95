"""The user's own data: files, columns, labels, and their mistakes."""

import json

import numpy as np
import pytest

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.readers.choice_files import ChoiceExample
from mobilebert_jax.data.readers.squad import Answer
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.tasks.classification import TextExample
from mobilebert_jax.tasks.custom import classification


@pytest.fixture
def world(tmp_path):
  return World(tmp_path)


class World:
  """Files, and tasks on them."""

  def __init__(self, root):
    self.root = root

  def write(self, name, content):
    """Text as it is; a list as JSON Lines."""
    if isinstance(content, list):
      content = ''.join(f'{json.dumps(row)}\n' for row in content)
    (self.root / name).write_text(content)
    return self

  def task(self, kind, path='', **options):
    data = DataConfig(source='files', path=str(self.root / path))
    return TASKS[f'custom_{kind}'].make_task(options, data)

  def load(self, kind, split='train', *, limits=None, **options):
    data = DataConfig(source='files', path=str(self.root), **limits or {})
    return self.task(kind, **options).load(data, split)


CSV = 'text,label\na,x\nb,y\nc,x\nd,y\n'
TRAIN = ''.join(f'text {i},{"xyz"[i % 3]}\n' for i in range(30))


def test_labels_are_found_and_sorted(world):
  world.write('train.csv', CSV)
  assert world.task('classification').labels == ('x', 'y')
  world.write('train.csv', 'text,label\na,10\nb,9\nc,-1\n')
  assert world.task('classification').labels == ('-1', '9', '10')
  world.write('train.csv', 'text,label\na,10\nb,9\nc,9b\n')
  task = world.task('classification')
  assert task.labels == ('10', '9', '9b')
  assert task.model_overrides()['label2id'] == {'10': 0, '9': 1, '9b': 2}
  named = world.task('classification', labels=('9b', '9', '10'))
  assert named.labels == ('9b', '9', '10')


def test_labels_of_json(world):
  rows = [{'text': 'a', 'label': label} for label in (2, 10, 2)]
  world.write('train.jsonl', rows)
  assert world.task('classification').labels == ('2', '10')
  rows = [{'text': 'a', 'label': label} for label in (True, False, True)]
  world.write('train.jsonl', rows)
  assert world.task('classification').labels == ('false', 'true')


def test_columns_and_pairs(world):
  world.write(
    'train.tsv', 'n\tq\tb\ta\nn1\tyes\t"two\tone\nn2\tno\t\tx\nn3\tyes\tu\tv\n'
  ).write('validation.tsv', 'a\tb\tq\tn\nc\td\tno\tk\n')
  columns = {
    'text_column': 'a', 'pair_column': 'b', 'label_column': 'q',
    'id_column': 'n',
  }  # fmt: skip
  assert world.load('classification', **columns) == (
    TextExample('n1', 'one', '"two', 1),
    TextExample('n2', 'x', '', 0),
    TextExample('n3', 'v', 'u', 1),
  )
  assert world.load('classification', 'validation', **columns) == (
    TextExample('k', 'c', 'd', 0),
  )


@pytest.mark.parametrize('name', ['validation', 'valid', 'dev'])
def test_files_of_a_directory(world, name):
  world.write('train.csv', CSV).write(f'{name}.csv', 'text,label\nv,y\n')
  assert world.task('classification').splits.test == ()
  assert [e.text for e in world.load('classification')] == ['a', 'b', 'c', 'd']
  assert [e.text for e in world.load('classification', 'validation')] == ['v']
  # The test file needs no labels, and what it says of them does not matter.
  world.write('test.jsonl', [{'text': 't', 'label': 'unknown'}])
  assert world.task('classification').splits.test == ('test',)
  (example,) = world.load('classification', 'test')
  assert example == TextExample('0', 't')


def test_a_file_and_named_files(world):
  world.write('all.csv', 'text,label\n' + TRAIN).write('v.csv', CSV)
  world.write('train.csv', CSV)
  data = DataConfig(source='files', path=str(world.root / 'all.csv'))
  task = world.task('classification', path='all.csv')
  assert len(task.load(data, 'train')) == 27
  named = world.task(
    'classification', path='all.csv', validation_file='v.csv',
    labels=('x', 'y', 'z'),
  )  # fmt: skip
  assert len(named.load(data, 'train')) == 30
  assert len(named.load(data, 'validation')) == 4
  assert len(world.load('classification', train_file='all.csv')) == 27


def test_held_out_rows(world):
  world.write('train.csv', 'text,label\n' + TRAIN)
  train = world.load('classification', validation_fraction=0.2)
  held = world.load('classification', 'validation', validation_fraction=0.2)
  assert len(train) == 24 and len(held) == 6
  ids = sorted([int(e.id) for e in train + held])
  assert ids == list(range(30))
  places = [int(e.id) for e in held]
  assert places == sorted(places) and places != list(range(6))
  limits = {'train_examples': 5, 'eval_examples': 2}
  assert len(world.load('classification', limits=limits)) == 5
  assert len(world.load('classification', 'validation', limits=limits)) == 2


def test_several_labels(world):
  world.write(
    'train.csv', 'text,label\na,"two, one"\nb,\nc,two\nd,one;three\n'
  ).write('validation.csv', 'text,label\ne,"one,one"\n')
  task = world.task('classification', multi_label=True)
  assert task.labels == ('one', 'one;three', 'two')
  assert task.problem_type == 'multi_label_classification'
  found = world.load('classification', multi_label=True)
  assert [e.label for e in found] == [(0, 2), (), (2,), (1,)]
  (repeated,) = world.load('classification', 'validation', multi_label=True)
  assert repeated.label == (0,)
  other = {'multi_label': True, 'label_separator': ';'}
  labels = world.task('classification', **other).labels
  assert labels == ('one', 'three', 'two', 'two, one')


def test_several_labels_in_json(world):
  rows = [{'text': 'a', 'label': value} for value in (['y', 3], [], 'x,y', 3)]
  world.write('train.jsonl', rows).write('validation.jsonl', rows)
  assert world.task('classification', multi_label=True).labels == (
    '3',
    'x',
    'y',
  )
  found = world.load('classification', multi_label=True)
  assert [e.label for e in found] == [(0, 2), (), (1, 2), (0,)]


def test_numbers(world):
  world.write('train.tsv', 'text\tlabel\na\t1.5\nb\t-2e1\n')
  world.write('dev.jsonl', [{'text': 'c', 'label': 3}])
  found = world.load('regression') + world.load('regression', 'validation')
  assert [e.label for e in found] == [1.5, -20.0, 3.0]
  task = world.task('regression')
  assert task.labels == () and task.model_overrides()['num_labels'] == 1
  features = type('F', (), {})()
  logits = {'logits': np.array([[1.0], [0.0], [5.0]], np.float32)}
  scores = task.score(logits, found, features)
  assert list(scores) == ['pearson', 'spearman', 'mse']
  assert scores['mse'] == pytest.approx((0.25 + 400 + 4) / 3)


def test_sentences_in_json_and_in_columns(world):
  world.write(
    'train.jsonl', [{'w': ['Anna', 'saw', 'Bo'], 't': ['B-PER', 'O', 'B-PER']}]
  ).write('dev.conll', 'Rome B-PER\n\nx O\n')
  columns = {'tokens_column': 'w', 'tags_column': 't'}
  task = world.task('tagging', **columns)
  assert task.labels == ('O', 'B-PER', 'I-PER')
  (sentence,) = world.load('tagging', **columns)
  assert sentence.words == ('Anna', 'saw', 'Bo')
  assert sentence.tags == ('B-PER', 'O', 'B-PER')
  found = world.load('tagging', 'validation', **columns)
  assert [s.words for s in found] == [('Rome',), ('x',)]
  world.write('test.jsonl', [{'w': ['a', 'b']}])
  (unknown,) = world.load('tagging', 'test', **columns)
  assert unknown.tags == ('O', 'O')
  (world.root / 'test.jsonl').unlink()
  world.write('test.conll', 'Anna X-WHAT\n')
  (unknown,) = world.load('tagging', 'test', **columns)
  assert unknown.tags == ('O',)


SPAN = {'question': 'q', 'context': 'one two one'}


def test_questions(world):
  answers = (
    'two', ['two', 'one'], {'text': 'one', 'answer_start': 8},
    [{'text': 'one', 'answer_start': 0}],
  )  # fmt: skip
  rows = [{**SPAN, 'answers': value} for value in answers]
  world.write('train.jsonl', rows)
  world.write('dev.csv', 'question,context,answers\nq,"a, b",b\n')
  found = world.load('qa')
  assert [q.answers for q in found] == [
    (Answer('two', 4),), (Answer('two', 4), Answer('one', 0)),
    (Answer('one', 8),), (Answer('one', 0),),
  ]  # fmt: skip
  assert [q.id for q in found] == ['0', '1', '2', '3']
  (held,) = world.load('qa', 'validation')
  assert held.context == 'a, b' and held.answers == (Answer('b', 3),)
  empty = [{**SPAN, 'answers': value} for value in ('', [], None, [''])]
  world.write('train.jsonl', empty)
  found = world.load('qa', allow_no_answer=True)
  assert [q.answers for q in found] == [(), (), (), ()]


def test_questions_in_the_format_of_squad(world):
  article = {
    'paragraphs': [
      {
        'context': 'one two',
        'qas': [
          {
            'id': 'k',
            'question': 'q',
            'answers': [{'text': 'two', 'answer_start': 4}],
          }
        ],
      }
    ]
  }
  world.write('train.json', json.dumps({'data': [article]}))
  world.write('dev.jsonl', [{**SPAN, 'answers': 'one'}])
  (question,) = world.load('qa')
  assert (question.id, question.answers) == ('k', (Answer('two', 4),))


CHOICE = {'question': 'q', 'choices': ['a', 'b', 'c'], 'answer': 1}


def test_choices(world):
  world.write('train.jsonl', [CHOICE, {**CHOICE, 'answer': '2'}])
  world.write('dev.jsonl', [{**CHOICE, 'choices': ['a', 'b']}])
  assert world.load('choice') == (
    ChoiceExample('0', 'q', ('a', 'b', 'c'), ('0', '1', '2'), 1),
    ChoiceExample('1', 'q', ('a', 'b', 'c'), ('0', '1', '2'), 2),
  )
  (held,) = world.load('choice', 'validation')
  assert held.keys == ('0', '1')
  world.write('train.jsonl', [{**CHOICE, 'answer': 'C'}])
  (example,) = world.load('choice', answer='letter')
  assert example.keys == ('A', 'B', 'C') and example.answer == 2
  world.write('train.jsonl', [{**CHOICE, 'answer': 'a'}])
  (example,) = world.load('choice', answer='text')
  assert example.keys == ('a', 'b', 'c') and example.answer == 0


def test_choices_in_columns(world):
  world.write(
    'train.csv', 'id,question,a,b,c,answer\nk,q,x,y,,1\nl,q,x,y,z,2\n'
  )
  world.write('dev.csv', 'id,question,a,b,c,answer\nk,q,x,y,,1\n')
  columns = {'choice_columns': ('a', 'b', 'c'), 'id_column': 'id'}
  found = world.load('choice', **columns)
  assert [(e.id, e.choices, e.answer) for e in found] == [
    ('k', ('x', 'y'), 1), ('l', ('x', 'y', 'z'), 2),
  ]  # fmt: skip


def jsonl(*rows):
  return ''.join(f'{json.dumps(row)}\n' for row in rows)


# kind, name of the wrong file, content, options, message.
WRONG = {
  'no label': (
    'classification', 'train.csv', 'text,label\na,x\nb, \n', {},
    "train.csv:3: column 'label' is ' '; expected a label",
  ),
  'one label': (
    'classification', 'train.csv', 'text,label\na,x\nb,x\n', {},
    "train.csv: there is no label but 'x' in column 'label'; .* at least 2",
  ),
  'unknown label': (
    'classification', 'dev.csv', 'text,label\na,x\nb,z\n', {},
    "dev.csv:3: column 'label' is 'z'; the label 'z' is unknown; .* 'x', 'y'",
  ),
  'label of a list': (
    'classification', 'dev.jsonl', jsonl({'text': 'a', 'label': ['x']}), {},
    "dev.jsonl:1: column 'label' is .*expected a text",
  ),
  'label null': (
    'classification', 'dev.jsonl', jsonl({'text': 'a', 'label': None}), {},
    "dev.jsonl:1: column 'label' is None; expected a text",
  ),
  'labels of objects': (
    'classification', 'dev.jsonl', jsonl({'text': 'a', 'label': [{}]}),
    {'multi_label': True}, 'dev.jsonl:1: .* or a list of labels',
  ),
  'a label between separators': (
    'classification', 'dev.csv', 'text,label\na,"x,,y"\n',
    {'multi_label': True}, 'dev.csv:2: .* expected labels with',
  ),
  'no label column': (
    'classification', 'dev.csv', 'text,y\na,x\n', {},
    "dev.csv:1: the header has no column 'label'",
  ),
  'no text column': (
    'classification', 'dev.csv', 'sentence,label\na,x\n', {},
    "dev.csv:1: the header has no column 'text'",
  ),
  'empty text': (
    'classification', 'dev.csv', 'text,label\n ,x\n', {},
    "dev.csv:2: column 'text' is ' '; expected a text",
  ),
  'nested text': (
    'classification', 'dev.jsonl', jsonl({'text': {'a': 'b'}, 'label': 'x'}),
    {}, "dev.jsonl:1: column 'text' is .*; expected a text",
  ),
  'duplicate ids': (
    'classification', 'dev.csv', 'text,label,n\na,x,1\nb,y,2\nc,x,1\n',
    {'id_column': 'n', 'labels': ('x', 'y')},
    "dev.csv:4: the id '1' is that of .*dev.csv:2 as well",
  ),
  'label twice': (
    'classification', 'dev.csv', CSV, {'labels': ('x', 'y', 'x')},
    "config.options.labels has 'x' twice",
  ),
  'no separator': (
    'classification', 'dev.csv', CSV,
    {'multi_label': True, 'label_separator': ''}, 'label_separator is empty',
  ),
  'two files': (
    'classification', 'train.tsv', 'text\tlabel\na\tx\n', {},
    'train.csv, train.tsv could all be the train file; .*train_file',
  ),
  'absent file': (
    'classification', 'dev.csv', CSV, {'test_file': 'no.csv'},
    "options.test_file='no.csv': there is no file",
  ),
  'a workbook': (
    'classification', 'dev.xlsx', 'PK\x03\x04', {'validation_file': 'dev.xlsx'},
    'dev.xlsx: this is a workbook or a zip archive; save the sheet as CSV',
  ),
  'few rows': (
    'classification', 'train.csv', CSV, {'validation_fraction': 0.01},
    'train.csv: 4 rows are too few to hold out .*=0.01',
  ),
  'no number': (
    'regression', 'dev.csv', 'text,label\na,1\nb,much\n', {},
    "dev.csv:3: column 'label' is 'much'; expected a number",
  ),
  'not finite': (
    'regression', 'dev.csv', 'text,label\na,inf\n', {},
    'dev.csv:2: .* expected a finite number',
  ),
  'numbers of words': (
    'tagging', 'dev.jsonl', jsonl({'tokens': ['a', 'b'], 'tags': ['O']}), {},
    'dev.jsonl:1: 2 words, but 1 tags',
  ),
  'a text for words': (
    'tagging', 'dev.jsonl', jsonl({'tokens': 'a b', 'tags': 'O O'}), {},
    "dev.jsonl:1: column 'tokens' is 'a b'; expected a list of texts",
  ),
  'an empty word': (
    'tagging', 'dev.jsonl', jsonl({'tokens': ['a', ' '], 'tags': ['O', 'O']}),
    {}, "dev.jsonl:1: column 'tokens' .* none of them empty",
  ),
  'no word': (
    'tagging', 'dev.jsonl', jsonl({'tokens': [], 'tags': []}), {},
    'dev.jsonl:1: .* expected at least one word',
  ),
  'no tag': (
    'tagging', 'dev.jsonl',
    jsonl({'tokens': ['a'], 'tags': ['O']},
          {'tokens': ['a', 'b'], 'tags': ['O', 'PER']}),
    {}, "dev.jsonl:2:2: the tag is 'PER'",
  ),
  'unknown tag': (
    'tagging', 'dev.conll', 'a O\nb B-X\n', {},
    'dev.conll:2: the tag B-X is unknown',
  ),
  'answer elsewhere': (
    'qa', 'dev.jsonl', jsonl({**SPAN, 'answers': 'three'}), {},
    "dev.jsonl:1: column 'answers' .*'three' does not stand in the context "
    'anywhere',
  ),
  'unaligned answer': (
    'qa', 'dev.jsonl',
    jsonl({**SPAN, 'answers': {'text': 'two', 'answer_start': 8}}), {},
    "dev.jsonl:1: .* 'two' does not stand in the context at character 8",
  ),
  'answer behind the text': (
    'qa', 'dev.jsonl',
    jsonl({**SPAN, 'answers': {'text': 'two', 'answer_start': 99}}), {},
    'dev.jsonl:1: .* at character 99',
  ),
  'answer without its start': (
    'qa', 'dev.jsonl', jsonl({**SPAN, 'answers': [{'text': 'two'}]}), {},
    "dev.jsonl:1: .* 'text' and 'answer_start'",
  ),
  'no answer': (
    'qa', 'dev.csv', 'question,context,answers\nq,a b,\n', {},
    'dev.csv:2: .* expected an answer; set config.options.allow_no_answer=True',
  ),
  'empty context': (
    'qa', 'dev.csv', 'question,context,answers\nq, ,a\n', {},
    "dev.csv:2: column 'context' is ' '; expected a text",
  ),
  'answer out of range': (
    'choice', 'dev.jsonl', jsonl({**CHOICE, 'answer': 3}), {},
    "dev.jsonl:1: column 'answer' is 3; expected one of '0', '1', '2'",
  ),
  'answer by letter': (
    'choice', 'dev.jsonl', jsonl({**CHOICE, 'answer': 'B'}), {},
    "dev.jsonl:1: .* 'B'; expected one of .*options.answer is 'index'",
  ),
  'one choice': (
    'choice', 'dev.jsonl', jsonl({**CHOICE, 'choices': ['a']}), {},
    'dev.jsonl:1: .* at least two choices',
  ),
  'equal choices': (
    'choice', 'dev.jsonl', jsonl({**CHOICE, 'choices': ['a', 'a']}), {},
    'dev.jsonl:1: .* choices that differ',
  ),
  'choices in a cell': (
    'choice', 'dev.csv', 'question,choices,answer\nq,a b c,1\n', {},
    'dev.csv:2: .* expected a list of texts.*choice_columns',
  ),
}  # fmt: skip
GOOD_TRAIN = {
  'classification': ('train.csv', CSV),
  'regression': ('train.csv', 'text,label\na,1\nb,2\n'),
  'tagging': ('train.jsonl', jsonl({'tokens': ['a'], 'tags': ['B-PER']})),
  'qa': ('train.jsonl', jsonl({**SPAN, 'answers': 'one'})),
  'choice': ('train.jsonl', jsonl(CHOICE)),
}


@pytest.mark.parametrize('case', WRONG)
def test_wrong_data(world, case):
  kind, name, content, options, message = WRONG[case]
  world.write(*GOOD_TRAIN[kind]).write(name, content)
  with pytest.raises(InputError, match=message) as error:
    world.load(kind, 'validation', **options)
  assert '\n' not in str(error.value) and len(str(error.value)) < 500


def test_no_training_file(world):
  for kind in ('classification', 'regression', 'tagging', 'qa', 'choice'):
    with pytest.raises(InputError, match=r'a directory with a file train\.\*'):
      world.task(kind)
    with pytest.raises(
      InputError, match=r'use "files" and set config\.data\.path'
    ):
      TASKS[f'custom_{kind}'].make_task({}, DataConfig(source='generated'))


def test_macro_f1_is_that_of_scikit_learn():
  from sklearn import metrics

  rng = np.random.default_rng(0)
  for classes in (2, 3, 9):
    for _ in range(20):
      truth, guess = rng.integers(0, classes, (2, rng.integers(1, 12)))
      expected = metrics.f1_score(
        truth, guess, average='macro', zero_division=0.0
      )
      found = classification.macro_f1(classes, guess, truth)
      assert found == pytest.approx(expected, abs=1e-12)
