import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mobilebert_jax.config.run import OptimizerConfig
from mobilebert_jax.training import optimizer


def _params():
  return {
    'dense': {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)},
    'norm': {'scale': jnp.ones(3), 'bias': jnp.ones(3)},
    'words': {'embedding': jnp.ones((4, 3))},
    'activation': {
      name: jnp.ones(1)
      for name in ('slope', 'alpha_p', 'alpha_n', 'beta', 'eps')
    },
  }


def _decayed(params):
  return {
    jax.tree_util.keystr(path)
    for path, leaf in jax.tree.leaves_with_path(params)
    if np.any(np.asarray(leaf) < 1)
  }


@pytest.mark.slow
def test_zero_gradient_shrinks_decayed_weights_and_only_them():
  params = _params()
  config = OptimizerConfig(learning_rate=0.1, warmup_steps=0, weight_decay=0.5)
  tx = optimizer.make_optimizer(config, total_steps=10)
  grads = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(grads, tx.init(params), params)
  after = optax.apply_updates(params, updates)
  assert _decayed(after) == {"['dense']['kernel']", "['words']['embedding']"}
  np.testing.assert_allclose(after['dense']['kernel'], 0.95, rtol=1e-6)


def test_schedule_has_the_numbers_of_transformers():
  schedule = optimizer.linear_schedule(2.0, 4, 12)
  rates = [float(schedule(jnp.int32(step))) for step in range(14)]
  rise = [0, 0.5, 1, 1.5]
  fall = [2, 1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.25, 0, 0]
  np.testing.assert_allclose(rates, rise + fall, rtol=1e-6)


def test_no_warmup_starts_at_the_peak():
  schedule = optimizer.linear_schedule(3.0, 0, 10)
  assert float(schedule(jnp.int32(0))) == 3.0


def test_schedule_has_the_numbers_of_google_research():
  """The published run: 0.0015, up in 10,000 steps, 1.5e-7 at 500,000."""
  config = OptimizerConfig(
    learning_rate=0.0015, warmup_steps=10_000, end_factor=1e-4,
    decay_from_start=True,
  )  # fmt: skip
  schedule = optimizer.make_schedule(config, 500_000)
  done = np.array(
    [0, 1, 5_000, 9_999, 10_000, 10_001, 250_000, 499_999, 500_000, 600_000]
  )
  line = (0.0015 - 1.5e-7) * (1 - np.minimum(done, 500_000) / 500_000) + 1.5e-7
  expected = np.where(done < 10_000, 0.0015 * done / 10_000, line)
  # At the end of the warm-up it falls by the 2% that the line has lost.
  assert expected[4] == pytest.approx(0.98 * 0.0015, rel=1e-4)
  rates = [float(schedule(jnp.int32(step))) for step in done]
  np.testing.assert_allclose(rates, expected, rtol=2e-5)
  with jax.enable_x64(True):
    rates = [float(schedule(jnp.int32(step))) for step in done]
  np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_a_line_may_end_above_zero():
  schedule = optimizer.linear_schedule(2.0, 4, 12, end_factor=0.5)
  rates = [float(schedule(jnp.int32(step))) for step in (2, 4, 8, 12, 13)]
  np.testing.assert_allclose(rates, [1, 2, 1.5, 1, 1], rtol=1e-6)


@pytest.mark.parametrize(
  ('warmup_steps', 'rates'), [(0, [2, 2, 2, 2]), (2, [0, 1, 2, 2])]
)
def test_a_constant_schedule(warmup_steps, rates):
  config = OptimizerConfig(
    learning_rate=2.0, schedule='constant', warmup_steps=warmup_steps
  )
  schedule = optimizer.make_schedule(config, 3)
  got = [float(schedule(jnp.int32(step))) for step in (0, 1, 2, 9)]
  np.testing.assert_allclose(got, rates, rtol=1e-7)


