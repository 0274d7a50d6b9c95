"""Whole runs in this process, small enough to take seconds."""

import dataclasses
import json
import math
import shutil

import jax
import numpy as np
import pytest

from mobilebert_jax import launch
from mobilebert_jax.config import command_line, configure
from mobilebert_jax.config import run as run_config
from mobilebert_jax.config.distillation import DistillationConfig
from mobilebert_jax.convert.pretrained import from_pretrained
from mobilebert_jax.distillation.method import DISTILLATION
from mobilebert_jax.models import MobileBertForSequenceClassification
from mobilebert_jax.reporting import metrics_log
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training import (
  failures,
  hooks,
  loop,
  overview,
  scoring,
  setup,
  train_step,
)
from mobilebert_jax.training.method import SUPERVISED
from mobilebert_jax.training.workdir import Workdir
from tests.support import hooking, tiny


def parse(path, *overrides):
  return configure(path, overrides)


class Recorder(hooks.Hook):
  """Notes each call."""

  def __init__(self):
    self.calls = []

  def on_start(self, run, checkpoints):
    self.calls.append(('start', run.total_steps, len(checkpoints.steps())))

  def after_step(self, step, metrics):
    assert math.isfinite(metrics['loss'])
    self.calls.append(('step', step))

  def before_evaluation(self, step):
    self.calls.append(('evaluation', step))

  def after_evaluation(self, step, scores):
    assert 0 <= scores['validation/accuracy'] <= 1
    self.calls.append(('evaluated', step))

  def before_save(self, step):
    self.calls.append(('save', step))


@pytest.fixture(scope='module')
def recorder():
  return Recorder()


@pytest.fixture(scope='module')
def finished(tmp_path_factory, recorder):
  """A finished run: its config file, its workdir and its results."""
  directory = tmp_path_factory.mktemp('finished')
  path = tiny.write(directory)
  results = loop.train(parse(path), directory / 'run', hooks=[recorder])
  return path, directory / 'run', results


def test_hooks_are_called_at_their_points(finished, recorder):
  """All steps before an evaluation or a save are logged by then."""
  assert recorder.calls == [
    ('start', 8, 0), ('evaluation', 0), ('evaluated', 0),
    ('step', 1), ('step', 2), ('save', 2),
    ('step', 3), ('step', 4), ('evaluation', 4), ('evaluated', 4), ('save', 4),
    ('step', 5), ('step', 6), ('save', 6),
    ('step', 7), ('step', 8), ('evaluation', 8), ('evaluated', 8), ('save', 8),
  ]  # fmt: skip


def test_a_config_with_a_teacher_chooses_distillation(finished):
  config = parse(finished[0])
  assert launch.method_for(config) is SUPERVISED
  teacher = DistillationConfig(teacher='directory')
  config = dataclasses.replace(config, distillation=teacher)
  assert launch.method_for(config) is DISTILLATION


def test_a_workdir_holds_everything(finished):
  _, workdir, results = finished
  for name in (
    'config.json', 'metrics.jsonl', 'curves.png', 'results.json',
    'checkpoints/8', 'model/model.safetensors', 'model/config.json',
    'model/vocab.txt', 'predictions/SST-2.tsv',
    'predictions/SST-2-validation.tsv', 'report.md', 'report/confusion.png',
    'environment.json',
    'report/certainty.png', 'report/lengths.png',
  ):  # fmt: skip
    assert (workdir / name).exists(), name
  assert list((workdir / 'tensorboard').iterdir())
  assert json.loads((workdir / 'results.json').read_text()) == results
  assert (workdir / 'curves.png').read_bytes().startswith(b'\x89PNG')
  rows = (workdir / 'predictions/SST-2.tsv').read_text().splitlines()
  assert rows[0] == 'index\tprediction' and len(rows) == 6
  left_over = [p for p in workdir.rglob('*') if 'partial' in p.name]
  assert not left_over


def test_metrics_have_a_line_for_each_logged_step_and_evaluation(finished):
  records = metrics_log.read(finished[1] / 'metrics.jsonl')
  steps = [r for r in records if 'loss' in r]
  assert [r['step'] for r in steps] == [1, 3, 6, 8]
  assert {
    'epoch', 'learning_rate', 'grad_norm', 'examples_per_second'
  } <= set(steps[0])  # fmt: skip
  assert steps[-1]['epoch'] == 8 / 5
  evaluations = [r for r in records if 'validation/accuracy' in r]
  assert [r['step'] for r in evaluations] == [0, 4, 8]


