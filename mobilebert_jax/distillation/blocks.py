"""Runs a model piece by piece: embeddings, some of its blocks, head.

The pieces are the model's own modules on parts of its parameters: blocks are
stacked on axis 0, so a part of them is a slice, and an encoder of fewer layers
runs it. What is not run is not computed.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Key

from mobilebert_jax.models.attention import Mask
from mobilebert_jax.models.encoder import Encoder, EncoderOutput, Options
from mobilebert_jax.models.model import Inputs
from mobilebert_jax.models.typing import Batch, Params
from mobilebert_jax.training.train_step import model_inputs

DropoutKey = Key[Array, ''] | None


class Output(NamedTuple):
  """What a block is compared by.

  Attributes:
    hidden: its output.
    scores: its masked attention scores before the softmax, or None.
  """

  hidden: Float[Array, 'B S D']
  scores: Float[Array, 'B H S S'] | None


def embed(
  model: nn.Module, params: Params, batch: Batch, key: DropoutKey
) -> tuple[Float[Array, 'B S D'], Mask]:
  """Returns what the first block reads, and the mask of all blocks.

  Args:
    model: the model.
    params: its parameters.
    batch: a batch; the loss's columns are not read.
    key: for dropout; None: no dropout. So in all of this module.
  """
  inputs = model_inputs(batch)
  inputs.pop('masked_positions', None)

  def first(module: nn.Module, **inputs: Any) -> Any:
    return module.mobilebert.embed(Inputs(**inputs), deterministic=key is None)

  embedded: Any = model.apply(
    {'params': params}, **inputs, rngs=_rngs(key), method=first
  )
  return embedded


def stacked(params: Params, start: int = 0, stop: int | None = None) -> Params:
  """Returns the parameters of blocks `start` to `stop` - 1: [N, ...]."""
  layers = params['mobilebert']['encoder']['layers']
  return jax.tree.map(lambda x: x[start:stop], layers)


def run(
  model: nn.Module,
  layers: Params,
  x: Float[Array, 'B S D'],
  mask: Mask,
  key: DropoutKey,
  **outputs: bool,
) -> EncoderOutput:
  """Runs some blocks in a row; perhaps none.

  Args:
    model: says what a block is.
    layers: their parameters, stacked.
    x: what the first of them reads.
    mask: from `embed`.
    key: for dropout.
    **outputs: what to return beside the last output; see `Options`.
  """
  count = jax.tree.leaves(layers)[0].shape[0]
  if not count:
    return EncoderOutput(x, None, None, None)
  config = model.config.replace(num_hidden_layers=count)
  options = Options(key is None, **outputs)
  output: Any = Encoder(config, model.compute).apply(
    {'params': {'layers': layers}}, x, mask, None, options, rngs=_rngs(key)
  )
  return output


def run_one(
  model: nn.Module,
  layer: Params,
  x: Float[Array, 'B S D'],
  mask: Mask,
  key: DropoutKey,
  has_scores: bool,
) -> Output:
  """Runs one block, whose parameters are stacked too: [1, ...]."""
  output = run(model, layer, x, mask, key, output_attention_scores=has_scores)
  scores = output.attention_scores
  return Output(output.last_hidden_state, None if scores is None else scores[0])


def apply_head(
  model: nn.Module,
  params: Params,
  hidden: Float[Array, 'B S D'],
  batch: Batch,
  key: DropoutKey,
) -> Any:
  """Returns the model's outputs, from the last block's."""
  inputs = model_inputs(batch)
  positions = ('cls_positions', 'masked_positions')
  return model.apply(
    {'params': params},
    hidden,
    deterministic=key is None,
    **{name: inputs[name] for name in positions if name in inputs},
    rngs=_rngs(key),
    method='from_hidden',
  )


def without_remat(model: nn.Module) -> nn.Module:
  """Returns the same model, whose blocks whoever runs them rematerialises."""
  return model.clone(compute=dataclasses.replace(model.compute, remat='none'))


def _rngs(key: DropoutKey) -> dict[str, Any] | None:
  return None if key is None else {'dropout': key}
