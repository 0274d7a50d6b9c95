"""How a model computes: dtypes, loop over the layers, rematerialisation.

None of this changes what the parameters are or mean: the same checkpoint
serves every choice.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mobilebert_jax.models.remat import REMAT_POLICIES
from mobilebert_jax.runtime.errors import InputError

DTYPES = ('float32', 'bfloat16', 'float64')
LAYER_LOOPS = ('scan', 'loop')
GRADIENTS = ('jax', 'own')
NORMS = ('separate', 'fold', 'folded')
# How attention is computed, and where the mask of its dropout comes from.
ATTENTIONS = ('auto', 'xla', 'fused')
ATTENTION_DROPOUTS = ('random', 'hash')


@dataclasses.dataclass(frozen=True)
class Compute:
  """Choices of computation, shared by all modules of a model.

  Attributes:
    dtype: dtype of activations and matrix products: 'float32', 'bfloat16', or
      'float64' (needs `jax_enable_x64`). Softmax, norm statistics and logits
      are in float32 at least.
    param_dtype: dtype of newly initialised parameters.
    layers: 'scan' compiles one block and loops over the stacked parameters;
      'loop' unrolls the blocks (slower to compile, sometimes faster to run).
    remat: what the backward pass recomputes: 'none', 'full' (keep only each
      block's input), 'dots' (keep products with parameters), 'narrow' (keep
      those alone that have fewer features than they read, and what attention
      gives) or 'attention' (keep all but its scores and probabilities).
    attention: 'xla' (plain operations), 'fused' (a kernel of the platform,
      which keeps scores and probabilities to itself), or 'auto': what is known
      to be faster there (`attention.choice`). Where probabilities or scores are
      asked for, plain operations compute them.
    attention_dropout: 'random' draws the mask with `jax.random`; 'hash'
      computes it from a seed and each probability's place
      (`attention.dropout`), which is faster and gives the same bits on every
      mesh. A kernel has the latter alone: 'fused' uses it whatever is set here,
      and 'auto' takes a kernel for a model with dropout only with 'hash'.
    norms: where NoNorm is computed: 'separate', as the paper writes it;
      'fold', in the matrix before it, from ordinary parameters at every call
      (faster to train); 'folded', likewise, from those that `fold_norms` made
      (faster to run). Results differ by rounding.
    gradients: 'jax' derives all of them; 'own' has rules that are faster in
      programs for a CPU (`own_gradients`), and then no forward-mode derivatives
      (`jax.jvp`). Results differ by rounding.

  Raises:
    InputError: a value that is not allowed.
  """

  dtype: str = 'float32'
  param_dtype: str = 'float32'
  layers: str = 'scan'
  remat: str = 'none'
  attention: str = 'xla'
  attention_dropout: str = 'random'
  norms: str = 'separate'
  gradients: str = 'jax'

  def __post_init__(self):
    for field in ('dtype', 'param_dtype'):
      object.__setattr__(self, field, _dtype_name(field, getattr(self, field)))
    for field, allowed in (
      ('layers', LAYER_LOOPS),
      ('remat', tuple(REMAT_POLICIES)),
      ('attention', ATTENTIONS),
      ('attention_dropout', ATTENTION_DROPOUTS),
      ('norms', NORMS),
      ('gradients', GRADIENTS),
    ):
      if getattr(self, field) not in allowed:
        raise InputError(
          f'{field} is {getattr(self, field)!r}, but must be one of '
          f'{", ".join(allowed)}.'
        )

  @property
  def stats_dtype(self) -> Any:
    """The dtype of softmax, norm statistics and logits."""
    return jnp.promote_types(self.dtype, jnp.float32)


def _dtype_name(field: str, value: Any) -> str:
  name = value if isinstance(value, str) else None
  if name is None:
    try:
      name = jnp.dtype(value).name
    except TypeError:
      name = repr(value)
  if name in ('float16', 'half', 'fp16'):
    raise InputError(
      f'{field} is float16, whose largest value is 65504, but hidden values of '
      'the published checkpoint reach 2.5e7; use bfloat16 or float32.'
    )
  if name not in DTYPES:
    raise InputError(
      f'{field} is {name!r}, but must be one of {", ".join(DTYPES)}.'
    )
  if name == 'float64' and not jax.config.read('jax_enable_x64'):
    raise InputError(
      f"{field} is 'float64', which needs "
      "jax.config.update('jax_enable_x64', True) first."
    )
  return name
