"""AdamW with linear warm-up and decay, decay mask and gradient clipping."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from mobilebert_jax.run_config import OptimizerConfig

Params = Any
Schedule = Callable[[Int[Array, '']], Float[Array, '']]

# Leaves that weight decay leaves alone, by their name alone: biases, the scale
# of every norm, and the parameters of activations (prelu, xielu).
UNDECAYED = frozenset({
  'bias', 'scale', 'slope', 'alpha_p', 'alpha_n', 'beta', 'eps',
})  # fmt: skip
# torch.nn.utils.clip_grad_norm_ adds this to the norm it divides by.
_CLIP_EPSILON = 1e-6


class Optimizer(NamedTuple):
  """A gradient transformation and the learning rate it applies.

  Attributes:
    init: params -> opt_state.
    update: (grads, opt_state, params) -> (updates, opt_state).
    learning_rate: completed steps -> the rate of the next step.
  """

  init: Callable[[Params], optax.OptState]
  update: Callable[..., tuple[Params, optax.OptState]]
  learning_rate: Schedule


def linear_schedule(
  peak: float, warmup_steps: int, total_steps: int
) -> Schedule:
  """Rises linearly from 0 to `peak`, then falls linearly to 0.

  The numbers of transformers' `get_linear_schedule_with_warmup`: with a
  warm-up, the very first step has rate 0.

  Args:
    peak: the highest rate.
    warmup_steps: steps of the rise; 0 starts at the peak.
    total_steps: step at which the rate is 0 again.

  Returns:
    A function of the number of completed steps.
  """

  def schedule(step: Int[Array, '']) -> Float[Array, '']:
    # The default float: float64 where parity tests enable it.
    done = jnp.asarray(step).astype(float)
    rise = done / max(1, warmup_steps)
    fall = (total_steps - done) / max(1, total_steps - warmup_steps)
    return peak * jnp.where(done < warmup_steps, rise, jnp.maximum(fall, 0.0))

  return schedule


def decay_mask(params: Params) -> Params:
  """True for every leaf that weight decay shrinks: kernels and tables."""

  def decayed(path: tuple[Any, ...], leaf: Any) -> bool:
    del leaf
    # Inside a leaf's box with axis names the path goes on.
    names = [k.key for k in path if isinstance(k, jax.tree_util.DictKey)]
    return names[-1] not in UNDECAYED

  return jax.tree.map_with_path(decayed, params)


def global_norm(tree: Params) -> Float[Array, '']:
  """The Euclidean norm of all leaves together, in at least float32."""
  wide = jax.tree.map(
    lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree
  )
  return jnp.sqrt(sum(jnp.sum(x * x) for x in jax.tree.leaves(wide)))


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
  """Scales gradients by min(1, max_norm / (norm + 1e-6)), as torch does."""

  def update(updates, state, params=None):
    del params
    scale = jnp.minimum(1.0, max_norm / (global_norm(updates) + _CLIP_EPSILON))
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def make_optimizer(config: OptimizerConfig, total_steps: int) -> Optimizer:
  """Builds the optimizer of a run of `total_steps` steps.

  The steps are torch's: clip, AdamW moments, decoupled decay, learning rate.

  With `moments_dtype` 'bfloat16' only the first moment is kept in bfloat16. It
  moves by 1 - beta1 = 10% of its distance to the gradient, far more than the
  0.4% that bfloat16 rounds to. The second moment moves by 1 - beta2 = 0.1%:
  rounded to bfloat16 it could not fall any more and would rise only at
  gradients of more than about twice its root, so it stays in the parameters'
  dtype.
  """
  warmup = config.warmup_steps
  if warmup is None:
    warmup = round(config.warmup_fraction * total_steps)
  schedule = linear_schedule(config.learning_rate, warmup, total_steps)
  adamw = optax.adamw(
    schedule,
    b1=config.beta1,
    b2=config.beta2,
    eps=config.epsilon,
    weight_decay=config.weight_decay,
    mask=decay_mask,
    mu_dtype=jnp.bfloat16 if config.moments_dtype == 'bfloat16' else None,
  )
  if config.max_grad_norm is None:
    chain = adamw
  else:
    chain = optax.chain(clip_by_global_norm(config.max_grad_norm), adamw)
  return Optimizer(chain.init, chain.update, schedule)
