"""An emulator of Google Cloud Storage on loopback.

It speaks the JSON API, to gcsfs and to tensorstore, which Orbax writes arrays
with. So nothing between the program and the socket is replaced.
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

BUCKET = 'gs://bucket'
# The emulator has neither accounts nor gcsfs's gRPC calls for other buckets.
_SETTINGS = {
  'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',
  'EPATH_USE_TF': 'false',
}
# It would write down all that it holds after each request, though it holds it
# in memory alone: a checkpoint of some hundred objects then takes minutes. And
# it takes the end of a content that ends in a carriage return for the line end
# before a boundary, which gcsfs writes as a line feed.
_SERVER = """
from gcp_storage_emulator import __main__, server, storage
storage.Storage._write_config_to_file = lambda self: None
decode, end = server._decode_raw_data, b'\\n--==0==--'
def decoded(raw, request):
  raw = decode(raw, request)
  if raw and raw.endswith(end):
    raw = raw.removesuffix(end) + b'\\r' + end
  return raw
server._decode_raw_data = decoded
__main__.main()
"""


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]


def _make_bucket(url: str):
  request = urllib.request.Request(
    f'{url}/storage/v1/b?project=test',
    data=json.dumps({'name': 'bucket'}).encode(),
    headers={'Content-Type': 'application/json'},
  )
  deadline = time.monotonic() + 30
  while True:
    try:
      with urllib.request.urlopen(request):
        return
    except OSError:
      if time.monotonic() > deadline:
        raise
      time.sleep(0.05)


@contextlib.contextmanager
def emulator(cache: pathlib.Path):
  """Yields the environment of processes that use it; sets it here, too."""
  port = _free_port()
  url = f'http://127.0.0.1:{port}'
  server = subprocess.Popen(
    [sys.executable, '-c', _SERVER, 'start', '--host=127.0.0.1',
     f'--port={port}', '--in-memory'],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )  # fmt: skip
  changed = _SETTINGS | {
    'STORAGE_EMULATOR_HOST': url,
    'TENSORSTORE_GCS_HTTP_URL': url,
    'MOBILEBERT_CACHE': str(cache),
  }
  before = {name: os.environ.get(name) for name in changed}
  try:
    _make_bucket(url)
    os.environ.update(changed)
    yield dict(os.environ)
  finally:
    server.terminate()
    server.wait()
    for name, value in before.items():
      os.environ.pop(name) if value is None else os.environ.update(
        {name: value}
      )
