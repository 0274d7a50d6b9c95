"""Whether a run may be continued under a config, or be made longer by it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mobilebert_jax.config import fields, run, task_options

# Where and how a run computes, not what: these may change when it continues.
_PLACE = (
  'mesh.',
  'profile.',
  'wandb.',
  'compilation_cache_dir',
  'distillation.teacher_placement',
)
# Options whose default was another one, with both. The former value does what
# the present one does wherever a run could be made with it: data in IOB2 is
# found to be so.
_FORMER_DEFAULTS = {'scheme': ('IOB2', 'auto')}


def differences(old: run.TrainConfig, new: run.TrainConfig) -> list[str]:
  """One line for each value that differs, by the field's full name.

  The mesh may differ: it changes no result but by rounding (and, with dropout
  and accumulation, by the masks). So may what does not touch the result. An
  option that one of them does not name has its default there: an older version
  did not have it. What was the default of an older version counts as the
  present one.
  """
  left, right = (
    _flatten(run.to_dict(_all_options(config))) for config in (old, new)
  )
  for option, (former, present) in _FORMER_DEFAULTS.items():
    name = f'options.{option}'
    if (left.get(name), right.get(name)) == (former, present):
      left[name] = present
  missing = 'not set'
  return [
    f'{fields.name(name)}: {left.get(name, missing)!r} there, '
    f'{right.get(name, missing)!r} here'
    for name in sorted({*left, *right})
    if not name.startswith(_PLACE)
    if left.get(name, missing) != right.get(name, missing)
  ]


def differ_in_length(old: run.TrainConfig, new: run.TrainConfig) -> bool:
  """Returns whether runs are of different lengths, and equal but for that."""
  same = dataclasses.replace(
    new, num_steps=old.num_steps, num_epochs=old.num_epochs
  )
  lengths = [(config.num_steps, config.num_epochs) for config in (old, new)]
  return lengths[0] != lengths[1] and not differences(old, same)


def is_longer(old: run.TrainConfig, new: run.TrainConfig) -> bool:
  """Returns whether a run is another one, continued; see `fixed_length`."""
  if not differ_in_length(old, new) or fixed_length(old) is not None:
    return False
  if old.num_steps is not None and new.num_steps is not None:
    return new.num_steps > old.num_steps
  if old.num_epochs is not None and new.num_epochs is not None:
    return new.num_epochs > old.num_epochs
  return False


def fixed_length(config: run.TrainConfig) -> str | None:
  """Returns why a run cannot be made longer; None: it can.

  It can if its first steps are those of a longer run.
  """
  optimizer = config.optimizer
  if config.distillation.teacher is not None:
    return 'the stages of its distillation are planned for its length'
  if config.early_stop is not None:
    return 'it stops early (config.early_stop)'
  if optimizer.schedule != 'constant':
    return (
      'its learning rate falls until its last step '
      f"(config.optimizer.schedule '{optimizer.schedule}')"
    )
  if optimizer.warmup_steps is None and optimizer.warmup_fraction:
    return (
      'its warm-up is a part of its length (config.optimizer.warmup_fraction)'
    )
  return None


def _all_options(config: run.TrainConfig) -> run.TrainConfig:
  """Returns the config with the options of its task that it does not name."""
  known = fields.settings(
    task_options.OPTIONS.get(config.task, task_options.NoOptions)
  )
  defaults = {
    name: setting.default
    for name, setting in known.items()
    if setting.default is not dataclasses.MISSING
  }
  return dataclasses.replace(config, options=defaults | dict(config.options))


def _flatten(values: Mapping[str, Any], path: str = '') -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for name, value in values.items():
    if isinstance(value, dict):
      flat |= _flatten(value, f'{path}{name}.')
    else:
      flat[path + name] = value
  return flat
