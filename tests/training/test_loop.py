"""Whole runs in this process, small enough to take seconds."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from mobilebert_jax import launch
from mobilebert_jax.config import configure
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
  scoring,
  setup,
  train_step,
)
from mobilebert_jax.training.method import SUPERVISED
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
  assert capsys.readouterr().out.startswith('sst2: validation/accuracy went')
  assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob('*')}


def test_a_run_without_its_last_steps_continues_to_the_same_end(finished):
  import shutil

  path, workdir, results = finished
  copy = workdir.parent / 'copy'
  shutil.copytree(workdir, copy)
  shutil.rmtree(copy / 'checkpoints/8')
  (copy / 'results.json').unlink()
  with (copy / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 9, "lo')
  assert loop.train(parse(path), copy) == results
  records = [
    metrics_log.read(place / 'metrics.jsonl') for place in (workdir, copy)
  ]
  for record in (*records[0], *records[1]):
    record.pop('examples_per_second', None)
  assert records[0] == records[1]


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
