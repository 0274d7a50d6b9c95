"""Reading SQuAD: right files, wrong files, and TFDS."""

import gzip
import json
from unittest import mock

import pytest

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.readers import remarks, squad
from mobilebert_jax.data.readers import tfds as readers_tfds
from mobilebert_jax.data.readers.squad import Answer, Question
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import TASKS
from tests.support import squad_files
from tests.support.squad_files import TEXT, answer, document, question

V1 = tuple(
  Question(
    record['id'],
    record['question'],
    TEXT,
    tuple(Answer(a['text'], a['answer_start']) for a in record['answers']),
  )
  for record in squad_files.v1()
)


def files(path, **changes):
  return DataConfig(source='files', path=str(path), **changes)


def load(name, data, split):
  return TASKS[name].make_task({}, data).load(data, split)


def read(path, content, with_null=False):
  path.write_text(json.dumps(content), encoding='utf-8')
  return list(squad.read_file(path, with_null=with_null))


def test_version_1(tmp_path):
  folder = squad_files.write(tmp_path / 'squad', '1.1', squad_files.v1())
  assert load('squad_v1', files(tmp_path), 'train') == V1
  assert load('squad_v1', files(folder), 'validation') == V1
  limited = files(folder, train_examples=3, eval_examples=1)
  assert load('squad_v1', limited, 'train') == V1[:3]
  assert load('squad_v1', limited, 'validation') == V1[:1]


def test_version_2_has_questions_without_answer(tmp_path):
  squad_files.write(tmp_path, '2.0', squad_files.v2())
  loaded = load('squad_v2', files(tmp_path), 'train')
  assert loaded[:4] == V1
  assert loaded[4] == Question('q5', 'Who led the Romans?', TEXT, ())


@pytest.mark.parametrize('change', ['gzip', 'bom', 'crlf', 'escapes'])
def test_other_spellings_of_the_same_file(tmp_path, change):
  text = json.dumps(document(squad_files.v1()), indent=1, ensure_ascii=False)
  data = {
    'gzip': lambda: gzip.compress(text.encode()),
    'bom': lambda: text.encode('utf-8-sig'),
    'crlf': lambda: text.replace('\n', '\r\n').encode(),
    'escapes': lambda: json.dumps(json.loads(text)).encode('ascii'),
  }[change]()
  name = 'dev-v1.1.json' + ('.gz' if change == 'gzip' else '')
  (tmp_path / name).write_bytes(data)
  assert load('squad_v1', files(tmp_path), 'validation') == V1


def one(**changes):
  """A file with one question, some of it changed."""
  return document([{**squad_files.v1()[0], **changes}])


def without(name):
  record = dict(squad_files.v1()[0])
  del record[name]
  return document([record])


WRONG = {
  'no id': (without('id'), "paragraph 1, question 1: there is no field 'id'"),
  'no question': (without('question'), "question 'q1': there is no field 'que"),
  'no answers': (without('answers'), "question 'q1': there is no field 'answ"),
  'no context': (
    {'data': [{'paragraphs': [{'qas': []}]}]},
    "article 1, paragraph 1: there is no field 'context'",
  ),
  'no data': ({'version': '1.1'}, "there is no field 'data'"),
  'a list': ([], "there is no field 'data'"),
  'an article without paragraphs': (
    {'data': [{'title': 'x'}]},
    "article 1: there is no field 'paragraphs'",
  ),
  'no questions': ({'data': []}, 'there is no question in it'),
  'a number as id': (one(id=5), "question 1: 'id' must be a string"),
  'null as question': (one(question=None), "'q1': 'question' must be a string"),
  'an answer that is a string': (
    one(answers=['France']),
    "question 'q1', answer 1: there is no field 'text'",
  ),
  'an empty answer': (
    one(answers=[answer('France'), answer(' ', start=3)]),
    "question 'q1', answer 2: the text is empty",
  ),
  'a start that is a string': (
    one(answers=[{'text': 'France', 'answer_start': '5'}]),
    "'q1', answer 1: 'answer_start' must be a whole number",
  ),
  'a start before the text': (
    one(answers=[answer('France', start=-1)]),
    "'q1', answer 1: answer_start is -1; expected a character",
  ),
  'a start behind the text': (
    one(answers=[answer('France', start=len(TEXT))]),
    f'answer_start is {len(TEXT)}; .* from 0 to {len(TEXT) - 1}',
  ),
  'duplicate ids': (
    document([squad_files.v1()[0]] * 2),
    "question 'q1' is there twice",
  ),
  'half a surrogate pair': (
    one(question='\ud83d?'),
    "question 'q1': 'question' has half of a surrogate pair",
  ),
  'a question without answer': (
    one(answers=[]),
    "question 'q1' has no answer, .* config.task='squad_v2'",
  ),
}


