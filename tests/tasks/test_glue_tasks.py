"""GLUE's nine tasks and the diagnostics, from official files."""

import dataclasses
import re

import numpy as np
import pytest

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.readers import remarks
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.tasks.classification import TextExample
from mobilebert_jax.tasks.glue import AX, TABLE
from tests.support import glue_files
from tests.support.glue_files import SAMPLES

# The submission files that https://gluebenchmark.com asks for.
OFFICIAL = {
  'cola': ('CoLA.tsv',),
  'sst2': ('SST-2.tsv',),
  'mrpc': ('MRPC.tsv',),
  'stsb': ('STS-B.tsv',),
  'qqp': ('QQP.tsv',),
  'mnli': ('MNLI-m.tsv', 'MNLI-mm.tsv', 'AX.tsv'),
  'qnli': ('QNLI.tsv',),
  'rte': ('RTE.tsv',),
  'wnli': ('WNLI.tsv',),
}
WORDS = {
  'mnli': ('entailment', 'neutral', 'contradiction'),
  'qnli': ('entailment', 'not_entailment'),
  'rte': ('entailment', 'not_entailment'),
}


def files(path, **changes):
  return DataConfig(source='files', path=str(path), **changes)


def task_of(name, data=None, **options):
  return TASKS[name].make_task(options, data or DataConfig(source='generated'))


@pytest.fixture
def glue(tmp_path):
  return glue_files.write(tmp_path)


@pytest.mark.parametrize('name', TABLE)
def test_official_files(glue, name):
  data = files(glue)
  task = task_of(name, data)
  sample = SAMPLES[name]
  train = task.load(data, 'train')
  assert train == tuple(TextExample(*row) for row in sample.train)
  test = task.load(data, task.splits.test[0])
  assert test == tuple(TextExample(*row) for row in sample.test)
  for split in task.splits.evaluation:
    dev = task.load(data, split)
    assert [example.id for example in dev] == ['0', '1']
    assert all(example.label is not None for example in dev)
  inner = task.load(files(glue / sample.folder), 'train')
  assert inner == train
  limited = files(glue, train_examples=1, eval_examples=1)
  assert task.load(limited, 'train') == train[:1]
  assert len(task.load(limited, task.splits.evaluation[0])) == 1


def test_mnli_has_two_validation_and_two_test_splits(glue):
  task = task_of('mnli', files(glue))
  for kind in ('matched', 'mismatched'):
    dev = task.load(files(glue), f'validation_{kind}')
    assert dev[0] == TextExample('0', f'p {kind}', 'h', 1)
    (test,) = task.load(files(glue), f'test_{kind}')
    assert test == TextExample('7', f'p {kind}', 'h')


@pytest.mark.parametrize(
  'place', ['diagnostic.tsv', 'AX/AX.tsv', 'diagnostic/diagnostic.tsv']
)
def test_mnli_answers_the_diagnostics_where_they_are(glue, place):
  assert AX not in task_of('mnli', files(glue)).splits.test
  (glue / place).parent.mkdir(exist_ok=True)
  (glue / place).write_text(glue_files.DIAGNOSTICS)
  for path in (glue, glue / 'MNLI'):
    task = task_of('mnli', files(path))
    assert task.splits.test == ('test_matched', 'test_mismatched', AX)
    assert task.load(files(path), AX) == (
      TextExample('0', 'The cat sat.', 'It sat.'),
      TextExample('1', 'No.', 'Yes.'),
    )
    assert len(task.load(files(path), 'test_matched')) == 1
  assert task_of('mnli', files(glue), predict_test=False).splits.test == ()


@pytest.mark.parametrize('name', TABLE)
def test_the_test_split_can_be_left_out(glue, name):
  for path in glue.glob('*/test*.tsv'):
    path.unlink()
  data = files(glue)
  task = task_of(name, data)
  with pytest.raises(InputError, match=r'test.*\.tsv.*predict_test=False'):
    task.load(data, task.splits.test[0])
  assert task_of(name, data, predict_test=False).splits.test == ()


