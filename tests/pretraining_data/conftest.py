"""Texts, and a data set that is made of them."""

import pytest

from tests.support.pretraining_sets import write, write_two_files


@pytest.fixture(scope='module')
def text(tmp_path_factory):
  return write_two_files(tmp_path_factory.mktemp('text'))


@pytest.fixture(scope='module')
def static(text, tmp_path_factory):
  """A data set with masks."""
  folder = tmp_path_factory.mktemp('static') / 'set'
  return folder, write(text, folder, masking='static', duplicates=2)
