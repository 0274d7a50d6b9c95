"""Names on the hub, against a stand-in server; and the command line."""

import http.server
import subprocess
import sys
import threading
import time
from typing import ClassVar

import huggingface_hub
import pytest
from huggingface_hub import constants

from mobilebert_jax import models
from mobilebert_jax.convert import __main__ as command
from mobilebert_jax.convert.pretrained import load_pretrained, save_pretrained
from mobilebert_jax.runtime import exit_status, hub
from mobilebert_jax.runtime.errors import InputError
from tests.support.convert_models import assert_same_bits, tiny

COMMIT = {'main': 'a' * 40, 'v2': 'b' * 40}
CLASSIFIER = models.MobileBertForSequenceClassification


class _Hub(http.server.BaseHTTPRequestHandler):
  """Answers as the hub does for the files in `roots[repository, revision]`."""

  roots: ClassVar[dict] = {}
  requests: ClassVar[list] = []
  protocol_version = 'HTTP/1.1'

  def do_HEAD(self):
    self._answer(False)

  def do_GET(self):
    self._answer(True)

  def _answer(self, has_body):
    repo, _, rest = self.path.lstrip('/').partition('/resolve/')
    revision, _, file = rest.partition('/')
    token = self.headers.get('Authorization', '')
    self.requests.append((self.command, self.path, token))
    if repo == 'org/gated' and token != 'Bearer secret':
      return self._refuse(403, 'GatedRepo')
    repo = 'org/model' if repo == 'org/gated' else repo
    if (repo, 'main') not in self.roots:
      return self._refuse(401, 'RepoNotFound')
    by_commit = {commit: name for name, commit in COMMIT.items()}
    revision = by_commit.get(revision, revision)
    if (repo, revision) not in self.roots:
      return self._refuse(404, 'RevisionNotFound')
    path = self.roots[repo, revision] / file
    if not path.is_file():
      return self._refuse(404, 'EntryNotFound', COMMIT[revision])
    content = path.read_bytes()
    self.send_response(200)
    self.send_header('X-Repo-Commit', COMMIT[revision])
    self.send_header('ETag', f'"{revision}-{len(content)}-{file}"')
    self.send_header('Content-Length', str(len(content)))
    self.end_headers()
    if has_body:
      self.wfile.write(content)
    return None

  def _refuse(self, status, code, commit=None):
    self.send_response(status)
    self.send_header('X-Error-Code', code)
    if commit:
      self.send_header('X-Repo-Commit', commit)
    self.send_header('Content-Length', '0')
    self.end_headers()

  def log_message(self, *args):
    del args


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """Two revisions of a model; 'v2' is in shards, and in a subfolder."""
  root = tmp_path_factory.mktemp('hub')
  first, second = tiny(CLASSIFIER, seed=1), tiny(CLASSIFIER, seed=2)
  save_pretrained(root / 'main', *first)
  (root / 'main/vocab.txt').write_text('[PAD]\n')
  save_pretrained(root / 'v2/sub', *second, max_shard_size='6KB')
  return {'main': (root / 'main', first), 'v2': (root / 'v2', second)}


@pytest.fixture
def server(saved, monkeypatch):
  handler = type('Handler', (_Hub,), {'requests': []})
  handler.roots = {
    ('org/model', revision): root for revision, (root, _) in saved.items()
  }
  httpd = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  thread = threading.Thread(target=httpd.serve_forever, daemon=True)
  thread.start()
  monkeypatch.setenv('HF_ENDPOINT', f'http://127.0.0.1:{httpd.server_port}')
  monkeypatch.setenv('NO_PROXY', '127.0.0.1')
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  yield handler
  httpd.shutdown()
  httpd.server_close()
  thread.join()


def test_downloads_a_model_and_then_needs_no_network(
  server, saved, tmp_path, monkeypatch
):
  options = {'cache_dir': tmp_path}
  _, (_, params) = saved['main']
  loaded = load_pretrained(CLASSIFIER, 'org/model', **options)
  assert_same_bits(loaded.params, params)
  asked = len(server.requests)
  again = load_pretrained(None, 'org/model', local_files_only=True, **options)
  assert_same_bits(again.params, params)
  assert len(server.requests) == asked
  # Nobody listens there: a hub that is down.
  monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
  offline = load_pretrained(CLASSIFIER, 'org/model', **options)
  assert_same_bits(offline.params, params)


