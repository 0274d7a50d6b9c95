"""Runs that learn with the integers of their file."""

import dataclasses
import json

import chex
import jax
import numpy as np
import pytest

from mobilebert_jax import launch, models
from mobilebert_jax.config import configure
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.convert.pretrained import (
  from_pretrained,
  load_pretrained,
  save_pretrained,
)
from mobilebert_jax.inference import quantized_model
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.training import hooks, loop, scoring
from mobilebert_jax.training.workdir import Workdir
from tests.support import distilling, tiny

# Whole runs.
pytestmark = pytest.mark.slow

MODEL = {
  'vocab_size': len(tiny.SPECIAL) + len(tiny.WORDS), 'hidden_size': 8,
  'intra_bottleneck_size': 8, 'embedding_size': 8, 'num_hidden_layers': 1,
  'num_attention_heads': 1, 'intermediate_size': 8,
  'num_feedforward_networks': 1, 'max_position_embeddings': 8,
  'initializer_range': 0.3,
}  # fmt: skip


class Stop(hooks.Hook):
  """Ends a run at a point, as a kill does."""

  def __init__(self, at):
    self._at = at

  def on_start(self, run, checkpoints):
    if self._at == 0:
      raise KeyboardInterrupt

  def after_step(self, step, metrics):
    if step == self._at:
      raise KeyboardInterrupt


@pytest.fixture(scope='module')
def floats(tmp_path_factory):
  """A config file, and the directory of a float model."""
  directory = tmp_path_factory.mktemp('floats')
  path = tiny.write(directory)
  model = models.MobileBertForSequenceClassification(MobileBertConfig(**MODEL))
  params = models.init_params(model, jax.random.key(3))
  tokenizer = MobileBertTokenizerFast(directory / 'vocab.txt')
  save_pretrained(directory / 'float', model, params, tokenizer)
  return path, directory / 'float'


def parse(floats, *overrides):
  path, init = floats
  return configure(path, [
    f'--config.init={init}', '--config.quantization.scheme=int8',
    '--config.quantization.calibration_examples=16', *overrides,
  ])  # fmt: skip


@pytest.fixture(scope='module')
def finished(floats, tmp_path_factory):
  """The config, workdir and results of a run that nothing has interrupted."""
  config = parse(floats)
  place = tmp_path_factory.mktemp('finished') / 'run'
  return config, place, launch.train(config, place)


def test_killed_and_continued_it_ends_with_the_same_bits(finished, tmp_path):
  """Before its first step, where it begins anew, and between two saves."""
  config, place, results = finished
  there = tmp_path / 'run'
  for at in (0, 5):
    with pytest.raises(KeyboardInterrupt):
      launch.train(config, there, [Stop(at)])
  assert launch.train(config, there) == results
  for name in ('quantization.json', 'model/model.safetensors'):
    assert (there / name).read_bytes() == (place / name).read_bytes()


def test_evaluation_reproduces_the_score(finished):
  config, place, results = finished
  assert scoring.score(config, place) == results['final']


def test_what_it_leaves_is_a_model_and_its_constants(finished):
  """Rounded, it scores what the run did; the float model is another."""
  config, place, results = finished
  workdir = Workdir(place)
  constants = workdir.read_quantization()
  assert constants.quantization.scheme == 'int8'
  assert json.loads(workdir.quantization.read_text()) == constants.to_json()
  report = workdir.report.read_text()
  assert 'weights of 8 bits and activations of 8' in report
  kind = models.MobileBertForSequenceClassification
  from_pretrained(kind, workdir.model)
  plain = dataclasses.replace(config, quantization=type(config.quantization)())
  best = scoring.score(plain, workdir.model)
  name = 'validation/loss'
  assert best[name] != results['best'][name]
  np.testing.assert_allclose(best[name], results['best'][name], rtol=0.02)


