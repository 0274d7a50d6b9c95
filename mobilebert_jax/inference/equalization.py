"""Channels of a model are rescaled and shifted, and it stays the same function.

NoNorm, dense layers and additions are affine, and ReLU is homogeneous: relu(s *
x) = s * relu(x) for s > 0. So nearly every channel between two layers may be
kept as another value, x = scale * kept + shift: what writes it divides, what
reads it multiplies, and a NoNorm carries a stream from one scale to the next.
No model with LayerNorm can do this to its stream, and none needs what it is
for: the published MobileBERT has hidden values of 1e7, which float16 cannot
hold, and beside which integers cannot tell other channels apart.

With powers of two as scales, float32 gives the same bits. Shifts are subject to
rounding.

What is free, by the names of `graph`:

- with NoNorm the stream between blocks ('embeddings', 'layer_0/output', ...)
  but for its end, which users read, and the narrow stream inside a block
  ('layer_0/bottleneck', 'layer_0/attention/output', 'layer_0/ffn_0/output');
- with either norm what queries and keys read ('layer_0/shared'), queries
  against keys ('layer_0/attention/query': the keys get the inverse), values
  ('layer_0/attention/value'), and a homogeneous activation
  ('layer_0/ffn_0/activation').

Shifts are free wherever scales are, but for queries and activations; keys have
one ('layer_0/attention/key'), since a softmax ignores what all keys share.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.inference import folding, ranges
from mobilebert_jax.inference.graph import Graph
from mobilebert_jax.inference.ranges import Ranges

HOMOGENEOUS = ('leaky_relu', 'linear', 'prelu', 'relu')
# How far below the median of its tensor a channel may be and still be brought
# up to it: what is hardly ever active would get weights beyond all bounds.
_LOWEST = 2.0**-5
# The largest weight of what writes a channel, as a multiple of the tensor's
# median: LiteRT's delegate refuses products whose scales are further apart.
_LARGEST_ROW = 4.0

Vectors = Mapping[str, np.ndarray]


class Free(NamedTuple):
  """Which tensors of a model may be changed.

  Attributes:
    scales: names of those whose channels may be scaled.
    shifts: names of those whose channels may be shifted.
  """

  scales: tuple[str, ...]
  shifts: tuple[str, ...]


def free(config: MobileBertConfig) -> Free:
  """Returns which tensors of an architecture may be rescaled and shifted."""
  layers, scales, shifts = config.num_hidden_layers, [], []
  for stream in _streams(config):
    scales += stream
  shifts += scales
  for i in range(layers):
    name = f'layer_{i}'
    if _has_shared(config):
      scales.append(f'{name}/shared')
      shifts.append(f'{name}/shared')
    scales += [f'{name}/attention/query', f'{name}/attention/value']
    shifts += [f'{name}/attention/key', f'{name}/attention/value']
    if config.hidden_act in HOMOGENEOUS:
      for j in range(config.num_feedforward_networks):
        scales.append(f'{name}/ffn_{j}/activation')
  return Free(tuple(scales), tuple(shifts))


def describe(config: MobileBertConfig) -> str:
  """Returns a sentence on what of an architecture is rescaled."""
  parts = ['queries against keys', 'values']
  if _has_shared(config):
    parts.insert(0, 'what queries and keys read')
  if config.hidden_act in HOMOGENEOUS:
    parts.append('the inside of feed-forward networks')
  if config.normalization_type == 'no_norm':
    parts.insert(0, 'the streams of residuals')
  left = []
  if config.normalization_type == 'layer_norm':
    left.append('LayerNorm fixes the scale of the streams')
  if config.hidden_act not in HOMOGENEOUS:
    left.append(f'{config.hidden_act} fixes that of the networks')
  sentence = f'channels are rescaled: {", ".join(parts)}'
  return f'{sentence}; {" and ".join(left)}' if left else sentence


def _has_shared(config: MobileBertConfig) -> bool:
  """Whether queries and keys have a bottleneck that nothing else reads."""
  return (
    config.use_bottleneck
    and config.key_query_shared_bottleneck
    and not config.use_bottleneck_attention
  )


def _streams(config: MobileBertConfig) -> list[list[str]]:
  """The free tensors of each stream of residuals, in its order.

  In the served graph all tensors of a stream have one scale.
  """
  if config.normalization_type == 'layer_norm':
    return []
  inner = [
    [f'layer_{i}/attention/output']
    + [f'layer_{i}/ffn_{j}/output' for j in range(_ffns(config))]
    for i in range(config.num_hidden_layers)
  ]
  if not config.use_bottleneck:
    # The last one is what users read.
    return [['embeddings', *itertools.chain(*inner)][:-1]]
  wide = [f'layer_{i}/output' for i in range(config.num_hidden_layers - 1)]
  narrow = [[f'layer_{i}/bottleneck', *names] for i, names in enumerate(inner)]
  return [['embeddings', *wide], *narrow]


def _ffns(config: MobileBertConfig) -> int:
  return config.num_feedforward_networks


def rescale(
  config: MobileBertConfig,
  params: Any,
  scales: Vectors | None = None,
  shifts: Vectors | None = None,
) -> Any:
  """Returns parameters of the same function, with other values inside.

  Shifts of values hold where attention's probabilities add up to 1: without its
  dropout and without a head mask.

  Args:
    config: the architecture.
    params: parameters of any class (`models`), blocks stacked.
    scales: name of a free tensor -> what its channels are divided by,
      [channels] or [], above 0; powers of two change no bit of the outputs.
    shifts: name of a free tensor -> what is subtracted before, [channels] or
      [].

  Returns:
    new parameters as NumPy arrays, in the dtypes of the old ones.

  Raises:
    ValueError: a tensor that is not free, or a scale that is not above 0.
  """
  scales, shifts = scales or {}, shifts or {}
  allowed = free(config)
  for given, names in ((scales, allowed.scales), (shifts, allowed.shifts)):
    wrong = [name for name in given if name not in names]
    if wrong:
      raise ValueError(
        f'{", ".join(wrong)} cannot be changed alone in a model of '
        f'{config.normalization_type} and {config.hidden_act}.'
      )
  for name, scale in scales.items():
    if not (np.all(np.asarray(scale) > 0) and np.all(np.isfinite(scale))):
      raise ValueError(f'the scales of {name} have to be above 0.')
  body = params['mobilebert'] if 'mobilebert' in params else params
  before = (body['embeddings']['norm'], body['encoder']['layers'])
  # Wide enough that nothing is rounded but at the end.
  norm, layers = jax.tree.map(lambda x: np.array(x, np.float64), before)
  _Rescaling(config, scales, shifts).model(norm, layers)
  norm, layers = jax.tree.map(
    lambda new, old: new.astype(old.dtype), (norm, layers), before
  )
  body = {
    **body,
    'embeddings': {**body['embeddings'], 'norm': norm},
    'encoder': {**body['encoder'], 'layers': layers},
  }
  return {**params, 'mobilebert': body} if 'mobilebert' in params else body


class _Changed(NamedTuple):
  """A tensor's value is scale * (what it is now) + shift."""

  scale: Any = 1.0
  shift: Any = 0.0


