"""Dense, embedding tables, the two normalisations and the activations."""

import math
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.models import own_gradients
from mobilebert_jax.models.compute import Compute
from mobilebert_jax.models.partitioning import constrain, partitioned

# Two norms do not read the config's `layer_norm_eps`: in PyTorch they were
# built with torch's own default (transformers: embeddings.LayerNorm and
# layer.*.output.LayerNorm).
TORCH_LAYER_NORM_EPS = 1e-5


def along_last_axis(vector: Array, ndim: int) -> Array:
  """Reshapes [N] to [1, ..., 1, N], so that broadcasting is explicit."""
  return vector.reshape((1,) * (ndim - 1) + (-1,))


class ConfiguredModule(nn.Module):
  """A part of the model that is made from the model's config.

  Attributes:
    config: the model's config.
    compute: dtypes, loop over the layers, rematerialisation.
  """

  config: MobileBertConfig
  compute: Compute = Compute()


class Dense(nn.Module):
  """y = x @ kernel + bias, with the kernel sized by its input.

  Sizing by the input is what lets the IB-BERT_LARGE teacher run, whose
  queries and keys read the wide stream directly.

  Attributes:
    features: width of the output.
    axes: logical names of the kernel's two axes.
    config: the model's config (for `initializer_range`).
    compute: dtypes.
    out_dtype: dtype of the result; None means `compute.dtype`.
  """

  features: int
  axes: tuple[str, str]
  config: MobileBertConfig
  compute: Compute
  out_dtype: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, '*B I']) -> Float[Array, '*B O']:
    dtype, param_dtype = self.compute.dtype, self.compute.param_dtype
    kernel = self.param(
      'kernel',
      partitioned(normal_init(self.config), self.axes),
      (x.shape[-1], self.features),
      param_dtype,
    )
    bias = self.param(
      'bias',
      partitioned(nn.initializers.zeros, self.axes[1:]),
      (self.features,),
      param_dtype,
    )
    out_dtype = self.out_dtype or dtype
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    if out_dtype == dtype and own_gradients.are_used(self.compute):
      return own_gradients.affine(x, kernel, bias.astype(dtype))
    y = jnp.dot(x, kernel, preferred_element_type=out_dtype)
    return y + along_last_axis(bias.astype(out_dtype), y.ndim)


class Embed(nn.Module):
  """A table of vectors, drawn from a normal distribution.

  Attributes:
    rows: number of vectors.
    features: width of a vector.
    axes: logical names of the table's two axes.
    config: the model's config (for `initializer_range`).
    compute: dtypes.
    pad_id: a row that starts at zero and gets no gradient from look-ups
      (torch's `padding_idx`), or None.
  """

  rows: int
  features: int
  axes: tuple[str, str]
  config: MobileBertConfig
  compute: Compute
  pad_id: int | None = None

  def setup(self):
    def init(key, shape, dtype):
      table = normal_init(self.config)(key, shape, dtype)
      return table if self.pad_id is None else table.at[self.pad_id].set(0)

    self.embedding = self.param(
      'embedding',
      partitioned(init, self.axes),
      (self.rows, self.features),
      self.compute.param_dtype,
    )

  def whole(self) -> Float[Array, 'V O']:
    """Returns the table as every device reads it: all features of any row."""
    return constrain(self.embedding, None, None)

  def __call__(
    self, ids: Int[Array | np.ndarray, '*B']
  ) -> Float[Array, '*B O']:
    """Returns the rows of these ids; an id outside the table gives NaN."""
    rows = jnp.take(self.whole(), ids, axis=0, mode='fill')
    if self.pad_id is not None:
      is_pad = jnp.asarray(ids == self.pad_id)[..., None]
      rows = jnp.where(is_pad, jax.lax.stop_gradient(rows), rows)
    return rows.astype(self.compute.dtype)


