"""The command that predicts: every source of inputs, every kind of result."""

import gzip
import importlib
import io
import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from mobilebert_jax import models
from mobilebert_jax import predict as command
from mobilebert_jax.config import run as run_config
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import DataConfig, TrainConfig
from mobilebert_jax.convert.pretrained import save_pretrained
from mobilebert_jax.pipelines import pipeline, predict_inputs, predict_kinds
from mobilebert_jax.pipelines import predict_kinds as command_model
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

_WORDS = (
  '[PAD] [UNK] [CLS] [SEP] [MASK] paris is the capital of france . , ? where '
  'i live in berlin a b c d e good bad é 中'
).split()
_HEADS = {
  'fill-mask': (models.MobileBertForMaskedLM, {}),
  'classify': (
    models.MobileBertForSequenceClassification,
    {'id2label': {0: 'no', 1: 'yes', 2: 'maybe'}},
  ),
  'tag': (
    models.MobileBertForTokenClassification,
    {'id2label': {0: 'O', 1: 'B-LOC', 2: 'I-LOC'}},
  ),
  'answer': (models.MobileBertForQuestionAnswering, {}),
  'choose': (models.MobileBertForMultipleChoice, {}),
}


@pytest.fixture(scope='module')
def directories(tmp_path_factory):
  """A saved model of each kind."""
  root = tmp_path_factory.mktemp('models')
  tokenizer = MobileBertTokenizerFast(_WORDS)
  for name, (head, changes) in _HEADS.items():
    model = head(
      MobileBertConfig(
        vocab_size=len(_WORDS), hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=16, embedding_size=8,
        intra_bottleneck_size=8, max_position_embeddings=32,
        num_feedforward_networks=1, **changes,
      )
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = jax.tree.map(
      lambda leaf, rng=rng: rng.normal(0, 0.7, leaf.shape).astype(leaf.dtype),
      models.abstract_params(model),
    )
    save_pretrained(root / name, model, params, tokenizer)
  return root


@pytest.fixture(scope='module')
def pipelines(directories):
  """Each model as a pipeline, compiled once."""
  names = {kind: command.KINDS[kind].pipeline for kind in _HEADS}
  return {
    kind: pipeline(name, directories / kind) for kind, name in names.items()
  }


@pytest.fixture
def run(directories, pipelines, monkeypatch, capsys):
  """Runs the command; gives its exit status, results and error line."""

  def load(name, flags):
    pipe = pipelines[flags.command]
    pipe.batch_size = flags['batch_size']
    return pipe

  def call(task, *arguments, stdin=''):
    data = stdin if isinstance(stdin, bytes) else stdin.encode()
    monkeypatch.setattr('sys.stdin', io.TextIOWrapper(io.BytesIO(data)))
    status = exit_status.run(
      command.main, ['predict', task, '--model=M', *map(str, arguments)]
    )
    out, err = capsys.readouterr()
    return status, [json.loads(line) for line in out.splitlines()], err

  monkeypatch.setattr(command_model, 'load', load)
  return call


def good(result):
  """The results of a command that went well."""
  status, results, err = result
  assert (status, err) == (0, '')
  return results


def test_classify(run, pipelines):
  pipe = pipelines['classify']
  texts = ['good', 'a bad b , c', 'paris is the capital of france . ' * 2]
  expected = [
    {'text': text, **answer} for text, answer in zip(texts, pipe(texts))
  ]
  results = good(run('classify', *texts))
  assert results == expected
  assert list(results[0]) == ['text', 'label', 'score']
  ranked = good(run('classify', 'good', '--top_k=all'))
  assert ranked == [{'text': 'good', 'labels': pipe('good', top_k=None)}]
  assert len(good(run('classify', 'a', '--top-k=2'))[0]['labels']) == 2
  [pair] = good(run('classify', '--pair', 'good', 'bad'))
  assert pair == {
    'text': 'good', 'text_pair': 'bad',
    **pipe({'text': 'good', 'text_pair': 'bad'}),
  }  # fmt: skip


def test_several_labels_at_once_are_all_told(run, pipelines, monkeypatch):
  config = pipelines['classify'].config
  changed = config.replace(problem_type='multi_label_classification')
  monkeypatch.setattr(pipelines['classify'], 'config', changed)
  [result] = good(run('classify', 'good'))
  assert len(result['labels']) == 3
  assert sum(label['score'] for label in result['labels']) != pytest.approx(1)


@pytest.mark.slow
def test_fill_mask(run, pipelines):
  one, two = 'a [MASK] b', '[MASK] is [MASK]'
  results = good(run('fill-mask', one, two, '--top_k=2'))
  assert [len(r['masks']) for r in results] == [1, 2]
  assert [len(guesses) for r in results for guesses in r['masks']] == [2, 2, 2]
  assert results[0]['masks'][0] == pipelines['fill-mask'](one, top_k=2)
  [aimed] = good(run('fill-mask', one, '--targets=good, bad'))
  assert {g['token_str'] for g in aimed['masks'][0]} == {'good', 'bad'}


def test_tag(run, pipelines):
  text = 'i live in berlin , paris'
  [result] = good(run('tag', text))
  assert result['entities'] == pipelines['tag'](text, 'first')
  [tokens] = good(run('tag', text, '--aggregation=none'))
  assert tokens['entities'] == pipelines['tag'](text)


def test_answer(run, pipelines):
  question, context = 'where ?', 'i live in berlin . paris is good'
  [result] = good(run('answer', question, context))
  expected = pipelines['answer'](question, context)
  assert result == {'question': question, **expected}
  lines = [
    json.dumps({'id': i, 'question': question, 'context': context * n})
    for i, n in enumerate((1, 4))
  ]
  results = good(run('answer', stdin='\n'.join(lines)))
  assert [r['id'] for r in results] == [0, 1]
  assert 'context' not in results[0]
  # The second text is longer than the model and read in parts.
  assert results[1]['answer'] in context * 4
  [several] = good(run('answer', question, context, '--top_k=3'))
  assert [a['score'] for a in several['answers']] == sorted(
    (a['score'] for a in several['answers']), reverse=True
  )
  [none] = good(
    run('answer', question, context, '--top_k=90', '--may_be_unanswerable')
  )
  assert '' in [a['answer'] for a in none['answers']]


@pytest.mark.slow
def test_choose(run, pipelines, directories):
  question, choices = 'where ?', ['in berlin', 'a b', 'paris is good .']
  [result] = good(run('choose', question, *choices))
  assert result['choice'] == choices[result['index']]
  assert result['score'] == max(result['scores'])
  assert sum(result['scores']) == pytest.approx(1)
  # The model itself, with the choices as one example, unpadded one by one.
  from mobilebert_jax.convert.pretrained import from_pretrained

  model, params = from_pretrained(None, directories / 'choose')
  tokenizer = pipelines['choose'].tokenizer
  apply = jax.jit(model.apply)
  logits = []
  for choice in choices:
    batch = tokenizer([question], [choice], return_tensors='np')
    # One question with one choice: [1, 1, S].
    batch = {name: value[None] for name, value in batch.items()}
    logits.append(apply({'params': params}, **batch).logits[0, 0])
  np.testing.assert_allclose(
    result['scores'], jax.nn.softmax(np.array(logits)), rtol=1e-5
  )
  # Another number of choices for each question; the same numbers as alone.
  lines = [
    {'question': question, 'choices': choices[:2], 'more': 1},
    {'question': question, 'choices': choices},
  ]
  results = good(run('choose', stdin='\n'.join(map(json.dumps, lines))))
  assert [len(r['scores']) for r in results] == [2, 3]
  np.testing.assert_allclose(results[1]['scores'], result['scores'], rtol=1e-5)


@pytest.mark.slow
def test_choose_from_python(pipelines):
  choose = pipelines['choose']
  one = choose('where ?', ['a', 'b'])
  assert choose(['where ?'], [['a', 'b']])[0] == one
  assert choose({'question': 'where ?', 'choices': ['a', 'b']}) == one
  cases = (
    (lambda: choose('a', ['b']), 'input 0 has 1 choices; give at least two'),
    (lambda: choose(['a', 'b'], [['c', 'd']]), '2 questions, but choices'),
    (lambda: choose('a', ['b', 3]), r"has the choices \['b', 3\]"),
    (lambda: choose([3], [['b', 'c']]), 'has the question 3'),
    (lambda: choose('a'), 'give question and choices'),
    (
      lambda: choose(['a', 'b'], [['c', 'd'], ['e', 'a ' * 40]]),
      'input 1 has 4[0-9] tokens, but the model takes 32',
    ),
  )  # fmt: skip
  for call, message in cases:
    with pytest.raises(InputError, match=message):
      call()
  long = choose('a', ['b', 'a ' * 40], truncation=True)
  assert len(long['scores']) == 2


def test_lines_of_standard_input(run):
  # A mark of byte order, both line ends, and a separator that ends no line.
  data = '\ufeffgood\r\nbad é\u2028中\n"a" {b}'.encode()
  results = good(run('classify', stdin=data))
  assert [r['text'] for r in results] == ['good', 'bad é\u2028中', '"a" {b}']
  [again] = good(run('classify', '--file=-', stdin='good\n'))
  assert again['label'] == results[0]['label']
  lines = '{"text": "good", "text_pair": "bad", "id": "x"}\n'
  [pair] = good(run('classify', '--format=jsonl', stdin=lines))
  assert list(pair) == ['id', 'text', 'text_pair', 'label', 'score']
  assert good(run('classify')) == []


@pytest.mark.slow
def test_many_inputs_keep_their_order(run, pipelines):
  texts = ['a ' * (1 + i * 7 % 19) + 'b' for i in range(40)]
  expected = [pipelines['classify'](text)[0]['score'] for text in texts]
  results = good(run('classify', '--batch_size=3', stdin='\n'.join(texts)))
  assert [r['text'] for r in results] == texts
  np.testing.assert_allclose([r['score'] for r in results], expected, rtol=1e-5)


def test_files(run, tmp_path):
  texts = ['good', 'a , b']
  files = {
    'a.txt': 'good\na , b\n',
    'a.jsonl': '{"text": "good", "label": 1}\n\n{"text": "a , b"}\n',
    'a.csv': 'label,text\n1,good\n0,"a , b"\n',
    'a.tsv': 'text\tlabel\r\ngood\t1\r\na , b\t0\r\n',
  }
  for name, content in files.items():
    path = tmp_path / name
    path.write_text(content, newline='')
    results = good(run('classify', f'--file={path}'))
    assert [r['text'] for r in results] == texts, name
    zipped = tmp_path / f'{name}.gz'
    zipped.write_bytes(gzip.compress(content.encode()))
    assert good(run('classify', f'--file={zipped}')) == results, name


def test_named_columns(run, tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('id,first,second\n7,good,bad\n')
  flags = ('--column=text=first', '--column', 'text_pair=second')
  [named] = good(run('classify', f'--file={path}', *flags))
  path.write_text('text_pair,text,id\nbad,good,7\n')
  # A column that has a field's name is used without being told.
  assert good(run('classify', f'--file={path}')) == [named]
  assert named['id'] == '7' and named['text_pair'] == 'bad'
  path.write_text('q,A,B,C\nwhere ?,a,b,c\nwhere ?,a,b,\n')
  flags = [f'--column=choices={name}' for name in 'ABC']
  results = good(run('choose', f'--file={path}', '--column=question=q', *flags))
  assert [len(r['scores']) for r in results] == [3, 2]
  path = tmp_path / 'a.jsonl'
  path.write_text('{"question": "where ?", "A": "a", "B": "b", "C": "c"}\n')
  [joined] = good(run('choose', f'--file={path}', *flags))
  path.write_text('{"question": "where ?", "list": ["a", "b", "c"]}\n')
  [listed] = good(run('choose', f'--file={path}', '--column=choices=list'))
  assert listed == joined
  np.testing.assert_allclose(joined['scores'], results[0]['scores'], rtol=1e-5)


def test_parquet_and_json_arrays_are_predicted_on(run, tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  parquet = importlib.import_module('pyarrow.parquet')
  rows = [
    {'id': 7, 'review': 'good', 'more': 1.5},
    {'id': 8, 'review': None, 'more': 2.5},
    {'id': 9, 'review': 'bad', 'more': 3.5},
  ]
  column = '--column=text=review'
  path = tmp_path / 'a.parquet'
  parquet.write_table(pyarrow.Table.from_pylist(rows), path)
  status, results, err = run('classify', f'--file={path}', column)
  assert status == 2 and 'a.parquet: row 1: text has None' in err
  assert [r['id'] for r in results] == [7, 8, 9]
  assert list(results[1]) == ['id', 'error'] and 'more' not in results[0]
  array = tmp_path / 'a.json'
  array.write_text(json.dumps([rows[0], rows[2]], indent=1))
  kept = good(run('classify', f'--file={array}', column))
  assert kept == [results[0], results[2]]
  # Choices as a list, and in columns of which some are empty.
  choices = [
    {'question': 'where ?', 'list': ['a', 'b'], 'A': 'a', 'B': 'b', 'C': None}
  ]
  parquet.write_table(pyarrow.Table.from_pylist(choices), path)
  flags = [f'--column=choices={name}' for name in 'ABC']
  [several] = good(run('choose', f'--file={path}', *flags))
  [listed] = good(run('choose', f'--file={path}', '--column=choices=list'))
  assert listed == several and len(listed['scores']) == 2
  status, _, err = run('classify', f'--file={path}', column)
  assert status == 2 and "no column 'review'; its columns are" in err
  path.write_bytes(b'PAR1' + bytes(40))
  status, _, err = run('classify', f'--file={path}', column)
  assert status == 2 and 'a.parquet' in err


def test_an_output_file(run, tmp_path):
  path = tmp_path / 'out.jsonl'
  assert good(run('classify', 'good é', f'--output={path}')) == []
  [result] = map(json.loads, path.read_text(encoding='utf-8').splitlines())
  assert result['text'] == 'good é'
  assert 'é' in path.read_text(encoding='utf-8')
  # Wrong input of another kind leaves the old file as it is, and no other.
  before = path.read_bytes()
  status, _, err = run('classify', f'--output={path}', '--file=no.txt')
  assert status == 2 and 'no.txt' in err
  assert path.read_bytes() == before
  assert [p.name for p in tmp_path.iterdir()] == ['out.jsonl']
  # A wrong line has its place in the new one.
  status, _, err = run('classify', f'--output={path}', stdin='good\n\n')
  assert status == 2 and 'standard input:2' in err
  results = [json.loads(line) for line in path.read_text().splitlines()]
  assert results[0]['label'] and list(results[1]) == ['error']


def test_what_stands_around_a_wrong_line_is_answered(run):
  status, results, err = run(
    'classify', '--batch_size=2', stdin='good\nbad\na\n\nb\n'
  )
  assert status == 2 and len(results) == 5
  assert [r.get('text') for r in results] == ['good', 'bad', 'a', None, 'b']
  assert results[3]['error'].startswith('standard input:4: ')
  assert err.startswith('error: standard input:4: ')
  assert 'All other inputs are answered.' in err


def test_several_wrong_inputs_of_each_kind(run, pipelines):
  """One that is no JSON, one without its field, one that is too long."""
  lines = [
    '{"text": "good", "id": 1}',
    '{"text": ',
    '{"id": 2}',
    json.dumps({'text': 'a ' * 40, 'id': 3}),
    '{"text": "bad", "id": 4}',
  ]
  status, results, err = run(
    'classify', '--format=jsonl', '--batch_size=5', stdin='\n'.join(lines)
  )
  assert status == 2 and err.count('\n') == 1
  assert '3 of 5 inputs like this have an "error"' in err
  assert ['error' in r for r in results] == [False, True, True, True, False]
  assert results[3]['id'] == 3 and 'tokens' in results[3]['error']
  texts = ['good', 'bad']
  for result, expected in zip((results[0], results[4]), pipelines['classify'](
    texts
  )):  # fmt: skip
    assert result['label'] == expected['label']


def test_a_question_that_is_too_long_is_told_and_others_are_answered(run):
  rows = [
    {'question': 'who ' * (40 if i == 1 else 1), 'context': 'ada wrote it'}
    for i in range(3)
  ]
  stdin = '\n'.join(map(json.dumps, rows))
  status, results, err = run('answer', stdin=stdin)
  assert status == 2
  assert ['error' in result for result in results] == [False, True, False]
  assert 'standard input:2: the input has a question of ' in err
  assert 'leaves 0 for the text' in err and 'shorten the question' in err
  assert err.endswith('All other inputs are answered.\n')


def test_a_wrong_argument_has_its_place(run):
  status, results, err = run('fill-mask', 'a [MASK]', 'b')
  assert status == 2 and 'argument 2: the input has no mask' in err
  assert 'masks' in results[0] and 'no mask' in results[1]['error']


@pytest.mark.slow
def test_too_long_texts(run):
  text = 'a ' * 40
  for task in ('classify', 'tag', 'fill-mask'):
    body = text + '[MASK]' if task == 'fill-mask' else text
    status, _, err = run(task, stdin=f'good [MASK]\n{body}\n')
    assert status == 2
    assert err.startswith('error: standard input:2: the input has 4')
    assert 'tokens, but the model takes 32' in err and '--truncate' in err
  for task in ('classify', 'tag'):
    assert good(run(task, '--truncate', text))


_FILES = {
  'empty.csv': '',
  'header.csv': 'text\n',
  'other.csv': 'sentence\ngood\n',
  'wide.csv': 'text\ngood,bad\n',
  'quote.csv': 'text\n"good\n',
  'latin.txt': b'good\nb\xe9\n',
  'blank.txt': 'good\n \n',
  'not.jsonl': '{"text": "good"}\n{"text": \n',
  'list.jsonl': '["good"]\n',
  'number.jsonl': '{"text": 3}\n',
  'nothing.jsonl': '{"id": 3}\n',
  'half.jsonl': '{"text": "\\ud800"}\n',
  'one.jsonl': '{"question": "a", "choices": ["b"]}\n',
  'string.jsonl': '{"question": "a", "choices": "bc"}\n',
  'inner.jsonl': '{"question": "a", "choices": ["b", null]}\n',
  'context.jsonl': '{"question": "a", "context": ""}\n',
  'text.xml': '<a/>',
  'broken.txt.gz': b'\x1f\x8b\x08\x00',
  'choices.csv': 'question,A,B\nwhere ?,a,b\n',
}
_WRONG = (
  ('classify', '{d}/empty.csv', 'the file is empty'),
  ('classify', '{d}/header.csv', 'no row'),
  ('classify', '{d}/other.csv', "1: the header has no column 'text'"),
  ('classify', '{d}/wide.csv', ':2: 2 comma-separated cells'),
  ('classify', '{d}/quote.csv', ':2: not CSV'),
  ('classify', '{d}/latin.txt', ':2: byte 2 of the line is not valid UTF-8'),
  ('classify', '{d}/blank.txt', ":2: text has ' ' where"),
  ('classify', '{d}/not.jsonl', ':2: '),
  ('classify', '{d}/list.jsonl', ':1: '),
  ('classify', '{d}/number.jsonl', ':1: text has 3 where a text'),
  ('classify', '{d}/nothing.jsonl', ":1: the object has no 'text'; it"),
  ('classify', '{d}/half.jsonl', ':1: text holds half of a surrogate pair'),
  ('choose', '{d}/one.jsonl', ':1: choices must be at least two texts'),
  ('choose', '{d}/string.jsonl', ':1: choices must be at least two texts'),
  ('choose', '{d}/inner.jsonl', ':1: choices has None where'),
  ('answer', '{d}/context.jsonl', ":1: context has '' where"),
  ('classify', '{d}/text.xml', 'its name must end in .txt, .csv'),
  ('classify', '{d}/broken.txt.gz', 'the archive is broken'),
  ('classify', '{d}/missing.txt', 'cannot be read'),
  ('choose', '{d}/choices.csv', 'say which columns hold the choices'),
  ('answer', '{d}/blank.txt', 'a line of text cannot hold question and'),
  ('fill-mask', '{d}/blank.txt', ':1: the input has no mask token'),
)  # fmt: skip


@pytest.mark.parametrize(('task', 'file', 'words'), _WRONG)
def test_wrong_files(run, tmp_path, task, file, words):
  for name, content in _FILES.items():
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
  path = file.format(d=tmp_path)
  # One at a time: nothing else in the file is wrong before it.
  status, _, err = run(task, f'--file={path}', '--batch_size=1')
  assert status == 2
  assert err.startswith('error: ') and err.count('\n') == 1
  assert path in err and words in err


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (('classify', 'a', '--file=x.txt'), 'give TEXTs or --file, not both'),
    (('classify', 'a', '--format=jsonl'), '--format does not go with'),
    (('classify', 'a', '--column=text=b'), '--column does not go with'),
    (('classify', '--file=x.csv', '--column=b'), 'write FIELD=NAME'),
    (('classify', '--file=x.csv', '--column=b=c'), "there is no field 'b'"),
    (
      ('classify', '--file=x.csv', '--column=text=c', '--column=text=d'),
      'it has one column, not several',
    ),
    (('classify', '--file=x.txt', '--column=text=c'), 'has no columns'),
    (('classify', '--pair', 'a'), '1 texts where text and text_pair'),
    (('classify', '--pair', '--file=x.txt'), '--pair does not go with'),
    (('classify', ''), "argument 1: text has '' where"),
    (('classify', 'a', '--top_k=0'), '--top_k is 0, but must be at least 1'),
    (
      ('classify', 'a', '--batch_size=x'),
      "--batch_size is 'x', but must be a whole",
    ),
    (('classify', 'a', '--no_such_flag'), 'no flag --no_such_flag'),
    (('classify', 'a', '--output=/'), 'must be a file in an existing'),
    (('answer', 'who ?'), '1 texts where question and context'),
    (('choose', 'where ?', 'a'), 'choices must be at least two texts'),
    (('summarize', 'a'), "no command 'summarize'"),
  ],
)
def test_wrong_flags(run, arguments, words):
  status, results, err = run(*arguments)
  assert status == 2 and not results
  assert err.startswith('error: ') and err.count('\n') == 1
  assert words in err


def test_wrong_models(directories, tmp_path, capsys):
  def error(task, model, *arguments):
    argv = ['predict', task, f'--model={model}', 'a [MASK]', *arguments]
    assert exit_status.run(command.main, argv) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith('error: ') and err.count('\n') == 1
    return err

  assert 'does not exist' in error('classify', tmp_path / 'no' / 'model')
  other = error('answer', directories / 'classify', 'b')
  assert f'{directories}/classify is no model for answer: ' in other
  fresh = error('classify', directories / 'fill-mask')
  assert 'has no weights for classifier/' in fresh
  assert 'classify needs a model that was fine-tuned for it' in fresh
  run = tmp_path / 'run'
  run.mkdir()
  (run / 'model_config.json').touch()
  assert 'is a run that has no model/ yet' in error('classify', run)


def test_a_workdir_is_its_best_model(directories, tmp_path, capsys):
  run = tmp_path / 'run'
  run.mkdir()
  (run / 'model_config.json').touch()
  (run / 'model').symlink_to(directories / 'classify')
  argv = ['predict', 'classify', f'--model={run}', 'good']
  assert exit_status.run(command.main, argv) == 0
  [result] = map(json.loads, capsys.readouterr().out.splitlines())
  assert result['label'] in ('no', 'yes', 'maybe')


@pytest.fixture
def run_of(directories, tmp_path):
  """Makes a workdir of a run with a model, as far as predict reads it."""

  def make(kind, task, **options):
    run = tmp_path / 'run'
    run.mkdir(exist_ok=True)
    shutil.copy(directories / kind / 'config.json', run / 'model_config.json')
    if not (run / 'model').exists():
      (run / 'model').symlink_to(directories / kind)
    path = DataConfig(source='files', path='data')
    config = TrainConfig(task=task, options=options, data=path, num_steps=1)
    (run / 'config.json').write_text(run_config.to_json(config))
    return run

  return make


def predict(capsys, *argv):
  assert exit_status.run(command.main, ['predict', *map(str, argv)]) == 0
  return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_run_knows_its_kind_and_its_columns(run_of, tmp_path, capsys):
  run = run_of(
    'classify', 'custom_classification', text_column='review', id_column='nr'
  )
  path = tmp_path / 'a.csv'
  path.write_text('nr,review,stars\n7,good,3\n')
  for model in (run, run / 'model'):
    [result] = predict(capsys, f'--model={model}', f'--file={path}')
    assert result['id'] == '7' and result['text'] == 'good'
  # A file with other columns is read by the names of the fields, or by flags.
  path.write_text('text\ngood\n')
  [other] = predict(capsys, f'--model={run}', f'--file={path}')
  assert other['score'] == result['score'] and 'id' not in other
  path.write_text('x,review\ngood,bad\n')
  [given] = predict(
    capsys, f'--model={run}', f'--file={path}', '--column=text=x'
  )
  assert given['score'] == result['score']
  path = tmp_path / 'a.jsonl'
  path.write_text('{"nr": "7", "review": "good"}\n')
  assert predict(capsys, f'--model={run}', f'--file={path}') == [result]


def test_a_benchmarks_run_knows_the_official_columns(run_of, tmp_path, capsys):
  run = run_of('classify', 'mrpc')
  path = tmp_path / 'test.tsv'
  path.write_text('index\t#1 String\t#2 String\n0\tgood\tbad\n')
  [result] = predict(capsys, f'--model={run}', f'--file={path}')
  assert (result['text'], result['text_pair']) == ('good', 'bad')


def test_choices_of_a_run_stand_in_its_columns(run_of, tmp_path, capsys):
  run = run_of(
    'choose', 'custom_choice', question_column='q', choice_columns=('A', 'B')
  )
  path = tmp_path / 'a.csv'
  path.write_text('q,A,B\nwhere ?,a,b\n')
  [result] = predict(capsys, f'--model={run}', f'--file={path}')
  assert result['choice'] in ('a', 'b')


def test_questions_of_squad_can_be_predicted_on(run_of, tmp_path, capsys):
  """The answers are not read; one question without its text is an error."""
  run = run_of('answer', 'custom_qa')
  context = 'i live in berlin . paris is good'
  qas = [{'id': 'a', 'question': 'where ?'}, {'id': 'b'}]
  data = [{'title': 't', 'paragraphs': [{'context': context, 'qas': qas}]}]
  path = tmp_path / 'dev.json'
  path.write_text(json.dumps({'version': '1.1', 'data': data}))
  argv = ['predict', f'--model={run}', f'--file={path}']
  assert exit_status.run(command.main, argv) == 2
  out, err = capsys.readouterr()
  answer, wrong = map(json.loads, out.splitlines())
  assert answer['id'] == 'a' and answer['answer'] in context
  assert "'question'" in wrong['error'] and "'b'" in err


def test_a_context_without_tokens_has_the_empty_answer(pipelines):
  """One type of result, whatever the text: '\ufe0f' has no token."""
  found = pipelines['answer']('where ?', '\ufe0f')
  assert found == {'score': 0.0, 'start': 0, 'end': 0, 'answer': ''}
  both = pipelines['answer'](['where ?'] * 2, ['\ufe0f', 'in paris'])
  assert [type(one) for one in both] == [dict, dict]


def test_a_model_that_does_not_tell_needs_the_kind(tmp_path, capsys):
  argv = ['predict', f'--model={tmp_path}', 'good']
  assert exit_status.run(command.main, argv) == 2
  assert "no command 'good'; there are fill-mask" in capsys.readouterr().err


def test_help_and_wrong_flags_load_nothing(capsys, monkeypatch):
  def load(*args):
    raise AssertionError('a model is loaded')

  monkeypatch.setattr(command_model, 'load', load)
  with pytest.raises(SystemExit) as end:
    command.main(['predict', 'choose', '--help'])
  assert end.value.code == 0
  out = capsys.readouterr().out
  assert 'Choose among several answers' in out and '--batch_size' in out
  assert exit_status.run(command.main, ['predict', 'choose']) == 2
  for module in (command, command_model, predict_inputs, predict_kinds):
    assert not {'jax', 'jnp', 'pipeline'} & set(vars(module))


def test_a_pipe_is_answered_line_by_line(directories):
  """The first answer comes while the input is still open; any locale."""
  process = subprocess.Popen(
    [
      sys.executable, '-m', 'mobilebert_jax.predict', 'classify',
      f'--model={directories / "classify"}', '--batch_size=1',
    ],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    env={**os.environ, 'LC_ALL': 'C', 'PYTHONUTF8': '0'},
  )  # fmt: skip
  assert process.stdin and process.stdout and process.stderr
  process.stdin.write('good é\n'.encode())
  process.stdin.flush()
  first = json.loads(process.stdout.readline().decode())
  assert first['text'] == 'good é'
  # The reader goes away, as `head -1` does: no error, no traceback.
  process.stdout.close()
  process.stdin.write(b'bad\n')
  process.stdin.close()
  assert process.wait(timeout=120) == 0
  assert process.stderr.read() == b''
  process.stderr.close()