def test_a_run_says_at_its_start_what_it_found(finished, capsys):
  """Before anything is compiled, in few lines; all of it in the report."""
  run = setup.build(parse(finished[0]), Workdir(finished[1]), is_resumed=True)
  text = '\n'.join(overview.summarize(run).lines())
  assert 'rows      train 40, validation 10, test 5' in text
  assert 'positive 21 (52%), negative 19 (48%)' in text
  assert 'tokens    median 4, 95% up to 4, longest 4; 0.0% cut at 8' in text
  assert '0.0% are [UNK]' in text
  assert 'steps     8 of 8 examples, 1.6 epochs of 5; evaluated every 4' in text
  assert 'compiles  bucketed rows of 8 tokens; 8 of 8 for evaluation' in text
  report = (finished[1] / 'report.md').read_text()
  assert '## The data' in report and '| positive | 21 | 6 |' in report


def test_scores_stand_beside_the_best_constant_answer(finished):
  _, workdir, results = finished
  assert results['baseline'] == {
    'answer': "always 'positive'", 'validation/accuracy': 0.6
  }  # fmt: skip
  report = (workdir / 'report.md').read_text()
  assert "constant answer (always 'positive') scores 0.6000" in report
  assert "constant: always 'positive'" in report


@pytest.mark.parametrize('where', ['', 'checkpoints/8', 'model'])
def test_eval_gives_the_reported_scores_bit_for_bit(finished, where):
  path, workdir, results = finished
  scores = scoring.score(parse(path), workdir / where)
  reported = results['best' if where == 'model' else 'final']
  for name in ('validation/accuracy', 'validation/loss'):
    assert scores[name] == reported[name]


def test_starting_a_finished_run_again_repeats_its_last_line(finished, capsys):
  path, workdir, results = finished
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob('*')}
  assert loop.train(parse(path), workdir) == results
  told = capsys.readouterr().out
  assert told.startswith('sst2: validation/accuracy went')
  assert f'{workdir} is finished (step 8); nothing was done: ' in told
  # Its learning rate has fallen to zero.
  assert f'another run with --config.init={workdir}/model' in told
  assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob('*')}


