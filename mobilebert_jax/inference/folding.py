"""Parameters become the weights of the served model.

NoNorm is affine, and so is nearly everything beside it: what a NoNorm scales
and shifts is absorbed by what writes and what reads (paper, section 3.3: NoNorm
is there to be cheap). Between two readers a value x may therefore be kept as
another one, r, with x = scale * r + offset for each channel:

- `scale` collects the NoNorm scales along a stream of residuals, which thereby
  has additions alone. It stays 1 where a LayerNorm reads the stream.
- `offset` is a constant. Subtracting it costs nothing, since the biases of what
  reads take it over, and it is what makes float32 exact: channels that carry
  large constants cancel in the readers, and digits are lost. It is free for the
  stream between blocks, the narrow stream inside one, the shared bottleneck,
  keys (a softmax ignores what all keys share) and values (a softmax's weights
  add up to 1). Keys and values have no bias then.

Which constants: the channels' means over sequences of tokens (`means`), those
of texts or, without any, of `default_batches`.

`fold` computes in float64, on the host; `scanned_blocks.fold_traced` is the
same inside of a step that learns through the served model.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.inference import graph as graphs
from mobilebert_jax.inference.graph import Graph, Outputs
from mobilebert_jax.inference.operations import numpy_operations

# A stream whose scale leaves this range in some channel is scaled explicitly,
# and begins anew: far from overflow and from what float16 can hold.
_SCALE_RANGE = (2.0**-24, 2.0**24)

# What explicit scales are called, behind a tensor's name.
_STREAM_SCALE, _WORD_SCALE = '/stream_scale', '/word_scale'

# Of BERT's vocabulary: special tokens, and where whole words begin.
_CLS, _SEP, _FIRST_WORD = 101, 102, 1996

Means = Mapping[str, np.ndarray]


class Affine(NamedTuple):
  """How a value is kept: it is `scale` * (what is kept) + `offset`."""

  scale: np.ndarray
  offset: np.ndarray


def fold(
  head: str,
  config: MobileBertConfig,
  params: Any,
  outputs: Outputs = graphs.NO_MORE,
  *,
  means: Means | None = None,
  restarts: Collection[str] | None = None,
  dtype: Any = np.float32,
) -> Graph:
  """Returns the served form of a model.

  Args:
    head: transformers' name of the class.
    config: the architecture.
    params: parameters of that class (`models`), with the blocks stacked.
    outputs: what the served model computes beside the class's outputs.
    means: constants to subtract, by name of the tensor (`measure_means`); None:
      none but those that parameters give.
    restarts: where streams begin anew (`restarts_of` a graph whose form this
      one is to have); None: where their scales ask for it.
    dtype: of the weights; everything before is float64.
  """
  folding = Folding(config, params, means or {}, restarts)
  return Graph(
    head,
    config,
    {
      name: np.asarray(value, dtype)
      for name, value in folding.weights(head, outputs).items()
    },
    outputs,
  )


def restarts_of(graph: Graph) -> frozenset[str]:
  """Returns where streams of a folded model begin anew, by tensors' names."""
  return frozenset(
    name.removesuffix(end)
    for name in graph.weights
    for end in (_STREAM_SCALE, _WORD_SCALE)
    if name.endswith(end)
  )


