"""Which stage a step belongs to, and its learning rates.

All of it follows from the number of completed steps, so a run that continues
inside a stage continues exactly. Source: google-research's
`mobilebert/distill_util.py` and `lamb_optimizer.py`.

In google-research the gate of stage l is open for l T < step <= (l + 1) T, one
step later than here. No parameter can tell: the learning rate of that step is 0
in both, and its moments are dropped. Here the logged loss is the stage's own
from its first step on.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mobilebert_jax.config import fields
from mobilebert_jax.config.distillation import DistillationConfig
from mobilebert_jax.config.optimizer import OptimizerConfig
from mobilebert_jax.training import optimizer
from mobilebert_jax.training.layerwise import Rates


class Stage(NamedTuple):
  """Steps that have one loss.

  Attributes:
    number: from 0.
    layers: the student's layers whose outputs are compared with the teacher's.
    has_task: whether the task's own loss counts, distilled.
    first: completed steps at which it begins.
    steps: its length.
  """

  number: int
  layers: tuple[int, ...]
  has_task: bool
  first: int
  steps: int

  @property
  def is_progressive(self) -> bool:
    """Whether it teaches one layer and needs no later one."""
    return not self.has_task and len(self.layers) == 1

  @property
  def last(self) -> int:
    """The number of its last step, counted from 1."""
    return self.first + self.steps

  @property
  def what(self) -> str:
    """What it does, in words."""
    if self.is_progressive:
      return f'knowledge transfer to layer {self.layers[0]}'
    if not self.has_task:
      return 'knowledge transfer to all layers'
    if self.layers:
      return 'distillation and knowledge transfer to all layers'
    return 'distillation'

  def describe(self) -> str:
    """Says what it does, and in which steps."""
    return (
      f'stage {self.number}, {self.what}: steps {self.first + 1} to {self.last}'
    )


def plan(
  config: DistillationConfig, layers: int, total_steps: int
) -> tuple[Stage, ...]:
  """Returns the stages of a run, in order; none without a teacher.

  Args:
    config: strategy and length of the transfer.
    layers: the student's number of layers.
    total_steps: steps of the whole run.

  Raises:
    InputError: steps that cannot be shared out, or fewer than two in a stage,
      the first of which only resets the moments.
  """
  if config.teacher is None:
    return ()
  every, transfer = tuple(range(layers)), config.transfer_steps
  if transfer > total_steps:
    raise _wrong(transfer, f'at most {total_steps}, the steps of the whole run')
  layer_groups: list[tuple[int, ...]] = []
  if config.strategy == 'progressive':
    layer_groups = [(layer,) for layer in every]
  elif config.strategy == 'joint':
    layer_groups = [every]
  stages = []
  if layer_groups:
    length, rest = divmod(transfer, len(layer_groups))
    if rest or length < 2:
      allowed = 'at least 2'
      if config.strategy == 'progressive':
        allowed = (
          f'a multiple of {layers}, the number of the student layers, and at '
          f'least {2 * layers}'
        )
      raise _wrong(transfer, allowed)
    stages = [
      Stage(number, some, False, number * length, length)
      for number, some in enumerate(layer_groups)
    ]
  if total_steps > transfer:
    beside = every if config.strategy == 'auxiliary' else ()
    rest = total_steps - transfer
    stages.append(Stage(len(stages), beside, True, transfer, rest))
  return tuple(stages)


def at(stages: Sequence[Stage], completed: int) -> Stage:
  """Returns the stage of the step that follows `completed` steps."""
  return max(
    (stage for stage in stages if stage.first <= completed),
    key=lambda stage: stage.first,
  )


def rates(
  config: DistillationConfig,
  optimizer_config: OptimizerConfig,
  layers: int,
  total_steps: int,
) -> Rates | None:
  """Returns the learning rates of a run whose stages have rates of their own.

  In the transfer the rate is constant, and the stage's step t of T multiplies
  it, for the layer that is being taught, by `layer_rate` x b(t) with b(t) =
  min(0.9 + 0.1 sqrt(1 - t / T), 10 t / T); for earlier layers by
  `previous_layers` times that; for all else by 0. In the distillation all
  learn at the config's rate, whose schedule begins with it.

  Every stage's first step has 0 throughout: it only sets the moments to 0. Of
  google-research's stages that is a property of b(0); here it holds for
  `equal_rate` and for the distillation too, whose warm-up begins with rate 0
  anyway.

  Returns:
    None where the run has no transfer: one schedule serves it.

  Raises:
    InputError: as `plan`.
  """
  stages = plan(config, layers, total_steps)
  transfer = config.transfer_steps
  if not transfer:
    return None
  during = _multipliers(config, layers, stages[0].steps)
  schedule = optimizer.make_schedule(
    optimizer_config, max(1, total_steps - transfer)
  )

  def learning_rate(step: Int[Array, '']) -> Float[Array, '']:
    after = schedule(jnp.maximum(step - transfer, 0))
    peak = optimizer_config.learning_rate
    return jnp.where(step < transfer, peak, after)

  def multiplier(of: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def at_step(step: Array) -> Array:
      factor = of(step)
      after = jnp.where(step == transfer, 0.0, jnp.ones_like(factor))
      return jnp.where(step < transfer, factor, after)

    return at_step

  return Rates(learning_rate, *map(multiplier, during))


def _multipliers(
  config: DistillationConfig, layers: int, length: int
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
  """Returns multipliers of the layers, [L], and of all else, in the transfer.

  Args:
    config: their shape.
    layers: the student's number of layers.
    length: steps of a stage.
  """
  previous = config.previous_layers
  if config.equal_rate and previous:
    previous = 1.0

  def of_stage(step: Array) -> Array:
    t = (step % length).astype(float)
    if config.equal_rate:
      return jnp.where(t == 0, 0.0, 1.0)
    fall = 0.9 + 0.1 * jnp.sqrt(1 - t / length)
    return config.layer_rate * jnp.minimum(fall, 10 * t / length)

  def of_layers(step: Array) -> Array:
    if config.strategy == 'joint':
      return jnp.full(layers, of_stage(step))
    age = step // length - jnp.arange(layers)
    part = jnp.where(age == 0, 1.0, jnp.where(age > 0, previous, 0.0))
    return of_stage(step) * part

  def of_others(step: Array) -> Array:
    return of_stage(step) * (previous if config.train_embeddings else 0.0)

  return of_layers, of_others


def _wrong(steps: int, allowed: str) -> Exception:
  return fields.wrong('config.distillation.transfer_steps', steps, allowed)