class _Rescaling:
  """Changes the parameters of one model in place, in the order of the pass."""

  def __init__(
    self, config: MobileBertConfig, scales: Vectors, shifts: Vectors
  ):
    self.config, self.scales, self.shifts = config, scales, shifts

  def changed(self, name: str) -> _Changed:
    return _Changed(
      np.asarray(self.scales.get(name, 1.0), np.float64),
      np.asarray(self.shifts.get(name, 0.0), np.float64),
    )

  def model(self, norm: Any, layers: Any):
    x = self.changed('embeddings')
    _write_norm(norm, _Changed(), x)
    for i in range(self.config.num_hidden_layers):
      # Views: what is changed in them is changed in the stack.
      x = self.block(f'layer_{i}', folding.block_params(layers, i), x)

  def block(self, name: str, p: Any, x: _Changed) -> _Changed:
    c = self.config
    narrow = query = key = value = x
    if c.use_bottleneck:
      parts = p['bottleneck']
      narrow = self.projection(f'{name}/bottleneck', parts['input'], x)
      if c.use_bottleneck_attention:
        query = key = value = narrow
      elif c.key_query_shared_bottleneck:
        query = key = self.projection(f'{name}/shared', parts['attention'], x)
    y = self.attention(
      f'{name}/attention', p['attention'], narrow, (query, key, value)
    )
    for j in range(c.num_feedforward_networks):
      part, ffn = f'{name}/ffn_{j}', p['feed_forward'][f'ffn_{j}']
      inner = self.changed(f'{part}/activation')
      _read(ffn['intermediate'], y)
      _write(ffn['intermediate'], inner)
      _read(ffn['output'], inner)
      y = self.residual(f'{part}/output', ffn['output'], ffn['norm'], y)
    if c.use_bottleneck:
      output = p['output_bottleneck']
      _read(output['dense'], y)
      y = self.residual(f'{name}/output', output['dense'], output['norm'], x)
    return y

  def projection(self, name: str, p: Any, x: _Changed) -> _Changed:
    y = self.changed(name)
    _read(p['dense'], x)
    _write_norm(p['norm'], _Changed(), y)
    return y

  def attention(
    self, name: str, p: Any, x: _Changed, sources: Sequence[_Changed]
  ) -> _Changed:
    queries, values = (
      self.changed(f'{name}/query'),
      self.changed(f'{name}/value'),
    )
    keys = _Changed(1.0 / queries.scale, self.changed(f'{name}/key').shift)
    parts = zip(('query', 'key', 'value'), sources, (queries, keys, values))
    for part, source, wanted in parts:
      _read(p[part], source)
      _write(p[part], wanted)
    _read(p['output'], values)
    return self.residual(f'{name}/output', p['output'], p['norm'], x)

  def residual(self, name: str, dense: Any, norm: Any, x: _Changed) -> _Changed:
    """norm(dense(y) + x): the sum has the scale of x."""
    y = self.changed(name)
    _write(dense, _Changed(x.scale, -x.shift))
    _write_norm(norm, _Changed(x.scale), y)
    return y


