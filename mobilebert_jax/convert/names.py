"""The one table of parameter names: ours, Hugging Face's, TensorFlow 1's.

Every conversion, in either direction and from either source, reads `TABLE`.
A row stands for all layers at once: `{layer}` is a layer's number, `{ffn}`
the number of one of the stacked feed-forward networks, and `{last}` the
number of the last one, which transformers and google-research name without
a number. Our layer parameters are stacked on axis 0, so only the foreign names
have `{layer}`.

Names are those of the bare model; a headed model has the backbone's below
`mobilebert/` (ours) or `mobilebert.` (Hugging Face). google-research's two
norms, `LayerNorm` and `FakeLayerNorm`, are both listed as `LayerNorm`.

Sources of different ages and authors name one tensor differently, keep tensors
twice, and hold more than the model: `normalise_keys` and `merge_tied` bring a
source to the table's names.
"""

import enum
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.runtime.errors import InputError

KeyFormat = Literal['hf', 'tf1']
Tensors = Mapping[str, np.ndarray]
HEADED = 'mobilebert'
LAYERS = 'encoder/layers'
HEADS = ('pooler', 'predictions', 'seq_relationship', 'classifier',
         'qa_outputs')  # fmt: skip
_OLD_NAMES = (
  ('LayerNorm.gamma', 'LayerNorm.weight'),
  ('LayerNorm.beta', 'LayerNorm.bias'),
)
# Once a saved buffer; it only counted 0, 1, 2, ...
_HF_IGNORED = frozenset({'embeddings.position_ids'})
# What training with TensorFlow 1 leaves beside the model: slots and counters
# of optimizers, averages of the weights, the scale of the loss, ranges of
# quantisers, the teacher, and the untrained norms of google-research's losses.
_TF1_LEFTOVERS = {
  'of Adam': r'(.*/)?(adam_[mv]|Adam(_\d+)?|beta[12]_power(_\d+)?)'
  r'|(.*/)?AdamWeightDecayOptimizer(_\d+)?(/.*)?',
  'of LAMB': r'(.*/)?lamb_[mv]|(.*/)?LAMBOptimizer(_\d+)?(/.*)?',
  'of Momentum': r'(.*/)?Momentum(_\d+)?',
  'of other optimizers': r'(.*/)?(Adagrad|RMSProp|Ftrl|Adadelta)(_\d+)?'
  r'|(.*/)?adafactor_(m|v|vr|vc)|(.*/)?Adafactor(_\d+)?(/.*)?',
  'moving averages': r'(.*/)?ExponentialMovingAverage(_\d+)?',
  'of the loss scale': r'(.*/)?(current_)?loss_scale\w*(/.*)?'
  r'|(.*/)?(num_)?good_steps',
  'ranges of quantisers': r'(.*/)?(act_quant|weights_quant|\w+_quant)(/.*)?'
  r'|(.*/)?(\w*[Ff]ake_?[Qq]uant\w*)(/.*)?',
  'counters of steps': r'(.*/)?global_step',
  'of a teacher': r'teacher/.*|hidden_distill_\d+/.*',
}
# What a wrapper puts before the name of every parameter.
_WRAPPERS = ('module.', '_orig_mod.', 'model.')


class Transform(enum.Enum):
  """How a foreign tensor relates to our array (of one layer)."""

  SAME = 'same'
  TRANSPOSED = 'transposed'
  SCALAR = 'scalar'

  def foreign_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the foreign tensor's shape, from ours."""
    match self:
      case Transform.TRANSPOSED:
        return shape[::-1]
      case Transform.SCALAR:
        return ()
    return shape

  def to_foreign(self, array: np.ndarray) -> np.ndarray:
    """Returns the foreign tensor, from ours."""
    match self:
      case Transform.TRANSPOSED:
        return array.T
      case Transform.SCALAR:
        return array.reshape(())
    return array

  def to_ours(self, tensor: np.ndarray) -> np.ndarray:
    """Returns our array, from the foreign tensor."""
    if self is Transform.SCALAR:
      return tensor.reshape(1)
    # To and fro is the same transposition.
    return self.to_foreign(tensor)