def test_where_nothing_beats_its_start_it_ends_with_that(
  floats, tmp_path, caplog
):
  """There is no checkpoint of step 0: its weights are read from model/."""
  data = tiny.write_data(tmp_path)
  dev = data / 'dev.tsv'
  swapped = dev.read_text().translate(str.maketrans('01', '10'))
  dev.write_text(swapped)
  config = parse(
    floats, f'--config.data.path={data}', '--config.optimizer.learning_rate=3.0'
  )
  results = launch.train(config, tmp_path / 'run')
  assert results['best']['step'] == 0 < results['final']['step']
  assert 'drawn anew' not in caplog.text
  workdir = Workdir(tmp_path / 'run')
  constants = workdir.read_quantization()
  plain = models.MobileBertForSequenceClassification(
    workdir.read_model_config()
  )
  learnt = type(quantized_model.quantized(plain, constants))
  for kind in (type(plain), learnt):
    _, params, report = load_pretrained(kind, workdir.model)
    assert not report.newly_initialised
    chex.assert_trees_all_equal(
      params, from_pretrained(type(plain), workdir.model)[1]
    )


def test_it_begins_with_the_function_of_the_float_model(floats, tmp_path):
  """Equalised, with 16 bits: its first loss is that of the float model."""
  config = parse(floats, '--config.quantization.scheme=int8x16')
  with pytest.raises(KeyboardInterrupt):
    launch.train(config, tmp_path / 'run', [Stop(1)])
  plain = dataclasses.replace(config, quantization=type(config.quantization)())
  wanted = scoring.score(plain, floats[1])['validation/loss']
  lines = (tmp_path / 'run/metrics.jsonl').read_text().splitlines()
  first = json.loads(lines[0])['validation/loss']
  np.testing.assert_allclose(first, wanted, rtol=1e-2)


def test_a_teacher_gives_labels(tmp_path, capsys):
  """The float model teaches the model that it becomes."""
  directory = distilling.write(tmp_path, normalization_type='no_norm')
  teacher = str(directory / 'teacher')
  config = distilling.config(
    directory, init=teacher, model={}, num_steps=2, eval_every=2,
    quantization={'scheme': 'int8', 'calibration_examples': 16},
    distillation={'strategy': 'none', 'transfer_steps': 0},
  )  # fmt: skip
  results = launch.train(config, tmp_path / 'run')
  assert results['final']['step'] == 2
  assert 'no dropout, for the served model has none' in capsys.readouterr().out
  lines = (tmp_path / 'run/metrics.jsonl').read_text().splitlines()
  assert any('distillation' in line or 'stage' in line for line in lines)
  assert {*json.loads((tmp_path / 'run/method.json').read_text())} == {
    'teacher', 'teacher_parameters'
  }  # fmt: skip


@pytest.mark.parametrize('overrides, message', [
  (['--config.quantization.scheme=int4'],
   "config.quantization.scheme is 'int4', but must be one of"),
  (['--config.quantization.calibration_examples=0'],
   'config.quantization.calibration_examples is 0, but must be at least 1'),
  (['--config.init=scratch'],
   "config.init is 'scratch', but must be the float model to start from with"),
  (['--config.data.batching=packed'],
   "config.data.batching is 'packed', but must be 'bucketed' or 'padded'"),
  (['--config.distillation.teacher=x',
    '--config.distillation.strategy=auxiliary'],
   "config.distillation.strategy is 'auxiliary', but must be 'none' with"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_by_the_config(floats, overrides, message):
  with pytest.raises(InputError) as error:
    parse(floats, *overrides)
  assert message in str(error.value)
  assert str(error.value).count('. ') == 0


def test_parameters_alone_cannot_be_scored(finished):
  config, place, _ = finished
  with pytest.raises(InputError, match='has parameters alone'):
    scoring.score(config, place / 'model')


def test_a_float_run_cannot_be_scored_as_a_quantised_one(finished, tmp_path):
  config = finished[0]
  plain = dataclasses.replace(config, quantization=type(config.quantization)())
  with pytest.raises(KeyboardInterrupt):
    loop.train(plain, tmp_path / 'run', hooks=[Stop(4)])
  with pytest.raises(InputError, match='is not that of a quantised run'):
    scoring.score(config, tmp_path / 'run')
  with pytest.raises(InputError, match=r'quantization\.scheme'):
    launch.train(config, tmp_path / 'run')


def test_bfloat16_learns(floats, tmp_path):
  config = parse(floats, '--config.dtype=bfloat16', '--config.num_steps=2')
  results = launch.train(config, tmp_path / 'run')
  assert np.isfinite(results['final']['validation/loss'])
