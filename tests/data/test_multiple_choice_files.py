"""SWAG, RACE and CommonsenseQA: right and wrong files, TFDS, real data."""

import importlib
import importlib.util
import json
from unittest import mock

import pytest

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.readers import choice_files
from mobilebert_jax.data.readers import tfds as readers_tfds
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import TASKS
from tests.support import tfds_downloads
from tests.support.choice_files import QUESTION, changed, write_csqa

SPLITS = ('train', 'validation', 'test')
HEADER = (
  ',video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,'
  'ending2,ending3,label'
)
SWAG = (
  f'{HEADER}\n'
  '0,anetv_a,3416,A man sits. He,A man sits.,He,gold1-orig,'
  '"eats, slowly.",drinks.,"says ""no"".",runs.,2\n'
  '1,anetv_a,17,She walks. The dog,She walks.,The dog,gen-orig,'
  'barks.,sleeps.,flies.,"sits\ndown.",0\n'
)
RACE = {
  'id': 'high12.txt',
  'article': 'Tom has a cat. It is _ black.',
  'questions': ['What has Tom?', 'The cat is _ .'],
  'options': [['A dog', 'A cat', 'A cow'], ['red', 'black', 'blue', 'big']],
  'answers': ['B', 'B'],
}


def files(path, **changes):
  return DataConfig(source='files', path=str(path), **changes)


def as_bytes(text):
  return text if isinstance(text, bytes) else text.encode()


# SWAG


def write_swag(folder, text=SWAG):
  folder.mkdir(exist_ok=True)
  for name in ('train.csv', 'val.csv'):
    (folder / name).write_bytes(as_bytes(text))
  test = '\n'.join(line.rpartition(',')[0] for line in SWAG.split('\n')[:2])
  (folder / 'test.csv').write_text(test + '\n')
  return folder


def load_swag(folder, split='train', **changes):
  data = files(folder, **changes)
  return TASKS['swag'].make_task({}, data).load(data, split)


def test_swag_pairs_the_second_sentence_with_each_ending(tmp_path):
  first, second = load_swag(write_swag(tmp_path / 'swag'))
  assert first.text == 'A man sits.'
  assert first.choices == (
    'He eats, slowly.', 'He drinks.', 'He says "no".', 'He runs.',
  )  # fmt: skip
  assert (first.id, first.answer, first.keys) == ('0', 2, ('0', '1', '2', '3'))
  assert second.choices[3] == 'The dog sits\ndown.' and second.answer == 0
  (test,) = load_swag(tmp_path, 'test')
  assert test.answer is None and test.choices[2] == 'He says "no".'
  assert len(load_swag(tmp_path, train_examples=1)) == 1


WRONG_SWAG = {
  'missing column': (
    SWAG.replace('ending3', 'ending4', 1),
    r"train\.csv:1: the header has no column 'ending3'",
  ),
  'no label column': (
    SWAG.replace(',label', ',gold', 1), "no column 'label'",
  ),
  'column twice': (
    SWAG.replace('ending3', 'ending2', 1).replace('gold-source', 'ending3', 1),
    'twice',
  ),
  'label out of range': (
    SWAG.replace('runs.,2', 'runs.,4'), r"train\.csv:2: 'label' is '4'",
  ),
  'label in words': (
    SWAG.replace('runs.,2', 'runs.,two'), r"'label' is 'two'; expected .*'3'",
  ),
  'too few cells': (SWAG.replace('drinks.,', ''), r':2: 11 comma-separated'),
  'too many cells': (SWAG.replace('"eats, slowly."', 'a,b'), r':2: 13 comma'),
  'wrong quotes': (SWAG.replace('"says ""no"".",', '"says "no".",'), r':2: '),
  'open quote': (SWAG + '3,"a', r':5: '),
  'encoding': (as_bytes(SWAG).replace(b'sleeps', b'\xff'), r':3: byte \d+'),
  'empty': ('', 'the file is empty'),
  'header alone': (HEADER + '\n', 'no row'),
  'empty question': (
    SWAG.replace('A man sits. He,A man sits.', 'x,  '),
    r':2: the text of the question is empty',
  ),
}  # fmt: skip


@pytest.mark.parametrize('case', WRONG_SWAG)
def test_a_wrong_swag_file_is_named_with_its_line(tmp_path, case):
  text, message = WRONG_SWAG[case]
  folder = write_swag(tmp_path / 'swag', text)
  with pytest.raises(InputError, match=message):
    load_swag(folder)