class ParameterNames(NamedTuple):
  """One parameter under its three names.

  Attributes:
    ours: path in our tree, with '/'.
    hf: name in a transformers state dict.
    tf1: name of the google-research variable; '' where there is none.
    hf_transform: how the transformers tensor relates to our array.
    tf1_transform: how the TensorFlow variable relates to our array.
  """

  ours: str
  hf: str
  tf1: str = ''
  hf_transform: Transform = Transform.SAME
  tf1_transform: Transform = Transform.SAME


class Entry(NamedTuple):
  """A row with its numbers filled in; `layer` is the index on axis 0."""

  ours: str
  layer: int | None
  hf: str
  tf1: str
  hf_transform: Transform
  tf1_transform: Transform


def _dense(ours: str, hf: str, tf1: str) -> tuple[ParameterNames, ...]:
  """Keeps (in, out) like TensorFlow; torch has (out, in)."""
  return (
    ParameterNames(
      f'{ours}/kernel', f'{hf}.weight', f'{tf1}/kernel', Transform.TRANSPOSED
    ),
    ParameterNames(f'{ours}/bias', f'{hf}.bias', f'{tf1}/bias'),
  )


def _norm(ours: str, hf: str, tf1: str) -> tuple[ParameterNames, ...]:
  return (
    ParameterNames(f'{ours}/scale', f'{hf}.weight', f'{tf1}/gamma'),
    ParameterNames(f'{ours}/bias', f'{hf}.bias', f'{tf1}/beta'),
  )


def _output(ours: str, hf: str, tf1: str) -> tuple[ParameterNames, ...]:
  """Names a task head, whose TensorFlow weights are (out, in) as in torch."""
  return (
    ParameterNames(
      f'{ours}/kernel',
      f'{hf}.weight',
      f'{tf1}output_weights',
      Transform.TRANSPOSED,
      Transform.TRANSPOSED,
    ),
    ParameterNames(f'{ours}/bias', f'{hf}.bias', f'{tf1}output_bias'),
  )


def _activation(ours: str, hf: str) -> tuple[ParameterNames, ...]:
  """Activations that learn: prelu has a slope, xielu two alphas.

  xielu's beta and eps are constants, but transformers stores them.
  """
  return (
    ParameterNames(f'{ours}/slope', f'{hf}.weight'),
    ParameterNames(f'{ours}/alpha_p', f'{hf}.alpha_p'),
    ParameterNames(f'{ours}/alpha_n', f'{hf}.alpha_n'),
    ParameterNames(f'{ours}/beta', f'{hf}.beta', hf_transform=Transform.SCALAR),
    ParameterNames(f'{ours}/eps', f'{hf}.eps', hf_transform=Transform.SCALAR),
  )


def _dense_norm(ours: str, hf: str, tf1: str) -> tuple[ParameterNames, ...]:
  return (
    *_dense(f'{ours}/dense', f'{hf}.dense', f'{tf1}/dense'),
    *_norm(f'{ours}/norm', f'{hf}.LayerNorm', f'{tf1}/LayerNorm'),
  )


def _feed_forward(number: str, hf: str, tf1: str) -> tuple[ParameterNames, ...]:
  ours = f'{LAYERS}/feed_forward/ffn_{number}'
  inner, outer = f'{hf}intermediate', f'{hf}output'
  return (
      *_dense(f'{ours}/intermediate', f'{inner}.dense',
               f'{tf1}intermediate/dense'),
      *_activation(f'{ours}/activation', f'{inner}.intermediate_act_fn'),
      *_dense(f'{ours}/output', f'{outer}.dense', f'{tf1}output/dense'),
      *_norm(f'{ours}/norm', f'{outer}.LayerNorm', f'{tf1}output/LayerNorm'),
    )  # fmt: skip