def test_a_run_without_its_last_steps_continues_to_the_same_end(
  finished, capsys
):
  path, workdir, results = finished
  copy = workdir.parent / 'copy'
  shutil.copytree(workdir, copy)
  shutil.rmtree(copy / 'checkpoints/8')
  (copy / 'results.json').unlink()
  with (copy / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 9, "lo')
  began = json.loads((copy / 'environment.json').read_text())
  began['versions']['jax'] = '0.1'
  (copy / 'environment.json').write_text(json.dumps(began))
  assert loop.train(parse(path), copy) == results
  told = capsys.readouterr().out
  assert f'another environment (jax: 0.1 there, {jax.__version__} here)' in told
  records = [
    metrics_log.read(place / 'metrics.jsonl') for place in (workdir, copy)
  ]
  for record in (*records[0], *records[1]):
    record.pop('examples_per_second', None)
  assert records[0] == records[1]


@pytest.mark.parametrize(
  ('name', 'value', 'setting'),
  [
    ('x64', True, 'JAX_ENABLE_X64=true'),
    ('prng', 'rbg', 'JAX_DEFAULT_PRNG_IMPL=rbg'),
    ('threefry_partitionable', False, 'JAX_THREEFRY_PARTITIONABLE=false'),
  ],
)
def test_other_random_numbers_or_types_do_not_continue_a_run(
  finished, tmp_path, name, value, setting
):
  path, workdir, _ = finished
  copy = tmp_path / 'run'
  copy.mkdir()
  for kept in ('config.json', 'model_config.json', 'environment.json'):
    shutil.copy(workdir / kept, copy)
  began = json.loads((copy / 'environment.json').read_text())
  assert began['decides'][name] != value
  began['decides'][name] = value
  (copy / 'environment.json').write_text(json.dumps(began))
  with pytest.raises(InputError) as error:
    loop.train(parse(path), copy)
  assert f'{value!r} there, ' in str(error.value)
  assert f'set {setting}' in str(error.value)


@pytest.mark.parametrize('where', ['', 'checkpoints/8', 'model'])
def test_a_checkpoint_knows_the_settings_of_its_run(finished, where):
  path, workdir, _ = finished
  config = scoring.config_of(workdir / where)
  assert config == parse(path)
  changed = command_line.assignments(
    ['--config.eval_batch_size=4', '--config.data.eval_examples=3']
  )
  assert scoring.config_of(workdir / where, changed) == parse(
    path, '--config.eval_batch_size=4', '--config.data.eval_examples=3'
  )


def test_a_mesh_of_other_devices_is_left_out(finished, tmp_path, capsys):
  path, workdir, _ = finished
  shutil.copy(workdir / 'model_config.json', tmp_path)
  elsewhere = parse(path, '--config.mesh.fsdp=1024')
  (tmp_path / 'config.json').write_text(run_config.to_json(elsewhere))
  assert scoring.config_of(tmp_path) == parse(path)
  assert 'needs other devices than' in capsys.readouterr().err
  # One that is asked for is not.
  asked = command_line.assignments(['--config.mesh.fsdp=2048'])
  assert scoring.config_of(tmp_path, asked).mesh.fsdp == 2048


def test_a_checkpoint_of_no_run_needs_its_config(finished, tmp_path):
  shutil.copytree(finished[1] / 'model', tmp_path / 'model')
  with pytest.raises(InputError, match=r'is of no run .*--config=FILE'):
    scoring.config_of(tmp_path / 'model')


def test_a_workdir_of_another_config_is_refused(finished):
  path, workdir, _ = finished
  other = parse(path, '--config.seed=1', '--config.log_every=5')
  with pytest.raises(InputError) as error:
    loop.train(other, workdir)
  assert (
    'config.log_every: 3 there, 5 here; config.seed: 0 there, 1 here'
    in str(error.value)
  )


def test_the_saved_model_is_the_best_one(finished):
  model, params = from_pretrained(
    MobileBertForSequenceClassification, finished[1] / 'model'
  )
  tokenizer = MobileBertTokenizerFast.from_pretrained(finished[1] / 'model')
  batch = tokenizer(['good film'], return_tensors='np')
  logits = model.apply({'params': params}, **batch).logits
  assert model.config.id2label == {0: 'negative', 1: 'positive'}
  assert np.all(np.isfinite(logits))


@pytest.mark.slow
def test_starting_from_a_directory_has_its_vocabulary_and_first_loss(
  finished, tmp_path, capsys
):
  path, workdir, _ = finished
  settings = [
    f'--config.init={workdir}/model', '--config.tokenizer=none',
    '--config.model.hidden_size=none', '--config.num_steps=1',
    '--config.model.hidden_dropout_prob=0.0',
    '--config.model.attention_probs_dropout_prob=0.0',
  ]  # fmt: skip
  loop.train(parse(path, *settings), tmp_path / 'run')
  assert 'fresh' not in capsys.readouterr().out
  record = metrics_log.read(tmp_path / 'run/metrics.jsonl')[1]
  model, params = from_pretrained(
    MobileBertForSequenceClassification, workdir / 'model'
  )
  batch = first_batch(parse(path, *settings), workdir / 'model')
  outputs = model.apply({'params': params}, **train_step.model_inputs(batch))
  expected = -jax.nn.log_softmax(outputs.logits)[
    np.arange(8), batch['labels']
  ].mean()
  assert record['loss'] == pytest.approx(float(expected), rel=1e-5)


def first_batch(config, tokenizer_dir):
  from mobilebert_jax.data.batching import loader
  from mobilebert_jax.training import setup

  task = setup.find_task(config)
  tokenizer = MobileBertTokenizerFast.from_pretrained(tokenizer_dir)
  split = setup.load_split(config, task, tokenizer, 'train')
  return next(
    loader.train_iterator(
      split.features, batch_size=8, num_steps=1, seed=0, buckets=(8,)
    )
  )


@pytest.mark.slow
def test_a_larger_vocabulary_resizes_the_table(finished, tmp_path, capsys):
  path, workdir, _ = finished
  words = (*tiny.SPECIAL, *tiny.WORDS, 'new', 'words')
  vocab = tmp_path / 'larger.txt'
  vocab.write_text('\n'.join(words) + '\n')
  settings = [
    f'--config.init={workdir}/model', f'--config.tokenizer={vocab}',
    '--config.num_steps=1',
  ]  # fmt: skip
  loop.train(parse(path, *settings), tmp_path / 'run')
  assert 'vocabulary grew from 14 to the 16 tokens' in capsys.readouterr().out
  saved = json.loads((tmp_path / 'run/model/config.json').read_text())
  assert saved['vocab_size'] == 16


@pytest.fixture(scope='module')
def constant(finished, tmp_path_factory):
  """A finished run of 2 steps whose rate does not fall, and its settings."""
  settings = (
    '--config.optimizer.schedule=constant', '--config.optimizer.warmup_steps=2',
    '--config.eval_every=2',
  )  # fmt: skip
  workdir = tmp_path_factory.mktemp('constant') / 'run'
  loop.train(parse(finished[0], *settings, '--config.num_steps=2'), workdir)
  return workdir, settings


@pytest.mark.slow
def test_a_longer_run_is_the_one_that_was_long_from_the_start(
  finished, constant, tmp_path, capsys
):
  """The same parameters and scores, bit for bit."""
  workdir, settings = constant
  longer = parse(finished[0], *settings, '--config.num_steps=4')
  results = loop.train(longer, workdir)
  assert 'continuing at step 2 of 4.' in capsys.readouterr().out
  whole = loop.train(longer, tmp_path / 'run')
  assert {**results, 'baseline': 0} == {**whole, 'baseline': 0}
  for name in ('model/model.safetensors', 'config.json', 'results.json'):
    assert (workdir / name).read_bytes() == (
      tmp_path / 'run' / name
    ).read_bytes(), name
  steps = [
    [r['step'] for r in metrics_log.read(place / 'metrics.jsonl')]
    for place in (workdir, tmp_path / 'run')
  ]
  # Beside them the last step of the shorter one.
  assert {*steps[0]} == {*steps[1], 2}


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ((), "its learning rate falls until its last step (config.optimizer.sch"),
    (
      ('--config.optimizer.schedule=constant',),
      'its warm-up is a part of its length',
    ),
    (
      (
        '--config.optimizer.schedule=constant',
        '--config.optimizer.warmup_steps=0', '--config.early_stop=2',
      ),
      'it stops early',
    ),
  ],
)  # fmt: skip
def test_where_longer_means_another_run_it_is_refused_with_a_way(
  finished, tmp_path, changes, words
):
  path, _, _ = finished
  (tmp_path / 'config.json').write_text(
    run_config.to_json(parse(path, *changes))
  )
  with pytest.raises(InputError) as error:
    loop.train(parse(path, *changes, '--config.num_steps=9'), tmp_path)
  assert words in str(error.value)
  assert f'--config.init={tmp_path}/model' in str(error.value)


