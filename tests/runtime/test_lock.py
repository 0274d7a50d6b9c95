import subprocess
import sys

import pytest

from mobilebert_jax.runtime import lock
from mobilebert_jax.runtime.errors import InputError


def test_a_second_run_is_refused_and_told_of_the_first(tmp_path):
  import os
  import socket

  with lock.held(tmp_path / 'run'):
    with pytest.raises(InputError) as error:
      with lock.held(tmp_path / 'run'):
        pass
  told = f'process {os.getpid()} on {socket.gethostname()}'
  assert f'{tmp_path}/run is in use by another run, {told};' in str(error.value)


def test_nothing_stays_behind_a_run_that_wrote_nothing(tmp_path):
  with pytest.raises(KeyError), lock.held(tmp_path / 'a' / 'b'):
    raise KeyError
  assert not list(tmp_path.iterdir())


def test_what_was_there_before_stays(tmp_path):
  (tmp_path / 'run').mkdir()
  with lock.held(tmp_path / 'run'):
    pass
  assert (tmp_path / 'run').is_dir()


def test_the_lock_of_a_killed_process_is_free(tmp_path):
  code = (
    'import os, pathlib, signal, sys\n'
    'from mobilebert_jax.runtime import lock\n'
    'with lock.held(pathlib.Path(sys.argv[1])):\n'
    '  os.kill(os.getpid(), signal.SIGKILL)\n'
  )
  command = [sys.executable, '-c', code, str(tmp_path / 'run')]
  assert subprocess.run(command).returncode == -9
  assert (tmp_path / 'run' / lock.NAME).read_text().startswith('process ')
  with lock.held(tmp_path / 'run'):
    pass


def test_where_nothing_can_be_written(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(InputError, match='file/run cannot be written: Not a dir'):
    with lock.held(tmp_path / 'file' / 'run'):
      pass


def test_the_only_writer_of_a_part(tmp_path):
  with lock.only_writer(tmp_path / 'data', 'one.lock'):
    with pytest.raises(InputError) as error:
      with lock.only_writer(tmp_path / 'data', 'one.lock'):
        pass
    assert 'in use by another process, process ' in str(error.value)
    assert 'choose another --output' in str(error.value)
    with lock.only_writer(tmp_path / 'data', 'another.lock'):
      pass
  assert not list((tmp_path / 'data').iterdir())
  with lock.only_writer(tmp_path / 'data', 'one.lock'):
    pass
