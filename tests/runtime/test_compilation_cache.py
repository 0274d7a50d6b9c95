"""Compiled programs on disk."""

import jax
import jax.numpy as jnp
import pytest

from mobilebert_jax.runtime import compilation_cache
from mobilebert_jax.runtime.errors import InputError


@pytest.fixture
def keeps_everything():
  name = 'jax_persistent_cache_min_compile_time_secs'
  before = getattr(jax.config, name)
  jax.config.update(name, 0.0)
  yield
  jax.config.update(name, before)


def test_programs_are_kept_inside_the_block_only(tmp_path, keeps_everything):
  folder = tmp_path / 'made' / 'cache'
  before = jax.config.jax_compilation_cache_dir
  with compilation_cache.used(str(folder)):
    jax.jit(lambda x: x + 3)(jnp.float32(1)).block_until_ready()
  kept = {path.name for path in folder.iterdir()}
  assert kept
  assert jax.config.jax_compilation_cache_dir == before
  jax.jit(lambda x: x - 5)(jnp.float32(1)).block_until_ready()
  assert {path.name for path in folder.iterdir()} == kept


def test_a_kept_program_is_not_compiled_again(tmp_path, keeps_everything):
  def events():
    with compilation_cache.used(str(tmp_path)):
      # Another function each time: jit itself remembers nothing of it.
      jax.jit(lambda x: x * 7 + 1)(jnp.float32(1)).block_until_ready()

  found = []
  listen = jax.monitoring.register_event_listener
  listen(lambda name, **_: found.append(name))
  events()
  assert '/jax/compilation_cache/cache_hits' not in found
  events()
  assert '/jax/compilation_cache/cache_hits' in found


def test_a_block_without_kept_programs(tmp_path, keeps_everything):
  with compilation_cache.used(str(tmp_path)):
    with compilation_cache.unused():
      jax.jit(lambda x: x - 7)(jnp.float32(1)).block_until_ready()
    assert not [*tmp_path.iterdir()]
    jax.jit(lambda x: x - 9)(jnp.float32(1)).block_until_ready()
    assert [*tmp_path.iterdir()]


def _kept_by_auto(device_count, monkeypatch, tmp_path):
  """The programs in the user's cache after a compilation."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.setattr(compilation_cache, '_AUTO_SECONDS', 0.0)
  devices = jax.devices()[:device_count]
  monkeypatch.setattr(jax, 'devices', lambda: devices)
  before = jax.config.jax_compilation_cache_max_size
  with compilation_cache.used(compilation_cache.AUTO):
    jax.jit(lambda x: x - 11)(jnp.float32(1)).block_until_ready()
  assert jax.config.jax_compilation_cache_max_size == before
  return [*compilation_cache.user_directory().glob('*')]


def test_the_users_cache(tmp_path, monkeypatch):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  with compilation_cache.unused():
    assert _kept_by_auto(1, monkeypatch, tmp_path)


def test_several_cpu_devices_keep_nothing(tmp_path, monkeypatch):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  with compilation_cache.unused():
    assert not _kept_by_auto(2, monkeypatch, tmp_path)


def test_jax_has_its_own_setting(tmp_path, monkeypatch, keeps_everything):
  with compilation_cache.used(str(tmp_path / 'own')):
    assert not _kept_by_auto(1, monkeypatch, tmp_path)
  assert [*(tmp_path / 'own').iterdir()]


def test_a_home_that_cannot_be_written(tmp_path, monkeypatch):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  (tmp_path / 'mobilebert_jax').write_text('')
  with compilation_cache.unused():
    assert not _kept_by_auto(1, monkeypatch, tmp_path)


def test_none_changes_nothing():
  before = jax.config.jax_compilation_cache_dir
  with compilation_cache.used(None):
    assert jax.config.jax_compilation_cache_dir == before


def test_a_directory_that_cannot_be_made(tmp_path):
  (tmp_path / 'file').write_text('')
  with (
    pytest.raises(InputError, match='cannot be made'),
    compilation_cache.used(str(tmp_path / 'file' / 'cache')),
  ):
    raise AssertionError('not reached')