@pytest.mark.parametrize('case', WRONG)
def test_a_wrong_file_is_named(tmp_path, case):
  content, message = WRONG[case]
  with pytest.raises(InputError, match=message) as caught:
    read(tmp_path / 'dev.json', content)
  assert str(caught.value).startswith(f'{tmp_path / "dev.json"}: ')


@pytest.mark.parametrize(
  ('record', 'message'),
  [
    (
      question('q', 'Who?', answer('Rollo'), impossible=True),
      "question 'q': is_impossible is True, but there are 1 answers",
    ),
    (
      question('q', 'Who?', impossible=False),
      "question 'q': is_impossible is False, but there are 0 answers",
    ),
    (question('q', 'Who?', impossible='no'), "is_impossible is 'no'"),
  ],
)
def test_wrong_files_of_version_2(tmp_path, record, message):
  with pytest.raises(InputError, match=message):
    read(tmp_path / 'dev.json', document([record]), with_null=True)


@pytest.mark.parametrize(
  ('name', 'data', 'message'),
  [
    ('x.json', b'', 'x.json: the file is empty'),
    ('x.json', b'\xef\xbb\xbf \n', 'x.json: the file is empty'),
    ('x.json', b'{"data": [\n{]}', 'x.json:2: this is not JSON'),
    ('x.json', b'{"data": 1', 'x.json:1: this is not JSON'),
    ('x.json', '{\n"é"'.encode('latin-1'), r'x.json:2: byte 2 .* not valid UT'),
    ('x.json', '{}'.encode('utf-16'), r'x.json:1: byte 1 .* not valid UTF-8'),
    ('x.json', b'[' * 200_000, 'x.json: JSON that is nested too deep'),
    ('x.json.gz', b'{"data": []}', 'x.json.gz:1: the archive is broken'),
    ('x.json.gz', gzip.compress(b'{}' * 9, mtime=0)[:-9], 'archive is broken'),
  ],
)
def test_a_file_that_cannot_be_read(tmp_path, name, data, message):
  (tmp_path / name).write_bytes(data)
  with pytest.raises(InputError, match=message):
    list(squad.read_file(tmp_path / name, with_null=False))


def test_missing_files_and_wrong_sources(tmp_path):
  with pytest.raises(
    InputError, match=r'file dev-v2\.0\.json or dev-v2\.0\.js'
  ):
    load('squad_v2', files(tmp_path), 'validation')
  with pytest.raises(InputError, match=r'use "tfds", or "files"'):
    load('squad_v1', DataConfig(source='generated'), 'train')


@pytest.mark.parametrize(
  ('text', 'start', 'expected'),
  [
    ('France', None, 'France'),
    # Spaces do not count, as in run_squad.
    ('Caf\u00e9 Charles  III', TEXT.index('Caf\u00e9'), 'Café   Charles III'),
    # Anywhere in the words that the answer is said to cover.
    ('Norman', TEXT.index('(Norman'), 'Norman'),
    ('Norman:', TEXT.index('(Norman') - 1, 'Norman:'),
    ('Rollo', TEXT.index('Rollo,') + 2, 'Rollo'),
    ('France', TEXT.index('Rollo'), None),
    ('France', len(TEXT) - 1, None),
  ],
)
def test_where_an_answer_stands(text, start, expected):
  record = answer(text, start=start)
  asked = Question('q', '?', TEXT, (Answer(**_names(record)),))
  span = asked.span()
  assert (TEXT[slice(*span)] if span else None) == expected


def _names(record):
  return {'text': record['text'], 'start': record['answer_start']}


