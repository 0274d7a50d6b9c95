"""A stand-in for the Hugging Face hub that takes uploads."""

import base64
import contextlib
import http.server
import json
import threading
from typing import ClassVar

TOKEN = 'hf_writer'


class _Uploads(http.server.BaseHTTPRequestHandler):
  """Answers as the hub does to `create_repo`, `create_branch`, commits."""

  # (repository, branch) -> file name -> content
  repos: ClassVar[dict] = {}
  private: ClassVar[dict] = {}
  commits: ClassVar[list] = []
  # Path -> the status that it is refused with.
  refused: ClassVar[dict] = {}
  protocol_version = 'HTTP/1.1'

  def do_POST(self):
    body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
    path = self.path.partition('?')[0]
    for start, status in self.refused.items():
      if path.startswith(start):
        errors = [{'message': 'the licence is unknown'}]
        return self._answer({'error': 'refused', 'errors': errors}, status)
    if path == '/api/validate-yaml':
      return self._answer({'errors': [], 'warnings': []})
    if self.headers.get('Authorization') != f'Bearer {TOKEN}':
      return self._answer({'error': 'Invalid credentials'}, 401)
    if path == '/api/repos/create':
      return self._create(json.loads(body))
    _, _, _, owner, name, action, branch = path.split('/')
    repo = f'{owner}/{name}'
    if action == 'branch':
      if (repo, branch) in self.repos:
        return self._answer({'error': 'Reference already exists'}, 409)
      self.repos[repo, branch] = dict(self.repos[repo, 'main'])
      return self._answer({})
    if (repo, branch) not in self.repos:
      return self._answer({'error': 'no such revision'}, 404)
    if action == 'preupload':
      return self._answer(
        {
          'files': [
            {
              'path': file['path'], 'uploadMode': 'regular',
              'shouldIgnore': False, 'oid': None,
            }
            for file in json.loads(body)['files']
          ]
        }
      )  # fmt: skip
    assert action == 'commit', path
    return self._commit(repo, branch, body)

  def do_GET(self):
    if self.path.startswith('/api/whoami'):
      return self._answer({'name': 'anna', 'type': 'user', 'orgs': []})
    return self._answer({'error': 'not found'}, 404)

  def _create(self, values):
    owner = values.get('organization') or 'anna'
    repo = f'{owner}/{values["name"]}'
    url = f'http://{self.headers["Host"]}/{repo}'
    if (repo, 'main') in self.repos:
      return self._answer({'error': 'exists', 'url': url}, 409)
    self.repos[repo, 'main'] = {}
    self.private[repo] = values.get('private')
    if values.get('visibility') is not None:
      self.private[repo] = values['visibility'] == 'private'
    return self._answer({'url': url, 'id': repo, 'name': repo})

  def _commit(self, repo, branch, body):
    for line in body.decode().splitlines():
      entry = json.loads(line)
      if entry['key'] == 'header':
        self.commits.append(entry['value']['summary'])
      else:
        content = base64.b64decode(entry['value']['content'])
        self.repos[repo, branch][entry['value']['path']] = content
    url = f'http://{self.headers["Host"]}/{repo}/commit/{"c" * 40}'
    return self._answer({'commitUrl': url, 'commitOid': 'c' * 40})

  def _answer(self, value, status=200):
    content = json.dumps(value).encode()
    self.send_response(status)
    self.send_header('Content-Type', 'application/json')
    self.send_header('Content-Length', str(len(content)))
    self.end_headers()
    self.wfile.write(content)

  def log_message(self, *args):
    del args


@contextlib.contextmanager
def uploads():
  """Yields the address of an empty hub, and its handler class."""
  fresh_state = {'repos': {}, 'private': {}, 'commits': [], 'refused': {}}
  kind = type('Uploads', (_Uploads,), fresh_state)
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), kind)
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  try:
    yield f'http://127.0.0.1:{server.server_port}', kind
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


@contextlib.contextmanager
def used(monkeypatch, directory):
  """Yields the handler class of a hub that is the one, nobody logged in.

  Args:
    monkeypatch: changes the environment.
    directory: an empty one.
  """
  for name in ('HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HTTP_PROXY', 'http_proxy',
               'ALL_PROXY', 'all_proxy'):  # fmt: skip
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(
    'huggingface_hub.constants.HF_TOKEN_PATH', str(directory / 'no_token')
  )
  monkeypatch.setenv('NO_PROXY', '127.0.0.1')
  with uploads() as (address, kind):
    monkeypatch.setenv('HF_ENDPOINT', address)
    yield kind
