"""The whole of one `tpu_compile`: compile, look for a fit, report."""

from collections.abc import Callable, Sequence
from typing import Any

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.tpu_compile import fit, program, report, table
from mobilebert_jax.tpu_compile.program import DoesNotFitError, Step
from mobilebert_jax.tpu_compile.topology import Slice


def run(
  config: TrainConfig, where: Slice, tell: Callable[[str], None]
) -> dict[str, Any]:
  """Compiles both steps for a slice and tells what they amount to.

  Args:
    config: the run.
    where: the slice.
    tell: called with each part of the report as text.

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
  steps: list[Step] = []
  for name in names:
    try:
      steps.append(fit.compile_fitting(config, name, where, devices))
    except DoesNotFitError as error:
      found = fit.search(config, error, where, devices)
      sentence = _sentence(error, where, None if found is None else found[0])
      problems.append(sentence)
      tell(sentence)
      if found is not None:
        settings, config, step = found
        added += settings
        steps.append(step)
  return _report(config, where, devices, steps, tell) | {
    'problems': problems,
    'settings': added,
  }


def _report(
  config: TrainConfig,
  where: Slice,
  devices: Sequence[Any],
  steps: Sequence[Step],
  tell: Callable[[str], None],
) -> dict[str, Any]:
  of = program.plan(config, devices)
  found = report.describe(of, where) | {'steps': {}, 'cost': None}
  tell(table.heading(found, where))
  for step in steps:
    measured = report.measure(step, of, where)
    found['steps'][step.name] = measured
    tell(table.step(step.name, measured))
  if set(of.steps) - {'evaluation'} <= found['steps'].keys():
    found['cost'] = report.cost(found['steps'], of, where.size)
    tell(table.cost(found['cost']))
  return found


def _sentence(
  error: DoesNotFitError, where: Slice, settings: Sequence[str] | None
) -> str:
  """What does not fit, and what would make it fit."""
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
