"""AdamW or LAMB, learning-rate schedule, decay mask and gradient clipping."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from mobilebert_jax.config.optimizer import OptimizerConfig
from mobilebert_jax.models.typing import Params, Schedule
from mobilebert_jax.training import layerwise
from mobilebert_jax.training.layerwise import Rates

# Leaves that weight decay and the trust ratio leave alone, by their name alone:
# biases, the scale of every norm, and the parameters of activations (prelu,
# xielu). google-research excludes names that match LayerNorm, FakeLayerNorm or
# bias, which are the same variables: the word table and the decoder's `dense`
# decay, the decoder's bias does not.
UNDECAYED = frozenset({
  'bias', 'scale', 'slope', 'alpha_p', 'alpha_n', 'beta', 'eps',
})  # fmt: skip
# torch.nn.utils.clip_grad_norm_ adds this to the norm it divides by.
_CLIP_EPSILON = 1e-6


def _never(step: Int[Array, '']) -> Bool[Array, '']:
  del step
  return jnp.zeros((), bool)


class Optimizer(NamedTuple):
  """A gradient transformation and the learning rate it applies.

  Attributes:
    init: params -> opt_state.
    update: (grads, opt_state, params, step=completed steps) -> (updates,
      opt_state).
    learning_rate: completed steps -> the rate of the next step.
    only_resets: completed steps -> whether the next step learns nothing and
      sets all moments to 0, whatever the gradient is.
  """

  init: Callable[[Params], optax.OptState]
  update: Callable[..., tuple[Params, optax.OptState]]
  learning_rate: Schedule
  only_resets: Callable[[Int[Array, '']], Bool[Array, '']] = _never


def linear_schedule(
  peak: float,
  warmup_steps: int,
  total_steps: int,
  end_factor: float = 0.0,
  decay_from_start: bool = False,
) -> Schedule:
  """Returns a schedule that rises linearly from 0 to `peak`, then falls.

  With P the peak, W the warm-up, T the total and e the end factor, after s
  completed steps the rate is

    P s / W                                for s < W,
    P (e + (1 - e) (T - s) / (T - W))      from then on, and P e after T.

  With the defaults these are the numbers of transformers'
  `get_linear_schedule_with_warmup`. With `decay_from_start` they are those of
  google-research's `optimization.py`, where the end of the warm-up is a jump
  down to the line. With a warm-up, the very first step has rate 0.

  Args:
    peak: the highest rate.
    warmup_steps: steps of the rise; 0 starts at the peak.
    total_steps: step at which the fall ends.
    end_factor: part of the peak that is left then and afterwards.
    decay_from_start: the line falls from `peak` at step 0, not from the end of
      the warm-up.

  Returns:
    A function of the number of completed steps.
  """
  fall_steps = total_steps - (0 if decay_from_start else warmup_steps)

  def schedule(step: Int[Array, '']) -> Float[Array, '']:
    # The default float: float64 where parity tests enable it.
    done = jnp.asarray(step).astype(float)
    rise = done / max(1, warmup_steps)
    fall = jnp.maximum((total_steps - done) / max(1, fall_steps), 0.0)
    fall = end_factor + (1 - end_factor) * fall
    return peak * jnp.where(done < warmup_steps, rise, fall)

  return schedule


def constant_schedule(peak: float, warmup_steps: int) -> Schedule:
  """Returns a schedule that rises from 0 to `peak`, and stays there."""

  def schedule(step: Int[Array, '']) -> Float[Array, '']:
    done = jnp.asarray(step).astype(float)
    return peak * jnp.where(done < warmup_steps, done / max(1, warmup_steps), 1)

  return schedule


def make_schedule(config: OptimizerConfig, total_steps: int) -> Schedule:
  """Returns the learning-rate schedule of a run of `total_steps` steps."""
  peak, warmup = config.learning_rate, config.warmup_steps
  if warmup is None:
    warmup = round(config.warmup_fraction * total_steps)
  if config.schedule == 'constant':
    return constant_schedule(peak, warmup)
  return linear_schedule(
    peak, warmup, total_steps, config.end_factor, config.decay_from_start
  )


def decay_mask(params: Params) -> Params:
  """Returns True for every leaf that decays: kernels and tables."""

  def decayed(path: tuple[Any, ...], leaf: Any) -> bool:
    del leaf
    # Inside a leaf's box with axis names the path goes on.
    names = [k.key for k in path if isinstance(k, jax.tree_util.DictKey)]
    return names[-1] not in UNDECAYED

  return jax.tree.map_with_path(decayed, params)


def global_norm(tree: Params) -> Float[Array, '']:
  """Returns sqrt(sum of squares of all leaves), in at least float32."""
  wide = jax.tree.map(
    lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree
  )
  return jnp.sqrt(sum(jnp.sum(x * x) for x in jax.tree.leaves(wide)))


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
  """Returns the factor min(1, max_norm / (norm + 1e-6)), as torch has it."""

  def update(updates, state, params=None):
    del params
    scale = jnp.minimum(1.0, max_norm / (global_norm(updates) + _CLIP_EPSILON))
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def make_optimizer(
  config: OptimizerConfig, total_steps: int, rates: Rates | None = None
) -> Optimizer:
  """Builds the optimizer of a run of `total_steps` steps.

  The steps are: clip by the norm of all gradients, those of frozen parameters
  included; moments; decoupled decay; for LAMB the trust ratio; learning rate.

  With `moments_dtype` 'bfloat16' only the first moment is kept in bfloat16. It
  moves by 1 - beta1 = 10% of its distance to the gradient, far more than the
  0.4% that bfloat16 rounds to. The second moment moves by 1 - beta2 = 0.1%:
  rounded to bfloat16 it could not fall any more and would rise only at
  gradients of more than about twice its root, so it stays in the parameters'
  dtype.

  Args:
    config: the settings.
    total_steps: the length of the schedule.
    rates: replaces the config's learning rate and schedule, and gives each
      layer a multiplier; None: one rate for all, from the config.
  """
  if rates is None and config.name == 'adamw' and config.bias_correction:
    learning_rate = make_schedule(config, total_steps)
    chain, only_resets = _adamw(config, learning_rate), _never
  else:
    if rates is None:
      rates = layerwise.uniform(make_schedule(config, total_steps))
    learning_rate = rates.learning_rate
    chain = _layerwise(config, rates)
    only_resets = functools.partial(layerwise.all_frozen, rates)
  if config.max_grad_norm is not None:
    chain = optax.chain(clip_by_global_norm(config.max_grad_norm), chain)
  return Optimizer(chain.init, chain.update, learning_rate, only_resets)


def _adamw(config: OptimizerConfig, learning_rate: Schedule) -> Any:
  """Returns AdamW as torch has it, with one rate for all."""
  return optax.adamw(
    learning_rate,
    b1=config.beta1,
    b2=config.beta2,
    eps=config.epsilon,
    weight_decay=config.weight_decay,
    mask=decay_mask,
    mu_dtype=_mu_dtype(config),
  )


def _layerwise(config: OptimizerConfig, rates: Rates) -> Any:
  """Returns LAMB, or AdamW with what optax's does not have."""
  moments = layerwise.scale_by_moments(
    rates,
    config.beta1,
    config.beta2,
    config.epsilon,
    config.bias_correction,
    _mu_dtype(config),
  )
  decay = optax.add_decayed_weights(config.weight_decay, decay_mask)
  trust = optax.masked(layerwise.scale_by_trust_ratio(), decay_mask)
  parts = (moments, decay, trust) if config.name == 'lamb' else (moments, decay)
  return optax.chain(*parts, layerwise.scale_by_rates(rates))


def _mu_dtype(config: OptimizerConfig) -> Any:
  return jnp.bfloat16 if config.moments_dtype == 'bfloat16' else None