def test_qqp_leaves_out_rows_that_are_cut_off(glue):
  path = glue / 'QQP' / 'train.tsv'
  lines = path.read_text().splitlines()
  lines[2:2] = ['7\t5\t6\tcut off', '8\t5\t6\ta\tb\t']
  path.write_text('\n'.join(lines) + '\n')
  task = task_of('qqp', files(glue))
  with pytest.warns(UserWarning, match='2 rows that are cut off .* line 3'):
    train = task.load(files(glue), 'train')
  # The numbers are those of the rows, as in TFDS.
  assert [example.id for example in train] == ['0', '3', '4']
  test = glue / 'QQP' / 'test.tsv'
  test.write_text(test.read_text() + '9\tcut off\n')
  with pytest.raises(InputError, match=r'test\.tsv:4: 2 tab-separated columns'):
    task.load(files(glue), 'test')


@pytest.mark.parametrize('name', TABLE)
def test_scores_are_those_of_the_benchmark(name):
  task = task_of(name)
  first = task.splits.evaluation[0]
  expected = {
    'cola': ('matthews', {'matthews', 'accuracy'}),
    'mrpc': ('mean', {'mean', 'accuracy', 'f1'}),
    'qqp': ('mean', {'mean', 'accuracy', 'f1'}),
    'stsb': ('mean', {'mean', 'pearson', 'spearman'}),
  }
  primary, names = expected.get(name, ('accuracy', {'accuracy'}))
  assert task.primary_metric == f'{first}/{primary}'
  is_number = name == 'stsb'
  labels = (0.0, 1.5, 5.0, 4.0) if is_number else (0, 1, 1, 0)
  examples = tuple(
    TextExample(str(i), 'a', label=label) for i, label in enumerate(labels)
  )
  width = 1 if is_number else len(task.labels)
  logits = np.zeros((4, width), np.float32)
  # Right, right, wrong, right.
  if is_number:
    logits[:, 0] = (0.0, 1.5, -1.0, 4.0)
  else:
    logits[1, 1] = 1
  scores = task.score({'logits': logits}, examples, None)
  assert set(scores) == names
  if 'f1' in names:
    assert scores == pytest.approx(
      {'accuracy': 3 / 4, 'f1': 2 / 3, 'mean': 17 / 24}
    )
  elif is_number:
    mean = (scores['pearson'] + scores['spearman']) / 2
    assert scores['mean'] == pytest.approx(mean)
    assert scores['spearman'] == pytest.approx(-0.2)
  else:
    assert scores['accuracy'] == 3 / 4


@pytest.mark.parametrize('name', TABLE)
def test_submission_files_to_the_byte(name, glue, tmp_path_factory):
  (glue / 'AX.tsv').write_text(glue_files.DIAGNOSTICS)
  task = task_of(name, files(glue))
  out = tmp_path_factory.mktemp('out')
  if name == 'stsb':
    logits, words = [[-0.3], [5.0001], [2.71828]], ['0.000', '5.000', '2.718']
  else:
    logits = [[2.0, 1.0], [0.5, 1.0], [3.0, 3.0]]
    if name == 'mnli':
      logits = [[*row, -1.0] for row in logits]
    first, second, *_ = WORDS.get(name, ('0', '1'))
    words = [first, second, first]
  examples = tuple(TextExample(id_, 'a', 'b') for id_ in ('7', '0', '12'))
  lines = [f'{e.id}\t{word}' for e, word in zip(examples, words)]
  assert len(task.splits.test) == len(OFFICIAL[name])
  for split, official in zip(task.splits.test, OFFICIAL[name]):
    predictions = {'logits': np.array(logits, np.float32)}
    path = task.write_predictions(out, split, predictions, examples, None)
    assert path == out / official
    expected = '\n'.join(['index\tprediction', *lines, ''])
    assert path.read_bytes() == expected.encode()
  for split in task.splits.evaluation:
    path = task.write_predictions(out, split, predictions, examples, None)
    assert path.name.endswith('-validation.tsv')


