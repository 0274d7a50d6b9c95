"""Students that begin with some blocks of a model and learn from it."""

import json
import shutil

import chex
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from mobilebert_jax import launch, models
from mobilebert_jax.config.distillation import DistillationConfig
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.convert.pretrained import load_pretrained, save_pretrained
from mobilebert_jax.distillation import agreement, teacher
from mobilebert_jax.distillation.method import DISTILLATION
from mobilebert_jax.reporting import metrics_log
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from mobilebert_jax.tpu_compile import inputs
from mobilebert_jax.training import setup
from mobilebert_jax.training.workdir import Workdir
from tests.support import distilling, one_device, tiny

# Whole runs.
pytestmark = pytest.mark.slow

# Both models are MobileBERTs: what is taken must be like what teaches.
FULL = {**distilling.STUDENT, 'num_hidden_layers': 4}
BESIDE = {'strategy': 'auxiliary', 'transfer_steps': 0}
SOFT_LABELS = {'strategy': 'none', 'transfer_steps': 0}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  return distilling.write(tmp_path_factory.mktemp('blocks'), **FULL)


def config_of(place, **settings):
  """A run that begins with two of four blocks, unless `settings` say else."""
  given = {
    'init': str(place / 'teacher'), 'init_layers': 2, 'model': {},
    'num_steps': 4, 'eval_every': 4,
  } | settings  # fmt: skip
  return distilling.config(place, **given)


@pytest.fixture(scope='module')
def finished(place):
  """Two stages of two steps, then two of distillation."""
  config = config_of(
    place, num_steps=6, eval_every=6, checkpoint_every=1, keep_checkpoints=20,
    distillation={'transfer_steps': 4},
  )  # fmt: skip
  with one_device.used():
    launch.train(config, place / 'whole')
  return config, place / 'whole'


def begin(place, workdir, **settings):
  """The parts of a run, and the parameters that it begins with."""
  config = config_of(place, **settings)
  run = setup.build(config, Workdir(workdir), False, DISTILLATION)
  return run, jax.device_get(setup.first_state(run).params)


@pytest.mark.parametrize(
  ('layers', 'taken'), [(2, (0, 3)), ((1, 2), (1, 2)), ((3,), (3,))]
)
def test_a_run_begins_with_the_blocks_and_learns_from_the_same(
  layers, taken, place, tmp_path, capsys
):
  with one_device.used():
    run, params = begin(
      place, tmp_path / 'run', init_layers=layers, distillation=BESIDE
    )
  theirs = load_pretrained(
    models.MobileBertForMaskedLM, place / 'teacher'
  ).params
  own, all_blocks = (
    tree['mobilebert']['encoder'].pop('layers') for tree in (params, theirs)
  )
  chosen = jax.tree.map(lambda x: x[np.array(taken)], all_blocks)
  chex.assert_trees_all_equal(own, chosen)
  chex.assert_trees_all_equal(params, theirs)
  stored = json.loads((tmp_path / 'run' / 'model_config.json').read_text())
  assert stored['num_hidden_layers'] == len(taken)
  numbers = ', '.join(map(str, taken))
  word = 'blocks' if len(taken) > 1 else 'block'
  said = capsys.readouterr().out
  assert f'\n{word} {numbers} of the 4 of {place / "teacher"}.\n' in said
  assert f'the student learns from {word} {numbers} of the 4 of' in said
  assert run.start.source_layers == 4


def test_a_block_that_was_the_teachers_first_agrees_with_it(place, tmp_path):
  """The rest of them do not: what they read is another block's."""
  config = config_of(
    place, num_steps=1, eval_every=1, optimizer={'learning_rate': 1e-9},
    distillation=SOFT_LABELS,
  )  # fmt: skip
  with one_device.used():
    launch.train(config, tmp_path / 'run')
    found = agreement.of_run(Workdir(tmp_path / 'run'))['layers']
  assert [row['teacher_layer'] for row in found] == [0, 3]
  for term in ('feature_map', 'attention', 'mean', 'variance'):
    assert abs(found[0][term]) < 1e-5
    assert found[1][term] > 1e-3


def test_soft_labels_and_hidden_states_of_a_fine_tuned_teacher(place, tmp_path):
  tiny.write_data(place)
  names = {0: 'negative', 1: 'positive'}
  model = models.MobileBertForSequenceClassification(
    MobileBertConfig(**FULL, id2label=names)
  )
  tokenizer = MobileBertTokenizerFast(place / 'vocab.txt')
  params = models.init_params(model, jax.random.key(3))
  save_pretrained(place / 'tuned', model, params, tokenizer)
  config = config_of(
    place, task='sst2', options={}, init=str(place / 'tuned'),
    init_layers=(0, 2), num_steps=3, eval_every=3,
    data={
      'source': 'files', 'path': str(place / 'SST-2'), 'max_length': 8,
      'buckets': [8],
    },
    distillation=BESIDE | {'teacher': str(place / 'tuned')},
  )  # fmt: skip
  with one_device.used():
    launch.train(config, tmp_path / 'run')
  stored = json.loads((tmp_path / 'run' / 'model/config.json').read_text())
  assert stored['num_hidden_layers'] == 2
  records = metrics_log.read(tmp_path / 'run' / 'metrics.jsonl')
  for record in (r for r in records if 'loss' in r):
    parts = (
      50 * record['feature_map'], 0.5 * record['attention'],
      2500 * record['mean'], 2.5 * record['variance'],
    )  # fmt: skip
    # Two layers, each with the whole factor over two.
    total = 2 * sum(parts) + 0.5 * (record['task_hard'] + record['task_soft'])
    assert record['loss'] == pytest.approx(total, rel=1e-4)
  card = (tmp_path / 'run' / 'model' / 'README.md').read_text()
  assert 'trained from blocks 0, 2 of tuned on' in card


