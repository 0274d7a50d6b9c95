import dataclasses
import json

import pytest

from mobilebert_jax.config import continuing
from mobilebert_jax.config import run as run_config
from mobilebert_jax.config.run import (
  DataConfig,
  DistillationConfig,
  MeshConfig,
  OptimizerConfig,
  TrainConfig,
)
from mobilebert_jax.runtime.errors import InputError


def config(**changes):
  return TrainConfig(**({'task': 'sst2', 'num_steps': 10} | changes))


def taught(**changes):
  distillation = DistillationConfig(
    teacher='t', strategy='auxiliary', **changes.pop('distillation', {})
  )
  return config(init='x', distillation=distillation, **changes)


def test_blocks_in_any_order_with_the_layers_that_teach_them():
  layers = {'teacher_layers': (1, 2)}
  assert taught(init_layers=(3, 0), distillation=layers).init_layers == (3, 0)
  same = config(init='x', init_layers=2, model={'num_hidden_layers': 2})
  assert run_config.from_json(run_config.to_json(same)) == same


def test_json_round_trip():
  start = config(
    model={'hidden_size': 128},
    data=DataConfig(source='files', path='d', buckets=(32, 64)),
    optimizer=OptimizerConfig(learning_rate=1, max_grad_norm=None),
    mesh=MeshConfig(data=2, fsdp=-1),
    early_stop=3,
    init='some/model',
    init_layers=(5, 0),
  )
  again = run_config.from_json(run_config.to_json(start))
  assert again == start
  assert hash(again) == hash(start)
  assert continuing.differences(start, again) == []


def test_the_access_token_is_never_written_or_shown():
  secret = config(token='hf_secret')
  assert 'hf_secret' not in run_config.to_json(secret) + repr(secret)
  assert continuing.differences(secret, config()) == []
  with pytest.raises(InputError, match='token') as error:
    config(token=['hf_secret'])
  assert 'hf_secret' not in str(error.value)


def test_what_was_the_default_of_an_older_version_counts_as_the_present():
  def tagging(**options):
    return config(task='custom_tagging', options=options)

  older = tagging(scheme='IOB2')
  assert continuing.differences(older, tagging()) == []
  assert continuing.differences(older, tagging(scheme='auto')) == []
  for there, here in ((tagging(), older), (tagging(scheme='IOB1'), tagging())):
    [line] = continuing.differences(there, here)
    assert line.startswith('config.options.scheme: ')


def test_differences_name_each_field():
  lines = continuing.differences(
    config(model={'hidden_size': 64}),
    config(seed=1, optimizer=OptimizerConfig(learning_rate=1e-3)),
  )
  assert lines == [
    "config.model.hidden_size: 64 there, 'not set' here",
    'config.optimizer.learning_rate: 5e-05 there, 0.001 here',
    'config.seed: 0 there, 1 here',
  ]


def test_configs_are_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    config().seed = 3
  with pytest.raises(TypeError):
    config().model['hidden_size'] = 3


def test_number_of_steps():
  assert config().total_steps(7) == 10
  epochs = config(num_steps=None, num_epochs=2.5)
  assert epochs.total_steps(8) == 20
  assert config(num_steps=None, num_epochs=0.01).total_steps(8) == 1


