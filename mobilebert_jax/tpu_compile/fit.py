"""Which setting makes a step fit: found by compiling, not by guessing."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from mobilebert_jax.config.run import MeshConfig, TrainConfig
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tpu_compile import program
from mobilebert_jax.tpu_compile.program import DoesNotFitError, Step
from mobilebert_jax.tpu_compile.topology import Slice

_GIB = 2**30
# Settings as on the command line, and the config with them.
Candidate = tuple[tuple[str, ...], TrainConfig]


def compile_fitting(
  config: TrainConfig, name: str, where: Slice, devices: Sequence[Any]
) -> Step:
  """Compiles a step that fits the chip's memory.

  Args:
    config: the run.
    name: one of `Plan.steps`.
    where: the slice.
    devices: its devices.

  Raises:
    InputError: see `program.compile_step`.
    DoesNotFitError: the compiler says so, or what it allots is more than a
      program may use.
  """
  step = program.compile_step(program.plan(config, devices), name)
  check(step, where)
  return step


def check(step: Step, where: Slice) -> None:
  """Refuses a step that was allotted more memory than a program may use.

  The compiler itself compares only what is temporary with the chip's memory.

  Raises:
    DoesNotFitError: so it is.
  """
  needed = step.memory.total / _GIB
  if needed > where.chip.usable_gib:
    raise DoesNotFitError(
      step.name, f'Used {needed:.2f}G of {where.chip.usable_gib}G hbm'
    )


def search(
  config: TrainConfig,
  error: DoesNotFitError,
  where: Slice,
  devices: Sequence[Any],
) -> tuple[tuple[str, ...], TrainConfig, Step] | None:
  """The first setting that makes a step fit, or None.

  Returns:
    What to add to the command line, the config with it, and the step.
  """
  factor = 2
  if error.needed_gib is not None:
    ratio = error.needed_gib / where.chip.usable_gib
    factor = max(2, 2 ** math.ceil(math.log2(ratio)))
  find = _for_evaluation if error.step == 'evaluation' else for_training
  for settings, changed in find(config, factor, where):
    try:
      return settings, changed, compile_fitting(
        changed, error.step, where, devices
      )  # fmt: skip
    except (DoesNotFitError, InputError):
      # A mesh may not divide the model.
      continue
  return None


def for_training(
  config: TrainConfig, factor: int, where: Slice
) -> Iterator[Candidate]:
  """Settings that save memory, from what costs least time to what costs most.

  Args:
    config: the run that does not fit.
    factor: how much too large it is, rounded up to a power of two.
    where: the slice.
  """
  whole = ('--config.remat=full',) if config.remat != 'full' else ()
  saving = dataclasses.replace(config, remat='full')
  if whole:
    yield whole, saving
  yield from _in_parts(config, (), factor, factor, where)
  yield from _in_parts(saving, whole, 2, config.batch_size, where)
  mesh = {'data': 1, 'fsdp': where.size, 'tensor': 1}
  settings = (*whole, *(f'--config.mesh.{k}={v}' for k, v in mesh.items()))
  saving = dataclasses.replace(saving, mesh=MeshConfig(**mesh))
  yield from _in_parts(saving, settings, 1, config.batch_size, where)
  # These change the numbers, so they come last.
  if config.optimizer.moments_dtype != 'bfloat16':
    optimizer = dataclasses.replace(config.optimizer, moments_dtype='bfloat16')
    saving = dataclasses.replace(saving, optimizer=optimizer)
    settings = (*settings, '--config.optimizer.moments_dtype=bfloat16')
    yield from _in_parts(saving, settings, factor, config.batch_size, where)
  if config.dtype != 'bfloat16':
    saving = dataclasses.replace(saving, dtype='bfloat16')
    settings = (*settings, '--config.dtype=bfloat16')
    yield from _in_parts(saving, settings, factor, config.batch_size, where)


def _for_evaluation(
  config: TrainConfig, factor: int, where: Slice
) -> Iterator[Candidate]:
  size = config.eval_batch_size // factor
  while size >= where.size:
    yield (
      (f'--config.eval_batch_size={size}',),
      dataclasses.replace(config, eval_batch_size=size),
    )
    size //= 2


def _in_parts(
  config: TrainConfig,
  settings: tuple[str, ...],
  first: int,
  last: int,
  where: Slice,
) -> Iterator[Candidate]:
  """More micro-batches: `first` times as many, twice that, up to `last`."""
  factor = first
  while factor <= last:
    parts = config.accumulation_steps * factor
    if config.batch_size % (parts * where.size):
      return
    yield (
      (*settings, f'--config.accumulation_steps={parts}'),
      dataclasses.replace(config, accumulation_steps=parts),
    )
    factor *= 2
