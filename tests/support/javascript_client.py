"""Runs transformers.js in node and the page of `examples/browser` in Chromium.

The packages of npm come from the directory that MOBILEBERT_NODE_MODULES names,
which is filled when they are not there yet; without it from a temporary one.
"""

import contextlib
import fcntl
import functools
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import threading

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / 'examples/browser'
_SCRIPTS = ROOT / 'tests/support/javascript'
_LOCKFILE = PAGE / 'package-lock.json'
# The oldest that transformers.js 4 runs on.
_NODE = 20


def install(otherwise: pathlib.Path) -> pathlib.Path:
  """Returns `node_modules` with what the page's lock file names.

  Skips the test where there is no node, no npm or no registry.

  Args:
    otherwise: where to install without MOBILEBERT_NODE_MODULES.
  """
  for program in ('node', 'npm'):
    if not shutil.which(program):
      pytest.skip(f'{program} is not installed')
  version = _output(['node', '--version']).strip()
  if int(version.lstrip('v').split('.')[0]) < _NODE:
    pytest.skip(f'node {version} is older than {_NODE}')
  home = pathlib.Path(os.environ.get('MOBILEBERT_NODE_MODULES') or otherwise)
  home.mkdir(parents=True, exist_ok=True)
  installed = home / 'package-lock.json'
  wanted = _LOCKFILE.read_bytes()
  # Several workers of pytest may come at once.
  with (home / 'lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not installed.exists() or installed.read_bytes() != wanted:
      installed.unlink(missing_ok=True)
      _npm_ci(home)
      # Last: a directory that has it is complete.
      shutil.copy(_LOCKFILE, installed)
  return home / 'node_modules'


def _npm_ci(home: pathlib.Path):
  work = home / 'install'
  shutil.rmtree(work, ignore_errors=True)
  shutil.rmtree(home / 'node_modules', ignore_errors=True)
  work.mkdir()
  for name in ('package.json', 'package-lock.json'):
    shutil.copy(PAGE / name, work)
  done = subprocess.run(
    # Scripts of packages would download what is not needed.
    ['npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund'],
    cwd=work,
    capture_output=True,
    text=True,
  )
  unreachable = ('ENOTFOUND', 'EAI_AGAIN', 'ECONNREFUSED', 'ETIMEDOUT')
  if any(code in done.stderr for code in unreachable):
    pytest.skip('the registry of npm cannot be reached')
  assert done.returncode == 0, done.stderr
  (work / 'node_modules').rename(home / 'node_modules')
  shutil.rmtree(work)


def make_site(directory: pathlib.Path, modules: pathlib.Path) -> pathlib.Path:
  """Copies the page, with the scripts of the tests and its packages."""
  ignore = shutil.ignore_patterns('node_modules', 'vendor', 'model')
  shutil.copytree(PAGE, directory, ignore=ignore)
  for script in _SCRIPTS.iterdir():
    shutil.copy(script, directory)
  (directory / 'node_modules').symlink_to(modules)
  _output(['npm', 'run', 'vendor'], cwd=directory)
  return directory


def run(site: pathlib.Path, script: str, request: dict) -> list:
  """Runs a script of `tests/support/javascript` with a request."""
  return json.loads(
    _output(['node', script], cwd=site, input=json.dumps(request), timeout=500)
  )


def _output(command: list[str], **options) -> str:
  done = subprocess.run(command, capture_output=True, text=True, **options)
  assert done.returncode == 0, done.stderr
  return done.stdout


@contextlib.contextmanager
def serve(directory: pathlib.Path):
  """Yields the address at which a directory is served."""
  handler = functools.partial(_Quiet, directory=directory)
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
      yield f'http://127.0.0.1:{server.server_port}/'
    finally:
      server.shutdown()
      thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
  def log_message(self, format, *args):
    pass