@pytest.mark.faults
@pytest.mark.parametrize('stop', [3, 5], ids=['transfer', 'distillation'])
def test_a_stopped_run_ends_with_the_same_bits(stop, finished, tmp_path):
  """Also without the model that the blocks were taken from."""
  config, whole = finished
  broken = tmp_path / 'broken'
  shutil.copytree(whole, broken)
  for path in (broken / 'checkpoints').iterdir():
    if int(path.name) > stop:
      shutil.rmtree(path)
  shutil.rmtree(broken / 'model')
  (broken / 'results.json').unlink()
  with one_device.used():
    launch.train(config, broken)
  model = 'model/model.safetensors'
  chex.assert_trees_all_equal(
    load_file(whole / model), load_file(broken / model)
  )


def test_a_run_that_was_stopped_needs_no_source(place, tmp_path):
  source = shutil.copytree(place / 'teacher', tmp_path / 'source')
  config = config_of(
    place, init=str(source), init_layers=(1, 3), checkpoint_every=2,
    distillation=SOFT_LABELS,
  )  # fmt: skip
  with one_device.used():
    launch.train(config, tmp_path / 'run')
    shutil.rmtree(tmp_path / 'run' / 'checkpoints' / '4')
    (tmp_path / 'run' / 'results.json').unlink()
    shutil.rmtree(source)
    launch.train(config, tmp_path / 'run')
  stored = json.loads((tmp_path / 'run' / 'model/config.json').read_text())
  assert stored['num_hidden_layers'] == 2


def test_without_a_teacher_the_blocks_are_fine_tuned(place, tmp_path):
  config = config_of(
    place, init_layers=1, distillation=SOFT_LABELS | {'teacher': None}
  )
  with one_device.used():
    results = launch.train(config, tmp_path / 'run')
  assert np.isfinite(results['final']['validation/loss'])
  assert Workdir(tmp_path / 'run').read_model_config().num_hidden_layers == 1


@pytest.fixture(scope='module')
def deeper(place):
  """A teacher of six blocks for blocks of a model of four."""
  model = models.MobileBertForMaskedLM(
    MobileBertConfig(**FULL | {'num_hidden_layers': 6})
  )
  params = models.init_params(model, jax.random.key(1))
  tokenizer = MobileBertTokenizerFast(place / 'vocab.txt')
  save_pretrained(place / 'deeper', model, params, tokenizer)
  return str(place / 'deeper')


def test_a_teacher_of_another_depth(place, deeper, tmp_path):
  """A number is spread over its blocks too; named ones are not its blocks."""
  beside = BESIDE | {'teacher': deeper}
  with one_device.used():
    run, _ = begin(place, tmp_path / 'a', init_layers=3, distillation=beside)
    assert 'blocks 0, 3, 5 of the 6' in run.method.notes[0]
    message = r'is \(0, 2\), of the 4 blocks of .* has 6: set .*teacher_layers'
    with pytest.raises(InputError, match=message):
      begin(place, tmp_path / 'b', init_layers=(0, 2), distillation=beside)
    assert not (tmp_path / 'b').exists()
    run, _ = begin(
      place, tmp_path / 'c', init_layers=(2, 0),
      distillation=beside | {'teacher_layers': (1, 4)},
    )  # fmt: skip
    assert 'blocks 1, 4 of the 6' in run.method.notes[0]
    soft = SOFT_LABELS | {'teacher': deeper}
    run, _ = begin(place, tmp_path / 'd', init_layers=(2, 0), distillation=soft)
    assert run.method.notes == ()


def test_layers_of_a_student_with_taken_blocks():
  settings = DistillationConfig(teacher='x', strategy='auxiliary')
  assert teacher.layers_of(settings, 6, 12) == (1, 3, 5, 7, 9, 11)
  assert teacher.layers_of(settings, 6, 12, 6) == (0, 2, 4, 7, 9, 11)
  assert teacher.layers_of(settings, 2, 12, (0, 5)) == (0, 5)
  with pytest.raises(InputError, match='at most 4, the number of blocks of th'):
    teacher.layers_of(settings, 6, 4, 6)
  assert teacher.layers_of(DistillationConfig(teacher='x'), 6, 4, 6) == ()


def test_the_architecture_without_weights(place):
  """Of a run that is compiled for a machine that is not there."""
  for layers, depth in ((2, 2), ((0, 1, 3), 3), (None, 4)):
    config = config_of(place, init_layers=layers, distillation=SOFT_LABELS)
    found = inputs.architecture(config, setup.find_task(config))
    assert found.num_hidden_layers == depth
  config = config_of(place, init_layers=(4,), distillation=SOFT_LABELS)
  with pytest.raises(InputError, match='numbers from 0 to 3'):
    inputs.architecture(config, setup.find_task(config))
