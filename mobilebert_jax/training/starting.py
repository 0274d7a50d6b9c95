"""What a run starts from: model, parameters and tokenizer.

`begin` finds them for a new run, `resume` reads them of one that has been
started; a quantised run also measures, or reads, what its model computes with.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mobilebert_jax import models
from mobilebert_jax.config import taken_layers
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.convert import label_names
from mobilebert_jax.convert.pretrained import (
  load_pretrained,
  resize_token_embeddings,
  take_layers,
)
from mobilebert_jax.data.batching.features import NumpyBatch
from mobilebert_jax.inference.equalization import equalize
from mobilebert_jax.inference.quantized_model import Constants, quantized
from mobilebert_jax.models.typing import Params
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import Task
from mobilebert_jax.tokenizer import (
  MobileBertTokenizerFast,
  comparison,
  train_wordpiece,
)
from mobilebert_jax.tokenizer.pretrained import known_vocabulary
from mobilebert_jax.training import calibration
from mobilebert_jax.training.workdir import Workdir

SCRATCH = 'scratch'
# Tokens of a vocabulary learnt from a task's own training text.
_LEARNT_VOCABULARY = 2000


@dataclasses.dataclass(frozen=True)
class Start:
  """A model at the beginning of a run.

  Attributes:
    model: the task's model.
    params: its parameters; from scratch the key to draw them with, on their
      devices (`train_step.create_state`); None where a checkpoint will bring
      them.
    tokenizer: what the data is encoded with.
    notes: sentences for the user, such as which weights are newly initialised.
    source_layers: see `MethodInputs`.
    constants: what a quantised model computes with; None: it is not.
  """

  model: nn.Module
  params: Params | jax.Array | None
  tokenizer: MobileBertTokenizerFast
  notes: tuple[str, ...] = ()
  source_layers: int | None = None
  constants: Constants | None = None


def key_for(config: TrainConfig, purpose: str) -> jax.Array:
  """Returns a random key of its own for each purpose."""
  number = ('weights', 'dropout').index(purpose)
  return jax.random.fold_in(jax.random.key(config.seed), number)


def begin(
  config: TrainConfig,
  task: Task,
  train: Sequence[Any],
  default_tokenizer: str | None = None,
) -> Start:
  """Finds model, weights and tokenizer of a new run.

  Args:
    config: the run.
    task: its task.
    train: the training examples, from which a vocabulary may be learnt, and on
      which a quantised run measures.
    default_tokenizer: that of a run from scratch whose config names none.

  Raises:
    InputError: whatever is wrong with init, tokenizer or model settings.
  """
  tokenizer = _find_tokenizer(config, task, train, default_tokenizer)
  _set_length(config, tokenizer)
  said = _check_vocabulary(config, tokenizer)
  start = _begin_with(config, task, tokenizer)
  start = dataclasses.replace(start, notes=(*start.notes, *said))
  check_lengths(config, start.model.config)
  return _quantize(config, task, start, train)


def params(
  config: TrainConfig,
  task: Task,
  train: Sequence[Any],
  tokenizer: MobileBertTokenizerFast,
) -> Params | jax.Array | None:
  """Returns the parameters that a run began with, to the same bits.

  Args:
    config: the run.
    task: its task.
    train: the training examples.
    tokenizer: that of the run.
  """
  start = _begin_with(config, task, tokenizer)
  if config.quantization.is_on:
    start, _ = _equalize(config, task, start, train)
  return start.params


def _begin_with(
  config: TrainConfig, task: Task, tokenizer: MobileBertTokenizerFast
) -> Start:
  if config.init == SCRATCH:
    return _from_scratch(config, task, tokenizer)
  return _from_pretrained(config, task, tokenizer)


def _quantize(
  config: TrainConfig, task: Task, start: Start, train: Sequence[Any]
) -> Start:
  """Measures what a quantised model is served with, on training examples."""
  if not config.quantization.is_on:
    return start
  start, measured = _equalize(config, task, start, train)
  constants = calibration.measure(
    start.model, start.params, config.quantization.scheme, measured
  )
  return dataclasses.replace(
    start,
    model=quantized(start.model, constants),
    notes=(*start.notes, calibration.describe(config)),
    constants=constants,
  )


def _equalize(
  config: TrainConfig, task: Task, start: Start, train: Sequence[Any]
) -> tuple[Start, list[NumpyBatch]]:
  """Brings channels to one range, if wanted; with what they are measured on."""
  measured = calibration.batches(config, task, start.tokenizer, train)
  if config.quantization.equalize:
    model, head = start.model, type(start.model).__name__
    params = equalize(head, model.config, start.params, measured)
    start = dataclasses.replace(start, params=params)
  return start, measured


def resume(
  config: TrainConfig, task: Task, workdir: Workdir, *, scores: bool = False
) -> Start:
  """Reads model and tokenizer of a run that was started in `workdir`.

  Args:
    config: the run.
    task: its task, whose labels may have been found in the data anew.
    workdir: where it was started.
    scores: the model is scored alone: its labels may stand in another order
      (`label_order`).

  Raises:
    InputError: a workdir that lacks something, or a model of other labels.
  """
  settings = dict(config.model) | task.model_overrides()
  written = workdir.read_model_config()
  if scores:
    label_order(task, written, workdir)
  else:
    check_labels(task, written, workdir)
  architecture = written.replace(**settings)
  check_lengths(config, architecture)
  model = task.head(architecture, compute=compute_of(config))
  tokenizer = workdir.read_tokenizer()
  _set_length(config, tokenizer)
  if not config.quantization.is_on:
    return Start(model, None, tokenizer)
  constants = workdir.read_quantization()
  if constants is None:
    raise InputError(
      f'{workdir.path} is not that of a quantised run: it has no '
      f'{workdir.quantization.name}; set config.quantization.scheme to '
      "'none', or name another workdir."
    )
  return Start(
    quantized(model, constants), None, tokenizer, constants=constants
  )


def check_labels(task: Task, written: MobileBertConfig, workdir: Workdir):
  """Checks that a task's labels are those of a run's model, in their order.

  Args:
    task: see `label_order`; so are the others.
    written: the config of the run's model.
    workdir: that of the run.

  Raises:
    InputError: they are others, or in another order.
  """
  if label_order(task, written, workdir).kind == 'reordered':
    stored = tuple(written.id2label.values())
    raise InputError(
      f'the labels of {task.name} come in the order '
      f'{label_names.listed(task.labels)}, but the run in {workdir.path} began '
      f'with {label_names.listed(stored)}: use the data that it began with.'
    )


def label_order(
  task: Task, written: MobileBertConfig, workdir: Workdir
) -> label_names.Match:
  """Finds a task's labels among those of a run's model.

  Args:
    task: the task, as its data is today.
    written: the config of the run's model.
    workdir: that of the run.

  Raises:
    InputError: they are others.
  """
  if not task.labels:
    return label_names.Match('same')
  stored = tuple(written.id2label.values())
  matched = label_names.match(stored, task.labels)
  if matched.kind == 'other':
    raise InputError(
      f'{label_names.difference(stored, task.labels, str(workdir.path))}; use '
      'the data that the run was trained on, or data with its labels.'
    )
  return matched


def _set_length(config: TrainConfig, tokenizer: MobileBertTokenizerFast):
  """Makes the run's length the tokenizer's, for whoever uses the model.

  Whatever limit it came with: longer texts than those that the model learnt
  from are cut, and shorter ones need not be. Encoding the data does not read
  it.
  """
  tokenizer.model_max_length = config.data.max_length


def compute_of(config: TrainConfig) -> models.Compute:
  """Returns how the model computes.

  Parameters are float32, or float64 with `config.dtype` 'float64'.
  """
  param_dtype = 'float64' if config.dtype == 'float64' else 'float32'
  # Both came together: a run that began before them keeps its bits.
  gradients = 'own' if config.norms == 'fold' else 'jax'
  return models.Compute(
    config.dtype,
    param_dtype,
    layers=config.layers,
    remat=config.remat,
    attention=config.attention,
    attention_dropout=config.attention_dropout,
    norms=config.norms,
    gradients=gradients,
  )


def _find_tokenizer(
  config: TrainConfig,
  task: Task,
  train: Sequence[Any],
  default: str | None,
) -> MobileBertTokenizerFast:
  name = config.tokenizer
  if name is None:
    name = default if config.init == SCRATCH else config.init
  if name is not None:
    return named_tokenizer(config, name)
  if config.data.source != 'generated':
    raise InputError(
      "config.tokenizer is not set, but config.init is 'scratch': name a "
      'directory, a vocab.txt or a hub model whose tokenizer to use.'
    )
  size = config.model.get('vocab_size', _LEARNT_VOCABULARY)
  texts = (text for example in train for text in task.texts(example))
  return train_wordpiece(
    texts, vocab_size=size, progress=False, **_letters(config)
  )


def _letters(config: TrainConfig) -> dict[str, Any]:
  """Returns what is set of how texts are prepared."""
  values = {
    'do_lower_case': config.do_lower_case,
    'strip_accents': config.strip_accents,
  }
  return {name: value for name, value in values.items() if value is not None}


def _check_vocabulary(
  config: TrainConfig, tokenizer: MobileBertTokenizerFast
) -> tuple[str, ...]:
  """Compares the tokenizer with that of the model that a run begins with.

  Raises:
    InputError: another vocabulary.
  """
  if config.init == SCRATCH or config.tokenizer in (None, config.init):
    return ()
  known = known_vocabulary(
    config.init,
    revision=config.revision,
    token=config.token,
    cache_dir=config.cache_dir,
    local_files_only=config.local_files_only,
  )
  return comparison.check(
    tokenizer.tokens(),
    f'config.tokenizer={config.tokenizer}',
    known,
    config.init,
    f'leave config.tokenizer unset, or begin with config.init={SCRATCH!r}',
  )


def named_tokenizer(config: TrainConfig, name: str) -> MobileBertTokenizerFast:
  """Loads the tokenizer of a hub name, a directory or a vocab.txt.

  Args:
    config: where to look for it.
    name: which.

  Raises:
    InputError: there is none.
  """
  try:
    return MobileBertTokenizerFast.from_pretrained(
      name,
      revision=config.revision,
      token=config.token,
      cache_dir=config.cache_dir,
      local_files_only=config.local_files_only,
      **_letters(config),
    )
  except InputError as error:
    if name in str(error):
      raise
    raise InputError(f'the tokenizer {name}: {error}') from None


def _from_scratch(config: TrainConfig, task: Task, tokenizer: Any) -> Start:
  settings = {
    'vocab_size': len(tokenizer),
    'pad_token_id': tokenizer.pad_token_id,
    **config.model,
    **task.model_overrides(),
  }
  if settings['vocab_size'] < len(tokenizer):
    raise InputError(
      f'config.model.vocab_size is {settings["vocab_size"]}, but the tokenizer '
      f'has {len(tokenizer)} tokens.'
    )
  if settings['pad_token_id'] not in (None, tokenizer.pad_token_id):
    raise _other_pad(settings['pad_token_id'], tokenizer)
  architecture = MobileBertConfig(**settings)
  model = task.head(architecture, compute=compute_of(config))
  count = models.count_params(models.abstract_params(model))
  key = key_for(config, 'weights')
  return Start(model, key, tokenizer, (f'{count:,} fresh parameters.',))


def _from_pretrained(config: TrainConfig, task: Task, tokenizer: Any) -> Start:
  compute = compute_of(config)
  settings = dict(config.model) | task.model_overrides()
  if config.init_layers is not None:
    # It is the number that is taken; the checkpoint has its own.
    settings.pop('num_hidden_layers', None)
  loaded = load_pretrained(
    task.head,
    config.init,
    **dataclasses.asdict(compute),
    revision=config.revision,
    token=config.token,
    cache_dir=config.cache_dir,
    local_files_only=config.local_files_only,
    ignore_mismatched_sizes=config.ignore_mismatched_sizes,
    key=key_for(config, 'weights'),
    **settings,
  )
  model, params, report = loaded
  notes, depth = [], model.config.num_hidden_layers
  if config.init_layers is not None:
    taken = taken_layers.resolve(config.init_layers, depth, config.init)
    model, params = take_layers(model, params, taken)
    notes = [f'{taken_layers.named(taken)} of the {depth} of {config.init}.']
  count = models.count_params(params)
  notes.insert(0, f'{count:,} parameters from {config.init}.')
  notes += report.notes
  for what, names in (
    ('fresh', report.newly_initialised),
    ('not used', report.unused),
  ):
    if names:
      notes.append(f'{what}: {", ".join(names)}.')
  old = model.config.vocab_size
  if len(tokenizer) > old:
    model, params = resize_token_embeddings(
      model, params, len(tokenizer), key_for(config, 'weights')
    )
    notes.append(
      f'the vocabulary grew from {old} to the {len(tokenizer)} tokens of the '
      'tokenizer; their word vectors are fresh.'
    )
  model, said = _with_pad(config, model, tokenizer)
  notes += said
  params = jax.tree.map(np.asarray, params)
  return Start(model, params, tokenizer, tuple(notes), depth)


def check_ids(architecture: MobileBertConfig, split: str, features: Any):
  """Checks that a model has a vector for each id of encoded examples.

  A compiled step would compute NaN.

  Args:
    architecture: the model's config.
    split: the name of the examples' split.
    features: the examples; of those that stay on disk, the reader checks them.

  Raises:
    InputError: an id, or a token type, beyond the model's tables.
  """
  for name, setting in (
    ('input_ids', 'vocab_size'),
    ('token_type_ids', 'type_vocab_size'),
  ):
    column = getattr(features, 'sequences', {}).get(name)
    size = getattr(architecture, setting)
    if column is None or not len(column.values):
      continue
    for value in (int(column.values.min()), int(column.values.max())):
      if not 0 <= value < size:
        raise InputError(
          f'{name} of the split {split!r} has {value}, but the model has '
          f'{size} ({setting}): ids must be from 0 to {size - 1}.'
        )


def _with_pad(
  config: TrainConfig, model: nn.Module, tokenizer: MobileBertTokenizerFast
) -> tuple[nn.Module, tuple[str, ...]]:
  """Gives a model the tokenizer's padding, which is what batches have.

  Raises:
    InputError: a setting of the run says otherwise.
  """
  old, new = model.config.pad_token_id, tokenizer.pad_token_id
  if old is None or old == new:
    return model, ()
  if 'pad_token_id' in config.model:
    raise _other_pad(old, tokenizer)
  return model.clone(config=model.config.replace(pad_token_id=new)), (
    f'{config.init} says that padding has the id {old}, but the tokenizer '
    f'fills rows with {tokenizer.pad_token!r}, whose id is {new}: this counts.',
  )


def _other_pad(index: int, tokenizer: MobileBertTokenizerFast) -> InputError:
  return InputError(
    f'config.model.pad_token_id is {index}, but the tokenizer fills rows with '
    f'{tokenizer.pad_token!r}, whose id is {tokenizer.pad_token_id}; leave it '
    'unset.'
  )


def check_lengths(config: TrainConfig, architecture: MobileBertConfig):
  """Checks that a model has a position for each token.

  Raises:
    InputError: `data.max_length` is beyond them.
  """
  positions = architecture.max_position_embeddings
  if config.data.max_length > positions:
    raise InputError(
      f'config.data.max_length is {config.data.max_length}, but the model has '
      f'only {positions} positions (max_position_embeddings).'
    )