def measure_means(
  head: str,
  config: MobileBertConfig,
  params: Any,
  batches: Iterable[Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  """Returns the means of the channels of every tensor that has a free constant.

  Args:
    head: transformers' name of the class.
    config: the architecture.
    params: its parameters.
    batches: inputs by name, as `graph.apply` takes them; tokens that the mask
      hides do not count.

  Returns:
    name of the tensor -> mean of each channel, of the values that the unfolded
    model has there; float64.
  """
  folding = Folding(config, params, {})
  graph = Graph(head, config, folding.weights(head, graphs.NO_MORE))
  sums: dict[str, np.ndarray] = {}
  count = 0.0
  for batch in batches:
    seen = np.asarray(batch['attention_mask']).reshape(-1) != 0

    def note(name: str, value: Any, seen: np.ndarray = seen) -> Any:
      if name in folding.kept:
        sums[name] = sums.get(name, 0.0) + value[seen].sum(axis=0)
      return value

    graphs.apply(graph, numpy_operations(), batch, note)
    count += seen.sum()
  return {
    name: folding.kept[name].scale * total / max(count, 1.0)
    + folding.kept[name].offset
    for name, total in sums.items()
  }


def kept(
  head: str, config: MobileBertConfig, params: Any, means: Means
) -> dict[str, Affine]:
  """Returns how the served model keeps the tensors that have a free constant.

  Args:
    head: transformers' name of the class.
    config: the architecture.
    params: its parameters.
    means: the constants that are subtracted.

  Returns:
    name of the tensor -> its value as a function of what is kept.
  """
  folding = Folding(config, params, means)
  folding.weights(head, graphs.NO_MORE)
  return folding.kept


def default_batches(
  head: str, config: MobileBertConfig
) -> list[dict[str, np.ndarray]]:
  """Returns a fixed set of token sequences, for means where there is no text.

  64 sequences of 4 to 64 tokens, half of them pairs. Ids are drawn as words
  occur (by Zipf's law, for vocabularies begin with what is frequent); with
  BERT's vocabulary between its '[CLS]' and '[SEP]' and without its unused ids.

  Args:
    head: transformers' name of the class.
    config: the architecture.

  Returns:
    batches as `measure_means` takes them.
  """
  rng = np.random.default_rng(0)
  is_bert = config.vocab_size >= _FIRST_WORD * 2
  first = _FIRST_WORD if is_bert else 0
  words = config.vocab_size - first
  longest = min(64, config.max_position_embeddings)
  lengths = np.linspace(min(4, longest), longest, 8).astype(int)
  batches = []
  for length in lengths:
    shape = (8, length)
    drawn = np.exp(rng.uniform(0, np.log(words), shape)) - 1
    ids = first + drawn.astype(np.int32)
    types = np.zeros(shape, np.int32)
    types[4:, length // 2 :] = min(1, config.type_vocab_size - 1)
    if is_bert:
      ids[:, 0], ids[:, -1], ids[4:, length // 2 - 1] = _CLS, _SEP, _SEP
    if head == 'MobileBertForMultipleChoice':
      ids, types = ids.reshape(4, 2, -1), types.reshape(4, 2, -1)
    inputs = (ids, np.ones_like(ids), types)
    batches.append(dict(zip(graphs.INPUTS, inputs)))
  return batches


class Folding:
  """Folds one model; `kept` tells how each tensor of a stream is kept.

  Args:
    config: the architecture.
    params: the parameters.
    means: constants to subtract.
    restarts: where streams begin anew; None: where their scales ask for it.
    numbers: `numpy`, or `jax.numpy` for parameters that are traced.
    dtype: in which to compute.
  """

  def __init__(
    self,
    config: MobileBertConfig,
    params: Any,
    means: Means,
    restarts: Collection[str] | None = None,
    numbers: Any = np,
    dtype: Any = np.float64,
  ):
    self.config, self.params, self.means = config, params, means
    self.restarts, self.np, self.dtype = restarts, numbers, dtype
    self.kept: dict[str, Affine] = {}
    self.result: dict[str, Any] = {}

  def weights(self, head: str, outputs: Outputs) -> dict[str, np.ndarray]:
    """Returns all weights, by name."""
    body = self.params
    if head != 'MobileBertModel':
      body = self.params['mobilebert']
    stream = self.embeddings(body['embeddings'])
    streams = [stream, *self.blocks(body['encoder']['layers'], stream)]
    stream = streams[-1]
    self.head(head, body, stream)
    names = Graph(head, self.config, {}, outputs).output_names
    if 'last_hidden_state' in names:
      self.unfold('last_hidden_state', stream)
    if 'pooler_output' in names and not self.config.classifier_activation:
      self.unfold('pooled', stream)
    if outputs.hidden_states:
      for index, affine in enumerate(streams):
        self.unfold(f'hidden_states.{index}', affine)
    return self.result

  # Parts of the model.

  def blocks(self, params: Any, stream: Affine) -> list[Affine]:
    """Folds all blocks; returns how the stream is kept behind each."""
    streams = []
    for layer in range(self.config.num_hidden_layers):
      of_block = block_params(params, layer)
      stream = self.block(f'layer_{layer}', of_block, stream)
      streams.append(stream)
    return streams

  def embeddings(self, p: Any) -> Affine:
    c, name = self.config, 'embeddings'
    self.result[f'{name}/words'] = self.array(p['word_embeddings']['embedding'])
    positions = self.array(p['position_embeddings']['embedding'])
    types = self.array(p['token_type_embeddings']['embedding'])
    kernel, bias = None, self.np.zeros(c.hidden_size, self.dtype)
    if c.trigram_input or c.embedding_size != c.hidden_size:
      kernel, bias = self.kernel_and_bias(p['embedding_transformation'])
    if c.normalization_type == 'layer_norm':
      affine = self.layer_norm(name, p['norm'])
      positions = positions + bias[None]
    else:
      scale, shift = self.norm(p['norm'])
      # A kernel takes the scale; bare word vectors keep it for their readers.
      kept = self.np.ones_like(scale)
      if kernel is not None:
        kernel = kernel * scale[None]
      elif self.begins_anew(name, scale):
        self.result[name + _WORD_SCALE] = scale
      else:
        kept = self.away_from_zero(scale)
      offset = self.mean(name, shift)
      factor = (scale / kept)[None]
      constant = bias * scale + shift - offset
      positions = positions * factor + (constant / kept)[None]
      types = types * factor
      affine = self.keep(name, kept, offset)
    if kernel is not None:
      self.result[f'{name}/transformation/kernel'] = kernel
    self.result[f'{name}/positions'] = positions
    self.result[f'{name}/token_types'] = types
    return affine

  def block(self, name: str, p: Any, x: Affine) -> Affine:
    """Folds one block, under a name; returns how its output is kept."""
    c = self.config
    narrow = query = key = value = x
    if c.use_bottleneck:
      parts = p['bottleneck']
      narrow = self.projection(f'{name}/bottleneck', parts['input'], x)
      if c.use_bottleneck_attention:
        query = key = value = narrow
      elif c.key_query_shared_bottleneck:
        shared = self.projection(f'{name}/shared', parts['attention'], x)
        query = key = shared
    y = self.attention(
      f'{name}/attention', p['attention'], narrow, query, key, value
    )
    for j in range(c.num_feedforward_networks):
      part, ffn = f'{name}/ffn_{j}', p['feed_forward'][f'ffn_{j}']
      self.dense(f'{part}/intermediate', ffn['intermediate'], y)
      self.activation(f'{part}/activation', ffn.get('activation', {}))
      y = self.residual(
        f'{part}/output', self.kernel_and_bias(ffn['output']), ffn['norm'], y
      )
    if c.use_bottleneck:
      output = p['output_bottleneck']
      dense = _read(self.kernel_and_bias(output['dense']), y)
      y = self.residual(f'{name}/output', dense, output['norm'], x)
    return y

  def projection(self, name: str, p: Any, x: Affine) -> Affine:
    """norm(dense(x)): a bottleneck into the block."""
    kernel, bias = _read(self.kernel_and_bias(p['dense']), x)
    if self.config.normalization_type == 'layer_norm':
      self.put(name, kernel, bias)
      return self.layer_norm(name, p['norm'])
    scale, shift = self.norm(p['norm'])
    bias = bias * scale + shift
    offset = self.mean(name, bias)
    self.put(name, kernel * scale[None], bias - offset)
    return self.keep(name, self.np.ones_like(scale), offset)

  def attention(
    self, name: str, p: Any, x: Affine, query: Affine, key: Affine,
    value: Affine,
  ) -> Affine:  # fmt: skip
    root = self.config.head_dim**-0.5
    kernel, bias = _read(self.kernel_and_bias(p['query']), query)
    self.put(f'{name}/query', kernel * root, bias * root)
    kernel, _ = _read(self.kernel_and_bias(p['key']), key)
    self.result[f'{name}/key/kernel'] = kernel
    kernel, constant = _read(self.kernel_and_bias(p['value']), value)
    self.result[f'{name}/value/kernel'] = kernel
    context = Affine(self.np.ones_like(constant), constant)
    dense = _read(self.kernel_and_bias(p['output']), context)
    return self.residual(f'{name}/output', dense, p['norm'], x)

  def head(self, head: str, body: Any, x: Affine):
    p, pooled = self.params, x
    if 'pooler' in body:
      self.dense('pooler', body['pooler'], x)
      pooled = Affine(self.np.ones_like(x.scale), self.np.zeros_like(x.offset))
    if 'predictions' in p:
      self.masked_lm(p['predictions'], x)
    if 'seq_relationship' in p:
      self.dense('classifier', p['seq_relationship'], pooled)
    if 'classifier' in p:
      per_token = head == 'MobileBertForTokenClassification'
      self.dense('classifier', p['classifier'], x if per_token else pooled)
    if 'qa_outputs' in p:
      kernel, bias = _read(self.kernel_and_bias(p['qa_outputs']), x)
      for i, end in enumerate(('start', 'end')):
        span = slice(i, i + 1)
        self.put(f'classifier/{end}', kernel[:, span], bias[span])

  def masked_lm(self, p: Any, x: Affine):
    c = self.config
    self.dense('masked_lm/transform', p['transform'], x)
    self.activation('masked_lm/activation', p.get('activation', {}))
    scale, bias = self.norm(p['norm'])
    self.result['masked_lm/norm/scale'] = scale
    self.result['masked_lm/norm/bias'] = bias
    decoder_bias = p['bias']
    if not c.tie_word_embeddings:
      self.result['masked_lm/words'] = self.array(p['decoder']['embedding'])
      decoder_bias = p['decoder']['bias']
    self.result['masked_lm/bias'] = self.array(decoder_bias)
    if c.hidden_size > c.embedding_size:
      self.result['masked_lm/rest/kernel'] = self.array(p['dense']['kernel'])

  # What the parts are made of.

  def put(self, name: str, kernel: np.ndarray, bias: np.ndarray):
    self.result[f'{name}/kernel'] = kernel
    self.result[f'{name}/bias'] = bias

  def dense(self, name: str, p: Any, x: Affine):
    self.put(name, *_read(self.kernel_and_bias(p), x))

  def activation(self, name: str, p: Any):
    for part, value in p.items():
      self.result[f'{name}/{part}'] = self.array(value)

  def residual(
    self,
    name: str,
    dense: tuple[np.ndarray, np.ndarray],
    norm: Any,
    x: Affine,
  ) -> Affine:
    """norm(y @ kernel + bias + x), x being a stream."""
    kernel, bias = dense
    bias = bias + x.offset
    if self.config.normalization_type == 'layer_norm':
      self.put(f'{name}/dense', kernel, bias)
      return self.layer_norm(name, norm)
    scale, shift = self.norm(norm)
    kept = scale * x.scale
    if self.begins_anew(name, kept):
      # The stream is multiplied, once.
      self.result[name + _STREAM_SCALE] = kept
      kept = self.np.ones_like(kept)
    else:
      kept = self.away_from_zero(kept)
    constant = scale * bias + shift
    offset = self.mean(name, constant)
    self.put(
      f'{name}/dense',
      kernel * (scale / kept)[None],
      (constant - offset) / kept,
    )
    return self.keep(name, kept, offset)

  def layer_norm(self, name: str, p: Any) -> Affine:
    """A LayerNorm gives the stream its scale; its shift is free."""
    scale, shift = self.norm(p)
    name = f'{name}/norm'
    offset = self.mean(name, shift)
    self.result[f'{name}/scale'] = scale
    self.result[f'{name}/bias'] = shift - offset
    return self.keep(name, self.np.ones_like(scale), offset)

  def keep(self, name: str, scale: np.ndarray, offset: np.ndarray) -> Affine:
    """Notes how the tensor of this name is kept."""
    self.kept[name] = Affine(scale, offset)
    return self.kept[name]

  def mean(self, name: str, otherwise: np.ndarray) -> np.ndarray:
    """The constant to subtract; without a measured one, the known part."""
    return self.array(self.means.get(name, otherwise))

  def begins_anew(self, name: str, scale: np.ndarray) -> bool:
    """Whether a stream is scaled explicitly there."""
    if self.restarts is None:
      low, high = _SCALE_RANGE
      return not np.all((np.abs(scale) >= low) & (np.abs(scale) <= high))
    return name in self.restarts

  def away_from_zero(self, scale: Any) -> Any:
    """Returns what may be divided by, where it is settled what begins anew.

    A scale that learns may pass through 0 after its run has begun. What is
    kept of such a channel is then beyond its grid, and cut off there; here it
    stays finite. What it adds to the channel itself is less than a rounding.
    """
    if self.restarts is None:
      # Where it is still open, such a stream begins anew.
      return scale
    low = _SCALE_RANGE[0]
    sign = self.np.where(scale < 0, -1.0, 1.0).astype(scale.dtype)
    return self.np.where(self.np.abs(scale) < low, sign * low, scale)

  def unfold(self, name: str, affine: Affine):
    is_traced = self.np is not np
    if is_traced or np.any(affine.scale != 1):
      self.result[f'{name}/scale'] = affine.scale
    if is_traced or np.any(affine.offset):
      self.result[f'{name}/offset'] = affine.offset

  # Parameters as numbers.

  def array(self, value: Any) -> Any:
    return self.np.asarray(value, self.dtype)

  def kernel_and_bias(self, p: Any) -> tuple[Any, Any]:
    return self.array(p['kernel']), self.array(p['bias'])

  def norm(self, p: Any) -> tuple[Any, Any]:
    return self.array(p['scale']), self.array(p['bias'])


def _read(
  dense: tuple[np.ndarray, np.ndarray], x: Affine
) -> tuple[np.ndarray, np.ndarray]:
  """A dense layer that reads what is kept of x, in the place of x."""
  kernel, bias = dense
  return x.scale[:, None] * kernel, bias + x.offset @ kernel


def block_params(tree: Any, index: int) -> Any:
  """Returns the parameters of one block, of those that are stacked on axis 0.

  Args:
    tree: `params['encoder']['layers']` of a bare model.
    index: of the block, from 0.
  """
  if isinstance(tree, Mapping):
    return {name: block_params(value, index) for name, value in tree.items()}
  return tree[index]
