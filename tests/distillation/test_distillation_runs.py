"""Whole runs with a teacher: stages, resets, frozen parameters, kills."""

import json
import shutil
from unittest import mock

import chex
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from mobilebert_jax import launch, models
from mobilebert_jax.convert.pretrained import load_pretrained
from mobilebert_jax.distillation.method import DISTILLATION
from mobilebert_jax.reporting import metrics_log
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training import setup, train_step
from mobilebert_jax.training.checkpoint import Checkpoints
from mobilebert_jax.training.workdir import Workdir
from tests.support import distilling, hooking, one_device

# Whole runs.
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  return distilling.write(tmp_path_factory.mktemp('distilling'))


@pytest.fixture(scope='module')
def config(place):
  """Two stages of four steps, then four of distillation."""
  return distilling.config(place, keep_checkpoints=20, checkpoint_every=1)


@pytest.fixture(scope='module')
def finished(place, config):
  with one_device.used():
    launch.train(config, place / 'whole')
  return place / 'whole'


def states(config, workdir):
  """Every checkpoint's state, on the host."""
  run = setup.build(config, Workdir(workdir), True, DISTILLATION)
  tx = run.method.optimizer
  abstract, _ = train_step.abstract_state(run.start.model, tx, run.mesh)
  with Checkpoints(workdir / 'checkpoints', read_only=True) as checkpoints:
    return {
      step: jax.device_get(
        checkpoints.restore(abstract, step)[0].replace(key=None)
      )
      for step in checkpoints.steps()
    }


@pytest.fixture(scope='module')
def found(config, finished):
  return states(config, finished)


def layer_of(params, number):
  layers = params['mobilebert']['encoder']['layers']
  return jax.tree.map(lambda x: x[number], layers)


def same(a, b):
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(np.array_equal(x, y) for x, y in pairs)


def test_metrics_tell_the_stage_and_each_term(finished):
  records = [
    r for r in metrics_log.read(finished / 'metrics.jsonl') if 'loss' in r
  ]
  assert [r['stage'] for r in records] == [0] * 4 + [1] * 4 + [2] * 4
  transfer = {'feature_map', 'attention', 'mean', 'variance'}
  assert all(transfer <= set(r) for r in records[:8])
  distilled = {'masked_lm_hard', 'masked_lm_soft', 'masked_lm_agreement'}
  assert all(distilled <= set(r) for r in records[8:])
  # The base rate, then the distillation's own warm-up.
  rates = [round(r['learning_rate'], 6) for r in records]
  assert rates == [0.02] * 8 + [0, 0.01, 0.02, 0.01]
  for r in records[:8]:
    total = sum(
      factor * r[name]
      for name, factor in {
        'feature_map': 50, 'attention': 0.5, 'mean': 2500, 'variance': 2.5,
      }.items()
    )  # fmt: skip
    assert r['loss'] == pytest.approx(total, rel=1e-5)


def test_stages_freeze_what_they_should_bit_for_bit(found):
  first = found[2].params
  for step in (4, 6, 8):
    own = found[step].params['mobilebert']
    assert same(first['mobilebert']['embeddings'], own['embeddings'])
  assert same(first['predictions'], found[8].params['predictions'])
  assert not same(first['predictions'], found[12].params['predictions'])
  # Stage 0 moves layer 0, stage 1 both (an earlier one at a tenth).
  assert same(layer_of(first, 1), layer_of(found[4].params, 1))
  assert not same(layer_of(first, 0), layer_of(found[4].params, 0))
  for layer in (0, 1):
    before, after = (layer_of(found[s].params, layer) for s in (4, 8))
    assert not same(before, after)


def test_moments_begin_anew_at_every_border(found):
  """The first step of each stage leaves parameters and no moments."""
  for border in (1, 5, 9):
    moments = [
      x
      for x in jax.tree.leaves(found[border].opt_state)
      if np.issubdtype(x.dtype, np.floating)
    ]
    assert moments and not any(x.any() for x in moments)
    later = jax.tree.leaves(found[border + 1].opt_state)
    assert any(x.any() for x in later if np.issubdtype(x.dtype, np.floating))
    if border > 1:
      assert same(found[border - 1].params, found[border].params)


