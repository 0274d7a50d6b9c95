"""Same weights, same batches, same numbers: the same losses as torch."""

import pytest

from tests.support import marks

pytestmark = [pytest.mark.parity, pytest.mark.data]


def check(name, shared_data, tolerance):
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  from tests.support import learning

  reference, mine = learning.both(name, shared_data, steps=100)
  learning.check(reference, mine, 100, tolerance)


# tests/tasks has learning with layer_norm (CoLA), on the same layers.
@pytest.mark.parametrize(
  'name',
  marks.long_but(
    ('small no_norm, float64',),
    ('small layer_norm, float64', 'small no_norm, float64'),
  ),
)
def test_small(name, shared_data):
  check(name, shared_data, 1e-6)


@pytest.mark.long
def test_full_size(shared_data):
  check('full size no_norm, float32', shared_data, 1e-3)