class Norm(nn.Module):
  """NoNorm (paper, section 3.3) or LayerNorm.

  NoNorm is x * scale + bias; LayerNorm is
  (x - mean(x)) / sqrt(var(x) + eps) * scale + bias.

  Attributes:
    kind: one of `config.model.NORMALIZATIONS`.
    axis: logical name of the normalised axis.
    eps: LayerNorm's epsilon.
    compute: dtypes.
  """

  kind: str
  axis: str
  eps: float
  compute: Compute

  @nn.compact
  def __call__(self, x: Float[Array, '*B D']) -> Float[Array, '*B D']:
    shape, param_dtype = (x.shape[-1],), self.compute.param_dtype
    ones, zeros = nn.initializers.ones, nn.initializers.zeros
    axes = (self.axis,)
    scale = self.param('scale', partitioned(ones, axes), shape, param_dtype)
    bias = self.param('bias', partitioned(zeros, axes), shape, param_dtype)
    y = x.astype(self.compute.stats_dtype)
    if self.kind == 'layer_norm':
      # Two passes: hidden values reach 1e7, where E[x^2] - E[x]^2 cancels.
      y = y - jnp.mean(y, axis=-1, keepdims=True)
      variance = jnp.mean(jnp.square(y), axis=-1, keepdims=True)
      y = y * jax.lax.rsqrt(variance + self.eps)
    y = y * along_last_axis(scale.astype(y.dtype), y.ndim)
    y = y + along_last_axis(bias.astype(y.dtype), y.ndim)
    return y.astype(self.compute.dtype)


def block_norm(
  config: MobileBertConfig,
  compute: Compute,
  axis: str,
  *,
  eps: float | None = None,
  name: str | None = None,
) -> Norm:
  """Returns the norm that `normalization_type` chooses; `name` as in Linen."""
  return Norm(
    config.normalization_type,
    axis,
    config.layer_norm_eps if eps is None else eps,
    compute,
    name=name,
  )


def residual_norm(
  config: MobileBertConfig,
  compute: Compute,
  axis: str,
  y: Float[Array, '*B D'],
  x: Float[Array, '*B D'],
  *,
  eps: float | None = None,
) -> Float[Array, '*B D']:
  """Returns norm(y + x), x being a residual; called from a module's `compact`.

  Where the matrix that wrote y has taken a NoNorm over, y + norm(x).
  """
  if folds_norms(config, compute):
    return y + block_norm(config, compute, axis, name='residual')(x)
  return block_norm(config, compute, axis, eps=eps, name='norm')(y + x)


def folds_norms(config: MobileBertConfig, compute: Compute) -> bool:
  """Returns whether each NoNorm is in the matrix before it (`folded_norms`)."""
  is_affine = config.normalization_type == 'no_norm'
  return is_affine and compute.norms == 'folded'


def normal_init(config: MobileBertConfig) -> nn.initializers.Initializer:
  """Returns PyTorch's initialiser: a plain, untruncated normal."""
  return nn.initializers.normal(config.initializer_range)


def inner_axis(config: MobileBertConfig) -> str:
  """Returns the logical name of the axis that is `true_hidden_size` wide."""
  return 'bottleneck' if config.use_bottleneck else 'hidden'


def block_axis(config: MobileBertConfig) -> str:
  """Returns the same name for kernels whose other axis is the block's own.

  Those axes are heads or feed-forward widths: the bulk of the teacher.
  """
  return 'block' if config.use_bottleneck else 'hidden'


_Function = Callable[[Array], Array]


def _gelu_tanh(x: Array) -> Array:
  return jax.nn.gelu(x, approximate=True)


def _gelu(x: Array) -> Array:
  return jax.nn.gelu(x, approximate=False)


def _gelu_fast(x: Array) -> Array:
  # The rounded constant is transformers'.
  inner = x * 0.7978845608 * (1.0 + 0.044715 * x * x)
  return 0.5 * x * (1.0 + jnp.tanh(inner))


