"""What a chain is about to do: steps, tokens, memory, computation."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from mobilebert_jax import models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.distillation import stages
from mobilebert_jax.experiments.recipe.checks import CheckedRun
from mobilebert_jax.tpu_compile import analytic, inputs
from mobilebert_jax.tpu_compile.topology import CHIPS
from mobilebert_jax.training import setup

# Chip-hours are those of this chip at this part of its peak.
_CHIP, _MFU = 'v5p', 0.4
# Parameters, gradients and two moments, each in float32.
_STATE_BYTES = 4 * 4


@dataclasses.dataclass(frozen=True)
class StageCost:
  """What a run, or a stage of it, costs: one line of the plan.

  Attributes:
    run: the run's name.
    what: what it, or a stage of it, does.
    parameters: of the model that learns.
    steps: optimizer steps; None: that depends on the data.
    tokens: positions in all of them, padding included.
    flops: of all of them, by formula.
    bytes: of parameters, gradients and moments, and of a teacher's
      parameters; activations come on top.
  """

  run: str
  what: str
  parameters: int
  steps: int | None
  tokens: int | None
  flops: float | None
  bytes: int


def stage_costs(runs: Mapping[str, CheckedRun]) -> list[StageCost]:
  """Returns a row for each run, and for each stage of one with a teacher."""
  return [row for name, run in runs.items() for row in _rows(name, run)]


def table(result: Sequence[StageCost]) -> str:
  """Returns the rows as text, with their sums."""
  header = (
    'run', 'what', 'parameters', 'steps', 'tokens', 'PFLOP', 'state, GiB',
    f'{_CHIP} chip-hours',
  )  # fmt: skip
  cells = [header]
  for row in result:
    cells.append((
      row.run,
      row.what,
      f'{row.parameters:,}',
      '?' if row.steps is None else f'{row.steps:,}',
      '?' if row.tokens is None else f'{row.tokens:.3g}',
      '?' if row.flops is None else f'{row.flops / 1e15:.3g}',
      f'{row.bytes / 2**30:.2f}',
      '?' if row.flops is None else f'{_chip_hours(row.flops):.2g}',
    ))  # fmt: skip
  total = sum(row.flops or 0 for row in result)
  tokens = sum(row.tokens or 0 for row in result)
  cells.append(
    ('all', '', '', '', f'{tokens:.3g}', f'{total / 1e15:.3g}', '',
     f'{_chip_hours(total):.2g}')
  )  # fmt: skip
  widths = [max(map(len, column)) for column in zip(*cells)]
  lines = [
    '  '.join(
      cell.ljust(width) if place < 2 else cell.rjust(width)
      for place, (cell, width) in enumerate(zip(line, widths))
    ).rstrip()
    for line in cells
  ]
  note = (
    'State: parameters, gradients, moments, and the parameters of a teacher; '
    f'activations come on top. Chip-hours: at {_MFU:.0%} of the peak of a '
    f'{_CHIP}. python -m mobilebert_jax.tpu_compile compiles a run for a slice '
    'and says more. Where the length is not known (?), it depends on how the '
    'data is encoded.'
  )
  return '\n'.join([*lines, note])


def _chip_hours(flops: float) -> float:
  return flops / (CHIPS[_CHIP].peak_flops * _MFU) / 3600


def _rows(name: str, run: CheckedRun) -> list[StageCost]:
  config, task, architecture = run.config, run.task, run.model.architecture
  count = _count(run, architecture)
  # For batches as long as they can be.
  batch = inputs.batch(config, task, setup.make_mesh(config), is_training=True)
  work = analytic.workload(architecture, task.head, batch)

  def row(
    what: str, steps: int | None, flops: int, extra: int = 0
  ) -> StageCost:
    return StageCost(
      name, what, count, steps,
      None if steps is None else steps * work.tokens,
      None if steps is None else steps * flops,
      count * _STATE_BYTES + extra,
    )  # fmt: skip

  theirs = run.model.teacher
  flops = analytic.model_flops(work)
  if theirs is None:
    return [row(task.name, run.steps, flops)]
  dtype = jnp.dtype(config.distillation.teacher_dtype)
  extra = _count(run, theirs) * dtype.itemsize
  if run.steps is None:
    return [row(f'{task.name}: with a teacher', None, flops, extra)]
  layers = architecture.num_hidden_layers
  return [
    row(
      f'{task.name}: {stage.what}', stage.steps,
      analytic.distillation(config, theirs, stage, work)[0],
      extra,
    )
    for stage in stages.plan(config.distillation, layers, run.steps)
  ]  # fmt: skip


def _count(run: CheckedRun, architecture: MobileBertConfig) -> int:
  """Counts the parameters with the head of the run's task."""
  model = run.task.head(architecture)
  return models.count_params(models.abstract_params(model))
