"""The user's own files in the forms that they have: one rule for all."""

import json
import unicodedata

import hypothesis
import pytest
from hypothesis import strategies

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.readers import remarks
from mobilebert_jax.data.readers.squad import Answer
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import TASKS
from tests.support import properties, squad_files
from tests.support.squad_files import TEXT, answer, document, question


@pytest.fixture(autouse=True)
def _nothing_said():
  remarks.forget()


def load(kind, folder, split='train', *, source='files', subset=None,
         bad_rows='error', **options):  # fmt: skip
  data = DataConfig(
    source=source, path=str(folder), subset=subset, bad_rows=bad_rows
  )
  task = TASKS[f'custom_{kind}'].make_task(options, data)
  return task, task.load(data, split)


def test_labels_are_compared_without_spaces_and_in_one_unicode_form(tmp_path):
  names = ('yes', ' yes', 'yes\u00a0', 'caf\u00e9', 'cafe\u0301', 'yes ')
  rows = ''.join(f'text {i},{name}\n' for i, name in enumerate(names))
  (tmp_path / 'train.csv').write_text(f'text,label\n{rows}')
  (tmp_path / 'dev.csv').write_text('text,label\nx,cafe\u0301 \n')
  task, train = load('classification', tmp_path)
  assert task.labels == ('caf\u00e9', 'yes')
  assert [example.label for example in train] == [1, 1, 1, 0, 0, 1]
  named, (held,) = load(
    'classification', tmp_path, 'validation', labels=('yes', 'cafe\u0301')
  )
  assert named.labels == ('yes', 'caf\u00e9') and held.label == 1


@properties.few
@hypothesis.given(
  names=strategies.lists(
    strategies.text(strategies.sampled_from('aé\u0301ñZ가'), min_size=1,
                    max_size=3).map(lambda t: unicodedata.normalize('NFC', t))
    .filter(lambda t: not unicodedata.combining(t[0])),
    min_size=2, max_size=5, unique=True),
  form=strategies.sampled_from(['NFC', 'NFD']),
  space=strategies.sampled_from(['', ' ', '\u00a0', '\t']),
  order=strategies.randoms(use_true_random=False),
)  # fmt: skip
def test_labels_in_random_forms_are_the_same(
  tmp_path, names, form, space, order
):
  rows = [(f'text {i}', name) for i, name in enumerate(names * 2)]
  order.shuffle(rows)
  (tmp_path / 'train.jsonl').write_text(
    ''.join(json.dumps({'text': t, 'label': n}) + '\n' for t, n in rows)
  )
  (tmp_path / 'dev.jsonl').write_text(''.join(
    json.dumps({'text': t, 'label': unicodedata.normalize(form, n) + space})
    + '\n' for t, n in rows))  # fmt: skip
  task, train = load('classification', tmp_path)
  assert task.labels == tuple(sorted(names))
  assert load('classification', tmp_path, 'validation')[1] == train
  assert [task.labels[e.label] for e in train] == [name for _, name in rows]


def test_rows_with_marks_for_missing_labels_can_be_left_out(tmp_path, capsys):
  rows = [{'text': str(i), 'label': v} for i, v in enumerate('ab-ba')]
  rows[2]['label'] = None
  rows.append({'text': '5', 'label': ' -1'})
  path = tmp_path / 'train.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  (tmp_path / 'dev.jsonl').write_text(path.read_text())
  with pytest.raises(InputError, match=r':3: .* is None; expected a text'):
    load('classification', tmp_path)
  task, train = load('classification', tmp_path, ignore_labels=('-1', ''))
  assert task.labels == ('a', 'b')
  assert [e.id for e in train] == ['0', '1', '3', '4']
  assert f'{path}: 2 rows are left out for their labels' in (
    capsys.readouterr().err
  )
  rows = [{'text': str(i), 'label': v} for i, v in enumerate((1, '-999', 2))]
  path.write_text('\n'.join(map(json.dumps, rows)))
  (tmp_path / 'dev.jsonl').write_text(path.read_text())
  _, numbers = load('regression', tmp_path, ignore_labels=('-999',))
  assert [e.label for e in numbers] == [1.0, 2.0]


def test_what_looks_odd_is_in_the_summary(tmp_path):
  names = ['yes', 'no', 'nan'] * 3
  path = tmp_path / 'train.csv'
  path.write_text('text,label\n' + ''.join(f't,{n}\n' for n in names))
  (tmp_path / 'dev.csv').write_text(path.read_text())
  task, train = load('classification', tmp_path)
  summary = task.summarize(train)
  assert summary.rows == 9 and summary.classes[0] == ('nan', 3)
  assert "'nan' (3 rows)" in summary.remarks[0]


