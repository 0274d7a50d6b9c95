"""Soft labels for every kind of task, and a fine-tuned teacher."""

import dataclasses

import jax
import numpy as np
import pytest

from mobilebert_jax import launch, losses, models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import DistillationConfig
from mobilebert_jax.convert.pretrained import save_pretrained
from mobilebert_jax.distillation import agreement, soft_labels
from mobilebert_jax.distillation.transfer import Pair
from mobilebert_jax.models import outputs
from mobilebert_jax.reporting import metrics_log
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training.workdir import Workdir
from tests.support import distilling, objectives, one_device, tiny
from tests.support.distilling_by_hand import softmax

N, S, C = 4, 6, 3
CONFIG = DistillationConfig(teacher='x', ground_truth_ratio=0.25)
WEIGHTS = np.array([1, 1, 0, 1], np.float32)
BATCH = {
  'input_ids': np.zeros((N, S), np.int32),
  'attention_mask': np.array([[1] * n + [0] * (S - n) for n in (6, 4, 5, 3)]),
  'weights': WEIGHTS,
}


def draw(*shape, seed):
  return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def distilled(hard, student, teacher, batch, problem_type=None):
  found, told = soft_labels.soft_terms(
    hard, student, teacher, batch, CONFIG, problem_type
  )
  return float(losses.total(tuple(found.values()))), found, told


def mixed(own, theirs, labels, counts):
  """r x labels + (1 - r) x the teacher's probabilities, by the formula."""
  p, log = softmax(theirs.astype(float)), np.log(softmax(own.astype(float)))
  target = 0.25 * np.eye(own.shape[-1])[np.maximum(labels, 0)] + 0.75 * p
  return ((-(target * log).sum(-1)) * counts).sum() / counts.sum()


def test_classes():
  own, theirs, labels = draw(N, C, seed=0), draw(N, C, seed=1), np.arange(N) % C
  hard = losses.classification_loss(own, labels, None, WEIGHTS)
  kind = outputs.SequenceClassifierOutput
  loss, _, told = distilled(hard, kind(own), kind(theirs), BATCH)
  assert loss == pytest.approx(mixed(own, theirs, labels, WEIGHTS), rel=1e-5)
  same = (own.argmax(-1) == theirs.argmax(-1)) * WEIGHTS
  term = told['task_agreement']
  assert float(term.sum / term.weight) == pytest.approx(same.sum() / 3)


def test_choices():
  own, theirs, labels = draw(N, 2, seed=0), draw(N, 2, seed=1), np.arange(N) % 2
  hard = losses.multiple_choice_loss(own, labels, WEIGHTS)
  kind = outputs.MultipleChoiceModelOutput
  loss, *_ = distilled(hard, kind(own), kind(theirs), BATCH)
  assert loss == pytest.approx(mixed(own, theirs, labels, WEIGHTS), rel=1e-5)


def test_numbers():
  own, theirs, labels = (draw(N, 1, seed=seed) for seed in range(3))
  hard = losses.classification_loss(own, labels, 'regression', WEIGHTS)
  kind = outputs.SequenceClassifierOutput
  loss, _, told = distilled(hard, kind(own), kind(theirs), BATCH, 'regression')
  squares = 0.25 * (own - labels) ** 2 + 0.75 * (own - theirs) ** 2
  expected = (squares[:, 0] * WEIGHTS).sum() / 3
  assert loss == pytest.approx(expected, rel=1e-5)
  assert told == {}


def test_several_labels():
  own, theirs = draw(N, C, seed=0), draw(N, C, seed=1)
  labels = (draw(N, C, seed=2) > 0).astype(np.float32)
  kind = outputs.SequenceClassifierOutput
  problem = 'multi_label_classification'
  hard = losses.classification_loss(own, labels, problem, WEIGHTS)
  loss, *_ = distilled(hard, kind(own), kind(theirs), BATCH, problem)
  target = 0.25 * labels + 0.75 / (1 + np.exp(-theirs))
  q = 1 / (1 + np.exp(-own))
  found = -(target * np.log(q) + (1 - target) * np.log(1 - q)).mean(-1)
  assert loss == pytest.approx((found * WEIGHTS).sum() / 3, rel=1e-5)