def test_only_what_is_needed_is_downloaded(server, tmp_path):
  load_pretrained(CLASSIFIER, 'org/model', cache_dir=tmp_path)
  got = {path.rsplit('/')[-1] for verb, path, _ in server.requests}
  assert got == {'config.json', 'model.safetensors'}


def test_revision_and_subfolder_and_shards(server, saved, tmp_path):
  _, (_, params) = saved['v2']
  loaded = load_pretrained(
    CLASSIFIER, 'org/model', revision='v2', subfolder='sub', cache_dir=tmp_path
  )
  assert_same_bits(loaded.params, params)


def test_missing_files_are_left_out(server, tmp_path):
  found = hub.resolve(
    'org/model', ['vocab.txt', 'tokenizer.json'], cache_dir=tmp_path
  )
  assert list(found) == ['vocab.txt']
  assert found['vocab.txt'].read_text() == '[PAD]\n'


def test_token_opens_a_gated_model(server, saved, tmp_path):
  with pytest.raises(InputError, match='org/gated is gated'):
    load_pretrained(CLASSIFIER, 'org/gated', cache_dir=tmp_path, token=False)
  loaded = load_pretrained(
    CLASSIFIER, 'org/gated', cache_dir=tmp_path, token='secret'
  )
  assert_same_bits(loaded.params, saved['main'][1][1])


@pytest.mark.parametrize(
  ('name', 'options', 'message'),
  [
    ('org/nothing', {}, 'neither a local directory nor a model'),
    ('out_dir', {}, 'neither a local directory nor a model'),
    ('org/model', {'revision': 'v9'}, "has no revision 'v9'"),
    ('org/model', {'subfolder': 'x'}, 'holds none of model.safetensors'),
    ('org/model', {'local_files_only': True}, 'local_files_only is set'),
    ('a..b/--c', {}, 'is no name on the hub'),
  ],
)
def test_what_the_hub_refuses(name, options, message, server, tmp_path, capsys):
  with pytest.raises(InputError, match=message):
    load_pretrained(CLASSIFIER, name, cache_dir=tmp_path / 'c', **options)
  flags = []
  for option, value in options.items():
    flag = f'--{option.replace("_", "-")}'
    flags += [flag] if value is True else [flag, value]
  out = tmp_path / 'out'
  status = exit_status.run(
    command.main,
    ['convert', name, str(out), '--cache-dir', str(tmp_path / 'c'), *flags],
  )
  assert status == 2
  assert message in capsys.readouterr().err
  assert not out.exists()


def test_hub_that_cannot_be_reached(tmp_path, monkeypatch):
  # huggingface_hub's own pauses between its attempts.
  monkeypatch.setattr(time, 'sleep', lambda seconds: None)
  monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
  monkeypatch.setenv('NO_PROXY', '127.0.0.1')
  with pytest.raises(InputError, match='the hub cannot be reached'):
    load_pretrained(CLASSIFIER, 'org/model', cache_dir=tmp_path)


def test_a_hub_that_is_down_is_asked_once(server, tmp_path, monkeypatch):
  """And what was downloaded of another revision is not taken for this one."""
  load_pretrained(CLASSIFIER, 'org/model', cache_dir=tmp_path)
  # The address is huggingface_hub's own where none is set.
  monkeypatch.delenv('HF_ENDPOINT')
  monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')
  hub._answers.clear()
  asked = []
  metadata = huggingface_hub.get_hf_file_metadata

  def ask(url, **options):
    asked.append(url)
    return metadata(url, **options)

  monkeypatch.setattr(huggingface_hub, 'get_hf_file_metadata', ask)
  monkeypatch.setattr(time, 'sleep', pytest.fail)
  options = {'cache_dir': tmp_path}
  for name, changes, message in (
    ('org/model', {'revision': 'v2'}, "the revision 'v2' of org/model was nev"),
    ('org/other', {}, 'was never downloaded, and the hub cannot be reached'),
  ):
    with pytest.raises(InputError, match=message) as raised:
      load_pretrained(CLASSIFIER, name, **options, **changes)
    assert '\n' not in str(raised.value)
  load_pretrained(CLASSIFIER, 'org/model', revision=COMMIT['main'], **options)
  assert len(asked) == 1
  # After a while it is asked again.
  hub._answers.clear()
  load_pretrained(CLASSIFIER, 'org/model', **options)
  assert len(asked) == 2


