"""Every shipped config loads and describes a state that could be trained."""

import re

import jax
import pytest

from mobilebert_jax import MobileBertModel, models
from mobilebert_jax.config import configure, overrides
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.distillation import stages
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import glue
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training import setup, starting, train_step
from mobilebert_jax.training.optimizer import make_optimizer
from tests.support import custom_data

# The user's own data: these read a training file to find the labels.
CUSTOM = ('choice', 'classification', 'qa', 'regression', 'tagging')
RUNS = (
  'quickstart.py',
  *(f'glue_{name}.py' for name in glue.TABLE),
  *(f'glue_{name}.py:small' for name in glue.TABLE),
  'glue_sst2.py:small_layer_norm',
  'glue_sst2.py:small_no_norm',
  'conll2003.py',
  'conll2003.py:small',
  'wnut17.py',
  'wnut17.py:small',
  'swag.py',
  'swag.py:small',
  'race.py',
  'race.py:small',
  'commonsenseqa.py',
  'commonsenseqa.py:small',
  'squad_v1.py',
  'squad_v1.py:small',
  'squad_v2.py',
  'squad_v2.py:small',
  'masked_lm.py',
  'masked_lm.py:small',
  'pretrain_teacher.py',
  'pretrain_teacher.py:phase1',
  'pretrain_teacher.py:phase2',
  'pretrain_teacher.py:small',
  'pretrain_student.py',
  'pretrain_student.py:tiny',
  'pretrain_student.py:small',
  'distill_progressive.py',
  'distill_progressive.py:tiny',
  'distill_progressive.py:s',
  'distill_progressive.py:xs',
  'distill_progressive.py:small',
  'distill_joint.py',
  'distill_joint.py:small',
  'distill_auxiliary.py',
  'distill_auxiliary.py:small',
  'scaling.py:student',
  'scaling.py:teacher',
  'next_sentence.py',
  'next_sentence.py:small',
  *(f'custom_{name}.py' for name in CUSTOM),
  *(f'custom_{name}.py:small' for name in CUSTOM),
)


def test_every_file_is_tested(repo):
  files = {path.name for path in (repo / 'configs').glob('*.py')}
  # Recipes are chains of runs: tests/experiments/test_recipe.py.
  files -= {'recipe_small.py', 'recipe_paper.py'}
  assert files == {run.partition(':')[0] for run in RUNS}


@pytest.mark.parametrize('run', RUNS)
def test_config_builds_its_abstract_state(repo, run, tmp_path, monkeypatch):
  if run.startswith('custom_'):
    name = run.partition('.')[0].removeprefix('custom_')
    monkeypatch.chdir(custom_data.write(name, tmp_path))
  config = configure(f'{repo}/configs/{run}')
  task = setup.find_task(config)
  settings = dict(config.model) | task.model_overrides()
  architecture = (
    MobileBertConfig(**settings)
    if config.init == 'scratch'
    else MobileBertConfig.mobilebert(**settings)
  )
  assert config.data.max_length <= architecture.max_position_embeddings
  model = task.head(architecture, compute=starting.compute_of(config))
  mesh = device_mesh.make_mesh()
  tx = make_optimizer(config.optimizer, 10)
  shapes, _ = train_step.abstract_state(model, tx, mesh)
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
  assert count > 100_000


@pytest.mark.parametrize('norm', ['layer_norm', 'no_norm'])
def test_the_small_sst2_model_has_the_size_that_its_docstring_names(repo, norm):
  run = f'{repo}/configs/glue_sst2.py:small_{norm}'
  config = configure(run)
  assert config.model['normalization_type'] == norm
  task = setup.find_task(config)
  settings = dict(config.model) | task.model_overrides()
  model = task.head(MobileBertConfig(**settings))
  mesh = device_mesh.make_mesh()
  tx = make_optimizer(config.optimizer, 10)
  shapes, _ = train_step.abstract_state(model, tx, mesh)
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
  assert 2.2e6 < count < 2.4e6


@pytest.mark.parametrize(
  ('run', 'lengths'),
  [
    ('progressive', [10_000] * 24 + [500_000]),
    ('progressive:s', [20_000] * 12 + [585_000]),
    ('progressive:xs', [30_000] * 8 + [585_000]),
    ('joint', [240_000, 500_000]),
    ('auxiliary', [740_000]),
  ],
)
def test_stages_of_the_students(repo, run, lengths):
  name, _, variant = run.partition(':')
  file = f'{repo}/configs/distill_{name}.py:{variant}'.rstrip(':')
  config = configure(file)
  layers = config.model.get('num_hidden_layers', 24)
  found = stages.plan(config.distillation, layers, config.num_steps)
  assert [stage.steps for stage in found] == lengths


@pytest.mark.parametrize(
  ('variant', 'millions'), [('', 24.6), ('s', 38.3), ('xs', 27.1)]
)
def test_students_have_the_sizes_that_tensorflow_models_names(
  repo, variant, millions
):
  file = f'{repo}/configs/distill_progressive.py:{variant}'.rstrip(':')
  config = configure(file)
  encoder = MobileBertModel(MobileBertConfig(**config.model))
  count = models.count_params(models.abstract_params(encoder))
  # The README of MobileBERT-EdgeTPU rounds; 27.0 is what its XS has.
  assert count / 1e6 == pytest.approx(millions, abs=0.1)


def test_the_teachers_second_phase_begins_with_its_first(
  repo, tmp_path, monkeypatch
):
  """With nothing there, it is told; it does not train from scratch."""
  file = f'{repo}/configs/pretrain_teacher.py'
  second = configure(f'{file}:phase2')
  first = overrides.name_of(f'{file}:phase1')
  assert second.init == f'runs/{first}/model'
  monkeypatch.chdir(tmp_path)
  task = setup.find_task(second)
  with pytest.raises(InputError, match='runs/pretrain_teacher_phase1/model'):
    starting.begin(second, task, ())


@pytest.mark.parametrize('name', glue.TABLE)
def test_glue_settings_lie_in_the_range_of_the_paper(repo, name):
  run = f'{repo}/configs/glue_{name}.py'
  config = configure(run)
  assert config.task == name
  assert config.batch_size in (16, 32, 48)
  assert 1e-5 <= config.optimizer.learning_rate <= 1e-4
  assert 2 <= config.num_epochs <= 10
  small = configure(f'{run}:small')
  assert small.init == 'scratch'
  assert small.data == config.data


def test_a_variant_that_is_not_there(repo):
  run = f'{repo}/configs/glue_rte.py:tiny'
  with pytest.raises(InputError, match=r"no variant 'tiny'; .* small_no_norm"):
    configure(run)


@pytest.mark.parametrize('name', sorted({r.partition(':')[0] for r in RUNS}))
def test_docstrings_tell_command_and_hardware(repo, name):
  text = (repo / 'configs' / name).read_text()
  doc = re.search(r'"""(.*?)"""', text, re.DOTALL).group(1)
  assert f'--config=configs/{name}' in doc
  assert 'Hardware:' in doc
