"""The losses of the stages against whole models and plain numpy."""

import dataclasses

import jax
import numpy as np
import pytest

from mobilebert_jax import losses as hard_losses
from mobilebert_jax import models
from mobilebert_jax.distillation import objective
from mobilebert_jax.models.attention import choice
from tests.support import distilling, marks, packed
from tests.support.distilling_by_hand import softmax
from tests.support.objectives import (
  AUXILIARY,
  DISTILLATION,
  EVERY,
  aims_of,
  apply,
  apply_head,
  expected_means,
  gradient_of,
  inputs_of,
  stage_of,
  task,
  value_of,
  wide,
)


@pytest.fixture(scope='module')
def four():
  return distilling.pair()


CASES = {
  'first layer': (stage_of(0), {}, (1, 3)),
  'second layer': (stage_of(1), {}, (1, 3)),
  'frozen before': (stage_of(1), {'previous_layers': 0.0}, (1, 3)),
  'joint': (EVERY, {}, (1, 3)),
  'chosen layers, unevenly': (EVERY, {'teacher_layers': (0, 2)}, (0, 2)),
  'neighbours': (EVERY, {'teacher_layers': (2, 3)}, (2, 3)),
  'padding counts': (EVERY, {'count_padding': True}, (1, 3)),
  'average statistics': (
    EVERY, {'teacher_average_statistics': True}, (1, 3),
  ),
  'average statistics, one layer': (
    stage_of(0), {'teacher_average_statistics': True}, (1, 3),
  ),
  "tensorflow's epsilon": (EVERY, {'norm_epsilon': 1e-3}, (1, 3)),
}  # fmt: skip


@pytest.mark.parametrize(
  'name', marks.slow_but(('first layer', 'joint'), CASES)
)
def test_transfer_by_its_formulas(name, four):
  stage, changed, layers = CASES[name]
  settings = distilling.settings(**changed)
  batch = distilling.batch()
  loss, means = value_of(stage, settings, four, batch)
  expected = expected_means(settings, four, batch, layers, stage.layers)
  for term, value in expected.items():
    np.testing.assert_allclose(means[term], value, rtol=2e-5, err_msg=term)
  # Divided by the number of the student's layers, also with one taught.
  total = sum(
    factor * expected[term] * len(stage.layers) / 2
    for term, factor in settings.factors.items()
  )
  np.testing.assert_allclose(loss, total, rtol=2e-5)


def test_a_term_is_divided_by_the_stage_in_tensorflow_models(four):
  settings = distilling.settings(strategy='progressive', transfer_steps=4)
  outputs = objective.Outputs(dict.fromkeys(settings.factors, 1.0))

  def scale(layer, divide_by):
    changed = dataclasses.replace(settings, divide_by=divide_by)
    aims = aims_of(stage_of(layer), changed, four)
    return aims.terms(outputs, distilling.batch())[0]['feature_map'].scale

  scales = {by: [scale(0, by), scale(1, by)] for by in ('layers', 'stage')}
  assert scales == {'layers': [50, 50], 'stage': [100, 50]}


@pytest.mark.slow
def test_a_stage_teaches_its_layer_and_no_later_one(four):
  batch = distilling.batch()
  for changed, moved in (({}, [1, 1]), ({'previous_layers': 0.0}, [0, 1])):
    settings = distilling.settings(**changed)
    _, grads = gradient_of(stage_of(1), settings, four, batch)
    layers = grads['mobilebert']['encoder']['layers']
    for layer, moves in enumerate(moved):
      of_layer = [np.abs(x[layer]).max() for x in jax.tree.leaves(layers)]
      assert (max(of_layer) > 0) == bool(moves)
    embeds = jax.tree.leaves(grads['mobilebert']['embeddings'])
    assert any(x.any() for x in embeds) == (moved == [1, 1])
  _, grads = gradient_of(stage_of(0), distilling.settings(), four, batch)
  layers = grads['mobilebert']['encoder']['layers']
  assert not any(x[1].any() for x in jax.tree.leaves(layers))
  assert not any(x.any() for x in jax.tree.leaves(grads['predictions']))


@pytest.mark.slow
@pytest.mark.parametrize('remat', ['full', 'narrow', 'attention'])
def test_rematerialisation_changes_nothing(four, remat):
  """In float64: what is left of a difference is not that of the order."""
  with jax.enable_x64(True):
    wide = [
      part.clone(compute=dataclasses.replace(part.compute, dtype='float64'))
      for part in four[:2]
    ]
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), four[2:])
    compute = dataclasses.replace(wide[0].compute, remat=remat)
    batch, settings = distilling.batch(), distilling.settings()
    kept = gradient_of(EVERY, settings, (*wide, *params), batch)
    again = gradient_of(
      EVERY, settings, (wide[0].clone(compute=compute), wide[1], *params), batch
    )
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9),
      kept, again,
    )  # fmt: skip


@pytest.mark.slow
def test_the_kernel_and_its_attention_transfer_change_nothing(four):
  """No scores are compared: the loss reads queries and keys."""
  student, teacher, *params = four
  batch, settings = distilling.batch(), distilling.settings()

  def computed(**compute):
    models = [
      m.clone(compute=dataclasses.replace(m.compute, **compute))
      for m in (student, teacher)
    ]
    return gradient_of(EVERY, settings, (*models, *params), batch)

  plain = computed(attention_dropout='hash')
  with choice.interpreted():
    fused = computed(attention='fused')
  largest = max(np.abs(x).max() for x in jax.tree.leaves(plain))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * largest),
    fused, plain,
  )  # fmt: skip


