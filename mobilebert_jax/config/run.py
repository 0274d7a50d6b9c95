"""What one training run is: frozen, validated dataclasses and their JSON.

A config file and the command line end here (`overrides`); everything below
takes these classes and never sees a flag.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from mobilebert_jax.config import fields, taken_layers, task_options
from mobilebert_jax.config.distillation import DistillationConfig
from mobilebert_jax.config.model import FrozenMap, MobileBertConfig
from mobilebert_jax.config.optimizer import OptimizerConfig
from mobilebert_jax.config.quantization import QuantizationConfig
from mobilebert_jax.runtime.errors import InputError

# The task decides these fields of the model's config.
TASK_FIELDS = (
  'num_labels', 'id2label', 'label2id', 'problem_type', 'task_specific_params',
)  # fmt: skip
MODEL_FIELDS = tuple(
  field.name
  for field in dataclasses.fields(MobileBertConfig)
  if field.name not in TASK_FIELDS
)
# A secret that must reach neither a file nor a message.
_SECRET = 'token'


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
  """Where the examples come from and how they are cut."""

  source: Literal['tfds', 'files', 'generated', 'huggingface'] = fields.setting(
    'tfds',
    help="'tfds' (TensorFlow Datasets), 'files' (the official files in "
    "`path`), 'generated' (made by the task's own code) or 'huggingface' (what "
    'the datasets library loads from `path`, for custom tasks)',
  )
  path: str | None = fields.setting(
    None,
    help="directory of the files, TFDS's data_dir, or a data set of the hub; "
    'files also on gs://, from where they are copied once for each host '
    '(docs/guides/gcs.md)',
  )
  subset: str | None = fields.setting(
    None,
    help="which of its parts is meant, where a data set of 'huggingface' has "
    'several',
  )
  bad_rows: Literal['error', 'skip'] = fields.setting(
    'error',
    help='wrong rows of files are refused, all counted and the first three '
    "shown, by 'error', or left out by 'skip', which says how many",
  )
  max_length: int = fields.setting(
    128, help='longest sequence in tokens, special tokens included', at_least=3
  )
  train_examples: int | None = fields.setting(
    None, help='use the first n training examples; None: all', at_least=1
  )
  eval_examples: int | None = fields.setting(
    None,
    help='use the first n examples of every other split; None: all',
    at_least=1,
  )
  batching: Literal['bucketed', 'packed', 'padded'] = fields.setting(
    'bucketed',
    help="'bucketed' (batches padded to one of a few lengths), 'packed' "
    '(several short examples in one row of `max_length`, each as if alone) or '
    "'padded' (every batch padded to `max_length`). It changes the speed, and "
    'which examples share a step, but not what an example means',
  )
  buckets: tuple[int, ...] = fields.setting(
    (),
    help="lengths to which 'bucketed' batches are padded, one compilation "
    'each; (): powers of two up to the longest example',
  )
  cache_dir: str | None = fields.setting(
    None,
    help='where encoded examples are kept for other runs on the same data, '
    'for instance ~/.cache/mobilebert_jax/tokens; None: not kept, for nothing '
    'is written outside of the workdir unasked',
  )

  def __post_init__(self):
    fields.check(self, fields.name('data'))
    if self.source in ('files', 'huggingface') and self.path is None:
      raise fields.wrong(
        fields.name('data', 'path'),
        None,
        "a directory, because config.data.source is 'files'"
        if self.source == 'files'
        else "a data set, because config.data.source is 'huggingface'",
      )
    for bucket in self.buckets:
      if not 3 <= bucket <= self.max_length:
        raise fields.wrong(
          fields.name('data', 'buckets'), self.buckets,
          f'lengths from 3 to config.data.max_length ({self.max_length})',
        )  # fmt: skip

  def limit(self, *, is_train: bool) -> int | None:
    """How many examples of a split are used; None: all."""
    return self.train_examples if is_train else self.eval_examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """Devices along each mesh axis, and whether it divides the parameters.

  One axis may be -1: all devices that are left.
  """

  data: int = fields.setting(
    -1, help='devices along the axis that divides the batches; -1: all left'
  )
  fsdp: int = fields.setting(
    1,
    help='devices along the axis that divides the batches, and parameters and '
    'optimizer state with them',
  )
  tensor: int = fields.setting(
    1, help='devices along the axis that divides the matrices of every layer'
  )
  param_sharding: Literal['sharded', 'replicated'] = fields.setting(
    'sharded',
    help='of the parameters that are trained and their optimizer state: '
    "'sharded', over the mesh by the rules for parameters; 'replicated', whole "
    'on every device',
  )

  def __post_init__(self):
    fields.check(self, fields.name('mesh'))
    sizes = (self.data, self.fsdp, self.tensor)
    for name, size in zip(('data', 'fsdp', 'tensor'), sizes):
      if size < 1 and size != -1:
        raise fields.wrong(fields.name('mesh', name), size, 'at least 1, or -1')
    if sizes.count(-1) > 1:
      raise fields.wrong(fields.name('mesh'), sizes, '-1 on one axis at most')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileConfig:
  """What is traced for TensorBoard's profile page and XProf."""

  steps: str | None = fields.setting(
    None,
    help="'10:13' traces steps 10, 11 and 12 into `profile/` of the workdir; "
    'None: none',
  )

  def __post_init__(self):
    fields.check(self, fields.name('profile'))
    if self.steps is not None and not self.range():
      raise fields.wrong(
        fields.name('profile', 'steps'), self.steps,
        "like '10:13', which means steps 10, 11 and 12; the first step is 1",
      )  # fmt: skip

  def range(self) -> range:
    """The steps, from 1; empty if there are none."""
    result = re.fullmatch('([1-9][0-9]*):([1-9][0-9]*)', self.steps or '')
    return range(*map(int, result.groups())) if result else range(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WandbConfig:
  """Where Weights & Biases shows the metrics, beside the workdir."""

  project: str | None = fields.setting(
    None,
    help='the project that metrics are sent to as well (extra wandb; '
    'WANDB_MODE=offline keeps them in the workdir); None: none',
  )
  entity: str | None = fields.setting(
    None, help='the user or team of the project; None: the one logged in'
  )
  name: str | None = fields.setting(
    None, help='what the run is called there; None: as its workdir'
  )

  def __post_init__(self):
    fields.check(self, fields.name('wandb'))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
  """Everything that decides a training run."""

  task: str = fields.setting(help='name of the task')
  init: str = fields.setting(
    'scratch',
    help="'scratch', a hub name, a transformers directory or a TF1 checkpoint",
  )
  init_layers: int | tuple[int, ...] | None = fields.setting(
    None,
    help='start from some blocks of `init` and leave out the others: 12 (a '
    'number, spread evenly from the first block to the last one) or (0, 3, 5) '
    '(their numbers from 0, in the order in which they are to run); None: all. '
    'A teacher teaches each of them by the block that it was',
  )
  tokenizer: str | None = fields.setting(
    None,
    help='hub name, directory or vocab.txt; None: that of `init`, and for '
    "'scratch' on generated data a new one trained on the training text",
  )
  do_lower_case: bool | None = fields.setting(
    None,
    help='lower-case texts; None: what the files of the tokenizer say, and '
    'where they do not, whether its tokens have capitals',
  )
  strip_accents: bool | None = fields.setting(
    None, help='take accents off; None: likewise, else as `do_lower_case`'
  )
  revision: str | None = fields.setting(
    None, help='hub revision of `init` and `tokenizer`'
  )
  token: str | None = fields.setting(
    None, help='hub access token; never written to a file', repr=False
  )
  cache_dir: str | None = fields.setting(None, help='where hub files are kept')
  local_files_only: bool = fields.setting(False, help='never ask the hub')
  ignore_mismatched_sizes: bool = fields.setting(
    False, help='draw tensors of another shape anew'
  )
  model: Mapping[str, Any] = fields.setting(
    default_factory=FrozenMap,
    help='values of MobileBertConfig that replace those of `init`',
  )
  options: Mapping[str, Any] = fields.setting(
    default_factory=FrozenMap,
    help="values of the task's own options; see the task's module",
  )
  data: DataConfig = fields.setting(
    default_factory=DataConfig,
    help='where the examples come from and how they are cut',
  )
  optimizer: OptimizerConfig = fields.setting(
    default_factory=OptimizerConfig,
    help='the optimizer, its schedule and gradient clipping',
  )
  distillation: DistillationConfig = fields.setting(
    default_factory=DistillationConfig,
    help='a teacher, and what is learnt from it',
  )
  quantization: QuantizationConfig = fields.setting(
    default_factory=QuantizationConfig,
    help='the integers that the model is trained for',
  )
  mesh: MeshConfig = fields.setting(
    default_factory=MeshConfig, help='devices along each axis'
  )
  profile: ProfileConfig = fields.setting(
    default_factory=ProfileConfig, help='what is traced'
  )
  wandb: WandbConfig = fields.setting(
    default_factory=WandbConfig,
    help='where metrics are shown, beside the workdir',
  )
  compilation_cache_dir: str | None = fields.setting(
    'auto',
    help='where compiled programs are kept for later starts, on this machine '
    "or on gs://; 'auto': where JAX_COMPILATION_CACHE_DIR says, else in the "
    "user's cache; None: as JAX's own setting has it",
  )
  batch_size: int = fields.setting(
    32, help='examples in one optimizer step, over all devices', at_least=1
  )
  eval_batch_size: int = fields.setting(
    64, help='examples in one evaluation step', at_least=1
  )
  accumulation_steps: int = fields.setting(
    1, help='micro-batches in one optimizer step', at_least=1
  )
  num_epochs: float | None = fields.setting(
    None, help='length of the run in epochs; this or `num_steps`', above=0
  )
  num_steps: int | None = fields.setting(
    None, help='length of the run in optimizer steps', at_least=1
  )
  eval_every: int | None = fields.setting(
    None, help='steps between evaluations; None: one epoch', at_least=1
  )
  checkpoint_every: int | None = fields.setting(
    None,
    help='steps between checkpoints; None: with each evaluation',
    at_least=1,
  )
  log_every: int = fields.setting(
    10, help='steps between lines of metrics', at_least=1
  )
  early_stop: int | None = fields.setting(
    None,
    help='stop after so many evaluations without a better score',
    at_least=1,
  )
  keep_checkpoints: int = fields.setting(
    2, help='newest checkpoints that are kept, beside the best one', at_least=1
  )
  nonfinite: Literal['stop', 'skip'] = fields.setting(
    'stop',
    help="on a loss or gradient that is infinite or not a number, 'stop', or "
    "'skip' the step: the weights stay as they are, it is counted, and more "
    'than 10 in a row stop the run',
  )
  seed: int = fields.setting(
    0,
    help='seed of the weights, the dropout and the order of the examples',
    at_least=0,
    below=2**31,
  )
  dtype: Literal['float32', 'bfloat16', 'float64'] = fields.setting(
    'float32',
    help='type of the computation; parameters are float32, or float64 with it',
    because='hidden values of MobileBERT reach 2.5e7, beyond float16',
  )
  remat: Literal['none', 'full', 'dots', 'narrow', 'attention'] = (
    fields.setting(
      'none',
      help="activations to recompute in the backward pass: all ('full'), all "
      "but the results of products with parameters ('dots') or of those that "
      "are narrower than what they read ('narrow'), or those of attention",
    )
  )
  attention: Literal['auto', 'xla', 'fused'] = fields.setting(
    'auto',
    help="attention by plain operations ('xla'), by a kernel of the platform "
    "('fused'), or by what is known to be faster there",
  )
  attention_dropout: Literal['random', 'hash'] = fields.setting(
    'hash',
    help="dropout of attention's probabilities: drawn by jax.random, or by a "
    'hash of where they are, which a kernel needs',
  )
  layers: Literal['scan', 'loop'] = fields.setting(
    'scan', help="one compiled layer in a loop ('scan') or all of them ('loop')"
  )
  norms: Literal['separate', 'fold'] = fields.setting(
    'fold',
    help="NoNorm is computed in the matrix before it ('fold'), or by itself "
    "('separate'), as the paper writes it",
    because='results differ by rounding; LayerNorm is always separate',
  )

  def __post_init__(self):
    fields.check(self, fields.name())
    object.__setattr__(self, 'model', FrozenMap(self.model))
    object.__setattr__(self, 'options', FrozenMap(self.options))
    for name, value in self.model.items():
      known = model_setting(name)
      fields.check_value(fields.name('model', name), value, known)
    if self.task in task_options.OPTIONS:
      task_options.make(self.task, self.options)
    if (self.num_epochs is None) == (self.num_steps is None):
      raise InputError(
        'config.num_epochs and config.num_steps: exactly one of them must be '
        f'set, but they are {self.num_epochs!r} and {self.num_steps!r}.'
      )
    if self.batch_size % self.accumulation_steps:
      raise fields.wrong(
        fields.name('accumulation_steps'), self.accumulation_steps,
        f'a divisor of config.batch_size ({self.batch_size})',
      )  # fmt: skip
    self._check_transfer()
    self._check_quantization()
    if not self.init:
      raise fields.wrong(
        fields.name('init'), self.init,
        "'scratch', a hub name, a directory or a TF1 checkpoint",
      )  # fmt: skip
    if self.init_layers is not None:
      taken_layers.check_run(
        self.init_layers, self.init, self.model, self.distillation
      )

  def _check_transfer(self):
    steps = self.distillation.transfer_steps
    if self.num_steps is not None and steps > self.num_steps:
      raise fields.wrong(
        fields.name('distillation', 'transfer_steps'), steps,
        f'at most config.num_steps ({self.num_steps}), a part of which they '
        'are',
      )  # fmt: skip
    if steps and self.early_stop is not None:
      raise fields.wrong(
        fields.name('early_stop'), self.early_stop,
        'None with config.distillation.transfer_steps: the scores of the '
        'task do not rise while knowledge is transferred',
      )  # fmt: skip

  def _check_quantization(self):
    """Refuses what a served model does not have."""
    scheme = self.quantization.scheme
    if not self.quantization.is_on:
      return
    given = f"with config.quantization.scheme '{scheme}'"
    for name, value, is_right, allowed in (
      (('init',), self.init, self.init != 'scratch',
       f'the float model to start from {given}: its ranges are measured'),
      (('data', 'batching'), self.data.batching,
       self.data.batching != 'packed',
       f"'bucketed' or 'padded' {given}: a row holds one example"),
      (('distillation', 'strategy'), self.distillation.strategy,
       self.distillation.strategy == 'none',
       f"'none' {given}: a teacher gives labels, but no block is compared"),
    ):  # fmt: skip
      if not is_right:
        raise fields.wrong(fields.name(*name), value, allowed)

  def total_steps(self, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run."""
    if self.num_steps is not None:
      return self.num_steps
    assert self.num_epochs is not None
    return max(1, round(self.num_epochs * steps_per_epoch))


def model_setting(name: str) -> fields.Setting:
  """A field of `config.model`.

  Raises:
    InputError: there is none, or the task decides it.
  """
  if name in TASK_FIELDS:
    raise InputError(
      f'{fields.name("model", name)} cannot be set: the task decides it.'
    )
  if name not in MODEL_FIELDS:
    raise fields.unknown(fields.name('model'), name, MODEL_FIELDS)
  return fields.settings(MobileBertConfig)[name]


def to_dict(config: TrainConfig) -> dict[str, Any]:
  """The config as JSON values, without the access token."""
  values = _plain(dataclasses.asdict(config))
  del values[_SECRET]
  return values


def from_dict(values: Mapping[str, Any]) -> TrainConfig:
  """The inverse of `to_dict`.

  Raises:
    InputError: an unknown field, a missing task, or a wrong value.
  """
  return _build(TrainConfig, values, fields.name())


def to_json(config: TrainConfig) -> str:
  """JSON text with sorted keys; the access token is left out."""
  return json.dumps(to_dict(config), indent=2, sort_keys=True) + '\n'


# What runs did that were written before there was a setting for it, where its
# default is another now.
_OLDER = {'attention_dropout': 'random', 'norms': 'separate'}


def from_json(text: str, where: str = 'the config') -> TrainConfig:
  """Reads what `to_json` wrote, in this version or an older one.

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
  return from_dict(_OLDER | values)


def _build(kind: Any, values: Any, path: str) -> Any:
  if not isinstance(values, Mapping):
    raise fields.wrong(path, values, 'a group of fields')
  known = fields.settings(kind)
  settings = {}
  for name, value in values.items():
    if name not in known:
      raise fields.unknown(path, name, known)
    hint = known[name].hint
    if dataclasses.is_dataclass(hint):
      value = _build(hint, value, f'{path}.{name}')
    elif name == 'options' and isinstance(value, Mapping):
      value = {key: _tuple(item) for key, item in value.items()}
    settings[name] = fields.convert(value, hint)
  if kind is TrainConfig and not settings.get('task'):
    raise fields.wrong(
      fields.name('task'), settings.get('task'), 'the name of a task'
    )
  return kind(**settings)


def _plain(value: Any) -> Any:
  """Dictionaries and lists in place of our maps and tuples."""
  if isinstance(value, Mapping):
    return {key: _plain(item) for key, item in value.items()}
  return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _tuple(value: Any) -> Any:
  """JSON has lists where the options of tasks have tuples."""
  return tuple(value) if isinstance(value, list) else value
