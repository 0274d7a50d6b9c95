"""What one training run is: frozen, validated dataclasses and their JSON.

A config file and the command line end here (`cli.py`); everything below takes
these classes and never sees a flag.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

from mobilebert_jax.config import fields
from mobilebert_jax.config.distillation import DistillationConfig
from mobilebert_jax.config.groups import (
  DataConfig,
  MeshConfig,
  OptimizerConfig,
  ProfileConfig,
)
from mobilebert_jax.config.model import FrozenMap, MobileBertConfig
from mobilebert_jax.runtime.errors import InputError

# The task decides these fields of the model's config.
TASK_FIELDS = ('num_labels', 'id2label', 'label2id', 'problem_type')
MODEL_FIELDS = tuple(
  field.name
  for field in dataclasses.fields(MobileBertConfig)
  if field.name not in TASK_FIELDS
)
# A secret that must reach neither a file nor a message.
_SECRET = 'token'
# Where and how a run computes, not what: these may change when it continues.
_PLACE = (
  'mesh.',
  'profile.',
  'compilation_cache_dir',
  'distillation.teacher_placement',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
  """Everything that decides a training run.

  Attributes:
    task: a name in `mobilebert_jax.tasks.TASKS`.
    init: 'scratch', a hub name, a transformers directory or a TF1 checkpoint.
    tokenizer: hub name, directory or vocab.txt; None: that of `init`, and for
      'scratch' on generated data a new one trained on the training text.
    revision: hub revision of `init` and `tokenizer`.
    token: hub access token; never written to a file.
    cache_dir: where hub files are kept.
    local_files_only: never ask the hub.
    ignore_mismatched_sizes: draw tensors of another shape anew.
    model: values of MobileBertConfig that replace those of `init`.
    options: values of the task's own options; see the task's module.
    data: see DataConfig.
    optimizer: see OptimizerConfig.
    distillation: see DistillationConfig.
    mesh: see MeshConfig.
    profile: see ProfileConfig.
    compilation_cache_dir: where compiled programs are kept for later starts, on
      this machine or on gs://; None: nowhere, unless JAX_COMPILATION_CACHE_DIR
      says where.
    batch_size: examples in one optimizer step, over all devices.
    eval_batch_size: examples in one evaluation step.
    accumulation_steps: micro-batches in one optimizer step.
    num_epochs: length of the run in epochs; this or `num_steps`.
    num_steps: length of the run in optimizer steps.
    eval_every: steps between evaluations; None: one epoch.
    checkpoint_every: steps between checkpoints; None: with each evaluation.
    log_every: steps between lines of metrics.
    early_stop: stop after so many evaluations without a better score.
    keep_checkpoints: newest checkpoints that are kept, beside the best one.
    nonfinite: on a loss or gradient that is infinite or not a number, 'stop',
      or 'skip' the step: the weights stay as they are, it is counted, and more
      than 10 in a row stop the run.
    seed: of the weights, the dropout and the order of the examples.
    dtype: of the computation; parameters are float32 (float64 with float64).
    remat: activations to recompute in the backward pass.
    layers: one compiled layer in a loop ('scan') or all of them ('loop').
  """

  task: str
  init: str = 'scratch'
  tokenizer: str | None = None
  revision: str | None = None
  token: str | None = dataclasses.field(default=None, repr=False)
  cache_dir: str | None = None
  local_files_only: bool = False
  ignore_mismatched_sizes: bool = False
  model: Mapping[str, Any] = dataclasses.field(default_factory=FrozenMap)
  options: Mapping[str, Any] = dataclasses.field(default_factory=FrozenMap)
  data: DataConfig = dataclasses.field(default_factory=DataConfig)
  optimizer: OptimizerConfig = dataclasses.field(
    default_factory=OptimizerConfig
  )
  distillation: DistillationConfig = dataclasses.field(
    default_factory=DistillationConfig
  )
  mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
  profile: ProfileConfig = dataclasses.field(default_factory=ProfileConfig)
  compilation_cache_dir: str | None = None
  batch_size: int = fields.setting(32, at_least=1)
  eval_batch_size: int = fields.setting(64, at_least=1)
  accumulation_steps: int = fields.setting(1, at_least=1)
  num_epochs: float | None = fields.setting(None, above=0)
  num_steps: int | None = fields.setting(None, at_least=1)
  eval_every: int | None = fields.setting(None, at_least=1)
  checkpoint_every: int | None = fields.setting(None, at_least=1)
  log_every: int = fields.setting(10, at_least=1)
  early_stop: int | None = fields.setting(None, at_least=1)
  keep_checkpoints: int = fields.setting(2, at_least=1)
  nonfinite: Literal['stop', 'skip'] = 'stop'
  seed: int = fields.setting(0, at_least=0, below=2**31)
  dtype: Literal['float32', 'bfloat16', 'float64'] = 'float32'
  remat: Literal['none', 'full', 'dots'] = 'none'
  layers: Literal['scan', 'loop'] = 'scan'

  def __post_init__(self):
    if self.dtype == 'float16':
      raise fields.wrong(
        'config.dtype', 'float16',
        'float32, bfloat16 or float64: hidden values of MobileBERT reach '
        '2.5e7, beyond float16',
      )  # fmt: skip
    fields.check(self, 'config')
    object.__setattr__(self, 'model', FrozenMap(self.model))
    object.__setattr__(self, 'options', FrozenMap(self.options))
    for name in self.model:
      if name in TASK_FIELDS:
        raise InputError(
          f'config.model.{name} cannot be set: the task decides the labels.'
        )
      if name not in MODEL_FIELDS:
        raise InputError(
          f'config.model has no field {name!r}; it has: '
          f'{", ".join(MODEL_FIELDS)}.'
        )
    if (self.num_epochs is None) == (self.num_steps is None):
      raise InputError(
        'config.num_epochs and config.num_steps: exactly one of them must be '
        f'set, but they are {self.num_epochs!r} and {self.num_steps!r}.'
      )
    if self.batch_size % self.accumulation_steps:
      raise fields.wrong(
        'config.accumulation_steps', self.accumulation_steps,
        f'a divisor of batch_size ({self.batch_size})',
      )  # fmt: skip
    self._check_transfer()
    if not self.init:
      raise fields.wrong(
        'config.init', self.init,
        "'scratch', a hub name, a directory or a TF1 checkpoint",
      )  # fmt: skip

  def _check_transfer(self):
    steps = self.distillation.transfer_steps
    if self.num_steps is not None and steps > self.num_steps:
      raise fields.wrong(
        'config.distillation.transfer_steps', steps,
        f'at most num_steps ({self.num_steps}), which they are a part of',
      )  # fmt: skip
    if steps and self.early_stop is not None:
      raise fields.wrong(
        'config.early_stop', self.early_stop,
        'None with distillation.transfer_steps: the scores of the task do not '
        'rise while knowledge is transferred',
      )  # fmt: skip

  def total_steps(self, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run."""
    if self.num_steps is not None:
      return self.num_steps
    assert self.num_epochs is not None
    return max(1, round(self.num_epochs * steps_per_epoch))


