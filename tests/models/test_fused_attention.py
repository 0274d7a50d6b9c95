"""The TPU kernel, interpreted, against plain operations; and who gets it."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mobilebert_jax as mb
from mobilebert_jax.models.attention import (
  choice,
  dropout,
  fused,
  kernel,
  make_mask,
  xla,
)
from mobilebert_jax.runtime import target
from mobilebert_jax.training import mesh as device_mesh
from tests.support import cases, marks

ROWS, LENGTH, HEADS = 4, 40, 4
RNG = np.random.default_rng(0)
LENGTHS = np.array([[40], [17], [1], [0]])
# The last row sees nothing at all.
SEEN = np.arange(LENGTH) < LENGTHS
SEGMENTS = np.sort(RNG.integers(1, 4, (ROWS, LENGTH)), axis=1)
SEGMENTS[:, 30:] = 0


def additive(*shape):
  added = RNG.normal(size=shape)
  hidden = RNG.random(shape) < 0.5
  return np.where(hidden, -np.inf, added).astype(np.float32)


MASKS = {
  'none': (None, None),
  'keys': (SEEN, None),
  'keys_packed': (SEEN, SEGMENTS),
  'packed': (None, SEGMENTS),
  'queries': (RNG.random((ROWS, LENGTH, LENGTH)) < 0.5, None),
  'queries_packed': (RNG.random((ROWS, LENGTH, LENGTH)) < 0.5, SEGMENTS),
  'heads': (RNG.integers(0, 2, (1, HEADS, LENGTH, LENGTH)), None),
  'heads_keys': (RNG.random((ROWS, HEADS, 1, LENGTH)) < 0.5, SEGMENTS),
  'four_axes_keys': (SEEN[:, None, None], SEGMENTS),
  'added': (additive(ROWS, HEADS, LENGTH, LENGTH), None),
  'added_packed': (additive(ROWS, 1, LENGTH, LENGTH), SEGMENTS),
  'added_keys': (additive(ROWS, 1, 1, LENGTH), None),
  'added_keys_packed': (additive(ROWS, 1, 1, LENGTH), SEGMENTS),
  'lowest': (
    np.full((ROWS, 1, 1, LENGTH), np.finfo(np.float32).min), None
  ),
}  # fmt: skip


def inputs(width, dtype='float32', rows=ROWS, length=LENGTH):
  keys = jax.random.split(jax.random.key(0), 4)
  shape = (rows, length, width)
  return [jax.random.normal(key, shape, dtype) for key in keys]


def plain(q, k, v, mask, seed, rate, heads=HEADS):
  """By the reference, whose gradient is JAX's."""
  split = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
  compute = mb.Compute(dtype=q.dtype.name)
  y, _, _ = xla.attend(
    *split, mask, None, xla.Drawn(seed=seed), rate=rate, compute=compute
  )
  return y.reshape(q.shape)


def own_gradient(q, k, v, mask, seed, rate, heads=HEADS):
  """By plain operations with their own backward pass."""
  split = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
  compute = mb.Compute(dtype=q.dtype.name)
  y = xla.attend_hashed(
    *split, mask, None, xla.Drawn(seed=seed), rate=rate, compute=compute
  )
  return y.reshape(q.shape)


def by_kernel(q, k, v, mask, seed, rate, heads=HEADS):
  return fused.attend(
    q, k, v, fused.kernel_mask(mask), seed, heads=heads, rate=rate,
    interpret=True,
  )  # fmt: skip


@functools.partial(jax.jit, static_argnames=('function', 'rate'))
def value_and_gradients(function, rate, q, k, v, gradient, mask, seed):
  def of(q, k, v):
    return function(q, k, v, mask, seed, rate)

  y, pull_back = jax.vjp(of, q, k, v)
  return y, *pull_back(gradient)


def check(mask, rate, arrays, tolerance=1e-5, functions=(by_kernel,)):
  seed = dropout.seed_of(jax.random.key(7)) if rate else None
  mask = make_mask(*mask)
  expected = value_and_gradients(plain, rate, *arrays, mask, seed)
  for function in functions:
    found = value_and_gradients(function, rate, *arrays, mask, seed)
    for one, other in zip(found, expected):
      one, other = (np.asarray(x, np.float64) for x in (one, other))
      largest = np.abs(other).max()
      np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * largest)


