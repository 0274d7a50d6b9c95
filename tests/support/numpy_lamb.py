"""LAMB and AdamW in numpy float64, each variable of each block by itself."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

BLOCKS, PHASE, STEPS = 3, 10, 30
PEAK, WARMUP, EPSILON = 0.02, 5, 1e-6
LAMB = {
  'name': 'lamb', 'schedule': 'constant', 'learning_rate': PEAK,
  'warmup_steps': WARMUP, 'epsilon': EPSILON, 'bias_correction': False,
}  # fmt: skip
# Shapes of one block's variables, and of those outside of the blocks.
IN_BLOCK = {'dense/kernel': (4, 5), 'dense/bias': (5,), 'norm/scale': (5,)}
OUTSIDE = {
  'mobilebert/embeddings/word/embedding': (7, 4),
  'predictions/dense/kernel': (4, 6),
  'predictions/bias': (6,),
}
LAYERS = 'mobilebert/encoder/layers/'
NOT_SCALED = ('dense/bias', 'norm/scale', 'predictions/bias')


def draw_variables(rng):
  """Each variable by itself: 'number of the block:name', or the name."""
  shapes = {f'{i}:{n}': s for i in range(BLOCKS) for n, s in IN_BLOCK.items()}
  return {name: rng.normal(size=s) for name, s in (shapes | OUTSIDE).items()}


def stacked(variables, dtype):
  """The same as the model has it, blocks along axis 0."""
  flat = {name: variables[name] for name in OUTSIDE}
  for name in IN_BLOCK:
    parts = [variables[f'{i}:{name}'] for i in range(BLOCKS)]
    flat[LAYERS + name] = np.stack(parts)
  tree = unflatten_dict(flat, sep='/')
  return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)


def unstacked(tree):
  """The inverse of `stacked`, on the host."""
  flat = flatten_dict(jax.device_get(tree), sep='/')
  found = {name: flat[name] for name in OUTSIDE}
  for name in IN_BLOCK:
    for i, part in enumerate(flat[LAYERS + name]):
      found[f'{i}:{name}'] = part
  return found


def draw():
  """Start and gradients; two blocks with variables that are 0."""
  rng = np.random.default_rng(0)
  start = draw_variables(rng)
  grads = [draw_variables(rng) for _ in range(STEPS)]
  # No parameters, and neither parameters nor update: ratios of 1.
  start['1:dense/kernel'][:] = 0
  start['2:dense/kernel'][:] = 0
  for step in grads:
    step['2:dense/kernel'][:] = 0
  return start, grads


def multiplier(name, step):
  """A phase for each block, begun by a step of 0; all else comes later."""
  if ':' not in name:
    return float(step >= 2 * PHASE)
  block, phase, within = int(name[0]), step // PHASE, step % PHASE
  return 0.0 if within == 0 or block > phase else 3 * 0.1 ** (phase - block)


def reference(config, start, grads, rate, multiplier):
  """The variables and their moments after steps of LAMB or AdamW.

  Args:
    config: an OptimizerConfig.
    start: variables by name.
    grads: the same for each step.
    rate: step -> learning rate.
    multiplier: (name, step) -> its multiplier; 0 freezes and begins anew.
  """
  values = {name: value.copy() for name, value in start.items()}
  mu = {name: np.zeros_like(value) for name, value in start.items()}
  nu = {name: np.zeros_like(value) for name, value in start.items()}
  count = dict.fromkeys(start, 0)
  for step, grad in enumerate(grads):
    norm = np.sqrt(sum(np.sum(g**2) for g in grad.values()))
    clip = min(1, config.max_grad_norm / (norm + 1e-6))
    for name, w in values.items():
      factor = multiplier(name, step)
      if factor == 0:
        mu[name][:], nu[name][:], count[name] = 0, 0, 0
        continue
      g = grad[name] * clip
      count[name] += 1
      m = mu[name] = config.beta1 * mu[name] + (1 - config.beta1) * g
      v = nu[name] = config.beta2 * nu[name] + (1 - config.beta2) * g**2
      if config.bias_correction:
        m = m / (1 - config.beta1 ** count[name])
        v = v / (1 - config.beta2 ** count[name])
      u = m / (np.sqrt(v) + config.epsilon)
      if not name.endswith(NOT_SCALED):
        u = u + config.weight_decay * w
        lengths = np.linalg.norm(w), np.linalg.norm(u)
        if config.name == 'lamb' and all(lengths):
          u = u * lengths[0] / lengths[1]
      values[name] = w - rate(step) * factor * u
  return values, mu, nu


def warm_up(step):
  """The learning rate that the settings mean."""
  return PEAK * min(step / WARMUP, 1)