def test_the_student_begins_with_what_the_teacher_gives(
  place, config, tmp_path
):
  with one_device.used():
    run = setup.build(config, Workdir(tmp_path / 'run'), False, DISTILLATION)
    params = setup.first_state(run).params
  teacher = load_pretrained(
    models.MobileBertForMaskedLM, place / 'teacher'
  ).params
  student, theirs = (p['mobilebert']['embeddings'] for p in (params, teacher))
  for name in (
    'word_embeddings', 'position_embeddings', 'token_type_embeddings',
    'embedding_transformation',
  ):  # fmt: skip
    assert same(student[name], theirs[name])
  assert same(params['predictions'], teacher['predictions'])
  # NoNorm's scale would mean something else: it stays at one.
  assert (np.asarray(student['norm']['scale']) == 1).all()


@pytest.mark.faults
# Behind its border a stage begins from a checkpoint as from the step before it;
# inside one a run continues as any other does.
@pytest.mark.parametrize(
  'stop',
  [
    pytest.param(4, id='border'),
    pytest.param(6, id='stage', marks=pytest.mark.long),
    pytest.param(10, id='last', marks=pytest.mark.long),
  ],
)
def test_a_run_stopped_anywhere_ends_with_the_same_bits(
  stop, place, config, finished, tmp_path
):
  """Inside a stage, exactly at a border, in the distillation."""
  broken = tmp_path / 'broken'
  shutil.copytree(finished, broken)
  for path in (broken / 'checkpoints').iterdir():
    if int(path.name) > stop:
      shutil.rmtree(path)
  shutil.rmtree(broken / 'model')
  (broken / 'results.json').unlink()
  with one_device.used():
    launch.train(config, broken)
    chex.assert_trees_all_equal(
      states(config, finished)[12], states(config, broken)[12]
    )
  model = 'model/model.safetensors'
  chex.assert_trees_all_equal(
    load_file(finished / model), load_file(broken / model)
  )


def test_what_the_transfer_scores_is_never_the_best(place, tmp_path):
  config = distilling.config(
    place,
    num_steps=6,
    eval_every=2,
    checkpoint_every=None,
    distillation={'strategy': 'joint', 'transfer_steps': 4},
  )
  found = {2: 1.1, 4: 1.2, 6: 9.0}

  def scores(_):
    evaluated.append(len(evaluated) * 2)
    return {'perplexity': found.get(evaluated[-1], 1.0)}

  evaluated: list[int] = []
  find_task = hooking.find_task_with_scores(scores)
  with (
    one_device.used(),
    mock.patch.object(setup, 'find_task', find_task),
  ):
    results = launch.train(config, tmp_path / 'run')
  assert evaluated == [0, 2, 4, 6]
  loss = results['final']['validation/loss']
  assert results['best'] == {
    'step': 6, 'validation/perplexity': 9.0, 'validation/loss': loss,
  }  # fmt: skip


def run(place, workdir, **settings):
  """The records of a short run."""
  changed = distilling.config(place, checkpoint_every=None, **settings)
  launch.train(changed, workdir)
  return [r for r in metrics_log.read(workdir / 'metrics.jsonl') if 'loss' in r]


@pytest.mark.parametrize('strategy', ['joint', 'auxiliary'])
def test_every_strategy_runs(strategy, place, tmp_path):
  steps = {'transfer_steps': 3 if strategy == 'joint' else 0}
  with one_device.used():
    records = run(
      place, tmp_path / 'run', num_steps=5, eval_every=5,
      distillation={'strategy': strategy, **steps},
    )  # fmt: skip
  stages = [r['stage'] for r in records]
  assert stages == ([0] * 3 + [1] * 2 if strategy == 'joint' else [0] * 5)
  assert 'feature_map' in records[0]
  assert 'masked_lm_soft' in records[-1]
  assert all(np.isfinite(r['loss']) for r in records)


