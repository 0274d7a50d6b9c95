import re
import shutil
import time
import warnings
from unittest import mock

import pytest

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data import prepare
from mobilebert_jax.data.readers import tfds as readers_tfds
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.tasks.glue import AX, TABLE
from tests.support import glue_files, tfds_downloads

tfds = pytest.importorskip('tensorflow_datasets')

ROWS = {
  'train.tsv': 'sentence\tlabel\n'
  + ''.join(f'a "fine caf\u00e9 number {i}\t{i % 2}\n' for i in range(50)),
  'dev.tsv': 'sentence\tlabel\nit is good\t1\nit is bad\t0\n',
  'test.tsv': 'index\tsentence\n0\twhat\n1\twhere\n',
}


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  folder = tmp_path_factory.mktemp('raw') / 'SST-2'
  folder.mkdir()
  for name, text in ROWS.items():
    (folder / name).write_text(text, encoding='utf-8')
  return folder


@pytest.fixture(scope='module')
def data_dir(raw, tmp_path_factory):
  """glue/sst2 prepared by TFDS's own builder, from files instead of a URL."""
  path = tmp_path_factory.mktemp('tfds')
  with tfds_downloads.replaced(raw.parent):
    readers_tfds.prepare('glue/sst2', str(path))
  return str(path)


def test_rows_come_back_as_text_without_tensorflow(data_dir):
  reports = []
  rows = list(
    readers_tfds.read_split(
      'glue/sst2',
      'train',
      ('sentence', 'label', 'idx'),
      data_dir,
      progress=lambda done, of: reports.append((done, of)),
    )
  )
  assert sorted(rows, key=lambda row: row['idx'])[7] == {
    'sentence': 'a "fine caf\u00e9 number 7',
    'label': 1,
    'idx': 7,
  }
  assert len(rows) == 50
  assert reports == [(50, 50)]
  test = list(
    readers_tfds.read_split('glue/sst2', 'test', ('label',), data_dir)
  )
  assert test == [{'label': -1}] * 2


def test_a_prepared_data_set_is_found_through_the_environment(
  data_dir, monkeypatch
):
  monkeypatch.setenv('TFDS_DATA_DIR', data_dir)
  assert readers_tfds.find_prepared('glue/sst2').is_prepared()


def test_preparing_again_does_nothing(data_dir):
  with mock.patch.object(readers_tfds, '_require_reachable') as reach:
    readers_tfds.prepare('glue/sst2', data_dir)
  reach.assert_not_called()


@pytest.mark.parametrize('name', ['glue/mnli', 'squad', 'no_such_data_set'])
def test_what_is_not_prepared_is_told_at_once(name, tmp_path):
  start = time.monotonic()
  with pytest.raises(InputError) as caught:
    list(readers_tfds.read_split(name, 'train', (), str(tmp_path)))
  assert time.monotonic() - start < 20
  message = str(caught.value)
  assert f'TFDS data set {name} is not prepared in {tmp_path}' in message
  assert f'mobilebert_jax.data.prepare {name} --data_dir {tmp_path}' in message
  assert 'TFDS_DATA_DIR' in message
  assert 'data.source=files' in message
  assert not list(tmp_path.iterdir())


def test_wrong_splits_and_columns(data_dir):
  with pytest.raises(InputError, match="no split 'dev'; it has test, train, v"):
    list(readers_tfds.read_split('glue/sst2', 'dev', (), data_dir))
  with pytest.raises(InputError, match='no feature text; it has idx, label, s'):
    list(readers_tfds.read_split('glue/sst2', 'train', ('text',), data_dir))


def test_a_data_set_that_needs_tensorflow_is_refused(data_dir):
  builder = readers_tfds.find_prepared('glue/sst2', data_dir)
  other = mock.Mock(wraps=builder)
  other.info.file_format.value = 'tfrecord'
  with (
    mock.patch.object(readers_tfds, '_builder', return_value=other),
    pytest.raises(InputError, match='stored as tfrecord, which only TensorF'),
  ):
    readers_tfds.find_prepared('glue/sst2', data_dir)


@pytest.fixture
def copied(data_dir, tmp_path):
  """A prepared data set that may be changed."""
  shutil.copytree(data_dir, tmp_path / 'tfds')
  return tmp_path / 'tfds'


def test_what_others_have_prepared_as_tfrecord_stays(copied):
  (info,) = copied.rglob('dataset_info.json')
  text = info.read_text().replace('"array_record"', '"tfrecord"')
  info.write_text(text)
  for call in (readers_tfds.prepare, readers_tfds.find_prepared):
    with pytest.raises(InputError, match=f'--data_dir {copied}/array_record'):
      call('glue/sst2', str(copied))
  assert info.read_text() == text


def test_another_version_is_named(copied):
  (info,) = copied.rglob('dataset_info.json')
  info.parent.rename(info.parent.with_name('0.0.9'))
  message = r'not prepared in .* in version 2\.0\.0, .*there is 0\.0\.9, of ano'
  with pytest.raises(InputError, match=message):
    readers_tfds.find_prepared('glue/sst2', str(copied))


