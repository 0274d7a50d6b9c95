"""Settings of the whole suite: eight CPU devices, strict numerics."""

import gc
import os
import pathlib
from importlib import metadata
from typing import Any

# The suite compiles hundreds of tiny programs and runs each for an instant:
# XLA's costly optimisations are not worth their time. Nor are its newer kernel
# emitters, which take two thirds of a compilation: jaxlib 0.10 can do without,
# 0.12 can hurry. To other versions these flags are unknown, and end the
# process. Read when jax starts.
os.environ.setdefault(
  'XLA_FLAGS',
  '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true '
  + {
    '0.10': '--xla_cpu_use_fusion_emitters=false',
    '0.12': '--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE',
  }.get(metadata.version('jaxlib').rpartition('.')[0][:4], ''),
)

# Each worker has a core: a second thread of torch waits for the first one, by
# turning round, and takes three times the time.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import jax
import pytest

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_default_matmul_precision', 'highest')

_REPO = pathlib.Path(__file__).resolve().parent.parent


def pytest_collection_finish():
  # Modules and tests live until the end: tracing, which makes much garbage,
  # need not visit them again and again.
  gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable():
  # Workers send reports as UTF-8: half of a character, which a damaged file had
  # and a test has printed, would end the worker.
  return _encodable((yield))


def _encodable(value: Any) -> Any:
  match value:
    case str():
      return value.encode(errors='backslashreplace').decode()
    case dict():
      return {key: _encodable(part) for key, part in value.items()}
    case list() | tuple():
      return type(value)(_encodable(part) for part in value)
    case _:
      return value


@pytest.fixture(scope='session')
def repo() -> pathlib.Path:
  """The checkout's root."""
  return _REPO


@pytest.fixture(scope='session')
def shared_data() -> pathlib.Path:
  """The folder with real data sets; they are not part of the repository."""
  default = _REPO.parent / 'shared' / 'data'
  path = pathlib.Path(os.environ.get('MOBILEBERT_DATA', default))
  if not path.is_dir():
    pytest.skip(f'no real data at {path}; set MOBILEBERT_DATA to a folder')
  return path


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """Starts runs for the tests of faults; see `faults.Runs`."""
  from tests.support import faults

  with faults.server(tmp_path_factory.mktemp('runs')) as runs:
    yield runs


@pytest.fixture(scope='module')
def whole(request, runs, tmp_path_factory):
  """The workdir of the unbroken run, with the module's FLAGS if it has any."""
  path = tmp_path_factory.mktemp('whole') / 'run'
  runs.finish(path, *getattr(request.module, 'FLAGS', ()))
  return path
