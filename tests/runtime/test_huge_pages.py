"""Who could have huge pages is told how, and nobody else."""

import platform

import pytest

from mobilebert_jax.runtime import huge_pages


@pytest.fixture
def kernel(tmp_path, monkeypatch):
  """Linux and a glibc that have them when asked."""
  file = tmp_path / 'enabled'
  file.write_text('always [madvise] never\n')
  monkeypatch.setattr(huge_pages, '_KERNEL', file)
  monkeypatch.setattr(platform, 'libc_ver', lambda: ('glibc', '2.36'))
  monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
  return file


def test_what_to_set_is_said(kernel):
  assert 'GLIBC_TUNABLES=glibc.malloc.hugetlb=1 ' in huge_pages.hint('cpu')


def test_other_devices_do_not_need_it(kernel):
  assert huge_pages.hint('tpu') is None


@pytest.mark.parametrize('chosen', ['[always] madvise never', 'always [never]'])
def test_where_a_program_changes_nothing(kernel, chosen):
  kernel.write_text(chosen)
  assert huge_pages.hint('cpu') is None
  kernel.unlink()
  assert huge_pages.hint('cpu') is None


@pytest.mark.parametrize('libc', [('glibc', '2.31'), ('', ''), ('musl', '1.2')])
def test_a_libc_that_has_no_such_setting(kernel, monkeypatch, libc):
  monkeypatch.setattr(platform, 'libc_ver', lambda: libc)
  assert huge_pages.hint('cpu') is None


def test_who_has_set_it_is_left_alone(kernel, monkeypatch):
  monkeypatch.setenv('GLIBC_TUNABLES', 'a=1:glibc.malloc.hugetlb=2')
  assert huge_pages.hint('cpu') is None
