"""What cuDNN's kernel is given, computed by XLA where there is no GPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mobilebert_jax as mb
from mobilebert_jax.models.attention import choice, cudnn, make_mask, xla
from mobilebert_jax.runtime import target
from mobilebert_jax.runtime.errors import InputError

B, S, H, K = 2, 7, 4, 8


def masks():
  rng = np.random.default_rng(0)
  padded = np.arange(S) < np.array([[S], [4]])
  pairs = rng.random((B, S, S)) < 0.7
  pairs[:, :, 0] = True
  additive = np.where(rng.random((B, 1, S, S)) < 0.3, -1e3, 0.5)
  return {
    'none': make_mask(),
    'keys': make_mask(padded.astype(np.int32)),
    'pairs': make_mask(pairs),
    'additive': make_mask(additive.astype(np.float32)),
    'segments': make_mask(None, np.sort(rng.integers(1, 4, (B, S)))),
  }


@pytest.mark.parametrize('name', masks())
@pytest.mark.parametrize('has_head_mask', [False, True])
def test_it_computes_what_plain_operations_do(name, has_head_mask):
  rng = np.random.default_rng(1)
  q, k, v = jnp.asarray(rng.standard_normal((3, B, S, H * K)), jnp.float32)
  head_mask = jnp.array([0.0, 1.0, 0.5, 2.0]) if has_head_mask else None
  mask = masks()[name]

  def reference(q, k, v):
    parts = (x.reshape(B, S, H, K) for x in (q, k, v))
    y, _, _ = xla.attend(
      *parts, mask, head_mask, xla.Drawn(), rate=0.0, compute=mb.Compute()
    )
    return y.reshape(B, S, H * K)

  given = functools.partial(
    cudnn.attend, mask=mask, head_mask=head_mask, heads=H, implementation='xla'
  )
  weights = jnp.asarray(rng.standard_normal((B, S, H * K)), jnp.float32)
  np.testing.assert_allclose(
    given(q, k, v), reference(q, k, v), rtol=1e-5, atol=1e-5
  )

  def gradient(function):
    return jax.grad(
      lambda *args: jnp.sum(function(*args) * weights), argnums=(0, 1, 2)
    )(q, k, v)

  for found, wanted in zip(gradient(given), gradient(reference)):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.fixture
def gpu(monkeypatch):
  monkeypatch.setattr(target, 'device_kind', lambda: 'nvidia h200')


def _kind(attention, dtype='bfloat16', width=128, is_dropping=False):
  compute = mb.Compute(dtype=dtype, attention=attention)
  return choice.kind(compute, (8, 128, width), 4, is_dropping=is_dropping)


def test_who_gets_it(gpu):
  assert _kind('fused') == 'cudnn'
  assert _kind('xla') == 'xla'
  # Nobody has measured it there.
  assert _kind('auto') == 'xla'


@pytest.mark.parametrize(
  ('settings', 'words'),
  [
    ({'dtype': 'float32'}, "'bfloat16', and it is 'float32'"),
    ({'is_dropping': True}, 'attention_probs_dropout_prob=0'),
    ({'width': 1024}, 'and they are 256'),
  ],
)
def test_what_it_cannot_compute(gpu, settings, words):
  with pytest.raises(InputError, match=words):
    _kind('fused', **settings)
