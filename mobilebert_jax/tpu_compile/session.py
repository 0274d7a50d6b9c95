"""The whole of one `tpu_compile`: compile, look for what fits, report.

Which settings make a step fit is found by compiling it with them.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tpu_compile import program, report
from mobilebert_jax.tpu_compile.program import CompiledStep, DoesNotFitError
from mobilebert_jax.tpu_compile.topology import Slice

_GIB = 2**30
# Settings as on the command line, and the config with them.
Candidate = tuple[tuple[str, ...], TrainConfig]


def run(
  config: TrainConfig,
  where: Slice,
  write: Callable[[str], None],
  operations: int = 0,
) -> dict[str, Any]:
  """Compiles both steps for a slice and tells what they amount to.

  Args:
    config: the run.
    where: the slice.
    write: called with each part of the report as text.
    operations: how many of each step's costliest operations to tell.

  Returns:
    The report as JSON values; 'problems' has a sentence for each step that
    did not fit as configured, and 'settings' what was added so that it does.

  Raises:
    InputError: a wrong setting, or libtpu is missing.
  """
  devices = where.devices()
  # Everything that can be wrong is found before anything is compiled.
  names = program.plan(config, devices).steps
  problems: list[str] = []
  added: list[str] = []
  steps: list[CompiledStep] = []
  for name in names:
    try:
      steps.append(compile_fitting(config, name, where, devices))
    except DoesNotFitError as error:
      result = search_fitting(config, error, where, devices)
      sentence = _describe_misfit(
        error, where, None if result is None else result[0]
      )
      problems.append(sentence)
      write(sentence)
      if result is not None:
        settings, config, step = result
        added += settings
        steps.append(step)
  return _report(config, where, devices, steps, write, operations) | {
    'problems': problems,
    'settings': added,
  }


def _report(
  config: TrainConfig,
  where: Slice,
  devices: Sequence[Any],
  steps: Sequence[CompiledStep],
  write: Callable[[str], None],
  operations: int,
) -> dict[str, Any]:
  of = program.plan(config, devices)
  result = report.describe(of, where) | {'steps': {}, 'cost': None}
  write(report.format_heading(result, where))
  for step in steps:
    measured = report.measure(step, of, where)
    result['steps'][step.name] = measured
    write(report.format_step(step.name, measured))
    if operations:
      write(report.format_operations(measured, operations))
  if set(of.steps) - {'evaluation'} <= result['steps'].keys():
    result['cost'] = report.cost(result['steps'], of, where.size)
    write(report.format_cost(result['cost']))
  return result


def _describe_misfit(
  error: DoesNotFitError, where: Slice, settings: Sequence[str] | None
) -> str:
  """Returns a sentence: what does not fit, and what would make it fit."""
  needed = 'more'
  if error.needed_gib is not None:
    needed = f'{error.needed_gib:.1f} GiB'
  start = (
    f'the {error.step} step does not fit: it needs {needed} of the '
    f'{where.chip.usable_gib} GiB of a {where.chip.name} chip; '
  )
  if settings is None:
    return f'{start}no setting that was tried makes it fit: use more chips.'
  return f'{start}it fits with {" ".join(settings)}.'


def compile_fitting(
  config: TrainConfig, name: str, where: Slice, devices: Sequence[Any]
) -> CompiledStep:
  """Compiles a step that fits the chip's memory.

  Args:
    config: the run.
    name: one of `CompilationPlan.steps`.
    where: the slice.
    devices: its devices.

  Raises:
    InputError: see `program.compile_step`.
    DoesNotFitError: the compiler says so, or what it allots is more than a
      program may use.
  """
  step = program.compile_step(program.plan(config, devices), name)
  check_memory(step, where)
  return step


def check_memory(step: CompiledStep, where: Slice) -> None:
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


def search_fitting(
  config: TrainConfig,
  error: DoesNotFitError,
  where: Slice,
  devices: Sequence[Any],
) -> tuple[tuple[str, ...], TrainConfig, CompiledStep] | None:
  """Finds the first setting that makes a step fit; None if none does.

  Returns:
    What to add to the command line, the config with it, and the step.
  """
  factor = 2
  if error.needed_gib is not None:
    ratio = error.needed_gib / where.chip.usable_gib
    factor = max(2, 2 ** math.ceil(math.log2(ratio)))
  find = (
    _evaluation_settings
    if error.step == 'evaluation'
    else memory_saving_settings
  )
  for settings, changed in find(config, factor, where):
    try:
      return settings, changed, compile_fitting(
        changed, error.step, where, devices
      )  # fmt: skip
    except (DoesNotFitError, InputError):
      # A mesh may not divide the model.
      continue
  return None


def memory_saving_settings(
  config: TrainConfig, factor: int, where: Slice
) -> Iterator[Candidate]:
  """Yields settings that save memory, those that cost least time first.

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
  divided = dataclasses.replace(saving.mesh, **mesh)  # type: ignore[arg-type]
  saving = dataclasses.replace(saving, mesh=divided)
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


def _evaluation_settings(
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
  """Yields more micro-batches: `first` times as many, twice that, to `last`."""
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