def test_local_names_come_first(saved, tmp_path, monkeypatch):
  root, (_, params) = saved['main']
  monkeypatch.chdir(root.parent)
  assert hub.resolve('main', ['vocab.txt', 'x'])['vocab.txt'].is_file()
  file = root / 'model.safetensors'
  assert list(hub.resolve(file, ['vocab.txt', 'x'])) == ['vocab.txt']
  assert_same_bits(load_pretrained(CLASSIFIER, file).params, params)
  inside = load_pretrained(CLASSIFIER, root.parent / 'v2', subfolder='sub')
  assert_same_bits(inside.params, saved['v2'][1][1])


def test_command_converts_and_says_so(saved, tmp_path, capsys):
  root, (model, params) = saved['main']
  out = tmp_path / 'new/out'
  assert exit_status.run(command.main, ['convert', str(root), str(out)]) == 0
  text = capsys.readouterr().out
  assert 'MobileBertForSequenceClassification: ' in text
  assert 'config.json, model.safetensors, vocab.txt' in text
  loaded = load_pretrained(None, out)
  assert loaded.model == model
  assert_same_bits(loaded.params, params)
  assert (out / 'vocab.txt').read_text() == '[PAD]\n'
  assert [path.name for path in out.parent.iterdir()] == ['out']


def test_command_keeps_or_changes_the_dtype(saved, tmp_path):
  root, _ = saved['main']
  first, second, third = (tmp_path / name for name in 'abc')
  assert (
    exit_status.run(
      command.main, ['convert', str(root), str(first), '--dtype', 'bfloat16']
    )
    == 0
  )
  assert (
    exit_status.run(command.main, ['convert', str(first), str(second)]) == 0
  )
  assert (first / 'model.safetensors').read_bytes() == (
    second / 'model.safetensors'
  ).read_bytes()
  assert (
    exit_status.run(
      command.main, ['convert', str(first), str(third), '--dtype', 'float32']
    )
    == 0
  )
  kept = load_pretrained(None, second, param_dtype='auto').params
  wide = load_pretrained(None, third, param_dtype='auto').params
  assert kept['classifier']['bias'].dtype.name == 'bfloat16'
  assert wide['classifier']['bias'].dtype.name == 'float32'


def test_command_changes_the_architecture(saved, tmp_path, capsys):
  root, (_, params) = saved['main']
  out = tmp_path / 'out'
  flags = ['--architecture', 'MobileBertForQuestionAnswering']
  assert (
    exit_status.run(command.main, ['convert', str(root), str(out), *flags]) == 0
  )
  text = capsys.readouterr().out
  assert 'newly initialised: qa_outputs/bias, qa_outputs/kernel' in text
  assert 'left out: classifier.bias, classifier.weight' in text
  loaded = load_pretrained(None, out)
  assert isinstance(loaded.model, models.MobileBertForQuestionAnswering)
  kept = loaded.params['mobilebert']['encoder']
  assert_same_bits(kept, params['mobilebert']['encoder'])


def test_command_does_not_overwrite_unless_forced(saved, tmp_path, capsys):
  root, _ = saved['main']
  (tmp_path / 'notes.txt').write_text('mine')
  assert (
    exit_status.run(command.main, ['convert', str(root), str(tmp_path)]) == 2
  )
  assert 'is not empty; pass --force' in capsys.readouterr().err
  assert [path.name for path in tmp_path.iterdir()] == ['notes.txt']
  assert (
    exit_status.run(
      command.main, ['convert', str(root), str(tmp_path), '--force']
    )
    == 0
  )
  assert (tmp_path / 'notes.txt').read_text() == 'mine'
  assert (tmp_path / 'model.safetensors').is_file()


def test_command_line_as_users_run_it(repo, tmp_path):
  def run(*args):
    return subprocess.run(
      [sys.executable, '-m', 'mobilebert_jax.convert', *args],
      cwd=repo,
      capture_output=True,
      text=True,
    )

  done = run(str(tmp_path / 'absent/m'), str(tmp_path / 'out'))
  assert done.returncode == 2 and done.stdout.startswith('reading ')
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
  assert not (tmp_path / 'out').exists()
  assert run(str(tmp_path), 'x', '--dtype', 'int8').returncode == 2
