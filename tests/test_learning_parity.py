"""Same weights, same batches, same numbers: the same losses as torch."""

import numpy as np
import pytest

pytestmark = [pytest.mark.parity, pytest.mark.data]


def check(name, shared_data, tolerance):
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  import learning

  reference, mine = learning.both(name, shared_data, steps=100)
  assert len(mine) == 100
  error = np.abs(mine - reference) / np.abs(reference)
  assert error.max() <= tolerance, (int(error.argmax()), error.max())
  # The comparison means something: the weights moved, and the loss with them.
  assert np.ptp(mine) > 0.05


@pytest.mark.parametrize(
  'name', ['small layer_norm, float64', 'small no_norm, float64']
)
def test_small(name, shared_data):
  check(name, shared_data, 1e-6)


@pytest.mark.long
def test_full_size(shared_data):
  check('full size no_norm, float32', shared_data, 1e-3)
