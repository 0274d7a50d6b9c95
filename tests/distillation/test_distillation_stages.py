"""Stages and their learning rates against the formulas in plain numpy."""

import jax
import numpy as np
import pytest

from mobilebert_jax.config.run import (
  DistillationConfig,
  OptimizerConfig,
  TrainConfig,
)
from mobilebert_jax.distillation import stages
from mobilebert_jax.runtime.errors import InputError

LAMB = OptimizerConfig(
  name='lamb',
  learning_rate=0.0015,
  warmup_steps=10_000,
  end_factor=1e-4,
  decay_from_start=True,
  epsilon=1e-6,
  bias_correction=False,
)


def progressive(**settings):
  settings = {'strategy': 'progressive', 'transfer_steps': 240_000, **settings}
  return DistillationConfig(teacher='x', **settings)


def table(rates, steps):
  """Multipliers [steps, L], those of all else, and the rates."""
  with jax.enable_x64(True):
    steps = jax.numpy.asarray(steps)
    found = [jax.jit(jax.vmap(f))(steps) for f in
             (rates.layers, rates.others, rates.learning_rate)]  # fmt: skip
    return [np.asarray(x) for x in found]


def released(step, layers=24, length=10_000):
  """google-research's multiplier of each layer, line by line."""
  t = step % length
  shape = min(0.9 + 0.1 * np.sqrt(1 - t / length), 10 * t / length)
  found = np.zeros(layers)
  for layer in range(layers):
    if step > layer * length:
      is_current = step <= (layer + 1) * length
      found[layer] = 3.0 * shape * (1.0 if is_current else 0.1)
  return found


def test_all_24_stages_have_the_released_multipliers():
  rates = stages.rates(progressive(), LAMB, 24, 740_000)
  # Every stage: around its borders, in its warm-up and after.
  within = [0, 1, 2, 500, 989, 990, 991, 1000, 2000, 5000, 9998, 9999]
  steps = [10_000 * stage + t for stage in range(24) for t in within]
  layers, others, rate = table(rates, steps)
  np.testing.assert_allclose(layers, [released(s) for s in steps], rtol=1e-12)
  assert not others.any()
  assert (rate == 0.0015).all()
  peak = layers.max(axis=0) * 0.0015
  assert (0.0044 < peak).all() and (peak < 0.0045).all()


def test_the_distillation_begins_anew():
  rates = stages.rates(progressive(), LAMB, 24, 740_000)
  done = np.array([0, 1, 5000, 9999, 10_000, 250_000, 499_999])
  layers, others, rate = table(rates, 240_000 + done)
  assert not layers[0].any() and not others[0]
  assert (layers[1:] == 1).all() and (others[1:] == 1).all()
  fall = 0.0015 * (1e-4 + (1 - 1e-4) * (1 - done / 500_000))
  expected = np.where(done < 10_000, 0.0015 * done / 10_000, fall)
  np.testing.assert_allclose(rate, expected, rtol=1e-12)


def test_every_stage_resets_all_moments_in_its_first_step():
  # Rates.layers and others are 0 there, which is what resets (`lamb.Rates`).
  for settings in ({}, {'equal_rate': True}, {'train_embeddings': True}):
    config = progressive(transfer_steps=24, **settings)
    rates = stages.rates(config, LAMB, 4, 40)
    layers, others, _ = table(rates, [0, 6, 12, 18, 24])
    assert not layers.any() and not others.any()


