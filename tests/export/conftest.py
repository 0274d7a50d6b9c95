"""Tiny models to export, saved once for a module of tests."""

import pytest

from tests.support import served

LABELS = {'id2label': {0: 'bad', 1: 'good', 2: 'so so'}}


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  """Directories of tiny models, by class; a classifier's labels have names."""
  root = tmp_path_factory.mktemp('models')

  def directory(head):
    path = root / head
    if not path.exists():
      is_classifier = head == 'MobileBertForSequenceClassification'
      served.write(path, head, **(LABELS if is_classifier else {}))
    return path

  return directory