def test_wrong_rows_are_counted_or_left_out(tmp_path, capsys):
  path = tmp_path / 'train.csv'
  path.write_bytes(b'text,label\na,x\nb\nc,y\n ,x\nd,y,z\ncaf\xe9,x\ne,x\n')
  (tmp_path / 'dev.csv').write_text('text,label\na,x\n')
  message = (
    r'train\.csv: 4 rows are wrong; the first 3: \(1\) .*:3: 1 comma.*\(2\) '
    r'.*:5: .*text.*\(3\) .*:6: 3 comma.*bad_rows'
  )
  with pytest.raises(InputError, match=message):
    load('classification', tmp_path, labels=('x', 'y'))
  _, train = load('classification', tmp_path, bad_rows='skip')
  assert [e.text for e in train] == ['a', 'c', 'e']
  # The numbers are those of the rows that are there.
  assert [e.id for e in train] == ['0', '2', '5']
  assert '4 rows are left out (config.data.bad_rows)' in capsys.readouterr().err
  path.write_text('text,label\na,x\n"b,x\nc,y\n')
  with pytest.raises(InputError, match=r':3: not CSV .*end of data'):
    load('classification', tmp_path, bad_rows='skip', labels=('x', 'y'))
  path.write_text('text,label\na,z\n')
  with pytest.raises(InputError, match='no row is left'):
    load('classification', tmp_path, bad_rows='skip', labels=('x', 'y'))


def test_wrong_rows_of_each_task(tmp_path):
  rows = {
    'tagging': {'tokens': ['a'], 'tags': ['B-X']},
    'choice': {'question': 'q', 'choices': ['a', 'b'], 'answer': 1},
    'qa': {'question': 'q', 'context': 'one two', 'answers': 'two'},
  }
  for kind, row in rows.items():
    folder = tmp_path / kind
    folder.mkdir()
    name = list(row)[-1]
    lines = [row, {**row, name: '?'}, row, {}, {**row, name: 7}]
    path = folder / 'train.jsonl'
    path.write_text('\n'.join(map(json.dumps, lines)))
    (folder / 'dev.jsonl').write_text(json.dumps(row))
    with pytest.raises(
      InputError, match=r'3 rows are wrong: \(1\) .*:2: .*:4:'
    ):
      load(kind, folder)
    assert len(load(kind, folder, bad_rows='skip')[1]) == 2


def test_questions_have_one_rule_in_every_file(tmp_path):
  """An answer that is not where it should be, as a table and as JSON."""
  shifted = question('q9', 'Where?', answer('France', start=3))
  records = [*squad_files.v1(), shifted]
  table = [{**r, 'context': TEXT} for r in records]
  contents = {
    'train.json': json.dumps(document(records)),
    'train.jsonl': '\n'.join(map(json.dumps, table)),
    'data.json': json.dumps(table),
  }
  kept = []
  for name, content in contents.items():
    folder = tmp_path / name
    folder.mkdir()
    (folder / 'train.json').write_text(content)
    (folder / 'dev.json').write_text(json.dumps(document(squad_files.v1())))
    for policy in ('error', 'skip'):
      settings = {'bad_rows': policy, 'id_column': 'id'}
      if policy == 'skip':
        kept.append(load('qa', folder, **settings)[1])
        continue
      message = "'France' does not stand in the context at character 3"
      with pytest.raises(InputError, match=message):
        load('qa', folder, **settings)
  assert kept[0] == kept[1] == kept[2] and len(kept[0]) == 4
  assert kept[0][0].answers[0] == Answer('France', TEXT.index('France'))


def test_questions_of_a_test_file_need_no_answers(tmp_path):
  for name in ('train', 'dev'):
    (tmp_path / f'{name}.json').write_text(
      json.dumps(document(squad_files.v1()))
    )
  bare = [{'id': r['id'], 'question': r['question']} for r in squad_files.v1()]
  (tmp_path / 'test.json').write_text(json.dumps(document(bare)))
  _, test = load('qa', tmp_path, 'test')
  assert [q.answers for q in test] == [None] * 4
  (tmp_path / 'dev.json').write_text(json.dumps(document(bare)))
  with pytest.raises(InputError, match=r"4 rows .* no field 'answers'"):
    load('qa', tmp_path, 'validation')
  empty = document([question('q', 'Who?')])
  (tmp_path / 'dev.json').write_text(json.dumps(empty))
  with pytest.raises(
    InputError, match=r"'q' has no answer, .*allow_no_answer=T"
  ):
    load('qa', tmp_path, 'validation')


def test_hidden_files_and_other_suffixes(tmp_path):
  table = 'text,label\na,x\nb,y\n'
  (tmp_path / 'train.CSV').write_text(table)
  (tmp_path / 'dev.csv').write_text(table)
  for name in ('._train.csv', '.~lock.train.csv#', 'train.csv~'):
    (tmp_path / name).write_bytes(b'\x00\x05\x16\x07')
  (tmp_path / '.ipynb_checkpoints').mkdir()
  assert len(load('classification', tmp_path)[1]) == 2
  (tmp_path / 'train.CSV').rename(tmp_path / 'all.txt')
  with pytest.raises(
    InputError, match=r'file train\.\* .*; there are all\.txt'
  ):
    load('classification', tmp_path)
  found = load('classification', tmp_path, train_file='all.txt')[1]
  assert len(found) == 2