@pytest.mark.slow
def test_layers_in_a_row_or_in_a_loop(four):
  student, teacher, *params = four
  looped = [
    m.clone(compute=dataclasses.replace(m.compute, layers='loop'))
    for m in (student, teacher)
  ]
  batch = distilling.batch()
  scanned = value_of(EVERY, distilling.settings(), four, batch)
  unrolled = value_of(EVERY, distilling.settings(), (*looped, *params), batch)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    scanned, unrolled,
  )  # fmt: skip


def masked_lm_by_hand(models_, batch, ratio, temperature=1.0, sharpened=1.0):
  """google-research's formula: labels r x onehot + (1 - r) x teacher."""
  student, teacher, params, teacher_params = models_
  positions = batch['masked_positions']
  own = wide(apply(student, params, inputs_of(batch, 'masked_positions'))[0])
  hidden = apply(teacher, teacher_params, inputs_of(batch)).hidden_states[-1]
  theirs = apply_head(teacher, teacher_params, hidden * sharpened, positions)
  probs = softmax(wide(theirs) / temperature)
  labels = batch['labels']
  onehot = np.eye(own.shape[-1])[np.maximum(labels, 0)]
  counts = (labels != -100).astype(float)
  hard = -(onehot * np.log(softmax(own))).sum(-1)
  soft = -(probs * np.log(softmax(own / temperature))).sum(-1)
  mixed = ratio * hard + (1 - ratio) * temperature**2 * soft
  return (mixed * counts).sum() / counts.sum()


RATIOS = {
  'half': {},
  'teacher alone': {'ground_truth_ratio': 0.0},
  'temperature': {'temperature': 2.0},
  "google-research's temperature": {
    'temperature': 2.0, 'temperature_on': 'sequence_output',
  },
}  # fmt: skip


@pytest.mark.parametrize('name', marks.slow_but(('half',), RATIOS))
def test_distillation_by_its_formula(name, four):
  settings = distilling.settings(
    strategy='none', transfer_steps=0, **RATIOS[name]
  )
  batch = distilling.batch()
  loss, means = value_of(DISTILLATION, settings, four, batch)
  on_logits = settings.temperature_on == 'logits'
  expected = masked_lm_by_hand(
    four, batch, settings.ground_truth_ratio,
    settings.temperature if on_logits else 1.0,
    1.0 if on_logits else settings.temperature,
  )  # fmt: skip
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  assert 0 <= means['masked_lm_agreement'] <= 1


@pytest.mark.slow
def test_next_sentences_are_learnt_from_the_data_alone():
  four = distilling.pair(models.MobileBertForPreTraining)
  settings = distilling.settings(strategy='none', transfer_steps=0)
  batch = distilling.batch()
  loss, means = value_of(
    DISTILLATION, settings, four, batch, task_=task('pretraining')
  )
  assert set(means) == {
    'masked_lm_hard', 'masked_lm_soft', 'next_sentence', 'masked_lm_agreement',
  }  # fmt: skip
  out = apply(four[0], four[2], inputs_of(batch))
  logits = out.seq_relationship_logits
  (term,) = hard_losses.next_sentence_loss(logits, batch['next_sentence_label'])
  np.testing.assert_allclose(
    means['next_sentence'], term.sum / term.weight, rtol=1e-5
  )
  mixed = masked_lm_by_hand(four, batch, 0.5)
  np.testing.assert_allclose(loss, mixed + means['next_sentence'], rtol=1e-5)


@pytest.mark.slow
def test_auxiliary_is_transfer_and_distillation_together(four):
  settings = distilling.settings(strategy='auxiliary', transfer_steps=0)
  batch = distilling.batch()
  (knowledge, _), (task_loss, _), (both, means) = (
    value_of(stage, settings, four, batch)
    for stage in (EVERY, DISTILLATION, AUXILIARY)
  )
  np.testing.assert_allclose(both, knowledge + task_loss, rtol=1e-5)
  assert {'feature_map', 'masked_lm_soft'} <= set(means)


@pytest.mark.slow
def test_examples_that_share_a_row_are_compared_as_if_alone(four):
  """Feature maps, attention and soft labels."""
  features = packed.make_features('masked_lm', count=6, longest=9)
  settings = distilling.settings(strategy='auxiliary', transfer_steps=0)

  def value(batching):
    batch, _ = packed.batch_of(features, batching)
    words = distilling.TEACHER['vocab_size']
    batch['input_ids'] %= words
    batch['labels'] = np.where(
      batch['labels'] < 0, -100, batch['labels'] % words
    )
    return value_of(AUXILIARY, settings, four, batch)

  alone, together = value('padded'), value('packed')
  assert len(alone[1]) == 7
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), alone, together
  )


@pytest.mark.slow
def test_dropout_is_off_unless_asked_for(four):
  student = four[0]
  config = student.config.replace(attention_probs_dropout_prob=0.5)
  noisy = (student.clone(config=config), *four[1:])
  batch = distilling.batch()
  first = stage_of(0)
  cases = [('off', four), ('off', noisy), ('student', noisy), ('both', noisy)]
  losses = [
    float(value_of(first, distilling.settings(dropout=where), some, batch)[0])
    for where, some in cases
  ]
  assert losses[0] == losses[1]
  assert len(set(losses)) == 3


def test_masked_scores_are_what_the_softmax_reads(four):
  model, _, params, _ = four
  batch = distilling.batch()
  out = jax.jit(
    lambda batch: model.apply(
      {'params': params}, **batch,
      output_attentions=True, output_attention_scores=True,
    )
  )(inputs_of(batch))  # fmt: skip
  for probs, scores in zip(out.attentions, out.attention_scores, strict=True):
    expected = softmax(wide(scores))
    np.testing.assert_allclose(probs, expected, rtol=1e-5, atol=1e-7)