def test_tags():
  own, theirs = draw(N, S, C, seed=0), draw(N, S, C, seed=1)
  labels = np.where(BATCH['attention_mask'] == 1, np.arange(S) % C, -100)
  counts = (labels != -100) * WEIGHTS[:, None]
  hard = losses.token_loss(own, labels, counts)
  kind = outputs.TokenClassifierOutput
  batch = BATCH | {'labels': labels}
  loss, *_ = distilled(hard, kind(own), kind(theirs), batch)
  assert loss == pytest.approx(mixed(own, theirs, labels, counts), rel=1e-5)


@pytest.mark.parametrize('temperature', [0.5, 2.0])
def test_answers_at_any_temperature_are_not_in_the_padding(temperature):
  """The lowest number, over a temperature below 1, is no number any more."""
  ends = [draw(N, S, seed=seed) for seed in range(4)]
  batch = BATCH | dict.fromkeys(('start_positions', 'end_positions'), WEIGHTS)
  config = dataclasses.replace(CONFIG, temperature=temperature)
  kind = outputs.QuestionAnsweringModelOutput
  hard = (losses.Term(0.0, 1.0),) * 2

  def start_soft(own):
    student, theirs = kind(own, ends[1]), kind(*ends[2:])
    found, _ = soft_labels.soft_terms(hard, student, theirs, batch, config)
    return found['start_soft'].sum / found['start_soft'].weight

  loss, gradient = jax.value_and_grad(start_soft)(ends[0])
  is_token = BATCH['attention_mask'] == 1
  hidden = np.where(is_token, 0, -np.inf)
  own, theirs = (x.astype(float) / temperature + hidden for x in ends[::2])
  p, q = softmax(theirs), softmax(own)
  found = -(p * np.log(np.where(is_token, q, 1))).sum(-1) * temperature**2
  assert loss == pytest.approx((found * WEIGHTS).sum() / 3, rel=1e-5)
  expected = (q - p) * temperature * WEIGHTS[:, None] / 3
  np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_answers():
  """The first and the last token, each over the window's own tokens."""
  ends = [draw(N, S, seed=seed) for seed in range(4)]
  start, end = np.array([1, 3, 0, 2]), np.array([2, 3, S, 2])
  seen = [
    np.where(BATCH['attention_mask'] == 1, x, np.finfo(np.float32).min)
    for x in ends
  ]
  hard = losses.question_answering_loss(*seen[:2], start, end, WEIGHTS)
  kind = outputs.QuestionAnsweringModelOutput
  batch = BATCH | {'start_positions': start, 'end_positions': end}
  loss, found, told = distilled(hard, kind(*ends[:2]), kind(*ends[2:]), batch)
  expected = 0.0
  for own, theirs, labels in zip(ends[:2], ends[2:], (start, end)):
    for row in np.flatnonzero(WEIGHTS):
      n = BATCH['attention_mask'][row].sum()
      some = slice(row, row + 1), slice(0, n)
      one = np.ones(1)
      expected += mixed(own[some], theirs[some], labels[row : row + 1], one) / 6
  assert loss == pytest.approx(expected, rel=1e-5)
  assert {'start_hard', 'start_soft', 'end_hard', 'end_soft'} == set(found)
  assert set(told) == {'start_agreement', 'end_agreement'}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  return distilling.write(tmp_path_factory.mktemp('tasks'))


def sst2(place, **changed):
  """The settings of a run on a few sentences with two labels."""
  if not (place / 'SST-2').exists():
    tiny.write_data(place)
    config = MobileBertConfig(
      **distilling.TEACHER, id2label={0: 'negative', 1: 'positive'}
    )
    model = models.MobileBertForSequenceClassification(config)
    params = models.init_params(model, jax.random.key(3))
    tokenizer = MobileBertTokenizerFast(place / 'vocab.txt')
    save_pretrained(place / 'tuned', model, params, tokenizer)
  return distilling.config(
    place, task='sst2', options={}, num_steps=3, eval_every=3,
    data={
      'source': 'files', 'path': str(place / 'SST-2'), 'max_length': 8,
      'buckets': [8],
    },
    distillation={
      'teacher': str(place / 'tuned'), 'strategy': 'none', 'transfer_steps': 0,
    } | changed,
  )  # fmt: skip


