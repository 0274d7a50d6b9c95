"""A model that learns as it will be served: the graph, folded and rounded.

`quantized` gives any class with a head another forward pass, that of `graph`
over weights that are folded within the step, with every tensor on its grid.
The parameters stay those of the class, so whatever trains, divides, stores or
converts them is not told. What is constant throughout a run is `Constants`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import jax.scipy.special
import numpy as np

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.inference import folding, scanned_blocks
from mobilebert_jax.inference import quantization as grids
from mobilebert_jax.inference.graph import Graph, Hook, Outputs, Weights
from mobilebert_jax.inference.operations import ArrayOperations
from mobilebert_jax.inference.quantization import Grid, Quantization
from mobilebert_jax.models import outputs as model_outputs
from mobilebert_jax.models.compute import Compute
from mobilebert_jax.models.encoder import Options
from mobilebert_jax.models.heads import HeadedModel
from mobilebert_jax.models.model import Inputs, MobileBertPreTrainedModel
from mobilebert_jax.models.outputs import ModelOutput
from mobilebert_jax.models.partitioning import constrain
from mobilebert_jax.models.typing import Params
from mobilebert_jax.runtime.errors import InputError

_OUTPUTS: Mapping[str, Callable[..., ModelOutput]] = {
  'MobileBertForPreTraining': model_outputs.MobileBertForPreTrainingOutput,
  'MobileBertForMaskedLM': model_outputs.MaskedLMOutput,
  'MobileBertForNextSentencePrediction': (
    model_outputs.NextSentencePredictorOutput
  ),
  'MobileBertForSequenceClassification': model_outputs.SequenceClassifierOutput,
  'MobileBertForMultipleChoice': model_outputs.MultipleChoiceModelOutput,
  'MobileBertForTokenClassification': model_outputs.TokenClassifierOutput,
  'MobileBertForQuestionAnswering': model_outputs.QuestionAnsweringModelOutput,
}
# What a served model does not read.
_NOT_READ = (
  'position_ids', 'head_mask', 'inputs_embeds', 'segment_ids', 'cls_positions',
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Constants:
  """What a quantised model is served with, beside its parameters.

  Measured once, on the parameters that a run starts from: so that the run
  scores what its file will.

  Attributes:
    quantization: the grids of its tensors.
    means: the constants that folding subtracts (`folding.measure_means`).
    restarts: where streams begin anew (`folding.restarts_of`).
  """

  quantization: Quantization
  means: folding.Means
  restarts: frozenset[str]

  def fold(
    self, head: str, config: MobileBertConfig, params: Params, **kwargs: Any
  ) -> Graph:
    """Returns the served form of parameters: what `apply` of the model runs.

    Args:
      head: transformers' name of the class.
      config: the architecture.
      params: its parameters, not traced.
      **kwargs: outputs and dtype, for `folding.fold`.
    """
    folded = folding.fold(
      head, config, params,
      means=self.means, restarts=self.restarts, **kwargs,
    )  # fmt: skip
    return folded._replace(mask_value=self.quantization.mask_value)

  def to_json(self) -> dict[str, Any]:
    """Returns the same as JSON values; no digit is lost."""
    return {
      'quantization': self.quantization.to_json(),
      'means': {name: mean.tolist() for name, mean in self.means.items()},
      'restarts': sorted(self.restarts),
    }

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> 'Constants':
    """Returns what `to_json` was called on."""
    return cls(
      Quantization.from_json(values['quantization']),
      {name: np.array(mean) for name, mean in values['means'].items()},
      frozenset(values['restarts']),
    )


def quantized(model: nn.Module, constants: Constants) -> nn.Module:
  """Returns a model with the same parameters, that computes as it is served.

  `apply` takes input_ids, attention_mask, token_type_ids and masked_positions
  of rows that hold one example each. There is no dropout. Products of matrices
  are in `compute.dtype`; everything else is in float32 at least, rounding to
  the grids included.

  Args:
    model: of a class with a head.
    constants: what it is served with.

  Raises:
    InputError: `apply` is called with what a served model does not have.
  """
  kind: Any = type(model)
  return _class(kind)(model.config, model.compute, constants=constants)


class _Quantized(MobileBertPreTrainedModel):
  """The forward pass, for a class with a head to inherit first.

  Attributes:
    constants: what the model is served with.
  """

  constants: Constants | None = None

  def with_folded_norms(self) -> Any:
    """Returns the model itself: its graph is folded in any case."""
    return self

  def fold_norms(self, params: Params) -> Params:
    """Returns the parameters themselves."""
    return params

  def _forward(self, inputs: Inputs, options: Options) -> ModelOutput:
    if self.is_initializing():
      # Parameters are drawn where the class has them.
      return super()._forward(inputs, options)
    assert self.constants is not None
    head = type(self).__name__
    _check(head, inputs, options)
    wanted = Outputs(options.output_hidden_states, options.output_attentions)
    computed = _apply(
      head,
      self.config,
      self.compute,
      self.constants,
      self.variables['params'],
      inputs,
      wanted,
    )
    of_blocks = {
      name: _tuple(computed, name) if is_wanted else None
      for name, is_wanted in wanted._asdict().items()
      if name != 'pooler'
    }
    return _OUTPUTS[head](**computed, **of_blocks)


@functools.cache
def _class(kind: type[HeadedModel]) -> Any:
  """Returns the class, with its own name, that computes as it is served."""
  if kind.__name__ not in _OUTPUTS:
    raise InputError(
      f'{kind.__name__} cannot learn as it is served; a class with a head can: '
      f'{", ".join(_OUTPUTS)}.'
    )
  return type(kind.__name__, (_Quantized, kind), {'__module__': __name__})


def _check(head: str, inputs: Inputs, options: Options):
  """Refuses what the graph does not have."""
  for name in _NOT_READ:
    if getattr(inputs, name) is not None:
      raise InputError(
        f'a quantised {head} takes no {name}: it computes as it is served, '
        'from input_ids, attention_mask and token_type_ids.'
      )
  if inputs.input_ids is None:
    raise InputError(f'a quantised {head} needs input_ids.')
  if options.output_attention_scores:
    raise InputError(
      f'a quantised {head} gives no attention_scores; ask for attentions.'
    )


def _apply(
  head: str,
  config: MobileBertConfig,
  compute: Compute,
  constants: Constants,
  params: Params,
  inputs: Inputs,
  wanted: Outputs,
) -> dict[str, Any]:
  """Returns the graph's outputs."""
  rounding = constants.quantization
  graph, loops = scanned_blocks.fold_traced(
    head, config, params, wanted,
    means=constants.means, restarts=constants.restarts,
    alike=scanned_blocks.loops(
      config.num_hidden_layers, (*constants.restarts, *rounding.tensors)
    ),
  )  # fmt: skip
  graph = graph._replace(mask_value=rounding.mask_value)
  ids = jnp.asarray(inputs.input_ids)
  values = {
    'input_ids': ids,
    'attention_mask': inputs.attention_mask,
    'token_type_ids': inputs.token_type_ids,
  }
  defaults = {'attention_mask': jnp.ones_like, 'token_type_ids': jnp.zeros_like}
  for name, default in defaults.items():
    if values[name] is None:
      values[name] = default(ids)
  if inputs.masked_positions is not None:
    rows, length = ids.shape
    first = jnp.arange(rows)[:, None] * length
    values['masked_rows'] = jnp.asarray(inputs.masked_positions) + first

  def make_hook(weights: Weights, tensors: Mapping[str, Grid]) -> Hook:
    part = graph._replace(weights=weights)
    rounded = grids.hook(part, rounding._replace(tensors=tensors))
    return _hook(part, rounded, ids, config.pad_token_id)

  return scanned_blocks.ScannedForward(
    graph,
    loops,
    _Operations(compute.dtype, compute.stats_dtype),
    values,
    rounding.tensors,
    make_hook,
    compute,
  ).outputs()