@pytest.mark.parametrize('name', TABLE)
def test_label_names_in_the_order_of_the_official_labels(name):
  row, task = TABLE[name], task_of(name)
  assert len(task.labels) == len(row.table.labels)
  assert task.labels == row.target.labels
  if name in WORDS:
    assert task.labels == row.table.labels == WORDS[name]


def test_other_sources_are_refused():
  with pytest.raises(InputError, match='use "tfds" or "files"'):
    task_of('rte').load(DataConfig(source='generated'), 'train')
  with pytest.raises(InputError, match=r'config\.options has no field'):
    task_of('rte', predict=False)
  with pytest.raises(InputError, match=r'options\.predict_test'):
    task_of('rte', predict_test=1)


# --- Wrong files, for each layout ---


def break_train(glue, name, change):
  path = glue / SAMPLES[name].folder / 'train.tsv'
  path.write_bytes(change(path.read_bytes()))
  data = files(glue)
  return task_of(name, data).load(data, 'train')


def on_rows(change):
  """Changes the last row of a file."""

  def apply(content):
    lines = content.split(b'\n')
    lines[-2] = change(lines[-2])
    return b'\n'.join(lines)

  return apply


def without_last_column(content):
  return b'\n'.join(line.rpartition(b'\t')[0] for line in content.split(b'\n'))


def in_label(value):
  """Replaces the label, which is the only whole cell with this content."""

  def change(name):
    sample = SAMPLES[name]
    table = TABLE[name].table
    columns = table.header or sample.files['train.tsv'].split('\n')[0].split(
      '\t'
    )
    names = [column.removeprefix('\ufeff') for column in columns]
    place = names.index(table.label_column)

    def row(line):
      cells = line.split(b'\t')
      cells[place] = value
      return b'\t'.join(cells)

    return on_rows(row)

  return change


WRONG = {
  'empty file': (lambda content: b'', r'train\.tsv: the file is empty'),
  'one column less': (
    without_last_column,
    r'train\.tsv:1: (the header has no column|\d tab-separated columns)',
  ),
  'a row too short': (
    on_rows(lambda line: line.rpartition(b'\t')[0]),
    r'train\.tsv:\d: \d+ tab-separated columns',
  ),
  'a row too long': (
    on_rows(lambda line: line + b'\tmore'),
    r'train\.tsv:\d: \d+ tab-separated columns',
  ),
  'an empty line': (
    # At the end it does not count.
    lambda content: content.replace(b'\n', b'\n\n', 1),
    r'train\.tsv:\d: 1 tab-separated columns',
  ),
  'latin-1': (
    on_rows(lambda line: line.replace(b'\t', b'caf\xe9\t')),
    r'train\.tsv:\d: byte \d+ of the line is not valid UTF-8',
  ),
  'utf-16': (
    lambda content: content.decode().encode('utf-16'),
    r'train\.tsv:1: byte 1 of the line is not valid UTF-8',
  ),
  'separated by commas': (
    lambda content: content.replace(b'\t', b','),
    r'train\.tsv:1: (the header has no column|1 tab-separated columns)',
  ),
}


@pytest.mark.parametrize('case', WRONG)
@pytest.mark.parametrize('name', TABLE)
def test_a_wrong_file_is_told_with_its_place(glue, name, case):
  change, message = WRONG[case]
  lenient = {'a row too short', 'an empty line'}
  if name == 'qqp' and case in lenient:
    with pytest.warns(UserWarning, match='1 rows that are cut off'):
      assert break_train(glue, name, change)
    return
  with pytest.raises(InputError, match=message):
    break_train(glue, name, change)


@pytest.mark.parametrize('value', [b'2', b'yes', b' 1', b'nan', b'', b'-1'])
@pytest.mark.parametrize('name', TABLE)
def test_a_wrong_label_is_told_with_its_place(glue, name, value):
  value = b'5.001' if name == 'stsb' and value in (b'2', b' 1') else value
  if name == 'qqp' and not value:
    with pytest.warns(UserWarning, match='1 rows that are cut off'):
      break_train(glue, name, in_label(value)(name))
    return
  allowed = 'a number from 0 to 5' if name == 'stsb' else 'one of'
  message = rf"train\.tsv:\d: column '.*' is '.*'; expected {allowed}"
  with pytest.raises(InputError, match=message):
    break_train(glue, name, in_label(value)(name))


