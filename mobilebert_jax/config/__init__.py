"""What decides a run: its settings, their limits, and how they are given.

A config file imports this package and nothing else:

  from mobilebert_jax import config

  def get_config(variant=''):
    variants = config.presets.fine_tuning(small_epochs=3.0, task='sst2')
    return config.config_dict(**config.choose(variant, variants))

To be read in this order; no module here loads jax:
  fields        a field of settings: type, limits, help, value from text
  model         MobileBertConfig: sizes and switches of the architecture
  model_json    MobileBertConfig in the JSON of two libraries
  distillation  DistillationConfig: a teacher, and what is learnt from it
  quantization  QuantizationConfig: the integers that a model is trained for
  optimizer     OptimizerConfig: the optimizer and its learning rates
  taken_layers  which blocks of a source a smaller model begins with
  task_options  the options of each task
  run           TrainConfig: everything that decides a training run
  presets       settings that many config files share
  command_line  flags, help and errors of every command
  flags         flags that several commands have in common
  overrides     config files, and --config.a.b=VALUE
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from mobilebert_jax.config import presets as presets
  from mobilebert_jax.config.model import MobileBertConfig
  from mobilebert_jax.config.overrides import (
    choose,
    config_dict,
    configure,
    to_train_config,
  )
  from mobilebert_jax.config.run import TrainConfig

__all__ = [
  'MobileBertConfig',
  'TrainConfig',
  'choose',
  'config_dict',
  'configure',
  'presets',
  'to_train_config',
]
_HOMES = {
  'MobileBertConfig': 'model',
  'TrainConfig': 'run',
  'choose': 'overrides',
  'config_dict': 'overrides',
  'configure': 'overrides',
  'to_train_config': 'overrides',
}


def __getattr__(name: str) -> Any:
  """Loads what is asked for (PEP 562)."""
  if name == 'presets':
    return importlib.import_module(f'{__name__}.presets')
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  home = importlib.import_module(f'{__name__}.{_HOMES[name]}')
  return getattr(home, name)


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