def _hook(graph: Graph, rounded: Hook, ids: Any, pad_id: int | None) -> Hook:
  """Returns a hook that rounds, and does what training needs beside."""

  def hook(name: str, value: Any) -> Any:
    if name == 'embeddings/words' and name in graph.weights:
      # As `models.layers.Embed`: every device reads any row.
      value = constrain(value, None, None)
    value = rounded(name, value)
    if name == 'embeddings/words_taken' and pad_id is not None:
      # The padding's vector does not learn from look-ups (torch's
      # `padding_idx`).
      is_pad = (ids.reshape(value.shape[:2]) == pad_id)[..., None]
      value = jnp.where(is_pad, jax.lax.stop_gradient(value), value)
    axes = _axes(name, value)
    return value if axes is None else constrain(value, *axes)

  return hook


def _axes(name: str, value: Any) -> tuple[str | None, ...] | None:
  """Returns the logical axes of a tensor that the mesh must divide so."""
  if name.endswith('/intermediate'):
    return 'batch', 'intermediate'
  if name.endswith(('/scores', '/probabilities')):
    return 'batch', 'heads', None, None
  if name == 'embeddings' or name.endswith('/output'):
    return 'batch', *(None for _ in value.shape[1:])
  return None


class _Operations(ArrayOperations):
  """JAX's operations; only products of matrices are in another dtype.

  Args:
    product_dtype: of what is multiplied.
    dtype: of sums, and of everything else.
  """

  def __init__(self, product_dtype: Any, dtype: Any):
    super().__init__(jnp, jax.scipy.special, dtype)
    self._product_dtype = product_dtype

  def _product(self, x, y):
    return jnp.matmul(
      x.astype(self._product_dtype),
      y.astype(self._product_dtype),
      preferred_element_type=self._dtype,
    )

  def linear(self, x, kernel):
    return self._product(x, kernel)

  def linear_transposed(self, x, table):
    return self._product(x, table.T)

  def scores(self, q, k):
    return self._product(q, k.transpose(0, 1, 3, 2))

  def mix(self, probabilities, v):
    return self._product(probabilities, v)


def _tuple(computed: dict[str, Any], name: str) -> tuple[Any, ...]:
  """Takes the values of all blocks out of a graph's outputs, in their order."""
  names = [key for key in computed if key.startswith(f'{name}.')]
  return tuple(computed.pop(key) for key in names)
