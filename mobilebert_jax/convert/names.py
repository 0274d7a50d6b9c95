"""The one table of parameter names: ours, Hugging Face's, TensorFlow 1's.

Every conversion, in either direction and from either source, reads `ROWS`.
A row stands for all layers at once: `{layer}` is a layer's number, `{ffn}`
the number of one of the stacked feed-forward networks, and `{last}` the
number of the last one, which transformers and google-research name without
a number. Our layer parameters are stacked on axis 0, so only the foreign names
have `{layer}`.

Names are those of the bare model; a headed model has the backbone's below
`mobilebert/` (ours) or `mobilebert.` (Hugging Face). google-research's two
norms, `LayerNorm` and `FakeLayerNorm`, are both listed as `LayerNorm`.
"""

import enum
import functools
from typing import NamedTuple

import numpy as np

from mobilebert_jax.config.model import MobileBertConfig

LAYERS = 'encoder/layers'
HEADS = ('pooler', 'predictions', 'seq_relationship', 'classifier',
         'qa_outputs')  # fmt: skip


class Transform(enum.Enum):
  """How a foreign tensor relates to our array (of one layer)."""

  SAME = 'same'
  TRANSPOSED = 'transposed'
  SCALAR = 'scalar'

  def foreign_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The foreign tensor's shape, from ours."""
    match self:
      case Transform.TRANSPOSED:
        return shape[::-1]
      case Transform.SCALAR:
        return ()
    return shape

  def to_foreign(self, array: np.ndarray) -> np.ndarray:
    """The foreign tensor, from ours; to and fro is the same transposition."""
    match self:
      case Transform.TRANSPOSED:
        return array.T
      case Transform.SCALAR:
        return array.reshape(())
    return array

  def to_ours(self, tensor: np.ndarray) -> np.ndarray:
    """Our array, from the foreign tensor."""
    return (
      tensor.reshape(1) if self is Transform.SCALAR else self.to_foreign(tensor)
    )


class Row(NamedTuple):
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


def _linear(ours: str, hf: str, tf1: str) -> tuple[Row, ...]:
  """Keeps (in, out) like TensorFlow; torch has (out, in)."""
  return (
    Row(
      f'{ours}/kernel', f'{hf}.weight', f'{tf1}/kernel', Transform.TRANSPOSED
    ),
    Row(f'{ours}/bias', f'{hf}.bias', f'{tf1}/bias'),
  )


def _norm(ours: str, hf: str, tf1: str) -> tuple[Row, ...]:
  return (
    Row(f'{ours}/scale', f'{hf}.weight', f'{tf1}/gamma'),
    Row(f'{ours}/bias', f'{hf}.bias', f'{tf1}/beta'),
  )


def _output(ours: str, hf: str, tf1: str) -> tuple[Row, ...]:
  """A task head, whose TensorFlow weights are (out, in) as torch's are."""
  return (
    Row(
      f'{ours}/kernel',
      f'{hf}.weight',
      f'{tf1}output_weights',
      Transform.TRANSPOSED,
      Transform.TRANSPOSED,
    ),
    Row(f'{ours}/bias', f'{hf}.bias', f'{tf1}output_bias'),
  )


def _activation(ours: str, hf: str) -> tuple[Row, ...]:
  """Activations that learn: prelu has a slope, xielu two alphas.

  xielu's beta and eps are constants, but transformers stores them.
  """
  return (
    Row(f'{ours}/slope', f'{hf}.weight'),
    Row(f'{ours}/alpha_p', f'{hf}.alpha_p'),
    Row(f'{ours}/alpha_n', f'{hf}.alpha_n'),
    Row(f'{ours}/beta', f'{hf}.beta', hf_transform=Transform.SCALAR),
    Row(f'{ours}/eps', f'{hf}.eps', hf_transform=Transform.SCALAR),
  )


def _dense_norm(ours: str, hf: str, tf1: str) -> tuple[Row, ...]:
  return (
    *_linear(f'{ours}/dense', f'{hf}.dense', f'{tf1}/dense'),
    *_norm(f'{ours}/norm', f'{hf}.LayerNorm', f'{tf1}/LayerNorm'),
  )


