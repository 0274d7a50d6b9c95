"""Files are written whole or not at all; paths are local or on gs://."""

import os
import pathlib
import subprocess
import sys

import pytest

from mobilebert_jax.runtime import files, local_copies, object_store
from mobilebert_jax.runtime.errors import InputError


def names(folder):
  return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize('unique', [False, True])
def test_a_file_appears_when_it_is_complete(tmp_path, unique):
  target = tmp_path / 'a.txt'
  with files.replacing(target, unique) as partial:
    partial.write_text('new')
    assert partial.parent == tmp_path and not target.exists()
  assert names(tmp_path) == ['a.txt'] and target.read_text() == 'new'


@pytest.mark.parametrize('error', [OSError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
  target = tmp_path / 'a.txt'
  target.write_text('old')
  with pytest.raises(error), files.replacing(target) as partial:
    partial.write_text('half')
    raise error
  assert names(tmp_path) == ['a.txt'] and target.read_text() == 'old'


def test_lines_that_fail_leave_nothing(tmp_path):
  def lines():
    yield 'one'
    raise ValueError

  with pytest.raises(ValueError):
    files.write_lines(tmp_path / 'a.txt', lines())
  assert names(tmp_path) == []


def test_a_full_disk_leaves_nothing(tmp_path):
  """As much as fits is written first; the error comes later."""
  code = (
    'import pathlib, resource, signal, sys\n'
    'from mobilebert_jax.runtime import files\n'
    'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
    'resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n'
    'try:\n'
    "  files.write_text(pathlib.Path(sys.argv[1]), 'x' * 100_000)\n"
    'except OSError as error:\n'
    '  print(error.errno)\n'
  )
  out = subprocess.run(
    [sys.executable, '-c', code, str(tmp_path / 'a.txt')],
    capture_output=True, text=True, check=True,
  ).stdout  # fmt: skip
  assert out == '27\n' and names(tmp_path) == []


def test_processes_that_write_one_file_do_not_meet(tmp_path):
  target = tmp_path / 'a.txt'
  with (
    files.replacing(target, unique=True) as one,
    files.replacing(target, unique=True) as other,
  ):
    assert one != other
    one.write_text('one')
    other.write_text('other')
  assert names(tmp_path) == ['a.txt'] and target.read_text() == 'one'


def test_texts_are_utf8_with_plain_line_ends(tmp_path):
  path = tmp_path / 'a'
  assert files.write_text(path, 'café\n') == path
  assert path.read_bytes() == 'café\n'.encode()
  assert files.write_lines(path, ['é', '', 'b']) == path
  assert path.read_bytes() == 'é\n\nb\n'.encode()
  assert files.write_json(path, {'b': [1], 'a': 'é'}) == path
  text = '{\n  "a": "\\u00e9",\n  "b": [\n    1\n  ]\n}\n'
  assert path.read_bytes() == text.encode()


def test_files_have_the_rights_that_others_have(tmp_path):
  (tmp_path / 'plain').write_text('')
  files.write_text(tmp_path / 'ours', '', unique=True)
  rights = {(tmp_path / n).stat().st_mode for n in ('plain', 'ours')}
  assert len(rights) == 1


def test_local_paths_stay_what_they_are(tmp_path):
  assert files.path('a/b') == pathlib.Path('a/b')
  assert files.path('~/a') == pathlib.Path.home() / 'a'
  assert files.path(tmp_path) == tmp_path and type(files.path('a')) is type(
    tmp_path
  )
  assert files.absolute('a') == pathlib.Path.cwd() / 'a'
  assert not files.is_remote('gs:/bucket') and files.is_remote('gs://bucket')
  # What is here is read where it is.
  assert local_copies.file(tmp_path / 'none') == tmp_path / 'none'
  assert local_copies.directory(tmp_path) == tmp_path


@pytest.mark.parametrize('name', ['s3://bucket/a', 'https://host/a'])
def test_other_addresses_are_refused(name):
  with pytest.raises(InputError, match=f'{name}: give a local path or'):
    files.path(name)


def test_a_bucket_must_be_named():
  with pytest.raises(InputError, match='names no bucket'):
    files.path('gs:///a')


def test_without_gcsfs_the_extra_is_named(monkeypatch):
  def no_gcsfs():
    raise ImportError('Please install gcsfs')

  monkeypatch.setattr(object_store, '_store', no_gcsfs)
  with pytest.raises(InputError, match=r'needs gcsfs; .*mobilebert_jax\[tpu\]'):
    files.path('gs://a-bucket-of-nobody/a')


def test_a_local_run_loads_nothing_of_the_object_store(tmp_path):
  code = (
    'import sys\n'
    'from mobilebert_jax.runtime import files, local_copies\n'
    'import pathlib\n'
    "files.write_text(files.path(sys.argv[1]), 'a')\n"
    'local_copies.file(files.path(sys.argv[1]))\n'
    'assert not {"fsspec", "gcsfs", "aiohttp"} & set(sys.modules)\n'
  )
  subprocess.run(
    [sys.executable, '-c', code, str(tmp_path / 'a')],
    check=True,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
  )


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (None, r'a\.json cannot be read: No such file .*; it must be a config\.'),
    (b'{"a": \xff}', r'a\.json cannot be read as JSON: byte 7 is not UTF-8'),
    (b'{\n"a": 1,,}', r'a\.json:2: cannot be read as JSON: .* \(column 8\)'),
    (b'[' * 200_000, r'a\.json cannot be read as JSON: it is nested too deep'),
    (b'[1]', r'a\.json holds no JSON object but a list; it must be a config\.'),
    (b'null', r'a\.json holds no JSON object but a null; it must be a config'),
  ],
)
def test_a_json_file_that_is_none_is_told_with_its_place(
  tmp_path, content, message
):
  path = tmp_path / 'a.json'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(InputError, match=message):
    files.read_json(path, 'a config')


def test_json_is_read_with_or_without_a_byte_order_mark(tmp_path):
  for text in ('{"a": 1}', '\ufeff{"a": 1}'):
    (tmp_path / 'a.json').write_text(text, encoding='utf-8')
    assert files.read_json(tmp_path / 'a.json', 'a config') == {'a': 1}