def to_dict(config: TrainConfig) -> dict[str, Any]:
  """The config as JSON values, without the access token."""
  values = dataclasses.asdict(config)
  values['model'] = dict(config.model)
  values['options'] = {
    name: list(value) if isinstance(value, tuple) else value
    for name, value in config.options.items()
  }
  values['data']['buckets'] = list(config.data.buckets)
  for name in ('teacher_layers', 'copy'):
    values['distillation'][name] = list(values['distillation'][name])
  del values[_SECRET]
  return values


def from_dict(values: Mapping[str, Any]) -> TrainConfig:
  """The inverse of `to_dict`.

  Raises:
    InputError: an unknown field, a missing task, or a wrong value.
  """
  return _build(TrainConfig, values, 'config')


def to_json(config: TrainConfig) -> str:
  """JSON text with sorted keys; the access token is left out."""
  return json.dumps(to_dict(config), indent=2, sort_keys=True) + '\n'


def from_json(text: str, where: str = 'the config') -> TrainConfig:
  """Reads what `to_json` wrote.

  Args:
    text: JSON.
    where: what error messages call the text, such as its file.

  Raises:
    InputError: not a JSON object, or see `from_dict`.
  """
  try:
    values = json.loads(text)
  except ValueError as error:
    raise InputError(f'{where} is not JSON: {error}.') from None
  if not isinstance(values, dict):
    raise InputError(f'{where} must be a JSON object.')
  return from_dict(values)


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
  """One line for each value that differs, by the field's full name.

  The mesh may differ: it changes no result but by rounding (and, with dropout
  and accumulation, by the masks). So may what does not touch the result.
  """
  left, right = _flatten(to_dict(old)), _flatten(to_dict(new))
  missing = 'not set'
  return [
    f'{name}: {left.get(name, missing)!r} there, '
    f'{right.get(name, missing)!r} here'
    for name in sorted({*left, *right})
    if not name.startswith(_PLACE)
    if left.get(name, missing) != right.get(name, missing)
  ]


def _build(kind: Any, values: Any, path: str) -> Any:
  if not isinstance(values, Mapping):
    raise fields.wrong(path, values, 'a group of fields')
  known = fields.hints(kind)
  settings = {}
  for name, value in values.items():
    if name not in known:
      raise InputError(
        f'{path} has no field {name!r}; it has: {", ".join(known)}.'
      )
    if dataclasses.is_dataclass(known[name]):
      value = _build(known[name], value, f'{path}.{name}')
    elif name == 'options' and isinstance(value, Mapping):
      value = {key: _tuple(item) for key, item in value.items()}
    settings[name] = _tuple(value)
  if kind is TrainConfig and not settings.get('task'):
    raise fields.wrong(
      'config.task', settings.get('task'), 'the name of a task'
    )
  return kind(**settings)


def _tuple(value: Any) -> Any:
  """JSON has lists where the configs have tuples."""
  return tuple(value) if isinstance(value, list) else value


def _flatten(values: Mapping[str, Any], path: str = '') -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for name, value in values.items():
    if isinstance(value, dict):
      flat |= _flatten(value, f'{path}{name}.')
    else:
      flat[path + name] = value
  return flat
