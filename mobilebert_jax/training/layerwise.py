"""Optimizer transformations that treat each layer of the encoder by itself.

The layers' parameters are stacked: axis 0 of every leaf below the key 'layers'
counts the layers. Optax's `scale_by_adam` counts the steps of all moments at
once, and its `scale_by_trust_ratio` would take one norm of all layers together;
hence these. They give each layer a learning rate (layer-wise rates as in
google-research's `mobilebert/lamb_optimizer.py`), a count of its moments, and
LAMB's trust ratio (You et al., "Large Batch Optimization for Deep Learning:
Training BERT in 76 minutes", arXiv 1904.00962). They go into `optax.chain` like
optax's own, and their `update` also takes `step`, the number of completed
steps.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Shaped

from mobilebert_jax.models.typing import Params, Schedule


class Rates(NamedTuple):
  """The learning rate, and multipliers of it, by completed steps.

  A multiplier of 0 freezes: the parameters keep every bit, without decay too,
  and their moments become 0. So a single step of 0 begins anew.

  Attributes:
    learning_rate: completed steps -> the rate of the next step.
    layers: completed steps -> a multiplier for each layer, [L]; or one for all
      of them, [].
    others: completed steps -> the multiplier of everything outside of the
      layers.
  """

  learning_rate: Schedule
  layers: Callable[[Int[Array, '']], Float[Array, '*L']]
  others: Schedule


def uniform(learning_rate: Schedule) -> Rates:
  """Returns one learning rate for all parameters."""

  def one(step: Int[Array, '']) -> Float[Array, '']:
    del step
    return jnp.ones(())

  return Rates(learning_rate, one, one)


def all_frozen(rates: Rates, step: Int[Array, '']) -> Bool[Array, '']:
  """Returns whether a step freezes all: it only sets the moments to 0."""
  is_on = _is_trained(rates, step)
  return ~(jnp.any(is_on.layers) | is_on.others)


class PerLayer(NamedTuple):
  """A value for each layer, [L] or [], and one for everything else, []."""

  layers: Shaped[Array, '*L']
  others: Shaped[Array, '']


class MomentsState(NamedTuple):
  """The state of `scale_by_moments`.

  Attributes:
    counts: updates that the moments have seen since they were 0, int32.
    mu: first moments, like the parameters.
    nu: second moments, like the parameters.
  """

  counts: PerLayer
  mu: Params
  nu: Params


def scale_by_moments(
  rates: Rates,
  beta1: float,
  beta2: float,
  epsilon: float,
  bias_correction: bool,
  mu_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
  """Returns Adam's update without a learning rate, with a count per layer.

  With g the gradient and n the updates that a layer's moments have seen,

    mu = beta1 mu + (1 - beta1) g,    nu = beta2 nu + (1 - beta2) g^2,
    update = mu / (sqrt(nu) + epsilon),

  where `bias_correction` divides mu by 1 - beta1^n and nu by 1 - beta2^n
  first. The moments of what is frozen are set to 0, and n with them.

  Args:
    rates: says what is frozen.
    beta1: decay of the first moment.
    beta2: decay of the second moment.
    epsilon: added to the root of the second moment.
    bias_correction: correct the moments for having begun at 0, each layer's by
      its own count.
    mu_dtype: of the first moment; None: the parameters'.
  """

  def init(params: Params) -> MomentsState:
    return MomentsState(
      _zero_counts(params),
      jax.tree.map(lambda x: jnp.zeros_like(x, dtype=mu_dtype), params),
      jax.tree.map(jnp.zeros_like, params),
    )

  def update(grads, state, params=None, *, step, **unused):
    del params, unused
    trained = _is_trained(rates, step)
    counts = jax.tree.map(
      lambda is_on, n: jnp.where(is_on, n + 1, 0), trained, state.counts
    )

    def average(beta, power):
      def one(is_on, old, grad):
        new = beta * old.astype(grad.dtype) + (1 - beta) * grad**power
        return jnp.where(is_on, new, 0)

      return one

    is_on = _broadcast(trained, grads)
    mu = jax.tree.map(average(beta1, 1), is_on, state.mu, grads)
    nu = jax.tree.map(average(beta2, 2), is_on, state.nu, grads)
    stored = MomentsState(
      counts,
      jax.tree.map(lambda new, old: new.astype(old.dtype), mu, state.mu),
      nu,
    )
    if bias_correction:
      mu, nu = _corrected(mu, beta1, counts), _corrected(nu, beta2, counts)
    ratio = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), mu, nu)
    return ratio, stored

  return optax.GradientTransformationExtraArgs(init, update)


def scale_by_trust_ratio() -> optax.GradientTransformation:
  """Returns LAMB's factor: an update as long as its variable.

  For each variable w of each layer, with update u, the result is

    u |w| / |u|,  or u where either norm is 0.

  Under `jit` the norms are those of whole variables, however they are divided
  over devices.
  """

  def update(updates, state, params=None):
    def scaled(path, u, w):
      length, goal = _norm(path, u), _norm(path, w)
      is_zero = (length == 0) | (goal == 0)
      ratio = jnp.where(is_zero, 1, goal / jnp.where(is_zero, 1, length))
      return u * ratio.astype(u.dtype)

    return jax.tree.map_with_path(scaled, updates, params), state

  return optax.GradientTransformation(optax.init_empty_state, update)


def scale_by_rates(rates: Rates) -> optax.GradientTransformationExtraArgs:
  """Returns the factor -rate, of each layer and of everything else."""

  def update(updates, state, params=None, *, step, **unused):
    del params, unused
    rate = -rates.learning_rate(step)
    factors = PerLayer(rate * rates.layers(step), rate * rates.others(step))

    def scaled(is_on, factor, u):
      # To add -0 changes no number at all; +0 would make -0 to +0, and the
      # update of what is frozen need not be finite.
      return jnp.where(is_on, factor.astype(u.dtype) * u, -0.0)

    is_on = _broadcast(_is_trained(rates, step), updates)
    each = _broadcast(factors, updates)
    return jax.tree.map(scaled, is_on, each, updates), state

  return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def _is_stacked(path: tuple[Any, ...]) -> bool:
  """Returns whether axis 0 of the leaf at this path counts the layers."""
  return jax.tree_util.DictKey('layers') in path


def _zero_counts(params: Params) -> PerLayer:
  lengths = {
    leaf.shape[0]
    for path, leaf in jax.tree.leaves_with_path(params)
    if _is_stacked(path)
  }
  length = max(lengths, default=0)
  return PerLayer(jnp.zeros(length, jnp.int32), jnp.zeros((), jnp.int32))


def _is_trained(rates: Rates, step: Int[Array, '']) -> PerLayer:
  """Returns False for what is frozen in this step."""
  return PerLayer(rates.layers(step) > 0, rates.others(step) > 0)


def _broadcast(values: PerLayer, tree: Params) -> Params:
  """Returns for each leaf its value, or its layers' values: [L, 1, ...].

  Every leaf gets a copy from behind a barrier. XLA would broadcast [L, 1, 1]
  once for all leaves of one shape, and the partitioner would carry the layout
  of one of them over to the others through what they share: on a mesh with
  'fsdp' it then computed the update of undivided leaves in parts, and sent the
  parts around. Broadcasts of scalars it takes apart itself.
  """
  leaves, structure = jax.tree.flatten_with_path(tree)
  layers = [values.layers] * len(leaves)
  if values.layers.ndim:
    layers = jax.lax.optimization_barrier(layers)

  def expand(leaf, own):
    return jnp.expand_dims(own, tuple(range(1, leaf.ndim))) if own.ndim else own

  each = [
    expand(leaf, own) if _is_stacked(path) else values.others
    for (path, leaf), own in zip(leaves, layers)
  ]
  return jax.tree.unflatten(structure, each)


def _corrected(moments: Params, beta: float, counts: PerLayer) -> Params:
  """Returns moments / (1 - beta^count), with 1 - beta where count is 0."""
  log = math.log(beta) if beta else -math.inf
  # Not `1 - beta**n`: in float32 that keeps 4 digits for beta = 0.999, n = 1.
  weight = jax.tree.map(
    lambda n: -jnp.expm1(jnp.maximum(n, 1).astype(float) * log), counts
  )
  return jax.tree.map(
    lambda x, w: x / w.astype(x.dtype), moments, _broadcast(weight, moments)
  )


def _norm(path: tuple[Any, ...], x: Array) -> Float[Array, '...']:
  """Returns the norm of a variable, of each layer: [L, 1, ...]."""
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  axes = tuple(range(1 if _is_stacked(path) else 0, x.ndim))
  return jnp.sqrt(jnp.sum(x * x, axes, keepdims=True))
