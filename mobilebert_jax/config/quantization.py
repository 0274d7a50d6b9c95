"""The settings of a run that learns with the integers of its file."""

import dataclasses
from typing import Literal

from mobilebert_jax.config import fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizationConfig:
  """Which integers a model is trained for.

  A quantised run begins with a float model (`config.init`) and goes on as the
  file that is exported from it will compute: weights and activations rounded to
  integers of a few bits, gradients straight through
  (docs/guides/quantized_training.md).
  The ranges of activations are measured once, on the run's own training
  examples, and are part of the run.
  """

  scheme: Literal['none', 'int8', 'int8x16', 'int4x8'] = fields.setting(
    'none',
    help="'int8', weights and activations of 8 bits; 'int8x16', activations of "
    "16; 'int4x8', weights of 4; 'none', floats, and nothing below has an "
    'effect',
  )
  calibration_examples: int = fields.setting(
    200,
    help='the ranges of activations are those of the first n rows of the '
    'training split',
    at_least=1,
  )
  equalize: bool = fields.setting(
    True,
    help='begin by giving the channels of each activation one range, which '
    'changes no output',
  )

  def __post_init__(self):
    fields.check(self, fields.name('quantization'))

  @property
  def is_on(self) -> bool:
    """Whether anything is rounded."""
    return self.scheme != 'none'