def test_training_answers_that_are_not_there_are_counted(tmp_path, capsys):
  shifted = question('q9', 'Where?', answer('France', start=3))
  records = [squad_files.v1()[0], shifted, squad_files.v1()[1]]
  squad_files.write(tmp_path, '1.1', records)
  data = files(tmp_path, train_examples=2)
  assert [q.id for q in load('squad_v1', data, 'train')] == ['q1', 'q2']
  out = capsys.readouterr().err
  assert '1 of 3 training questions are left out' in out
  assert "'q9'" in out
  # Scores look at the texts of the answers alone.
  assert len(load('squad_v1', data, 'validation')) == 3
  squad_files.write(tmp_path, '1.1', [shifted])
  with pytest.raises(InputError, match='none of the 1 answers stands in its'):
    load('squad_v1', data, 'train')


@pytest.mark.parametrize('version', ['1.1', '2.0'])
def test_tfds_gives_the_same_questions(tmp_path, version):
  """Prepared by TFDS's own builder, from files instead of a URL."""
  tfds = pytest.importorskip('tensorflow_datasets')
  name = {'1.1': 'squad_v1', '2.0': 'squad_v2'}[version]
  records = {'1.1': squad_files.v1, '2.0': squad_files.v2}[version]()
  raw = squad_files.write(tmp_path / 'raw', version, records, dev=records[2:])
  paths = {part: raw / f'{part}-v{version}.json' for part in ('train', 'dev')}
  with mock.patch.object(
    tfds.download.DownloadManager,
    'download_and_extract',
    lambda self, urls: paths,
  ):
    readers_tfds.prepare(f'squad/v{version}', str(tmp_path / 'tfds'))
  stored = DataConfig(source='tfds', path=str(tmp_path / 'tfds'))
  for split in ('train', 'validation'):
    found = load(name, stored, split)
    # TFDS has an order of its own.
    assert sorted(found, key=lambda q: q.id) == list(
      load(name, files(raw), split)
    )
  assert load(name, stored, 'train') == load(name, stored, 'train')


@pytest.mark.slow
@pytest.mark.data
def test_the_official_files(shared_data, capsys):
  data = files(shared_data)
  train = load('squad_v1', data, 'train')
  dev = load('squad_v1', data, 'validation')
  assert (len(train), len(dev)) == (87_599, 10_570)
  assert capsys.readouterr() == ('', '')
  half = shared_data / 'squad' / 'cs224n-dev-v2.0.json'
  questions = list(squad.read_file(half, with_null=True))
  assert len(questions) == 6078
  assert sum(not q.answers for q in questions) == 3168
  assert all(q.span() for q in questions if q.answers)


def lists(record):
  """The record with its answers as the datasets library writes them."""
  answers = record['answers']
  return {
    **record,
    'answers': {
      name: [a[name] for a in answers] for name in ('text', 'answer_start')
    },
  }


def test_answers_as_two_lists_and_questions_without_paragraphs(tmp_path):
  content = document([lists(record) for record in squad_files.v1()])
  assert tuple(read(tmp_path / 'a.json', content)) == V1
  flat = {'data': [{**lists(r), 'context': TEXT} for r in squad_files.v1()]}
  assert tuple(read(tmp_path / 'a.json', flat)) == V1
  uneven = {'text': ['France', 'Rollo'], 'answer_start': [3]}
  with pytest.raises(InputError, match="'q1': the answers have 2 texts, but 1"):
    read(tmp_path / 'a.json', one(answers=uneven))


def test_is_impossible_may_be_missing(tmp_path):
  records = [*squad_files.v1(), question('q5', 'Who led the Romans?')]
  found = read(tmp_path / 'a.json', document(records), with_null=True)
  assert found[:4] == list(V1) and found[4].answers == ()


def test_all_wrong_questions_are_counted(tmp_path, capsys):
  records = squad_files.v1()
  broken = [dict(r, id=f'b{i}', answers=[]) for i, r in enumerate(records)]
  squad_files.write(tmp_path, '1.1', [*records, *broken, records[0]])
  with pytest.raises(
    InputError, match=r"5 rows are wrong; the first 3: .*'b0'"
  ):
    load('squad_v1', files(tmp_path), 'train')
  remarks.forget()
  assert load('squad_v1', files(tmp_path, bad_rows='skip'), 'train') == V1
  assert '5 rows are left out' in capsys.readouterr().err
