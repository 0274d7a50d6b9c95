"""What a missing package is answered with."""

import sys

import pytest

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.requirements import load


@pytest.mark.parametrize(
  ('extra', 'line'),
  [
    ('onnx', r"pip install 'mobilebert_jax\[onnx\]' brings it\."),
    (
      'litert',
      r"pip install 'mobilebert_jax\[litert\]' "
      '&& pip install --no-deps litert-converter brings it',
    ),
  ],
)
def test_a_missing_package_is_told_with_the_line(extra, line, monkeypatch):
  monkeypatch.setitem(sys.modules, 'absent', None)
  with pytest.raises(InputError, match=f'absent cannot be imported .*; {line}'):
    load('absent', extra)
