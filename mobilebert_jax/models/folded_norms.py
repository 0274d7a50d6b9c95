"""NoNorm inside the matrices beside it: the same function, fewer passes.

NoNorm is a scale and a shift (paper, section 3.3), so the product before it can
take them over: norm(W y + x) is (s W) y + (s x + b), and where there is no
residual x, the norm is gone. Forward, that is less arithmetic on activations.
Backward, it is much less: the scale's gradient follows from the matrix's, and
nothing has to be kept before the norm or summed over tokens.

`Compute.norms` chooses: 'fold' folds ordinary parameters at every call, for
training; 'folded' takes those that `fold_norms` made once, for inference. The
norm of the embeddings stays, and so does every LayerNorm, which is not affine.
"""

from collections.abc import Mapping
from typing import Any

import jax

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.models.typing import Params


def fold_norms(config: MobileBertConfig, params: Params) -> Params:
  """Returns what a model with `Compute(norms='folded')` reads.

  Args:
    config: the architecture.
    params: of any of the eight classes, as they are loaded or trained.

  Returns:
    Parameters with the folded blocks, sharing all other arrays; with LayerNorm
    the same ones. They have other names than ordinary ones, so that neither
    kind is taken for the other.
  """
  if 'mobilebert' in params:
    body = fold_norms(config, params['mobilebert'])
    return {**params, 'mobilebert': body}
  encoder = params['encoder']
  layers = fold_blocks(config, encoder['layers'])
  return {**params, 'encoder': {**encoder, 'layers': layers}}


def fold_blocks(config: MobileBertConfig, block: Mapping[str, Any]) -> Any:
  """Returns the folded parameters of a block, or of blocks that are stacked.

  Args:
    config: the architecture.
    block: parameters of `encoder.Block`; more axes before a parameter's own do
      not matter.
  """
  if config.normalization_type != 'no_norm':
    return block
  folded = dict(block)
  if config.use_bottleneck:
    folded['bottleneck'] = {
      name: {'dense': _without_residual(part['dense'], part['norm'])}
      for name, part in block['bottleneck'].items()
    }
    folded['output_bottleneck'] = _with_residual(
      block['output_bottleneck'], 'dense'
    )
  folded['attention'] = _with_residual(block['attention'], 'output')
  folded['feed_forward'] = {
    name: _with_residual(part, 'output')
    for name, part in block['feed_forward'].items()
  }
  return folded


def _without_residual(dense: Any, norm: Any) -> dict[str, jax.Array]:
  scaled = _scaled(dense, norm['scale'])
  return {**scaled, 'bias': scaled['bias'] + norm['bias']}


def _with_residual(part: Mapping[str, Any], dense: str) -> dict[str, Any]:
  """Scales the matrix of this name; the norm's numbers are the residual's."""
  norm = part['norm']
  rest = {name: value for name, value in part.items() if name != 'norm'}
  return {
    **rest,
    dense: _scaled(part[dense], norm['scale']),
    'residual': {'scale': norm['scale'], 'bias': norm['bias']},
  }


def _scaled(dense: Any, scale: jax.Array) -> dict[str, jax.Array]:
  return {
    'kernel': dense['kernel'] * scale[..., None, :],
    'bias': dense['bias'] * scale,
  }