def _read(dense: Any, x: _Changed):
  """Makes a dense layer read a changed tensor; in place."""
  kernel, bias = dense['kernel'], dense['bias']
  bias += np.broadcast_to(x.shift, kernel.shape[:1]) @ kernel
  kernel *= np.broadcast_to(x.scale, kernel.shape[:1])[:, None]


def _write(dense: Any, y: _Changed):
  """Makes a dense layer write a changed tensor; in place."""
  dense['kernel'] /= y.scale
  dense['bias'] -= y.shift
  dense['bias'] /= y.scale


def _write_norm(norm: Any, total: _Changed, y: _Changed):
  """Makes a norm of a changed sum write a changed tensor; in place."""
  norm['scale'] *= total.scale / y.scale
  norm['bias'] -= y.shift
  norm['bias'] /= y.scale


def equalize(
  head: str,
  config: MobileBertConfig,
  params: Any,
  batches: Iterable[Mapping[str, np.ndarray]],
  *,
  shift: bool = False,
) -> Any:
  """Returns parameters of the same function whose channels are alike.

  Each free channel gets the power of two that brings its range on real inputs
  to that of the others, and all of them near 1: float16 holds them, and one
  scale for a whole tensor tells each channel's values apart.

  Args:
    head: transformers' name of the class.
    config: the architecture.
    params: its parameters.
    batches: inputs by name, as `graph.apply` takes them.
    shift: whether the means of the streams are subtracted as well; a served
      model has that anyway (`folding`).

  Returns:
    new parameters as NumPy arrays, in the dtypes of the old ones.
  """
  batches = list(batches)
  means = folding.measure_means(head, config, params, batches)
  graph = folding.fold(head, config, params, means=means)
  measured = ranges.measure(graph, batches)
  kept = folding.kept(head, config, params, means)
  scales = factors(graph, measured, kept)
  streams = itertools.chain(*_streams(config))
  shifts = {name: means[name] for name in streams} if shift else {}
  return rescale(config, params, scales, shifts)


def factors(
  graph: Graph, measured: Ranges, kept: Mapping[str, folding.Affine]
) -> dict[str, np.ndarray]:
  """Returns a power of two for each channel of each free tensor.

  Args:
    graph: the served model.
    measured: the ranges of its tensors.
    kept: how it keeps the tensors of streams (`folding.kept`).

  Returns:
    name of a tensor -> scales, as `rescale` takes them.
  """
  config, result = graph.config, {}
  tensors = measured.tensors
  for name in free(config).scales:
    part = name.rpartition('/')[2]
    if part == 'query':
      # Both get the geometric mean of the two ranges.
      key = tensors[name.replace('/query', '/key')].largest
      ratio = _floored(tensors[name].largest) / _floored(key)
      result[name] = _power(np.sqrt(ratio))
    elif part == 'value':
      # Its mean over keys, which follows, is smaller or as large.
      result[name] = _power(
        _bounded(graph, tensors[name].largest, [f'{name}/kernel'])
      )
    elif part == 'activation':
      writer = name.replace('/activation', '/intermediate/kernel')
      result[name] = _power(_bounded(graph, tensors[name].largest, [writer]))
    else:
      norm = f'{name}/norm' if f'{name}/norm' in tensors else name
      largest = tensors[norm].largest * np.abs(kept[norm].scale)
      result[name] = _power(_floored(largest))
  for stream in _streams(config):
    # In the served graph, all that follows has the scale of the first one.
    alike = [_floored(tensors[name].largest) for name in stream]
    together = np.max([x / np.median(x) for x in alike], axis=0)
    level = max(float((x / together).max()) for x in alike)
    first = stream[0]
    writers = [
      f'{name}{end}/kernel'
      for name in stream
      for end in ('', '/dense', '/transformation')
      if f'{name}{end}/kernel' in graph.weights
    ]
    limited = _bounded(graph, together, writers) * level
    result[first] = _power(limited * np.abs(kept[first].scale))
  return result


def _floored(largest: np.ndarray) -> np.ndarray:
  """Returns ranges, none of them far below the median."""
  middle = np.median(largest[largest > 0]) if np.any(largest > 0) else 1.0
  return np.maximum(largest, _LOWEST * middle)


def _bounded(
  graph: Graph, largest: np.ndarray, writers: Sequence[str]
) -> np.ndarray:
  """Returns scales by ranges, with which no writer's weights get too large."""
  scale = _floored(largest)
  for name in writers:
    rows = np.abs(graph.weights[name]).max(0)
    limit = _LARGEST_ROW * np.median(rows / scale)
    if limit > 0:
      scale = np.maximum(scale, rows / limit)
  return scale


def _power(x: np.ndarray) -> np.ndarray:
  """Returns the nearest powers of two."""
  return 2.0 ** np.round(np.log2(np.asarray(x, np.float64)))