def test_a_run_is_not_made_shorter_nor_another_one(finished, tmp_path):
  path, _, _ = finished
  settings = (
    '--config.optimizer.schedule=constant', '--config.optimizer.warmup_steps=0',
  )  # fmt: skip
  (tmp_path / 'config.json').write_text(
    run_config.to_json(parse(path, *settings))
  )
  with pytest.raises(InputError, match='can be made longer, but not shorter'):
    loop.train(parse(path, *settings, '--config.num_steps=4'), tmp_path)
  with pytest.raises(InputError) as error:
    loop.train(
      parse(path, *settings, '--config.num_steps=9', '--config.seed=3'),
      tmp_path,
    )
  assert 'longer' not in str(error.value)


@pytest.mark.slow
def test_early_stop_ends_the_run(finished, tmp_path, monkeypatch):
  scores = iter([0.5, 0.6, 0.6, 0.6, 0.6])
  find_task = hooking.find_task_with_scores(
    lambda _: {'accuracy': next(scores)}
  )
  monkeypatch.setattr(setup, 'find_task', find_task)
  config = parse(
    finished[0], '--config.early_stop=2', '--config.eval_every=1',
    '--config.num_steps=20',
  )  # fmt: skip
  results = loop.train(config, tmp_path / 'run')
  assert results['final']['step'] == 3
  assert results['best']['step'] == 1
  assert loop.train(config, tmp_path / 'run') == results


@pytest.mark.slow
def test_a_non_finite_loss_stops_the_run(finished, tmp_path):
  def make_bad(number, step):
    def bad(state, batch):
      state, metrics = step(state, batch)
      return state, metrics | {'loss': math.nan if number == 5 else 1.0}

    return bad

  workdir = tmp_path / 'run'
  with pytest.raises(failures.NonFiniteError) as error:
    loop.train(parse(finished[0]), workdir, hooking.changed_steps(make_bad))
  assert 'the loss is nan at step 5' in str(error.value)
  assert f'the last good checkpoint is {workdir}/checkpoints/4' in str(
    error.value
  )
  kept = sorted(p.name for p in (workdir / 'checkpoints').iterdir())
  assert kept == ['2', '4']
  assert not (workdir / 'results.json').exists()