def _feed_forward(number: str, hf: str, tf1: str) -> tuple[Row, ...]:
  ours = f'{LAYERS}/feed_forward/ffn_{number}'
  inner, outer = f'{hf}intermediate', f'{hf}output'
  return (
    *_linear(f'{ours}/intermediate', f'{inner}.dense',
             f'{tf1}intermediate/dense'),
    *_activation(f'{ours}/activation', f'{inner}.intermediate_act_fn'),
    *_linear(f'{ours}/output', f'{outer}.dense', f'{tf1}output/dense'),
    *_norm(f'{ours}/norm', f'{outer}.LayerNorm', f'{tf1}output/LayerNorm'),
  )  # fmt: skip


def _layer() -> tuple[Row, ...]:
  hf, tf1 = 'encoder.layer.{layer}.', 'bert/encoder/layer_{layer}/'
  rows: list[Row] = []
  for part in ('input', 'attention'):
    rows += _dense_norm(
      f'{LAYERS}/bottleneck/{part}', f'{hf}bottleneck.{part}',
      f'{tf1}bottleneck/{part}',
    )  # fmt: skip
  for part in ('query', 'key', 'value'):
    rows += _linear(
      f'{LAYERS}/attention/{part}', f'{hf}attention.self.{part}',
      f'{tf1}attention/self/{part}',
    )  # fmt: skip
  rows += _linear(
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


def _embedding(name: str) -> Row:
  return Row(f'embeddings/{name}/embedding', f'embeddings.{name}.weight',
             f'bert/embeddings/{name}')  # fmt: skip


def _predictions() -> tuple[Row, ...]:
  ours, hf, tf1 = 'predictions', 'cls.predictions', 'cls/predictions'
  return (
    *_linear(f'{ours}/transform', f'{hf}.transform.dense',
             f'{tf1}/transform/dense'),
    *_activation(f'{ours}/activation', f'{hf}.transform.transform_act_fn'),
    *_norm(f'{ours}/norm', f'{hf}.transform.LayerNorm',
           f'{tf1}/transform/LayerNorm'),
    # A torch Linear from V to D-E, whose weight is used as (D-E, V).
    Row(f'{ours}/dense/kernel', f'{hf}.dense.weight',
        f'{tf1}/extra_output_weights', tf1_transform=Transform.TRANSPOSED),
    Row(f'{ours}/bias', f'{hf}.bias', f'{tf1}/output_bias'),
    # Parameters of their own only when the embeddings are not tied.
    Row(f'{ours}/decoder/embedding', f'{hf}.decoder.weight'),
    Row(f'{ours}/decoder/bias', f'{hf}.decoder.bias'),
  )  # fmt: skip


ROWS: tuple[Row, ...] = (
  _embedding('word_embeddings'),
  _embedding('position_embeddings'),
  _embedding('token_type_embeddings'),
  *_linear('embeddings/embedding_transformation',
           'embeddings.embedding_transformation',
           'bert/embeddings/embedding_transformation'),
  *_norm('embeddings/norm', 'embeddings.LayerNorm',
         'bert/embeddings/LayerNorm'),
  *_layer(),
  *_linear('pooler', 'pooler.dense', 'bert/pooler/dense'),
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
  """The head that a path of ours belongs to; None for the backbone."""
  first = path.split('/', 1)[0]
  return first if first in HEADS else None


def is_dead(path: str, config: MobileBertConfig) -> bool:
  """Whether transformers has this parameter but never reads it.

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
  """The table written out for one number of layers and of networks."""
  last = config.num_feedforward_networks - 1
  written = []
  for row in ROWS:
    layers = range(config.num_hidden_layers) if '{layer}' in row.hf else (None,)
    networks = range(last) if '{ffn}' in row.hf else (last,)
    for layer in layers:
      for ffn in networks:
        ours, hf, tf1 = (
          name.format(layer=layer, ffn=ffn, last=last) for name in row[:3]
        )
        written.append(Entry(ours, layer, hf, tf1, *row[3:]))
  return tuple(written)