def _softplus(x: Array) -> Array:
  # torch switches to the identity above 20.
  return jnp.where(x > 20, x, jax.nn.softplus(jnp.minimum(x, 20)))


def _laplace(x: Array) -> Array:
  return 0.5 * (1.0 + jax.lax.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


def _relu6(x: Array) -> Array:
  # jax.nn.relu6 has gradient 1/2 at 0 and at 6, torch's has 0.
  return jnp.where(x > 0, jnp.where(x < 6, x, 6.0), 0.0).astype(x.dtype)


def _hardswish(x: Array) -> Array:
  return x * _relu6(x + 3) / 6


def _leaky_relu(x: Array) -> Array:
  # At 0 torch's gradient is the negative slope, jax.nn.leaky_relu's is 1.
  return jnp.where(x > 0, x, 0.01 * x)


FUNCTIONS: Mapping[str, _Function] = {
  'gelu': _gelu,
  'gelu_10': lambda x: jnp.clip(_gelu(x), -10, 10),
  'gelu_accurate': _gelu_tanh,
  'gelu_fast': _gelu_fast,
  'gelu_new': _gelu_tanh,
  'gelu_python': _gelu,
  'gelu_python_tanh': _gelu_tanh,
  'gelu_pytorch_tanh': _gelu_tanh,
  'hardswish': _hardswish,
  'laplace': _laplace,
  'leaky_relu': _leaky_relu,
  'linear': lambda x: x,
  'mish': lambda x: x * jnp.tanh(_softplus(x)),
  'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x),
  'relu': jax.nn.relu,
  'relu2': lambda x: jnp.square(jax.nn.relu(x)),
  'relu6': _relu6,
  'sigmoid': jax.nn.sigmoid,
  'silu': jax.nn.silu,
  'sqrtsoftplus': lambda x: jnp.sqrt(_softplus(x)),
  'swish': jax.nn.silu,
  'tanh': jnp.tanh,
}


class Activation(nn.Module):
  """An activation by its transformers name; two of them have parameters.

  Attributes:
    kind: the name.
    compute: dtypes.
  """

  kind: str
  compute: Compute

  @nn.compact
  def __call__(self, x: Float[Array, '*B F']) -> Float[Array, '*B F']:
    if self.kind == 'prelu':
      slope = self._scalar('slope', 0.25, x)
      return jnp.where(x > 0, x, slope * x)
    if self.kind == 'xielu':
      return self._xielu(x)
    if self.kind == 'relu' and own_gradients.are_used(self.compute):
      return own_gradients.relu(x)
    return FUNCTIONS[self.kind](x)

  def _scalar(self, name: str, value: float, x: Array) -> Array:
    """Returns a parameter of shape [1], as in torch, ready to multiply x."""
    init = partitioned(
      lambda key, shape, dtype: jnp.full(shape, value, dtype), ('activation',)
    )
    param = self.param(name, init, (1,), self.compute.param_dtype)
    return param.astype(x.dtype).reshape((1,) * x.ndim)

  def _xielu(self, x: Array) -> Array:
    """Computes the activation of arXiv 2411.13010 as transformers does."""
    # Initial values: softplus(alpha_p) = 0.8, beta + softplus(alpha_n) = 0.8.
    alpha_p = _softplus(self._scalar('alpha_p', math.log(math.expm1(0.8)), x))
    alpha_n = self._scalar('alpha_n', math.log(math.expm1(0.3)), x)
    # beta and eps are buffers in torch: kept in checkpoints, never trained.
    beta = jax.lax.stop_gradient(self._scalar('beta', 0.5, x))
    eps = jax.lax.stop_gradient(self._scalar('eps', -1e-6, x))
    negative = jnp.expm1(jnp.minimum(x, eps)) - x
    return jnp.where(
      x > 0,
      alpha_p * x * x + beta * x,
      negative * (beta + _softplus(alpha_n)) + beta * x,
    )
