"""The model as it is served: one description, any backend.

The forward pass over folded weights (`folding`), in the few operations of
`operations.Operations`, which NumPy, JAX and ONNX each have. It has no dropout
and no packed rows; activations are [B * S, channels], blocks are written one
after another, and NoNorm is gone (paper, section 3.3: it is a scale and a
shift, so its neighbours take it over).

Every weight, and whatever an operation of arithmetic gives, has a name that
does not change ('layer_3/ffn_1/output'), and passes a hook on its way: to look
at it, to quantise it, to replace it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.inference import activations
from mobilebert_jax.inference.operations import Operations
from mobilebert_jax.models.layers import TORCH_LAYER_NORM_EPS

# Called with the name of a weight or a tensor and its value; returns the value
# that is used.
Hook = Callable[[str, Any], Any]
# Arrays of NumPy, or of JAX within a step that learns (`folding.fold_traced`).
Weights = Mapping[str, Any]

INPUTS = ('input_ids', 'attention_mask', 'token_type_ids')


class Names(NamedTuple):
  """What a file calls its inputs and outputs.

  Attributes:
    inputs: names for `INPUTS`, in that order.
    outputs: the outputs that the file has, in its order; None: all, in
      transformers' order.
  """

  inputs: tuple[str, ...] = INPUTS
  outputs: tuple[str, ...] | None = None


NAMES: Mapping[str, Names] = {
  'transformers': Names(),
  # MLPerf Mobile finds both by their positions.
  'mlperf': Names(
    ('input_ids', 'input_mask', 'segment_ids'), ('end_logits', 'start_logits')
  ),
}


class Outputs(NamedTuple):
  """What is computed beside the outputs that a class always has.

  Attributes:
    hidden_states: the embeddings' output and each block's.
    attentions: each block's attention probabilities.
    pooler: the pooled output, of classes that compute one.
  """

  hidden_states: bool = False
  attentions: bool = False
  pooler: bool = False


NO_MORE = Outputs()


class Graph(NamedTuple):
  """A model to serve.

  Attributes:
    head: transformers' name of the class, such as 'MobileBertModel'.
    config: the architecture.
    weights: what `folding.fold` returns.
    outputs: what is computed beside the class's own outputs.
    mask_value: what is added to the scores of hidden keys; None: the lowest
      float. Integers need one that is no lower than it has to be, for it widens
      their range.
  """

  head: str
  config: MobileBertConfig
  weights: Weights
  outputs: Outputs = NO_MORE
  mask_value: float | None = None

  @property
  def output_names(self) -> tuple[str, ...]:
    """The names of the outputs, in transformers' order."""
    names = list(_OUTPUTS[self.head])
    pools = self.head == 'MobileBertModel' or self.outputs.pooler
    if pools and self.has_pooler:
      names.append('pooler_output')
    blocks = self.config.num_hidden_layers
    if self.outputs.hidden_states:
      names += [f'hidden_states.{i}' for i in range(blocks + 1)]
    if self.outputs.attentions:
      names += [f'attentions.{i}' for i in range(blocks)]
    return tuple(names)

  @property
  def has_pooler(self) -> bool:
    """Whether the class computes a pooled output."""
    return self.head not in _WITHOUT_POOLER


_OUTPUTS: Mapping[str, tuple[str, ...]] = {
  'MobileBertModel': ('last_hidden_state',),
  'MobileBertForPreTraining': ('prediction_logits', 'seq_relationship_logits'),
  'MobileBertForMaskedLM': ('logits',),
  'MobileBertForNextSentencePrediction': ('logits',),
  'MobileBertForSequenceClassification': ('logits',),
  'MobileBertForMultipleChoice': ('logits',),
  'MobileBertForTokenClassification': ('logits',),
  'MobileBertForQuestionAnswering': ('start_logits', 'end_logits'),
}
_WITHOUT_POOLER = (
  'MobileBertForMaskedLM',
  'MobileBertForTokenClassification',
  'MobileBertForQuestionAnswering',
)