@pytest.mark.parametrize('name', TABLE)
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(glue, name):
  data = files(glue)
  before = task_of(name, data).load(data, 'train')
  mark = '\ufeff'.encode()
  after = break_train(
    glue,
    name,
    lambda content: mark + content.removeprefix(mark).replace(b'\n', b'\r\n'),
  )
  assert after == before


@pytest.mark.parametrize('name', TABLE)
def test_a_line_of_a_megabyte_is_read(glue, name):
  row = TABLE[name].table
  word = 'word ' * 210_000
  content = SAMPLES[name].files['train.tsv']
  last = SAMPLES[name].train[-1][1]
  loaded = break_train(
    glue, name, lambda _: content.replace(last, word).encode()
  )
  assert loaded[-1].text == word, row.folder


@pytest.mark.parametrize('name', TABLE)
def test_a_row_without_text_is_told(glue, name):
  texts = [t for t in SAMPLES[name].train[-1][1:3] if t]

  def change(content):
    for text in texts:
      content = content.replace(text.encode(), b' ')
    return content

  with pytest.raises(InputError, match=r'train\.tsv:\d: column .* is empty'):
    break_train(glue, name, change)


@pytest.mark.parametrize('name', [n for n in TABLE if n != 'cola'])
def test_a_header_alone_or_with_a_column_twice_is_told(glue, name):
  with pytest.raises(InputError, match='there is no row below the header'):
    break_train(glue, name, lambda content: content.split(b'\n')[0] + b'\n')
  content = SAMPLES[name].files['train.tsv'].encode()
  (column,) = (c for c in TABLE[name].table.columns[:1])
  twice = on_header(content, column.encode())
  with pytest.raises(InputError, match=rf"has the column '{column}' twice"):
    break_train(glue, name, lambda _: twice)


def on_header(content, column):
  header, _, rest = content.partition(b'\n')
  rows = [line + b'\tx' for line in rest.split(b'\n') if line]
  return b'\n'.join([header + b'\t' + column, *rows, b''])


@pytest.mark.parametrize('name', TABLE)
@pytest.mark.parametrize('case', ['same', 'none'])
def test_ids_of_a_test_split_are_all_different(glue, name, case):
  path = next(iter((glue / SAMPLES[name].folder).glob('test*.tsv')))
  split = 'test_' + path.stem.split('_')[1] if '_' in path.stem else 'test'
  lines = path.read_text().rstrip('\n').split('\n')
  id_ = lines[1].split('\t')[0] if case == 'same' else ''
  lines.append('\t'.join([id_, *lines[1].split('\t')[1:]]))
  path.write_text('\n'.join(lines) + '\n')
  place = rf'{path.stem}\.tsv:{len(lines)}: column .(index|id). is '
  problem = "'.', which is that of line 2 too" if id_ else "'', which is empty"
  with pytest.raises(InputError, match=place + problem):
    task_of(name).load(files(glue), split)


@pytest.mark.parametrize('name', TABLE)
def test_a_missing_file_is_told(tmp_path, name):
  with pytest.raises(InputError, match=r'expected the files train\.tsv there'):
    task_of(name).load(files(tmp_path), 'train')


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('', r'AX\.tsv: the file is empty'),
    ('index\tsentence1\n0\ta\n', r"AX\.tsv:1: .* no column 'sentence2'"),
    ('index\tsentence1\tsentence2\n', r'AX\.tsv: there is no row'),
    ('index\tsentence1\tsentence2\n0\ta\n', r'AX\.tsv:2: 2 tab-separated'),
    (
      'index\tsentence1\tsentence2\n0\ta\tb\n0\tc\td\n',
      r"AX\.tsv:3: column 'index' is '0', which is that of line 2 too",
    ),
    ('index\tsentence1\tsentence2\n0\t\t \n', r'AX\.tsv:2: .* is empty'),
  ],
)
def test_wrong_diagnostics(glue, content, message):
  (glue / 'AX').mkdir()
  (glue / 'AX' / 'AX.tsv').write_text(content)
  data = files(glue)
  with pytest.raises(InputError, match=message):
    task_of('mnli', data).load(data, AX)