@pytest.mark.slow
def test_a_fine_tuned_teacher(place, tmp_path):
  with one_device.used():
    config = sst2(place)
    launch.train(config, tmp_path / 'run')
  records = [
    r
    for r in metrics_log.read(tmp_path / 'run' / 'metrics.jsonl')
    if 'loss' in r
  ]
  assert len(records) == 3
  for r in records:
    expected = 0.5 * r['task_hard'] + 0.5 * r['task_soft']
    assert r['loss'] == pytest.approx(expected, rel=1e-5)
    assert 0 <= r['task_agreement'] <= 1


def test_a_teacher_of_other_labels_or_without_the_head(place, tmp_path):
  with one_device.used(), pytest.raises(InputError, match='has no weights for'):
    sst2(place)
    config = sst2(place, teacher=str(place / 'teacher'))
    launch.train(config, tmp_path / 'run')


@pytest.mark.slow
def test_agreement_layer_by_layer(place, tmp_path):
  """A student that is its teacher agrees in everything."""
  student = {'model': distilling.TEACHER | {'hidden_dropout_prob': 0.0}}
  config = distilling.config(
    place, **student, init=str(place / 'teacher'), num_steps=1, eval_every=1,
    optimizer={'learning_rate': 1e-9},
    distillation={'strategy': 'none', 'transfer_steps': 0},
  )  # fmt: skip
  with one_device.used():
    launch.train(config, tmp_path / 'run')
    found = agreement.of_run(Workdir(tmp_path / 'run'))
  assert [r['teacher_layer'] for r in found['layers']] == [0, 1, 2, 3]
  for row in found['layers']:
    for term in ('feature_map', 'attention', 'mean', 'variance'):
      assert abs(row[term]) < 1e-5, (row, term)
  assert found['masked_lm_agreement'] == 1.0


@pytest.mark.slow
def test_agreement_by_its_formulas():
  """Of models that differ, over two batches, whatever the run's settings."""
  student, theirs, *params = distilling.pair()
  noisy = [
    model.clone(config=model.config.replace(attention_probs_dropout_prob=0.5))
    for model in (student, theirs)
  ]
  whole = distilling.batch()
  short = whole['attention_mask'] * (np.arange(7) < 4)
  batches = [whole, whole | {'attention_mask': short}]
  settings = distilling.settings(
    dropout='both', mean=0.0, teacher_average_statistics=True,
    teacher_layers=(0, 3), ground_truth_ratio=1.0,
  )  # fmt: skip
  settings = agreement.compared(settings, 'x')
  found = agreement.measure(
    Pair(*noisy, (0, 3), settings), *params, objectives.task(), batches
  )
  sizes = [batch['attention_mask'].sum() for batch in batches]
  for layer, row in enumerate(found['layers']):
    assert (row['layer'], row['teacher_layer']) == (layer, (0, 3)[layer])
    expected = dict.fromkeys(
      ('feature_map', 'attention', 'mean', 'variance'), 0
    )
    for batch, size in zip(batches, sizes):
      part = size / sum(sizes)
      for name, value in objectives.expected_means(
        settings, (student, theirs, *params), batch, (0, 3), (layer,)
      ).items():
        expected[name] += part * value
      entropy = objectives.expected_means(
        settings, (theirs, theirs, params[1], params[1]), batch, range(4),
        ((0, 3)[layer],),
      )['attention']  # fmt: skip
      expected['attention'] -= part * entropy
    for name, value in expected.items():
      assert value > 1e-3
      assert row[name] == pytest.approx(value, rel=2e-4), name
  assert 0 <= found['masked_lm_agreement'] <= 1
  assert {'masked_lm_hard', 'masked_lm_soft'} <= set(found)


def test_the_command_needs_a_run_with_a_teacher(place, tmp_path):
  workdir = Workdir(tmp_path)
  with pytest.raises(InputError, match='cannot be read'):
    agreement.of_run(workdir)
