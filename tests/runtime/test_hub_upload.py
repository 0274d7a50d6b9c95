"""Uploads, against a stand-in for the hub."""

import socket

import pytest

from mobilebert_jax.runtime import hub
from mobilebert_jax.runtime.errors import InputError
from tests.support import hub_server


@pytest.fixture
def server(monkeypatch, tmp_path):
  """A hub that the environment points to; nobody is logged in."""
  with hub_server.used(monkeypatch, tmp_path) as kind:
    yield kind


@pytest.fixture
def model(tmp_path):
  """A directory with files of several kinds, one in a folder."""
  directory = tmp_path / 'model'
  (directory / 'onnx').mkdir(parents=True)
  (directory / 'README.md').write_text('---\ntags:\n- jax\n---\n# A model\n')
  (directory / 'config.json').write_text('{}')
  (directory / 'onnx' / 'model.onnx').write_bytes(bytes(range(256)))
  return directory


def test_uploads_everything_and_returns_the_address(server, model):
  url = hub.upload(
    model, 'anna/first', private=True, token=hub_server.TOKEN,
    commit_message='The first',
  )  # fmt: skip
  assert url.endswith('/anna/first') and url.startswith('http://127.0.0.1')
  assert server.private['anna/first'] is True
  assert server.commits == ['The first']
  assert server.repos['anna/first', 'main'] == {
    file.relative_to(model).as_posix(): file.read_bytes()
    for file in model.rglob('*')
    if file.is_file()
  }


def test_uploads_again_and_to_a_branch(server, model):
  hub.upload(model, 'first', token=hub_server.TOKEN)
  (model / 'config.json').write_text('{"a": 1}')
  hub.upload(model, 'anna/first', token=hub_server.TOKEN, revision='v2')
  files = server.repos
  assert files['anna/first', 'main']['config.json'] == b'{}'
  assert files['anna/first', 'v2']['config.json'] == b'{"a": 1}'
  hub.upload(model, 'anna/first', token=hub_server.TOKEN)
  assert files['anna/first', 'main']['config.json'] == b'{"a": 1}'
  assert set(server.commits) == {'Upload by mobilebert_jax'}


def test_takes_the_token_of_the_environment(server, model, monkeypatch):
  monkeypatch.setenv('HF_TOKEN', hub_server.TOKEN)
  hub.upload(model, 'anna/first')
  assert server.repos['anna/first', 'main']


def refused(model, repo='anna/first', **options):
  """The sentence that an upload is refused with."""
  with pytest.raises(InputError) as error:
    hub.upload(model, repo, **options)
  (sentence,) = str(error.value).splitlines()
  assert sentence.endswith('.')
  return sentence


def test_wrong_use_is_one_sentence(server, model, tmp_path):
  token = hub_server.TOKEN
  assert 'holds no files' in refused(tmp_path / 'missing', token=token)
  (tmp_path / 'empty').mkdir()
  assert 'holds no files' in refused(tmp_path / 'empty', token=token)
  for name in ('a/b/c', 'with space', '', 'anna/..', 'anna/x--y'):
    assert 'no name on the hub' in refused(model, name, token=token)
  assert 'needs an access token' in refused(model)
  assert 'needs an access token' in refused(model, token=True)
  assert 'does not accept the token' in refused(model, token='hf_wrong')
  assert not server.repos


@pytest.mark.parametrize(
  ('path', 'status', 'words'),
  [
    ('/api/repos/create', 403, 'no right to write'),
    ('/api/models/anna/first/commit', 403, 'no right to write'),
    ('/api/validate-yaml', 400, 'the licence is unknown'),
    ('/api/models/anna/first/commit', 413, 'cannot upload to anna/first'),
  ],
)
def test_what_the_hub_refuses(server, model, path, status, words):
  server.refused[path] = status
  assert words in refused(model, token=hub_server.TOKEN)


def test_without_a_network(server, model, monkeypatch):
  with socket.socket() as unused:
    unused.bind(('127.0.0.1', 0))
    port = unused.getsockname()[1]
  monkeypatch.setenv('HF_ENDPOINT', f'http://127.0.0.1:{port}')
  assert 'cannot be reached' in refused(model, token=hub_server.TOKEN)