def _layer() -> tuple[ParameterNames, ...]:
  hf, tf1 = 'encoder.layer.{layer}.', 'bert/encoder/layer_{layer}/'
  rows: list[ParameterNames] = []
  for part in ('input', 'attention'):
    rows += _dense_norm(
          f'{LAYERS}/bottleneck/{part}', f'{hf}bottleneck.{part}',
          f'{tf1}bottleneck/{part}',
        )  # fmt: skip
  for part in ('query', 'key', 'value'):
    rows += _dense(
          f'{LAYERS}/attention/{part}', f'{hf}attention.self.{part}',
          f'{tf1}attention/self/{part}',
        )  # fmt: skip
  rows += _dense(
      f'{LAYERS}/attention/output', f'{hf}attention.output.dense',
      f'{tf1}attention/output/dense',
    )  # fmt: skip
  rows += _norm(
      f'{LAYERS}/attention/norm', f'{hf}attention.output.LayerNorm',
      f'{tf1}attention/output/LayerNorm',
    )  # fmt: skip
  rows += _feed_forward('{ffn}', hf + 'ffn.{ffn}.', tf1 + 'ffn_layer_{ffn}/')
  rows += _feed_forward('{last}', hf, tf1)
  rows += _dense_norm(
      f'{LAYERS}/output_bottleneck', f'{hf}output.bottleneck',
      f'{tf1}output/bottleneck',
    )  # fmt: skip
  return tuple(rows)


def _embedding(name: str) -> ParameterNames:
  return ParameterNames(
    f'embeddings/{name}/embedding',
    f'embeddings.{name}.weight',
    f'bert/embeddings/{name}',
  )


def _predictions() -> tuple[ParameterNames, ...]:
  ours, hf, tf1 = 'predictions', 'cls.predictions', 'cls/predictions'
  return (
      *_dense(f'{ours}/transform', f'{hf}.transform.dense',
               f'{tf1}/transform/dense'),
      *_activation(f'{ours}/activation', f'{hf}.transform.transform_act_fn'),
      *_norm(f'{ours}/norm', f'{hf}.transform.LayerNorm',
             f'{tf1}/transform/LayerNorm'),
      # A torch Linear from V to D-E, whose weight is used as (D-E, V).
      ParameterNames(f'{ours}/dense/kernel', f'{hf}.dense.weight',
          f'{tf1}/extra_output_weights', tf1_transform=Transform.TRANSPOSED),
      ParameterNames(f'{ours}/bias', f'{hf}.bias', f'{tf1}/output_bias'),
      # Parameters of their own only when the embeddings are not tied.
      ParameterNames(f'{ours}/decoder/embedding', f'{hf}.decoder.weight'),
      ParameterNames(f'{ours}/decoder/bias', f'{hf}.decoder.bias'),
    )  # fmt: skip


TABLE: tuple[ParameterNames, ...] = (
  _embedding('word_embeddings'),
  _embedding('position_embeddings'),
  _embedding('token_type_embeddings'),
  *_dense('embeddings/embedding_transformation',
           'embeddings.embedding_transformation',
           'bert/embeddings/embedding_transformation'),
  *_norm('embeddings/norm', 'embeddings.LayerNorm',
         'bert/embeddings/LayerNorm'),
  *_layer(),
  *_dense('pooler', 'pooler.dense', 'bert/pooler/dense'),
  *_predictions(),
  *_output('seq_relationship', 'cls.seq_relationship',
           'cls/seq_relationship/'),
  *_output('classifier', 'classifier', ''),
  *_output('qa_outputs', 'qa_outputs', 'cls/squad/'),
)  # fmt: skip

# transformers' names for one tensor when tie_word_embeddings is set: the one
# that is kept first.
TIED = (
  ('embeddings.word_embeddings.weight', 'cls.predictions.decoder.weight'),
  ('cls.predictions.bias', 'cls.predictions.decoder.bias'),
)


def head_of(path: str) -> str | None:
  """Returns the head that a path of ours belongs to; None: the backbone."""
  first = path.split('/', 1)[0]
  return first if first in HEADS else None


def is_dead(path: str, config: MobileBertConfig) -> bool:
  """Returns whether transformers has this parameter but never reads it.

  google-research does not create such parameters at all.
  """
  if path.startswith('embeddings/embedding_transformation/'):
    same_width = config.embedding_size == config.hidden_size
    return same_width and not config.trigram_input
  if path.startswith(f'{LAYERS}/bottleneck/attention/'):
    return config.use_bottleneck_attention
  return False