def test_clipping_has_torchs_coefficient():
  grads = {'a': jnp.asarray([3.0, 0.0]), 'b': jnp.asarray([4.0])}
  clip = optimizer.clip_by_global_norm(1.0)
  clipped, _ = clip.update(grads, clip.init(grads))
  scale = 1.0 / (5.0 + 1e-6)
  np.testing.assert_allclose(clipped['a'], [3 * scale, 0], rtol=1e-7)
  same, _ = optimizer.clip_by_global_norm(6.0).update(grads, None)
  np.testing.assert_array_equal(same['b'], grads['b'])


def test_clipping_can_be_off():
  params = {'kernel': jnp.ones(2)}
  rates = {'learning_rate': 1e-2, 'weight_decay': 0.0, 'warmup_steps': 0}
  huge = {'kernel': jnp.full(2, 1e6)}
  moments = {}
  for limit in (None, 1.0):
    config = OptimizerConfig(max_grad_norm=limit, **rates)
    tx = optimizer.make_optimizer(config, 10)
    _, state = tx.update(huge, tx.init(params), params)
    moments[limit] = optax.tree_utils.tree_get(state, 'mu')['kernel'][0]
  assert moments[None] == pytest.approx(1e5)
  assert moments[1.0] < 1


def test_warmup_fraction_counts_the_steps_of_the_run():
  tx = optimizer.make_optimizer(
    OptimizerConfig(learning_rate=1.0, warmup_fraction=0.2), 50
  )
  assert float(tx.learning_rate(jnp.int32(5))) == pytest.approx(0.5)
  assert float(tx.learning_rate(jnp.int32(10))) == pytest.approx(1.0)


@pytest.mark.parity
def test_a_hundred_steps_equal_torch_adamw():
  torch = pytest.importorskip('torch')
  rng = np.random.default_rng(0)
  start = {'kernel': rng.normal(size=(5, 4)), 'bias': rng.normal(size=4)}
  config = OptimizerConfig(learning_rate=1e-2, weight_decay=0.1)
  with jax.enable_x64(True):
    tx = optimizer.make_optimizer(config, 100)
    params = jax.tree.map(jnp.asarray, start)
    state = tx.init(params)
    theirs = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in start.items()}
    groups = [
      {'params': [theirs['kernel']], 'weight_decay': 0.1},
      {'params': [theirs['bias']], 'weight_decay': 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=1e-2, eps=1e-8)
    for step in range(100):
      grads = {k: rng.normal(size=v.shape) for k, v in start.items()}
      updates, state = tx.update(
        jax.tree.map(jnp.asarray, grads), state, params
      )
      params = optax.apply_updates(params, updates)
      for name, value in theirs.items():
        value.grad = torch.tensor(grads[name])
      torch.nn.utils.clip_grad_norm_(list(theirs.values()), 1.0)
      rate = step / 10 if step < 10 else (100 - step) / 90
      for group in adamw.param_groups:
        group['lr'] = 1e-2 * rate
      adamw.step()
    for name, value in theirs.items():
      np.testing.assert_allclose(
        np.asarray(params[name]), value.detach().numpy(), rtol=1e-10
      )


def test_only_the_first_moment_may_be_in_bfloat16():
  params = _params()
  grads = jax.tree.map(jnp.ones_like, params)
  tx = optimizer.make_optimizer(OptimizerConfig(moments_dtype='bfloat16'), 10)
  state = tx.init(params)
  for _ in range(2):
    _, state = tx.update(grads, state, params)
    for name, dtype in (('mu', jnp.bfloat16), ('nu', jnp.float32)):
      moments = optax.tree_utils.tree_get(state, name)
      assert {x.dtype for x in jax.tree.leaves(moments)} == {jnp.dtype(dtype)}
  # Why not the second: without a gradient it should fall by a thousandth.
  assert jnp.bfloat16(1.0 * 0.999) == 1.0
  assert jnp.bfloat16(1.0 * 0.9) < 0.91