@pytest.mark.parametrize(
  ('make', 'words'),
  [
    (lambda: config(task=3), 'config.task is 3, but must be a string'),
    (lambda: config(batch_size=0), 'batch_size is 0, but must be at least 1'),
    (lambda: config(batch_size=2.0), 'a whole number'),
    (lambda: config(batch_size=True), 'a whole number'),
    (lambda: config(seed=-1), 'seed is -1'),
    (lambda: config(local_files_only=1), 'True or False'),
    (lambda: config(dtype='float16'), 'reach 2.5e7'),
    (lambda: config(dtype='int8'), 'float32, bfloat16, float64'),
    (lambda: config(remat='some'), 'none, full, dots'),
    (lambda: config(layers='unroll'), 'scan, loop'),
    (lambda: config(num_epochs=1.0), 'exactly one'),
    (lambda: config(num_steps=None), 'exactly one'),
    (lambda: config(accumulation_steps=3), 'divisor of config.batch_size'),
    (lambda: config(model={'width': 1}), "no field 'width'"),
    (lambda: config(model={'num_labels': 3}), 'the task decides'),
    (lambda: config(init=''), 'config.init'),
    (
      lambda: config(init_layers=6),
      "init_layers is 6, but must be None with config.init 'scratch'",
    ),
    (lambda: config(init='x', init_layers=0), 'must be at least 1'),
    (lambda: config(init='x', init_layers=()), 'at least one'),
    (lambda: config(init='x', init_layers=(1, 1)), 'none of them twice'),
    (lambda: config(init='x', init_layers=(0, -1)), 'first block being 0'),
    (
      lambda: config(init='x', init_layers=True),
      'a whole number or whole numbers in parentheses, like (32, 64) or None',
    ),
    (
      lambda: config(
        init='x', init_layers=(0, 3), model={'num_hidden_layers': 3}
      ),
      'num_hidden_layers is 3, but must be 2, the number of blocks that',
    ),
    (lambda: taught(init_layers=(3, 0)), 'ascending with config.distillation'),
    (lambda: DataConfig(source='web'), 'tfds, files, generated'),
    (lambda: DataConfig(source='files'), 'config.data.path'),
    (lambda: DataConfig(max_length=2), 'at least 3'),
    (lambda: DataConfig(buckets=(32, 256)), 'data.max_length'),
    (lambda: DataConfig(buckets=(3.5,)), 'whole numbers in parentheses'),
    (lambda: DataConfig(buckets=[32]), 'whole numbers in parentheses'),
    (lambda: OptimizerConfig(learning_rate=0), 'above 0'),
    (lambda: OptimizerConfig(learning_rate=float('nan')), 'a finite number'),
    (lambda: OptimizerConfig(beta2=1.0), 'below 1'),
    (lambda: OptimizerConfig(warmup_fraction=1.5), 'at most 1'),
    (lambda: OptimizerConfig(max_grad_norm=-1.0), 'above 0'),
    (lambda: OptimizerConfig(name='sgd'), 'one of adamw, lamb'),
    (lambda: OptimizerConfig(schedule='cosine'), 'one of linear, constant'),
    (lambda: OptimizerConfig(end_factor=2.0), 'at most 1'),
    (lambda: OptimizerConfig(bias_correction=0), 'True or False'),
    (
      lambda: OptimizerConfig(schedule='constant', end_factor=0.1),
      'end_factor is 0.1, but must be 0.0 with config.optimizer.schedule '
      "'constant'",
    ),
    (
      lambda: OptimizerConfig(schedule='constant', decay_from_start=True),
      'decay_from_start is True, but must be False with',
    ),
    (lambda: MeshConfig(data=0), 'config.mesh.data'),
    (lambda: MeshConfig(data=-1, fsdp=-1), 'one axis at most'),
    (lambda: run_config.from_json('{'), 'is not JSON'),
    (lambda: run_config.from_json('[]'), 'JSON object'),
    (lambda: run_config.from_json('{}'), 'config.task'),
    (lambda: run_config.from_dict({'task': 'a', 'epochs': 1}), "'epochs'"),
    (lambda: run_config.from_dict({'task': 'a', 'data': 3}), 'group of'),
    (lambda: run_config.from_dict({'data': {'dir': 'x'}}), 'config.data has'),
  ],
)
def test_wrong_values_name_field_value_and_what_is_allowed(make, words):
  with pytest.raises(InputError) as error:
    make()
  assert words in str(error.value)
  assert '\n' not in str(error.value)


def test_json_is_readable():
  values = json.loads(run_config.to_json(config()))
  assert values['data']['max_length'] == 128
  assert values['mesh'] == {
    'data': -1, 'fsdp': 1, 'tensor': 1, 'param_sharding': 'sharded',
  }  # fmt: skip