@pytest.mark.parametrize('name', TABLE)
def test_our_columns_are_those_of_tfds(name):
  table = TABLE[name].table
  info = readers_tfds._builder(table.tfds_name, None).info
  assert set(info.features) == {*table.tfds_columns, 'label', 'idx'}
  if table.labels:
    names = info.features['label'].names
    assert tuple(names) == TABLE[name].target.labels


@pytest.mark.parametrize('name', ['cola', 'mrpc', 'stsb', 'qqp', 'mnli', 'rte'])
def test_both_sources_give_the_same_examples(name, tmp_path):
  """TFDS's own builders read the official files as this package does."""
  files = glue_files.write(tmp_path / 'files', name)
  folder = files / glue_files.SAMPLES[name].folder
  if name == 'qqp':
    path = folder / 'train.tsv'
    rows = path.read_text().splitlines()
    rows[2:2] = ['7\t5\t6\tcut off', '8\t5\t6\ta\tb\t']
    path.write_text('\n'.join(rows) + '\n')
  if name == 'mnli':
    path = folder / 'train.tsv'
    # TFDS knows no missing label; the official file has none.
    path.write_text(re.sub('.*\t-\n', '', path.read_text()))
    (files / 'AX.tsv').write_text(glue_files.DIAGNOSTICS)
  stored = tmp_path / 'tfds'
  with (
    tfds_downloads.replaced(folder.parent),
    mock.patch.object(
      tfds.download.DownloadManager, 'download', downloads(folder, tmp_path)
    ),
  ):
    readers_tfds.prepare(f'glue/{name}', str(stored))
    if name == 'mnli':
      readers_tfds.prepare('glue/ax', str(stored))
  sources = [
    DataConfig(source='files', path=str(files)),
    DataConfig(source='tfds', path=str(stored)),
  ]
  tasks = [TASKS[name].make_task({}, data) for data in sources]
  assert tasks[0].splits == tasks[1].splits
  assert (AX in tasks[0].splits.test) == (name == 'mnli')
  with warnings.catch_warnings():
    warnings.simplefilter('ignore' if name == 'qqp' else 'error')
    for split in tasks[0].splits.all():
      official, prepared = (
        [content(e, name) for e in task.load(data, split)]
        for task, data in zip(tasks, sources)
      )
      assert official == prepared, split
      assert official


def content(example, name):
  """TFDS numbers rows; MRPC's before it takes the dev rows out of them."""
  id_ = None if name in ('mrpc', 'mnli') else example.id
  return id_, example.text, example.pair, example.label


def downloads(folder, directory):
  """What TFDS gets for MRPC (the original files) and for the diagnostics."""
  lines = {
    name: (folder / f'{name}.tsv').read_text().splitlines()
    for name in ('train', 'dev', 'test')
    if (folder / f'{name}.tsv').exists()
  }

  def download(self, urls):
    if isinstance(urls, str):
      return folder.parent / 'AX.tsv'
    ids = ['\t'.join(row.split('\t')[1:3]) for row in lines['dev'][1:]]
    texts = {
      'dev_ids': ids,
      # Three bytes of byte-order mark, then a header.
      'train': [*lines['train'], *lines['dev'][1:]],
      'test': lines['test'],
    }
    paths = {}
    for name, rows in texts.items():
      paths[name] = directory / f'mrpc_{name}'
      paths[name].write_text('\n'.join(rows) + '\n')
    return paths

  return download


def test_the_prepare_command(raw, tmp_path, capsys):
  with tfds_downloads.replaced(raw.parent):
    assert (
      exit_status.run(
        prepare.main, ['prepare', 'glue/sst2', '--data_dir', str(tmp_path)]
      )
      == 0
    )
  assert 'glue/sst2 is ready in' in capsys.readouterr().out
  assert readers_tfds.find_prepared('glue/sst2', str(tmp_path))


@pytest.mark.parametrize('name', ['glue/mnli', 'glue/mrpc'])
def test_the_prepare_command_without_network(name, tmp_path, capsys):
  error = OSError('Name or service not known')
  with mock.patch('urllib.request.urlopen', side_effect=error):
    assert (
      exit_status.run(
        prepare.main, ['prepare', name, '--data_dir', str(tmp_path)]
      )
      == 2
    )
  err = capsys.readouterr().err
  assert err.startswith('error: https://')
  assert 'cannot be reached (Name or service not known)' in err
  assert err.count('\n') == 1


def test_the_prepare_command_with_an_unknown_name(tmp_path, capsys):
  assert (
    exit_status.run(
      prepare.main, ['prepare', 'no_such', '--data_dir', str(tmp_path)]
    )
    == 2
  )
  assert "TFDS knows no data set 'no_such'" in capsys.readouterr().err