@pytest.mark.parametrize(
  'text',
  ['\ufeff' + SWAG, SWAG.replace('.\n', '.\r\n').replace('2\n', '2\r\n')],
  ids=['byte-order mark', 'CRLF'],
)
def test_unusual_swag_files_that_are_right(tmp_path, text):
  folder = write_swag(tmp_path / 'swag', text)
  assert [example.answer for example in load_swag(folder)] == [2, 0]


def test_a_swag_cell_of_a_megabyte(tmp_path):
  folder = write_swag(tmp_path, SWAG.replace('barks.', 'x' * 2**20))
  assert len(load_swag(folder)[1].choices[0]) > 2**20


# CommonsenseQA


def load_csqa(folder, split='train', **options):
  data = files(folder)
  return TASKS['commonsenseqa'].make_task(options, data).load(data, split)


def test_commonsenseqa_pairs_the_question_with_each_choice(tmp_path):
  write_csqa(tmp_path, QUESTION, '', changed(QUESTION, ['id'], 'q2'))
  first, second = load_csqa(tmp_path)
  assert first.text == 'Where is a revolving door?'
  assert first.choices == ('bank', 'mall', 'library')
  assert (first.id, first.keys, first.answer) == ('q1', ('A', 'B', 'C'), 0)
  assert second.id == 'q2'
  (test,) = load_csqa(tmp_path, 'test')
  assert test.answer is None


def test_the_test_file_may_be_left_out(tmp_path):
  write_csqa(tmp_path, QUESTION, test=False)
  with pytest.raises(InputError, match=r'test_rand_split_no_answers\.jsonl'):
    load_csqa(tmp_path, 'test')
  task = TASKS['commonsenseqa'].make_task(
    {'predict_test': False}, files(tmp_path)
  )
  assert task.splits.all() == ('train', 'validation')


CHOICES = ['question', 'choices']
WRONG_CSQA = {
  'no id': (['id'], None, r"jsonl:2: there is no 'id'; expected a JSON string"),
  'number as id': (['id'], 5, r":2: 'id' is 5; expected a JSON string"),
  'no question': (['question'], None, "there is no 'question'"),
  'no stem': (['question', 'stem'], None, "there is no 'stem'"),
  'empty stem': (['question', 'stem'], ' ', 'text of the question is empty'),
  'choices in words': (CHOICES, 'a or b', "'choices' is string; .*JSON list"),
  'one choice': (
    CHOICES, [{'label': 'A', 'text': 'x'}], '1 choices; expected at least 2',
  ),
  'choice without text': ([*CHOICES, 1, 'text'], None, "there is no 'text'"),
  'label twice': ([*CHOICES, 1, 'label'], 'A', 'have the same label'),
  'all empty': (
    CHOICES, [{'label': k, 'text': ''} for k in 'AB'], 'all choices are empty',
  ),
  'no answer': (['answerKey'], None, "there is no 'answerKey'"),
  'wrong answer': (
    ['answerKey'], 'E', r":2: 'answerKey' is 'E'; expected .* 'A', 'B', 'C'",
  ),
  'id twice': (['id'], 'q1', r":2: the id 'q1' occurs in .*jsonl:1 too"),
}  # fmt: skip


@pytest.mark.parametrize('case', WRONG_CSQA)
def test_a_wrong_question_is_named_with_its_line(tmp_path, case):
  path, value, message = WRONG_CSQA[case]
  second = changed(QUESTION, ['id'], 'q2')
  write_csqa(tmp_path, QUESTION, changed(second, path, value))
  with pytest.raises(InputError, match=message):
    load_csqa(tmp_path)


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (b'', 'the file is empty; expected one question on each line'),
    (b'{"id": \n', r':1: .* is not JSON'),
    (b'[1]\n', r':1: .* no JSON object'),
    (b'{"id": "\xff"}\n', r':1: byte 9 of the line is not valid UTF-8'),
    (b'{"id": "a", "id": "b"}\n', 'occurs twice'),
  ],
  ids=['empty', 'broken', 'list', 'encoding', 'name twice'],
)
def test_a_wrong_line_of_json(tmp_path, data, message):
  write_csqa(tmp_path, QUESTION)
  (tmp_path / 'train_rand_split.jsonl').write_bytes(data)
  with pytest.raises(InputError, match=message):
    load_csqa(tmp_path)