def test_labels_alone_are_the_tasks_loss_behind_a_transfer(place, tmp_path):
  """Each stage is a program of its own, whose first step may lack memory."""
  with (
    one_device.used(),
    mock.patch.object(
      jax, 'block_until_ready', wraps=jax.block_until_ready
    ) as wait,
  ):
    records = run(
      place, tmp_path / 'run', num_steps=4, eval_every=4,
      distillation={
        'strategy': 'joint', 'transfer_steps': 2, 'ground_truth_ratio': 1.0,
      },
    )  # fmt: skip
  assert [r['stage'] for r in records] == [0, 0, 1, 1]
  assert not any('soft' in name for name in records[-1])
  waited = [call.args[0] for call in wait.call_args_list]
  assert [float(x['stage']) for x in waited if 'stage' in x] == [0, 1]


WRONG = {
  'another width': (
    {'model': distilling.STUDENT | {'hidden_size': 32}},
    'hidden_size is 32 in the student and 16 in its teacher',
  ),
  'other heads': (
    {'model': distilling.STUDENT | {'num_attention_heads': 4}},
    'num_attention_heads',
  ),
  'more layers': (
    {'model': distilling.STUDENT | {'num_hidden_layers': 8}},
    'at most 4',
  ),
  'a layer that is not there': (
    {'distillation': {'teacher_layers': (1, 4)}}, 'from 0 to 3',
  ),
  'a part of another shape': (
    {'model': distilling.STUDENT | {'max_position_embeddings': 14}},
    'copy names position_embeddings',
  ),
  'steps that do not divide': (
    {'distillation': {'transfer_steps': 7}}, 'a multiple of 2',
  ),
  'no such teacher': (
    {'distillation': {'teacher': '/nowhere'}},
    'config.distillation.teacher: /nowhere does not exist',
  ),
}  # fmt: skip


@pytest.mark.parametrize('what', WRONG)
def test_a_teacher_that_does_not_fit_is_refused(what, place, tmp_path):
  settings, message = WRONG[what]
  with one_device.used(), pytest.raises(InputError, match=message):
    launch.train(distilling.config(place, **settings), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_teacher_with_another_vocabulary_is_refused(place, tmp_path):
  other = tmp_path / 'vocab.txt'
  words = (place / 'vocab.txt').read_text().split()
  other.write_text('\n'.join([*words[:-2], words[-1], words[-2]]) + '\n')
  config = distilling.config(place, tokenizer=str(other))
  with one_device.used(), pytest.raises(InputError, match='vocabulary'):
    launch.train(config, tmp_path / 'run')


def test_a_run_goes_on_with_its_own_teacher_alone(
  place, config, finished, tmp_path
):
  broken = tmp_path / 'run'
  shutil.copytree(finished, broken)
  (broken / 'results.json').unlink()
  record = json.loads((broken / 'method.json').read_text())
  record['teacher_parameters'] = '0' * len(record['teacher_parameters'])
  (broken / 'method.json').write_text(json.dumps(record))
  with one_device.used(), pytest.raises(InputError, match='not those with'):
    launch.train(config, broken)


def test_a_workdir_is_a_teacher(place, finished, tmp_path):
  config = distilling.config(
    place, num_steps=2, eval_every=2,
    distillation={
      'teacher': str(finished), 'strategy': 'none', 'transfer_steps': 0,
    },
  )  # fmt: skip
  with one_device.used():
    launch.train(config, tmp_path / 'run')
  record = json.loads((tmp_path / 'run' / 'method.json').read_text())
  assert record['teacher'] == str(finished)
  with pytest.raises(InputError, match='has no model/ yet'):
    (tmp_path / 'begun').mkdir()
    (tmp_path / 'begun' / 'model_config.json').touch()
    launch.train(
      distilling.config(
        place, distillation={'teacher': str(tmp_path / 'begun')}
      ),
      tmp_path / 'other',
    )
