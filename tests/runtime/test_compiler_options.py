"""Options of XLA, where the installed one has them."""

import jax
import pytest

from mobilebert_jax.runtime import compiler_options as options


@pytest.mark.parametrize(
  ('platform', 'dtype'),
  [('tpu', 'float32'), ('gpu', 'float32'), ('cpu', 'bfloat16')],
)
def test_where_there_is_nothing_to_set(platform, dtype):
  assert options.compiler_options(platform, dtype) is None


def test_what_is_set_compiles():
  """An XLA that lacks the option gets none."""
  found = options.compiler_options('cpu', 'float32')
  double = jax.jit(lambda x: x @ x, compiler_options=found)
  assert double(jax.numpy.ones((2, 2))).tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_an_xla_without_the_option(monkeypatch):
  monkeypatch.setattr(options, '_CPU_FLOAT32', {'xla_cpu_no_such_thing': 'x'})
  assert options.compiler_options('cpu', 'float32') is None