def test_unusual_lines_of_json_that_are_right(tmp_path):
  line = json.dumps(changed(QUESTION, ['question', 'stem'], 'x' * 2**20))
  path = write_csqa(tmp_path) / 'train_rand_split.jsonl'
  path.write_bytes(f'\ufeff{line}\r\n'.encode())
  (example,) = load_csqa(tmp_path)
  assert len(example.text) == 2**20


# RACE


def write_race(root, record=RACE, text=None):
  for split in ('train', 'dev', 'test'):
    for group in choice_files.RACE_GROUPS:
      folder = root / split / group
      folder.mkdir(parents=True)
      own = dict(record)
      if 'id' in own:
        own['id'] = own['id'].replace('high', group)
      data = as_bytes(json.dumps(own) if text is None else text)
      (folder / '12.txt').write_bytes(data)
  return root


def load_race(root, split='train', **changes):
  data = files(root, **changes)
  return TASKS['race'].make_task({}, data).load(data, split)


def test_race_fills_gaps_and_keeps_the_number_of_options(tmp_path):
  write_race(tmp_path / 'RACE')
  examples = load_race(tmp_path)
  first, second = examples[2:]
  assert [example.group for example in examples] == ['middle'] * 2 + [
    'high'
  ] * 2
  assert first.text == second.text == RACE['article']
  assert (first.id, second.id) == ('high12.txt-0', 'high12.txt-1')
  assert first.choices == (
    'What has Tom? A dog', 'What has Tom? A cat', 'What has Tom? A cow',
  )  # fmt: skip
  assert second.choices[1] == 'The cat is black .'
  assert (first.keys, first.answer) == (('A', 'B', 'C'), 1)
  assert second.keys == ('A', 'B', 'C', 'D')
  assert len(load_race(tmp_path, 'test', eval_examples=3)) == 3


def test_race_files_are_in_the_order_of_their_numbers(tmp_path):
  root = write_race(tmp_path)
  for name in ('100.txt', '2.txt', 'notes.txt'):
    own = {**RACE, 'id': name}
    (root / 'train' / 'middle' / name).write_text(json.dumps(own))
  ids = [e.id for e in load_race(root)][:8:2]
  assert ids == ['2.txt-0', 'middle12.txt-0', '100.txt-0', 'notes.txt-0']


WRONG_RACE = {
  'no article': (['article'], None, r"12\.txt: there is no 'article'"),
  'empty article': (['article'], '', 'question 0: the text of the question'),
  'no id': (['id'], None, "there is no 'id'"),
  'no answers': (['answers'], None, "there is no 'answers'"),
  'one answer': (['answers'], ['A'], 'questions, options and answers are 2, 2'),
  'answer out of range': (
    ['answers'], ['D', 'A'], r"question 0: the answer is 'D'; .* 'A', 'B', 'C'",
  ),
  'small letter': (['answers'], ['a', 'A'], "the answer is 'a'"),
  'options in words': (['options'], 'x', "'options' is string"),
  'options of numbers': (
    ['options'], [[1, 2], ['a', 'b']], 'question 0: expected strings',
  ),
  'options missing': (
    ['options'], [{}, ['a', 'b']], 'question 0: expected strings',
  ),
  'one option': (['options'], [['x'], ['a', 'b']], 'question 0: there are 1'),
}  # fmt: skip


@pytest.mark.parametrize('case', WRONG_RACE)
def test_a_wrong_article_is_named(tmp_path, case):
  path, value, message = WRONG_RACE[case]
  record = changed(RACE, path, value)
  if case == 'one option':
    record['answers'][0] = 'A'
  with pytest.raises(InputError, match=message):
    load_race(write_race(tmp_path, record))


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', r'12\.txt: the file is empty'),
    ('{\n"id": 1,,}', r'12\.txt:2: this is not JSON'),
    ('[]', 'expected a JSON object'),
    (b'{"id": "\xff"}', r':1: byte 9 of the line is not valid UTF-8'),
  ],
  ids=['empty', 'broken', 'list', 'encoding'],
)
def test_a_wrong_race_file(tmp_path, text, message):
  with pytest.raises(InputError, match=message):
    load_race(write_race(tmp_path, text=text))


