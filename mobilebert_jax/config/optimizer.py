"""The settings of the optimizer and its learning rates."""

import dataclasses
from typing import Literal

from mobilebert_jax.config import fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """The optimizer, its learning-rate schedule and gradient clipping."""

  name: Literal['adamw', 'lamb'] = fields.setting(
    'adamw',
    help="'adamw', or 'lamb' for large batches: each variable's update is as "
    'long as the variable, times the learning rate',
  )
  bias_correction: bool = fields.setting(
    True,
    help='correct the moments for having begun at 0. google-research trains '
    'without, both with LAMB and with its AdamW',
  )
  schedule: Literal['linear', 'constant'] = fields.setting(
    'linear',
    help="after the warm-up the rate falls along a line ('linear') or stays "
    "('constant')",
  )
  learning_rate: float = fields.setting(
    5e-5, help='the peak, reached at the end of the warm-up', above=0
  )
  warmup_fraction: float = fields.setting(
    0.1,
    help='part of all steps in which the rate rises from 0',
    at_least=0,
    at_most=1,
  )
  warmup_steps: int | None = fields.setting(
    None,
    help='the same as a number of steps; wins over the fraction',
    at_least=0,
  )
  end_factor: float = fields.setting(
    0.0,
    help='part of the peak that is left at the end of the line',
    at_least=0,
    at_most=1,
  )
  decay_from_start: bool = fields.setting(
    False,
    help='the line falls from the peak at step 0 instead of from the end of '
    "the warm-up, as google-research's does",
  )
  weight_decay: float = fields.setting(
    0.01, help='decoupled decay of kernels and embedding tables', at_least=0
  )
  beta1: float = fields.setting(
    0.9, help='decay of the first moment', at_least=0, below=1
  )
  beta2: float = fields.setting(
    0.999, help='decay of the second moment', at_least=0, below=1
  )
  epsilon: float = fields.setting(
    1e-8, help='added to the root of the second moment', above=0
  )
  max_grad_norm: float | None = fields.setting(
    1.0,
    help="the gradient's global norm is clipped to it; None: never",
    above=0,
  )
  moments_dtype: Literal['float32', 'bfloat16'] = fields.setting(
    'float32',
    help="'float32' (float64 with float64), or 'bfloat16': two bytes for the "
    'first moment of each parameter instead of four. The second moment stays '
    'as it is: with beta2 = 0.999 it moves by a thousandth in a step, and '
    'bfloat16 rounds to a 256th, so that it would never fall again',
  )

  def __post_init__(self):
    fields.check(self, fields.name('optimizer'))
    if self.schedule == 'constant':
      for name, unset in (('end_factor', 0.0), ('decay_from_start', False)):
        value = getattr(self, name)
        if value != unset:
          raise fields.wrong(
            fields.name('optimizer', name), value,
            f"{unset} with config.optimizer.schedule 'constant', which does "
            'not fall',
          )  # fmt: skip