def test_rates_of_tensorflow_models():
  config = progressive(
    transfer_steps=24, equal_rate=True, train_embeddings=True
  )
  layers, others, _ = table(stages.rates(config, LAMB, 4, 40), [1, 13, 23])
  assert layers.tolist() == [[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
  assert (others == 1).all()


def test_frozen_earlier_layers_and_trained_embeddings():
  config = progressive(transfer_steps=24, previous_layers=0.0)
  layers, others, _ = table(stages.rates(config, LAMB, 4, 40), [13])
  assert (layers > 0).tolist() == [[False, False, True, False]]
  assert not others.any()
  config = progressive(transfer_steps=24, train_embeddings=True)
  layers, others, _ = table(stages.rates(config, LAMB, 4, 40), [13])
  assert others[0] == pytest.approx(layers[0, 0])
  assert others[0] == pytest.approx(layers[0, 2] / 10)


def test_joint_teaches_all_layers_in_one_stage():
  config = progressive(strategy='joint', transfer_steps=10)
  layers, others, _ = table(stages.rates(config, LAMB, 3, 20), range(12))
  shape = [min(0.9 + 0.1 * np.sqrt(1 - t / 10), t) for t in range(10)]
  expected = [*(3 * np.array(shape)), 0, 1]
  np.testing.assert_allclose(layers, np.tile(expected, (3, 1)).T)
  assert others.tolist() == [0] * 11 + [1]


def test_stages_by_completed_steps():
  found = stages.plan(progressive(transfer_steps=12), 3, 20)
  assert [s.number for s in found] == [0, 1, 2, 3]
  assert [s.layers for s in found] == [(0,), (1,), (2,), ()]
  assert [s.has_task for s in found] == [False, False, False, True]
  numbers = [stages.at(found, done).number for done in range(20)]
  assert numbers == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 8
  assert found[1].describe() == (
    'stage 1, knowledge transfer to layer 1: steps 5 to 8'
  )
  assert found[3].describe() == 'stage 3, distillation: steps 13 to 20'


def test_other_strategies():
  (only,) = stages.plan(DistillationConfig(teacher='x'), 3, 20)
  assert (only.layers, only.has_task, only.steps) == ((), True, 20)
  auxiliary = DistillationConfig(teacher='x', strategy='auxiliary')
  (only,) = stages.plan(auxiliary, 3, 20)
  assert (only.layers, only.has_task) == ((0, 1, 2), True)
  assert stages.rates(auxiliary, LAMB, 3, 20) is None
  assert stages.plan(DistillationConfig(), 3, 20) == ()
  joint = progressive(strategy='joint', transfer_steps=20)
  (only,) = stages.plan(joint, 3, 20)
  assert (only.layers, only.has_task) == ((0, 1, 2), False)


WRONG = {
  'steps do not divide': (progressive(transfer_steps=10), 'a multiple of 3'),
  'one step a stage': (progressive(transfer_steps=3), 'at least 6'),
  'longer than the run': (progressive(transfer_steps=24), 'at most 20'),
  'one joint step': (
    progressive(strategy='joint', transfer_steps=1), 'at least 2',
  ),
}  # fmt: skip


@pytest.mark.parametrize('what', WRONG)
def test_wrong_lengths(what):
  config, message = WRONG[what]
  with pytest.raises(InputError, match=message):
    stages.plan(config, 3, 20)


SETTINGS = {
  'no teacher': ({'teacher': None, 'strategy': 'joint'}, 'teacher is None'),
  'no steps': ({'strategy': 'joint'}, 'transfer_steps is 0'),
  'steps of none': ({'transfer_steps': 4}, "0 with the strategy 'none'"),
  'all factors off': (
    {'strategy': 'auxiliary', 'feature_map': 0.0, 'attention': 0.0,
     'mean': 0.0, 'variance': 0.0}, 'feature_map is 0.0',
  ),
  'no stage': ({'divide_by': 'stage'}, 'divide_by'),
  'unknown part': ({'copy': ('all',)}, 'word_embeddings'),
  'layers in disorder': ({'teacher_layers': (1, 0)}, 'ascending'),
  'ratio': ({'ground_truth_ratio': 1.5}, 'at_most 1|at most 1'),
  'frozen embeddings learn': (
    {
      'strategy': 'joint', 'transfer_steps': 4, 'train_embeddings': True,
      'previous_layers': 0.0,
    },
    'above 0 with config.distillation.train_embeddings',
  ),
  'a rate without a transfer': (
    {'layer_rate': 2.0}, "layer_rate is 2.0, but must be 3.0 with .* 'none'",
  ),
  'frozen layers beside the distillation': (
    {'strategy': 'auxiliary', 'previous_layers': 0.0}, 'must be 0.1 with',
  ),
  'embeddings that always learn': (
    {'strategy': 'auxiliary', 'train_embeddings': True}, 'must be False with',
  ),
  'equal rates of nothing': ({'equal_rate': True}, 'equal_rate is True'),
}  # fmt: skip


@pytest.mark.parametrize('what', SETTINGS)
def test_wrong_settings(what):
  settings, message = SETTINGS[what]
  with pytest.raises(InputError, match=message):
    DistillationConfig(**{'teacher': 'x', **settings})


def test_a_transfer_has_no_early_stop_and_fits_the_run():
  transfer = progressive(transfer_steps=10)
  with pytest.raises(InputError, match='early_stop'):
    TrainConfig(task='x', num_steps=20, early_stop=1, distillation=transfer)
  with pytest.raises(InputError, match=r'at most config\.num_steps'):
    TrainConfig(task='x', num_steps=5, distillation=transfer)


def test_paired_statistics():
  config = progressive(mean=0.0, paired_statistics=True)
  assert config.factors == {'feature_map': 100.0, 'attention': 1.0}
  assert 'variance' in progressive(mean=0.0).factors