def test_wrong_race_folders(tmp_path):
  with pytest.raises(InputError, match='expected the directory train there'):
    load_race(tmp_path)
  (tmp_path / 'train' / 'middle').mkdir(parents=True)
  with pytest.raises(InputError, match=r'middle: there are no files \*\.txt'):
    load_race(tmp_path)


def test_an_id_that_two_race_files_have(tmp_path):
  root = write_race(tmp_path)
  (root / 'train' / 'high' / '13.txt').write_text(json.dumps(RACE))
  with pytest.raises(
    InputError, match=r"13\.txt: the id 'high12\.txt-0' occurs in .*12\.txt too"
  ):
    load_race(root)


def test_unusual_race_files_that_are_right(tmp_path):
  record = {**RACE, 'article': 'x' * 2**20}
  text = '\ufeff' + json.dumps(record, indent=1).replace('\n', '\r\n')
  root = write_race(tmp_path, text=text)
  for number, split in enumerate(('train', 'dev', 'test')):
    own = root / split / 'middle' / '12.txt'
    own.write_bytes(own.read_bytes().replace(b'high12', b'middle%d' % number))
  assert len(load_race(root)[0].text) == 2**20


def prepare_race(raw, folder):
  """As on a machine with TensorFlow, of which TFDS wants a dtype only."""
  features = importlib.import_module('tensorflow_datasets.core.features')
  dtype = property(lambda info: info.np_dtype)
  with mock.patch.object(features.TensorInfo, 'dtype', dtype):
    prepare_race_as_users_do(raw, folder)


def prepare_race_as_users_do(raw, folder):
  with tfds_downloads.replaced(raw):
    for group in choice_files.RACE_GROUPS:
      readers_tfds.prepare(f'race/{group}', str(folder))


def test_race_from_tfds(tmp_path):
  raw, folder = tmp_path / 'raw', tmp_path / 'tfds'
  write_race(raw / 'RACE')
  prepare_race(raw, folder)
  stored = DataConfig(source='tfds', path=str(folder))
  task = TASKS['race'].make_task({}, stored)
  for split in SPLITS:
    assert task.load(stored, split) == load_race(raw, split)


def test_preparing_race_needs_tensorflow(tmp_path):
  if importlib.util.find_spec('tensorflow'):
    pytest.skip('TensorFlow is installed')
  write_race(tmp_path / 'RACE')
  with pytest.raises(
    InputError, match=r'race/middle needs TensorFlow .*mobilebert_jax\[tf\]'
  ):
    prepare_race_as_users_do(tmp_path, tmp_path / 'tfds')


def test_wrong_sources(tmp_path):
  for name in ('swag', 'commonsenseqa'):
    data = DataConfig(source='tfds', path=str(tmp_path))
    task = TASKS[name].make_task({}, data)
    with pytest.raises(InputError, match='use "files"'):
      task.load(data, 'train')
  with pytest.raises(InputError, match='use "tfds" or "files"'):
    data = DataConfig(source='generated')
    TASKS['race'].make_task({}, data).load(data, 'train')


@pytest.mark.data
def test_the_official_commonsenseqa(shared_data):
  folder = shared_data / 'multiple_choice'
  counts = [
    len(load_csqa(folder, split, predict_test=False)) for split in SPLITS[:2]
  ]
  assert counts == [9741, 1221]
  examples = load_csqa(folder, 'validation', predict_test=False)
  assert {len(example.choices) for example in examples} == {5}


def test_wrong_parts_of_race_are_counted_or_left_out(tmp_path):
  root = write_race(tmp_path)
  folder = root / 'train' / 'high'
  one_wrong = changed(RACE, ('answers', 0), 'Z')
  (folder / '20.txt').write_text(json.dumps({**one_wrong, 'id': 'x'}))
  (folder / '21.txt').write_text('{"article": ')
  (folder / '22.txt').write_text(json.dumps({**RACE, 'questions': []}))
  good = len(RACE['questions'])
  with pytest.raises(InputError) as error:
    load_race(root)
  text = str(error.value)
  for piece in ('3 rows are wrong', '20.txt: question 0', '21.txt', '22.txt'):
    assert piece in text
  examples = load_race(root, bad_rows='skip')
  # Two articles without a mistake, and what is right of the third.
  assert len(examples) == 3 * good - 1
  assert [e.id for e in examples if e.id.startswith('x-')] == [
    f'x-{i}' for i in range(1, good)
  ]
