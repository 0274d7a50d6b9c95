"""The groups of a run's settings: data, optimizer, mesh, profile."""

import dataclasses
import re
from typing import Literal

from mobilebert_jax.config import fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
  """Where the examples come from and how they are cut.

  Attributes:
    source: 'tfds' (TensorFlow Datasets), 'files' (the official files in
      `path`) or 'generated' (made by the task's own code).
    path: directory of the files, or TFDS's data_dir; also on gs://, from where
      it is copied once for each host (docs/guides/gcs.md).
    max_length: longest sequence in tokens, special tokens included.
    train_examples: use the first n training examples; None: all.
    eval_examples: use the first n examples of every other split; None: all.
    batching: 'bucketed' (batches padded to one of a few lengths), 'packed'
      (several short examples in one row of `max_length`, each as if alone) or
      'padded' (every batch padded to `max_length`). It changes the speed, and
      which examples share a step, but not what an example means.
    buckets: lengths to which 'bucketed' batches are padded, one compilation
      each; (): powers of two up to the longest example.
    cache_dir: where encoded examples are kept for other runs on the same
      data, for instance ~/.cache/mobilebert_jax/tokens; None: not kept, for
      nothing is written outside of the workdir unasked.
  """

  source: Literal['tfds', 'files', 'generated'] = 'tfds'
  path: str | None = None
  max_length: int = fields.setting(128, at_least=3)
  train_examples: int | None = fields.setting(None, at_least=1)
  eval_examples: int | None = fields.setting(None, at_least=1)
  batching: Literal['bucketed', 'packed', 'padded'] = 'bucketed'
  buckets: tuple[int, ...] = ()
  cache_dir: str | None = None

  def __post_init__(self):
    fields.check(self, 'config.data')
    if self.source == 'files' and self.path is None:
      raise fields.wrong(
        'config.data.path', None, "a directory, because data.source is 'files'"
      )
    for bucket in self.buckets:
      if not 3 <= bucket <= self.max_length:
        raise fields.wrong(
          'config.data.buckets', self.buckets,
          f'lengths from 3 to data.max_length ({self.max_length})',
        )  # fmt: skip

  def limit(self, *, is_train: bool) -> int | None:
    """How many examples of a split are used; None: all."""
    return self.train_examples if is_train else self.eval_examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """The optimizer, its learning-rate schedule and gradient clipping.

  Attributes:
    name: 'adamw', or 'lamb' for large batches: each variable's update is as
      long as the variable, times the learning rate.
    bias_correction: correct the moments for having begun at 0. google-research
      trains without, both with LAMB and with its AdamW.
    schedule: after the warm-up the rate falls along a line ('linear') or stays
      ('constant').
    learning_rate: the peak, reached at the end of the warm-up.
    warmup_fraction: part of all steps in which the rate rises from 0.
    warmup_steps: the same as a number of steps; wins over the fraction.
    end_factor: part of the peak that is left at the end of the line.
    decay_from_start: the line falls from the peak at step 0 instead of from
      the end of the warm-up, as google-research's does.
    weight_decay: decoupled decay of kernels and embedding tables.
    beta1: decay of the first moment.
    beta2: decay of the second moment.
    epsilon: added to the root of the second moment.
    max_grad_norm: the gradient's global norm is clipped to it; None: never.
    moments_dtype: 'float32' (float64 with float64), or 'bfloat16': two bytes
      for the first moment of each parameter instead of four. The second moment
      stays as it is: with beta2 = 0.999 it moves by a thousandth in a step,
      and bfloat16 rounds to a 256th, so that it would never fall again.
  """

  name: Literal['adamw', 'lamb'] = 'adamw'
  bias_correction: bool = True
  schedule: Literal['linear', 'constant'] = 'linear'
  learning_rate: float = fields.setting(5e-5, above=0)
  warmup_fraction: float = fields.setting(0.1, at_least=0, at_most=1)
  warmup_steps: int | None = fields.setting(None, at_least=0)
  end_factor: float = fields.setting(0.0, at_least=0, at_most=1)
  decay_from_start: bool = False
  weight_decay: float = fields.setting(0.01, at_least=0)
  beta1: float = fields.setting(0.9, at_least=0, below=1)
  beta2: float = fields.setting(0.999, at_least=0, below=1)
  epsilon: float = fields.setting(1e-8, above=0)
  max_grad_norm: float | None = fields.setting(1.0, above=0)
  moments_dtype: Literal['float32', 'bfloat16'] = 'float32'

  def __post_init__(self):
    fields.check(self, 'config.optimizer')
    if self.schedule == 'constant':
      for name, unset in (('end_factor', 0.0), ('decay_from_start', False)):
        value = getattr(self, name)
        if value != unset:
          raise fields.wrong(
            f'config.optimizer.{name}', value,
            f"{unset} with optimizer.schedule 'constant', which does not fall",
          )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """Devices along each mesh axis; one axis may be -1: all that are left."""

  data: int = -1
  fsdp: int = 1
  tensor: int = 1

  def __post_init__(self):
    fields.check(self, 'config.mesh')
    sizes = (self.data, self.fsdp, self.tensor)
    for name, size in zip(('data', 'fsdp', 'tensor'), sizes):
      if size < 1 and size != -1:
        raise fields.wrong(f'config.mesh.{name}', size, 'at least 1, or -1')
    if sizes.count(-1) > 1:
      raise fields.wrong('config.mesh', sizes, '-1 on one axis at most')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileConfig:
  """What is traced for TensorBoard's profile page and XProf.

  Attributes:
    steps: '10:13' traces steps 10, 11 and 12 into `profile/` of the workdir;
      None: none.
  """

  steps: str | None = None

  def __post_init__(self):
    fields.check(self, 'config.profile')
    if self.steps is not None and not self.range():
      raise fields.wrong(
        'config.profile.steps', self.steps,
        "like '10:13', which means steps 10, 11 and 12; the first step is 1",
      )  # fmt: skip

  def range(self) -> range:
    """The steps, from 1; empty if there are none."""
    found = re.fullmatch('([1-9][0-9]*):([1-9][0-9]*)', self.steps or '')
    return range(*map(int, found.groups())) if found else range(0)
