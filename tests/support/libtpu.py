"""Marks of tests for which libtpu compiles (extra 'tpu')."""

import importlib.util

import pytest

needed = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None,
  reason="libtpu is not installed: pip install '.[tpu]'",
)