def test_parquet_and_compressed_files(tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  from pyarrow import parquet

  rows = [{'tokens': ['Rome', 'fell'], 'tags': ['B-LOC', 'O']}] * 3
  parquet.write_table(
    pyarrow.Table.from_pylist(rows), tmp_path / 'train.parquet'
  )
  (tmp_path / 'dev.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  task, train = load('tagging', tmp_path)
  assert task.labels == ('O', 'B-LOC', 'I-LOC') and len(train) == 3
  assert train[0].tags == ('B-LOC', 'O')


def test_data_sets_of_the_datasets_library(tmp_path, monkeypatch):
  datasets = pytest.importorskip('datasets')
  monkeypatch.setenv('HF_HOME', str(tmp_path / 'cache'))
  monkeypatch.setattr(datasets.config, 'HF_DATASETS_CACHE', tmp_path / 'cache')
  names = datasets.ClassLabel(names=['negative', 'positive'])
  features = datasets.Features(text=datasets.Value('string'), label=names)
  splits = {
    'train': {'text': ['a', 'b', 'c'], 'label': [1, 0, 1]},
    'validation': {'text': ['d'], 'label': [0]},
    'test': {'text': ['e'], 'label': [-1]},
  }
  stored = datasets.DatasetDict({
    name: datasets.Dataset.from_dict(rows, features=features)
    for name, rows in splits.items()
  })  # fmt: skip
  stored.save_to_disk(tmp_path / 'stored')
  files = tmp_path / 'files'
  files.mkdir()
  (files / 'train.jsonl').write_text(
    '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'
  )
  (files / 'validation.jsonl').write_text('{"text": "c", "label": "y"}\n')

  task, train = load(
    'classification', tmp_path / 'stored', source='huggingface'
  )
  assert task.labels == ('negative', 'positive')
  assert [(e.text, e.label) for e in train] == [('a', 1), ('b', 0), ('c', 1)]
  assert task.splits.test == ('test',)
  (test,) = load(
    'classification', tmp_path / 'stored', 'test', source='huggingface'
  )[1]
  assert test.label is None
  _, found = load('classification', files, 'validation', source='huggingface')
  assert [(e.text, e.label) for e in found] == [('c', 1)]
  with pytest.raises(InputError, match=r"no column 'body'; .* 'text', 'label'"):
    load(
      'classification', tmp_path / 'stored', source='huggingface',
      text_column='body',
    )  # fmt: skip
  with pytest.raises(InputError, match='the datasets library cannot load it'):
    load('classification', tmp_path / 'absent', source='huggingface')


def test_the_datasets_library_is_an_extra(tmp_path, monkeypatch):
  import importlib

  def missing(name):
    raise ImportError(f'No module named {name!r}')

  monkeypatch.setattr(importlib, 'import_module', missing)
  with pytest.raises(InputError, match=r"'mobilebert_jax\[huggingface\]'"):
    load('classification', tmp_path, source='huggingface')


CLEAN = [('one', 'x'), ('two', 'y'), ('three', 'x')]
# A wrong row in each kind of file, and how much of a row it takes away.
WRONG_ROWS = {
  'csv': [b'alone', b'a,x,y', b' ,x', b'a,', b'caf\xe9,x', b'"a"b,x'],
  'tsv': [b'alone', b'a\tx\ty', b' \tx', b'a\t', b'caf\xe9\tx'],
  'jsonl': [
    b'{}', b'3', b'{"text": "a"', b'{"text": 1, "label": "x"}', b'[1]',
    b'{"text": "a", "label": null}', b'{"text": "\xff", "label": "x"}',
  ],
}  # fmt: skip


@properties.few
@hypothesis.given(data=strategies.data())
def test_random_wrong_rows_change_nothing_but_their_count(tmp_path, data):
  kind = data.draw(strategies.sampled_from(sorted(WRONG_ROWS)))
  sign = {'csv': ',', 'tsv': '\t'}.get(kind)
  good = [
    sign.join(row) if sign else json.dumps(dict(zip(('text', 'label'), row)))
    for row in CLEAN
  ]
  lines = [line.encode() for line in good]
  wrong = data.draw(
    strategies.lists(
      strategies.sampled_from(WRONG_ROWS[kind]), min_size=1, max_size=4
    )
  )
  for row in wrong:
    lines.insert(data.draw(strategies.integers(0, len(lines))), row)
  header = [sign.join(('text', 'label')).encode()] if sign else []
  path = tmp_path / f'all.{kind}'
  path.write_bytes(b'\n'.join([*header, *lines]) + b'\n')
  (tmp_path / 'dev.csv').write_text('text,label\na,x\n')
  settings = {'train_file': path.name, 'labels': ('x', 'y')}
  _, kept = load('classification', tmp_path, bad_rows='skip', **settings)
  assert [(e.text, 'xy'[e.label]) for e in kept] == CLEAN
  with pytest.raises(InputError) as error:
    load('classification', tmp_path, **settings)
  counted = f'{len(wrong)} rows are wrong' in str(error.value)
  assert counted or (len(wrong) == 1 and f'{path}:' in str(error.value))