def apply(
  graph: Graph,
  operations: Operations,
  inputs: Mapping[str, Any],
  hook: Hook | None = None,
) -> dict[str, Any]:
  """Computes the outputs of a model.

  Args:
    graph: the model.
    operations: the backend.
    inputs: 'input_ids', 'attention_mask' and 'token_type_ids', [B, S] of
      integers of the backend; [B, choices, S] for multiple choice. A key counts
      where the mask is not 0. With 'masked_rows', [B, P], heads that predict
      masked words score only these rows of [B * S, channels]: logits are
      [B, P, vocabulary].
    hook: see `Hook`.

  Returns:
    The outputs by transformers' names, in the order of `graph.output_names`,
    with the shapes of `models.outputs`.
  """
  return Forward(graph, operations, inputs, hook).outputs()


class Forward:
  """One pass: the graph, the backend and what blocks share.

  Args:
    graph: as for `apply`.
    operations: as for `apply`.
    inputs: as for `apply`.
    hook: as for `apply`.
  """

  def __init__(
    self,
    graph: Graph,
    operations: Operations,
    inputs: Mapping[str, Any],
    hook: Hook | None = None,
  ):
    self.graph, self.config = graph, graph.config
    self.weights, self.ops = graph.weights, operations
    self.hook = hook or (lambda name, value: value)
    self.inputs = dict(inputs)
    self.given = self.inputs['input_ids']
    if graph.head == 'MobileBertForMultipleChoice':
      self.inputs = {
        name: operations.merge_choices(value)
        for name, value in self.inputs.items()
      }
    self.ids = self.inputs['input_ids']
    self.mask = self.tensor(
      'mask_bias',
      operations.mask_bias(self.inputs['attention_mask'], graph.mask_value),
    )
    self.hidden_states: list[Any] = []
    self.attentions: list[Any] = []

  def outputs(self) -> dict[str, Any]:
    """Returns the outputs by name."""
    x = self.embeddings()
    self.note_hidden_state(x, 0)
    computed = self.head(self.blocks(x))
    for i, value in enumerate(self.hidden_states):
      computed[f'hidden_states.{i}'] = value
    for i, value in enumerate(self.attentions):
      computed[f'attentions.{i}'] = value
    return {
      name: self.hook(f'outputs/{name}', computed[name])
      for name in self.graph.output_names
    }

  # Parts of the model, in the order of the computation.

  def embeddings(self) -> Any:
    ops, c = self.ops, self.config
    words = ops.take(self.weight('embeddings/words'), self.ids)
    words = self.tensor('embeddings/words_taken', words)
    if 'embeddings/transformation/kernel' in self.weights:
      wide = ops.trigram(words) if c.trigram_input else words
      x = self.dense('embeddings/transformation', ops.rows(wide))
    else:
      x = ops.rows(words)
      if 'embeddings/word_scale' in self.weights:
        x = ops.multiply(x, self.weight('embeddings/word_scale'))
        x = self.tensor('embeddings/words_scaled', x)
    positions = ops.positions(self.weight('embeddings/positions'), self.ids)
    positions = self.tensor('embeddings/positions_taken', positions)
    types = ops.take(
      self.weight('embeddings/token_types'), self.inputs['token_type_ids']
    )
    types = self.tensor('embeddings/token_types_taken', types)
    offsets = self.tensor(
      'embeddings/positions_and_types', ops.add(types, positions)
    )
    x = ops.add(x, ops.rows(offsets))
    return self.norm(
      'embeddings', self.tensor('embeddings', x), TORCH_LAYER_NORM_EPS
    )

  def blocks(self, x: Any) -> Any:
    """Runs all blocks, and notes what each of them gives."""
    for layer in range(self.config.num_hidden_layers):
      x = self.block(x, f'layer_{layer}')
      self.note_hidden_state(x, layer + 1)
    return x

  def block(self, x: Any, name: str) -> Any:
    """Runs the block whose weights and tensors have this name before theirs."""
    c = self.config
    narrow, query, key, value = self.bottleneck(x, name)
    y = self.attention(narrow, query, key, value, f'{name}/attention')
    for j in range(c.num_feedforward_networks):
      is_last = j == c.num_feedforward_networks - 1
      eps = TORCH_LAYER_NORM_EPS if is_last else c.layer_norm_eps
      y = self.feed_forward(y, f'{name}/ffn_{j}', eps)
    if c.use_bottleneck:
      y = self.residual(f'{name}/output', y, x, c.layer_norm_eps)
    return y

  def bottleneck(self, x: Any, name: str) -> tuple[Any, Any, Any, Any]:
    """Returns the narrow stream, and what queries, keys and values read."""
    c = self.config
    if not c.use_bottleneck:
      return x, x, x, x

    def project(part):
      y = self.dense(f'{name}/{part}', x)
      return self.norm(f'{name}/{part}', y, c.layer_norm_eps)

    narrow = project('bottleneck')
    if c.use_bottleneck_attention:
      return narrow, narrow, narrow, narrow
    if c.key_query_shared_bottleneck:
      shared = project('shared')
      return narrow, shared, shared, x
    return narrow, x, x, x

  def attention(
    self, x: Any, query: Any, key: Any, value: Any, name: str
  ) -> Any:
    ops, heads = self.ops, self.config.num_attention_heads

    def project(part, source):
      y = self.dense(f'{name}/{part}', source)
      return ops.split_heads(y, self.ids, heads)

    q, k, v = (
      project('query', query), project('key', key), project('value', value)
    )  # fmt: skip
    scores = self.tensor(f'{name}/scores', ops.scores(q, k))
    scores = self.tensor(f'{name}/masked_scores', ops.add(scores, self.mask))
    probs = ops.softmax(scores)
    probs = self.tensor(f'{name}/probabilities', probs)
    if self.graph.outputs.attentions:
      self.attentions.append(probs)
    context = ops.merge_heads(ops.mix(probs, v))
    context = self.tensor(f'{name}/context', context)
    return self.residual(
      f'{name}/output', context, x, self.config.layer_norm_eps
    )

  def feed_forward(self, x: Any, name: str, eps: float) -> Any:
    y = self.dense(f'{name}/intermediate', x)
    y = self.activation(f'{name}/activation', y)
    return self.residual(f'{name}/output', y, x, eps)

  def head(self, x: Any) -> dict[str, Any]:
    ops, name = self.ops, self.graph.head
    result: dict[str, Any] = {}
    pooled = None
    if self.graph.has_pooler:
      pooled = ops.first(ops.tokens(x, self.ids))
      if self.config.classifier_activation:
        pooled = ops.tanh(self.dense('pooler', pooled))
      pooled = self.tensor('pooled', pooled)
      if 'pooler_output' in self.graph.output_names:
        result['pooler_output'] = self.unfolded('pooled', pooled)
    match name:
      case 'MobileBertModel':
        last = self.unfolded('last_hidden_state', x)
        result['last_hidden_state'] = ops.tokens(last, self.ids)
      case 'MobileBertForMaskedLM':
        result['logits'] = self.masked_lm(x)
      case 'MobileBertForPreTraining':
        result['prediction_logits'] = self.masked_lm(x)
        result['seq_relationship_logits'] = self.dense('classifier', pooled)
      case 'MobileBertForTokenClassification':
        result['logits'] = ops.tokens(self.dense('classifier', x), self.ids)
      case 'MobileBertForQuestionAnswering':
        for end in ('start', 'end'):
          logits = self.dense(f'classifier/{end}', x)
          result[f'{end}_logits'] = ops.scalars(logits, self.ids)
      case 'MobileBertForMultipleChoice':
        logits = self.dense('classifier', pooled)
        result['logits'] = ops.split_choices(logits, self.given)
      case _:
        result['logits'] = self.dense('classifier', pooled)
    return result

  def masked_lm(self, x: Any) -> Any:
    """Scores the vocabulary; the word table stands once in the weights."""
    ops, c = self.ops, self.config
    ids = self.inputs.get('masked_rows', self.ids)
    if ids is not self.ids:
      x = ops.rows(ops.take(x, ids))
    x = self.dense('masked_lm/transform', x)
    x = self.activation('masked_lm/activation', x)
    x = ops.layer_norm(
      x,
      c.layer_norm_eps,
      self.weight('masked_lm/norm/scale'),
      self.weight('masked_lm/norm/bias'),
    )
    x = self.tensor('masked_lm/normed', x)
    tied = c.tie_word_embeddings
    table = 'embeddings/words' if tied else 'masked_lm/words'
    narrow, rest = ops.split(x, c.embedding_size, c.hidden_size)
    logits = ops.linear_transposed(narrow, self.weight(table))
    logits = ops.add(logits, self.weight('masked_lm/bias'))
    if rest is not None:
      logits = self.tensor('masked_lm/words_logits', logits)
      more = ops.linear(rest, self.weight('masked_lm/rest/kernel'))
      logits = ops.add(logits, self.tensor('masked_lm/rest', more))
    return ops.tokens(self.tensor('masked_lm/logits', logits), ids)

  # What the parts are made of.

  def weight(self, name: str) -> Any:
    return self.hook(name, self.ops.weight(name, self.weights[name]))

  def tensor(self, name: str, value: Any) -> Any:
    return self.hook(name, value)

  def dense(self, name: str, x: Any) -> Any:
    """Returns x @ kernel + bias; keys and values have no bias that counts."""
    y = self.ops.linear(x, self.weight(f'{name}/kernel'))
    if f'{name}/bias' in self.weights:
      y = self.ops.add(y, self.weight(f'{name}/bias'))
    return self.tensor(name, y)

  def residual(self, name: str, y: Any, x: Any, eps: float) -> Any:
    """norm(dense(y) + x); with NoNorm folded away, dense(y) + x."""
    if f'{name}/stream_scale' in self.weights:
      x = self.ops.multiply(x, self.weight(f'{name}/stream_scale'))
      x = self.tensor(f'{name}/stream_scaled', x)
    total = self.ops.add(self.dense(f'{name}/dense', y), x)
    return self.norm(name, self.tensor(name, total), eps)

  def norm(self, name: str, x: Any, eps: float) -> Any:
    """LayerNorm where the model has it; a NoNorm is in its neighbours."""
    if self.config.normalization_type != 'layer_norm':
      return x
    scale = self.weight(f'{name}/norm/scale')
    bias = self.weight(f'{name}/norm/bias')
    return self.tensor(f'{name}/norm', self.ops.layer_norm(x, eps, scale, bias))

  def activation(self, name: str, x: Any) -> Any:
    parameters = {
      part: self.weight(f'{name}/{part}')
      for part in ('slope', 'alpha_p', 'alpha_n', 'beta', 'eps')
      if f'{name}/{part}' in self.weights
    }
    y = activations.apply(self.ops, self.config.hidden_act, x, parameters)
    return self.tensor(name, y)

  def unfolded(self, name: str, x: Any) -> Any:
    """Returns the values that the unfolded model has there."""
    for part, operation in (
      ('scale', self.ops.multiply),
      ('offset', self.ops.add),
    ):
      if f'{name}/{part}' in self.weights:
        x = operation(x, self.weight(f'{name}/{part}'))
    return x

  def note_hidden_state(self, x: Any, index: int):
    """Keeps what a block gives, if it is asked for."""
    if self.graph.outputs.hidden_states:
      value = self.unfolded(f'hidden_states.{index}', x)
      self.hidden_states.append(self.ops.tokens(value, self.ids))