# Without dropout: the three ways in which the kernel has a mask.
WITHOUT = [('keys', 0.0), ('packed', 0.0), ('added', 0.0)]


@pytest.mark.parametrize(
  'case',
  marks.slow_but(
    [('keys', 0.1), ('keys_packed', 0.1), ('queries_packed', 0.1)],
    [*((name, 0.1) for name in MASKS), *WITHOUT],
  ),
  ids=str,
)
def test_masks(case):
  """Values and gradients; hidden rows are uniform over all keys."""
  name, rate = case
  check(
    MASKS[name], rate, inputs(HEADS * 32), functions=(by_kernel, own_gradient)
  )


@pytest.mark.parametrize('head_dim', marks.slow_but((256,), (4, 48, 128, 256)))
def test_widths_of_heads(head_dim):
  """Heads that share a tile, have several, or do not divide one."""
  check(MASKS['keys'], 0.1, inputs(HEADS * head_dim))


def test_bfloat16():
  check(MASKS['keys'], 0.1, inputs(HEADS * 32, 'bfloat16'), tolerance=0.02)


@pytest.mark.parametrize('name', ['keys_packed', 'queries'])
def test_blocks_of_queries(name, monkeypatch):
  monkeypatch.setattr(kernel, '_SCORES', 256 * 128)
  seen = {
    'keys_packed': np.arange(256) < np.array([[256], [70]]),
    'queries': RNG.random((2, 256, 256)) < 0.5,
  }[name]
  segments = np.where(np.arange(256) < 200, 1 + np.arange(256) // 90, 0)
  segments = None if name == 'queries' else np.stack([segments] * 2)
  arrays = inputs(HEADS * 32, rows=2, length=256)
  assert kernel.make_plan(arrays[0].shape, HEADS, 0.1, True).queries == 128
  check((seen, segments), 0.1, arrays)


@pytest.mark.slow
@pytest.mark.parametrize('function', [by_kernel, own_gradient])
@pytest.mark.parametrize('name', ['added', 'added_keys_packed'])
def test_additive_masks_have_gradients(name, function):
  q, k, v, gradient = inputs(HEADS * 32)
  seen, segments = MASKS[name]
  # Finite: at -inf the reference's own gradient is 0 as well.
  seen = np.maximum(seen, -3.0)
  seed = dropout.seed_of(jax.random.key(7))

  def of(function):
    def loss(seen):
      y = function(q, k, v, make_mask(seen, segments), seed, 0.1)
      return jnp.sum(y * gradient)

    return jax.jit(jax.grad(loss))(seen)

  expected = of(plain)
  assert np.abs(expected).max() > 0.01
  np.testing.assert_allclose(of(function), expected, rtol=0, atol=1e-5)


# Whole models.

CONFIG = mb.MobileBertConfig(**cases.SMALL).replace(
  num_feedforward_networks=1, attention_probs_dropout_prob=0.2
)
IDS = 1 + np.arange(8 * 15).reshape(8, 15) % 30
MASK = np.arange(15) < np.array([[15], [3], [7], [1], [15], [9], [12], [2]])
HEAD_MASK = np.array([1.0, 0.5, 0.0, 2.0], np.float32)


@functools.cache
def parameters():
  model = mb.MobileBertForSequenceClassification(CONFIG)
  params = mb.init_params(model, jax.random.key(0))
  # Larger than at a start: else attention is all but uniform.
  return jax.tree.map(lambda x: x * 8 if x.ndim > 2 else x, params)


def gradients(compute, mesh=None, config=CONFIG, **options):
  model = mb.MobileBertForSequenceClassification(config, compute)

  def loss(params, head_mask):
    out = model.apply(
      {'params': params},
      IDS,
      MASK,
      head_mask=head_mask,
      deterministic=False,
      rngs={'dropout': jax.random.key(1)},
      **options,
    )
    return jnp.sum(jnp.square(out.logits))

  function = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
  if mesh is None:
    return function(parameters(), HEAD_MASK)
  with jax.set_mesh(mesh):
    return function(parameters(), HEAD_MASK)


@functools.cache
def expected():
  return gradients(mb.Compute(attention_dropout='hash'))


def assert_same(found, wanted):
  largest = max(float(np.abs(x).max()) for x in jax.tree.leaves(wanted[1]))
  chex.assert_trees_all_close(found[0], wanted[0], rtol=1e-5)
  chex.assert_trees_all_close(found[1], wanted[1], rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize(
  'sizes', marks.slow_but([(2, 2, 2)], [None, (2, 2, 2), (1, 4, 2), (8, 1, 1)])
)
def test_a_model_on_any_mesh_has_the_same_bits(sizes):
  mesh = sizes and device_mesh.make_mesh(*sizes)
  fused_compute = mb.Compute(attention='fused')
  with choice.interpreted():
    assert_same(gradients(fused_compute, mesh), expected())
  if mesh:
    hashed = mb.Compute(attention_dropout='hash')
    assert_same(gradients(hashed, mesh), expected())


@pytest.mark.slow
@pytest.mark.parametrize('remat', ['full', 'dots', 'narrow', 'attention'])
@pytest.mark.parametrize('attention', ['xla', 'fused'])
def test_rematerialisation(attention, remat):
  compute = mb.Compute(
    attention=attention, attention_dropout='hash', remat=remat
  )
  with choice.interpreted():
    assert_same(gradients(compute), expected())


def test_the_hash_is_another_dropout_than_the_default():
  drawn, hashed = gradients(mb.Compute()), expected()
  assert abs(drawn[0] - hashed[0]) > 1e-3 * abs(hashed[0])
  without = CONFIG.replace(attention_probs_dropout_prob=0.0)
  assert_same(
    gradients(mb.Compute(attention_dropout='hash'), config=without),
    gradients(mb.Compute(), config=without),
  )


def test_whoever_asks_for_maps_gets_them():
  """With the same dropout as the kernel's."""
  compute = mb.Compute(attention='fused')
  with choice.interpreted():
    maps = gradients(compute, output_attentions=True)
  assert_same(maps, expected())


def test_a_batch_that_the_mesh_does_not_divide():
  model = mb.MobileBertForSequenceClassification(
    CONFIG, mb.Compute(attention='fused')
  )
  apply = jax.jit(lambda p: model.apply({'params': p}, IDS[:3]).logits)
  with choice.interpreted(), jax.set_mesh(device_mesh.make_mesh(8)):
    found = apply(parameters())
  plain_model = mb.MobileBertForSequenceClassification(CONFIG)
  wanted = plain_model.apply({'params': parameters()}, IDS[:3]).logits
  chex.assert_trees_all_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_platform_without_a_kernel():
  compute = mb.Compute(attention='fused')
  with pytest.raises(mb.InputError, match=r"kernel for a CPU: use 'auto'"):
    gradients(compute)
  automatic = dataclasses.replace(
    compute, attention='auto', attention_dropout='hash'
  )
  assert_same(gradients(automatic), expected())


@pytest.mark.parametrize(
  ('device', 'remat', 'rows', 'width', 'kind'),
  [
    ('tpu v5 lite', 'none', 8, 128, 'xla'),
    ('tpu v5 lite', 'dots', 8, 128, 'fused'),
    ('tpu v5 lite', 'none', 16, 128, 'fused'),
    ('tpu v5 lite', 'full', 64, 128, 'xla'),
    ('tpu v5 lite', 'narrow', 8, 128, 'xla'),
    ('tpu v5 lite', 'narrow', 16, 128, 'fused'),
    # The teacher's heads fill their tiles.
    ('tpu v5 lite', 'full', 8, 1024, 'fused'),
    ('tpu v6 lite', 'full', 8, 128, 'fused'),
    ('tpu v5', 'narrow', 8, 128, 'fused'),
  ],
)
def test_auto_takes_what_was_found_faster(
  monkeypatch, device, remat, rows, width, kind
):
  monkeypatch.setattr(target, 'device_kind', lambda: device)
  compute = mb.Compute('bfloat16', attention='auto', remat=remat)
  found = choice.kind(compute, (rows, 512, width), HEADS, is_dropping=False)
  assert found == kind


def test_auto_keeps_the_bits_of_drawn_dropout():
  shape = (2, 512, 128)
  with choice.interpreted():
    kinds = [
      choice.kind(
        mb.Compute(attention='auto', attention_dropout=dropout),
        shape,
        HEADS,
        is_dropping=is_dropping,
      )
      for dropout in ('random', 'hash')
      for is_dropping in (True, False)
    ]
  assert kinds == ['xla', 'fused', 'fused', 'fused']