@functools.cache
def entries(config: MobileBertConfig) -> tuple[Entry, ...]:
  """Writes the table out for one number of layers and of networks."""
  last = config.num_feedforward_networks - 1
  written = []
  for row in TABLE:
    layers = range(config.num_hidden_layers) if '{layer}' in row.hf else (None,)
    networks = range(last) if '{ffn}' in row.hf else (last,)
    for layer in layers:
      for ffn in networks:
        ours, hf, tf1 = (
          name.format(layer=layer, ffn=ffn, last=last) for name in row[:3]
        )
        written.append(Entry(ours, layer, hf, tf1, *row[3:]))
  return tuple(written)


def leftovers(tensors: Iterable[str]) -> str:
  """Returns what of a TensorFlow checkpoint is left out, counted; or ''.

  Args:
    tensors: names of variables.
  """
  counts: dict[str, int] = {}
  for name in tensors:
    for kind, pattern in _TF1_LEFTOVERS.items():
      if re.fullmatch(pattern, name):
        counts[kind] = counts.get(kind, 0) + 1
        break
  return ', '.join(f'{count} {kind}' for kind, count in counts.items())


def without_wrapper(tensors: Tensors) -> tuple[Tensors, str]:
  """Returns tensors without what a wrapper put before all of their names.

  As torch.nn.DataParallel, torch.compile and training programs do.

  Returns:
    The tensors, and what was taken off.
  """
  removed = ''
  while tensors:
    around = [w for w in _WRAPPERS if all(n.startswith(w) for n in tensors)]
    if not around:
      break
    removed += around[0]
    tensors = {name.removeprefix(around[0]): x for name, x in tensors.items()}
  return tensors, removed


def normalise_keys(
  tensors: Tensors, key_format: KeyFormat, where: str
) -> dict[str, np.ndarray]:
  """Returns the tensors under the table's names, without the ignored ones.

  Drops the `mobilebert.` of headed models, renames gamma and beta, and gives
  both of google-research's norms one name.

  Args:
    tensors: name -> array, as the source has them.
    key_format: whose names these are.
    where: what to call the source in errors.

  Raises:
    InputError: two tensors end up with one name.
  """
  normalise = _normalise_hf_key if key_format == 'hf' else _normalise_tf1_key
  renamed: dict[str, np.ndarray] = {}
  for name, tensor in tensors.items():
    new = normalise(name)
    if new is None:
      continue
    if new in renamed:
      raise InputError(f'{where} has {new} twice, once as {name}.')
    renamed[new] = tensor
  return renamed


def _normalise_hf_key(name: str) -> str | None:
  new = name.removeprefix(f'{HEADED}.')
  for old, current in _OLD_NAMES:
    if new.endswith(old):
      new = new.removesuffix(old) + current
  return None if new in _HF_IGNORED else new


def _normalise_tf1_key(name: str) -> str | None:
  if any(re.fullmatch(kind, name) for kind in _TF1_LEFTOVERS.values()):
    return None
  return name.replace('FakeLayerNorm', 'LayerNorm').removeprefix('classifier/')


def merge_tied(
  tensors: Tensors, config: MobileBertConfig, where: str
) -> dict[str, np.ndarray]:
  """Returns the tensors with each tied pair under its first name alone.

  Args:
    tensors: name -> array under the table's names.
    config: says whether the embeddings are tied.
    where: what to call the source in errors.

  Returns:
    A new dict. Untied tensors stay, except that a decoder bias that was not
    saved is the other bias, because transformers 4 makes the two one even
    when nothing is tied.

  Raises:
    InputError: two tensors that must be one differ.
  """
  merged = dict(tensors)
  if not config.tie_word_embeddings:
    one, other = TIED[1]
    if one in tensors:
      merged.setdefault(other, tensors[one])
    elif other in tensors:
      merged[one] = tensors[other]
    return merged
  for kept, copy in TIED:
    if copy not in merged:
      continue
    tensor = merged.pop(copy)
    if not _same(merged.setdefault(kept, tensor), tensor):
      raise InputError(
        f'{where}: {kept} and {copy} differ, but tie_word_embeddings is set; '
        'set it to False to keep both.'
      )
  return merged


def _same(one: np.ndarray, other: np.ndarray) -> bool:
  """Compares values; nan equals nan where the bits are the same."""
  if np.array_equal(one, other):
    return True
  return one.dtype == other.dtype and one.tobytes() == other.tobytes()
