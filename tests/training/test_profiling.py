"""Traces: which steps they hold, where they are, and that viewers read them."""

import gzip
import json
import warnings

import jax
import jax.numpy as jnp
import pytest

from mobilebert_jax.config import configure
from mobilebert_jax.config.run import ProfileConfig
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import loop, profiling
from tests.support import tiny


@jax.jit
def double(x):
  return 2 * x


def traced(folder):
  """Numbers of the traced steps, from the one trace in a folder."""
  (path,) = folder.glob('plugins/profile/*/*.xplane.pb')
  with warnings.catch_warnings():
    # Python 3.13 warns of how jaxlib makes its types, where an exception is
    # fatal.
    warnings.simplefilter('ignore')
    profile = jax.profiler.ProfileData.from_file(str(path))
    assert '/host:CPU' in [plane.name for plane in profile.planes]
  (path,) = folder.glob('plugins/profile/*/*.trace.json.gz')
  events = json.loads(gzip.decompress(path.read_bytes()))['traceEvents']
  steps = [event for event in events if event.get('name') == 'train']
  return sorted({int(step['args']['step_num']) for step in steps})


def run(steps, folder, numbers):
  with profiling.Profile(steps, folder) as profile:
    for number in numbers:
      assert profile.step(number, double, jnp.float32(number)) == 2 * number


def test_a_range_of_steps_is_traced(tmp_path):
  run(range(2, 4), tmp_path, range(1, 6))
  assert traced(tmp_path) == [2, 3]
  assert not [path for path in tmp_path.rglob('*') if 'partial' in path.name]


@pytest.mark.parametrize('numbers', [range(3, 5), range(1, 3)], ids=str)
def test_a_part_of_the_range_is_traced_where_a_run_begins_or_ends_in_it(
  numbers, tmp_path
):
  run(range(2, 4), tmp_path, numbers)
  assert traced(tmp_path) == sorted({*numbers} & {2, 3})


def test_a_run_beyond_the_range_traces_nothing(tmp_path):
  run(range(2, 4), tmp_path, range(4, 6))
  run(range(0), tmp_path, range(1, 3))
  assert not list(tmp_path.iterdir())


def test_steps_are_a_range():
  assert ProfileConfig(steps='10:13').range() == range(10, 13)
  assert ProfileConfig().range() == range(0)
  for wrong in ('10', '0:3', '5:5', '7:5', '10-13', ':3', ''):
    with pytest.raises(InputError, match=r"profile.steps is .* like '10:13'"):
      ProfileConfig(steps=wrong)


def test_steps_that_a_run_does_not_have():
  profiling.check(range(7, 9), 8)
  profiling.check(range(0), 8)
  with pytest.raises(InputError, match='has only 8 steps'):
    profiling.check(range(7, 10), 8)


@pytest.mark.scale
def test_a_run_is_traced(tmp_path):
  path = tiny.write(tmp_path)

  def config(*more):
    return configure(path, more)

  with pytest.raises(InputError, match='has only 8 steps'):
    loop.train(config('--config.profile.steps=8:10'), tmp_path / 'run')
  assert not (tmp_path / 'run' / 'config.json').exists()
  loop.train(config('--config.profile.steps=3:5'), tmp_path / 'run')
  assert traced(tmp_path / 'run' / 'profile') == [3, 4]
  # What is traced is no part of what the run is.
  loop.train(config(), tmp_path / 'run')
