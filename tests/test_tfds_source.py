import time
from unittest import mock

import pytest

from mobilebert_jax.data import prepare, tfds_source
from mobilebert_jax.errors import InputError
from mobilebert_jax.tasks import mnli, sst2

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


def download_from(raw):
  return mock.patch.object(
    tfds.download.DownloadManager,
    'download_and_extract',
    lambda self, url: raw.parent,
  )


@pytest.fixture(scope='module')
def data_dir(raw, tmp_path_factory):
  """glue/sst2 prepared by TFDS's own builder, from files instead of a URL."""
  path = tmp_path_factory.mktemp('tfds')
  with download_from(raw), mock.patch.object(tfds_source, '_require_reachable'):
    tfds_source.prepare('glue/sst2', str(path))
  return str(path)


def test_rows_come_back_as_text_without_tensorflow(data_dir):
  reports = []
  rows = list(
    tfds_source.read_split(
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
  test = list(tfds_source.read_split('glue/sst2', 'test', ('label',), data_dir))
  assert test == [{'label': -1}] * 2


def test_a_prepared_data_set_is_found_through_the_environment(
  data_dir, monkeypatch
):
  monkeypatch.setenv('TFDS_DATA_DIR', data_dir)
  assert tfds_source.find_prepared('glue/sst2').is_prepared()


def test_preparing_again_does_nothing(data_dir):
  with mock.patch.object(tfds_source, '_require_reachable') as reach:
    tfds_source.prepare('glue/sst2', data_dir)
  reach.assert_not_called()


@pytest.mark.parametrize('name', ['glue/mnli', 'squad', 'no_such_data_set'])
def test_what_is_not_prepared_is_told_at_once(name, tmp_path):
  start = time.monotonic()
  with pytest.raises(InputError) as caught:
    list(tfds_source.read_split(name, 'train', (), str(tmp_path)))
  assert time.monotonic() - start < 20
  message = str(caught.value)
  assert f'TFDS data set {name} is not prepared in {tmp_path}' in message
  assert f'mobilebert_jax.data.prepare {name} --data_dir {tmp_path}' in message
  assert 'TFDS_DATA_DIR' in message
  assert 'data.source=files' in message
  assert not list(tmp_path.iterdir())


def test_wrong_splits_and_columns(data_dir):
  with pytest.raises(InputError, match="no split 'dev'; it has test, train, v"):
    list(tfds_source.read_split('glue/sst2', 'dev', (), data_dir))
  with pytest.raises(InputError, match='no feature text; it has idx, label, s'):
    list(tfds_source.read_split('glue/sst2', 'train', ('text',), data_dir))


def test_a_data_set_that_needs_tensorflow_is_refused(data_dir):
  builder = tfds_source.find_prepared('glue/sst2', data_dir)
  other = mock.Mock(wraps=builder)
  other.info.file_format.value = 'tfrecord'
  with (
    mock.patch.object(tfds_source, '_builder', return_value=other),
    pytest.raises(InputError, match='stored as tfrecord, which only TensorF'),
  ):
    tfds_source.find_prepared('glue/sst2', data_dir)


@pytest.mark.parametrize(
  'table', [sst2.TABLE, mnli.TABLE], ids=lambda t: t.folder
)
def test_our_columns_are_those_of_tfds(table, monkeypatch):
  monkeypatch.setattr(
    tfds_source,
    'find_prepared',
    lambda name, _: tfds_source._builder(name, None),
  )
  columns = (*table.tfds_columns, 'label', 'idx')
  with tfds.testing.mock_data(num_examples=5):
    builder = tfds_source.find_prepared(table.tfds_name, None)
    source = tfds.data_source(table.tfds_name, split=table.splits.train)
    assert set(source[0]) == set(columns)
    assert set(columns) == set(builder.info.features)
    assert builder.info.features['label'].num_classes == len(table.labels)


def test_the_prepare_command(raw, tmp_path, capsys):
  with download_from(raw), mock.patch.object(tfds_source, '_require_reachable'):
    assert prepare.main(['glue/sst2', '--data_dir', str(tmp_path)]) == 0
  assert 'glue/sst2 is ready in' in capsys.readouterr().out
  assert tfds_source.find_prepared('glue/sst2', str(tmp_path))


def test_the_prepare_command_without_network(tmp_path, capsys):
  error = OSError('Name or service not known')
  with mock.patch('urllib.request.urlopen', side_effect=error):
    assert prepare.main(['glue/mnli', '--data_dir', str(tmp_path)]) == 2
  err = capsys.readouterr().err
  assert err.startswith('error: https://')
  assert 'cannot be reached (Name or service not known)' in err
  assert err.count('\n') == 1


def test_the_prepare_command_with_an_unknown_name(tmp_path, capsys):
  assert prepare.main(['no_such', '--data_dir', str(tmp_path)]) == 2
  assert "TFDS knows no data set 'no_such'" in capsys.readouterr().err