@pytest.mark.data
@pytest.mark.parametrize(
  ('name', 'counts'),
  [
    ('sst2', (67349, 872, 1821)),
    ('cola', (8551, 1043, 1063)),
    ('stsb', (5749, 1500, None)),
  ],
)
def test_the_official_data(shared_data, name, counts):
  data = files(shared_data / 'glue')
  task = task_of(name, data)
  for split, count in zip(task.splits.all(), counts, strict=True):
    if count is not None:
      assert len(task.load(data, split)) == count
  dev = task.load(data, 'validation')
  if name == 'sst2':
    assert sum(example.label for example in dev) == 444
  if name == 'cola':
    assert sum(example.label for example in dev) == 721
  if name == 'stsb':
    labels = [example.label for example in dev]
    assert (min(labels), max(labels)) == (0, 5)
    assert dataclasses.replace(dev[3], label=None).pair == (
      'A man is playing guitar.'
    )


@pytest.mark.parametrize(
  'name', [name for name in TABLE if TABLE[name].table.labels]
)
def test_empty_lines_at_the_end_and_labels_as_numbers(glue, name, capsys):
  """As files are that TFDS or the datasets library has written."""
  data = files(glue)
  table = TABLE[name].table
  before = task_of(name, data).load(data, 'train')
  path = glue / table.folder / 'train.tsv'
  text = path.read_text()
  for number, word in enumerate(table.labels):
    text = re.sub(rf'(?m)(^|\t){word}(?=\t|$)', rf'\g<1>{number}', text)
  path.write_text(text + '\n\r\n')
  remarks.forget()
  assert task_of(name, data).load(data, 'train') == before
  said = capsys.readouterr().err
  if name in WORDS:
    assert f'{path}: the labels are numbers; 0 is entailment, 1 is' in said
  else:
    assert said == ''


def test_numbers_and_words_in_one_file_are_refused(glue):
  path = glue / 'RTE' / 'train.tsv'
  path.write_text(path.read_text().rstrip('\n') + '\n9\ta\tb\t0\n')
  with pytest.raises(InputError, match="is '0'; expected one of 'entailment'"):
    task_of('rte').load(files(glue), 'train')


def test_paraphrases_as_microsoft_published_them(tmp_path, capsys):
  folder = glue_files.write(tmp_path) / 'MRPC'
  before = task_of('mrpc').load(files(tmp_path), 'train')
  train = (folder / 'train.tsv').read_bytes().replace(b'\n', b'\r\n')
  for name in ('train', 'test', 'dev'):
    (folder / f'{name}.tsv').unlink()
  (folder / 'msr_paraphrase_train.txt').write_bytes(train)
  (folder / 'msr_paraphrase_test.txt').write_bytes(train)
  for path in (tmp_path, folder):
    remarks.forget()
    task = task_of('mrpc', files(path))
    assert task.splits.test == ()
    assert task.load(files(path), 'train') == before
    assert len(task.load(files(path), 'validation')) == len(before)
    assert 'no official split of GLUE' in capsys.readouterr().err


def test_all_wrong_rows_are_counted_and_can_be_left_out(glue, capsys):
  path = glue / 'SST-2' / 'train.tsv'
  good = path.read_text()
  path.write_text(good + 'cut off\na\tb\t1\n\t1\nfine\t7\n')
  message = (
    r'4 rows are wrong; the first 3: \(1\) .*:\d: 1 tab.* \(2\) .* \(3\) '
    r'.*empty.*bad_rows'
  )
  with pytest.raises(InputError, match=message):
    task_of('sst2').load(files(glue), 'train')
  found = task_of('sst2').load(files(glue, bad_rows='skip'), 'train')
  assert f'{path}: 4 rows are left out' in capsys.readouterr().err
  path.write_text(good)
  assert found == task_of('sst2').load(files(glue), 'train')
