"""What a chain is about to do: steps, tokens, memory, computation."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_jax import models, preparation
from mobilebert_jax.config import MobileBertConfig
from mobilebert_jax.recipe.recipe import Recipe
from mobilebert_jax.run_config import TrainConfig
from mobilebert_jax.tasks import Task
from mobilebert_jax.tpu_compile import analytic, inputs, taught
from mobilebert_jax.tpu_compile.topology import CHIPS

# Chip-hours are told for this chip at this part of its peak.
_CHIP, _MFU = 'v5p', 0.4
# Parameters, gradients and two moments, each in float32.
_STATE_BYTES = 4 * 4
_BFLOAT16_BYTES = 2


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the plan.

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


def rows(chain: Recipe, resolved: Mapping[str, TrainConfig]) -> list[Row]:
  """A row for each run, and for each stage of a run with a teacher.

  Args:
    chain: the recipe.
    resolved: its runs with directories in place of names in braces.
  """
  known: dict[str, MobileBertConfig] = {}
  found: list[Row] = []
  for name, config in chain.runs.items():
    task = preparation.find_task(resolved[name])
    known[name] = _architecture(chain, config, task, known)
    taught_by = known.get((config.distillation.teacher or '').strip('{}'))
    found += _rows(name, config, task, known[name], taught_by)
  return found


def table(found: Sequence[Row]) -> str:
  """The rows as text, with their sums."""
  header = (
    'run', 'what', 'parameters', 'steps', 'tokens', 'PFLOP', 'state, GiB',
    f'{_CHIP} chip-hours',
  )  # fmt: skip
  cells = [header]
  for row in found:
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
  total = sum(row.flops or 0 for row in found)
  tokens = sum(row.tokens or 0 for row in found)
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
    f'Chip-hours: at {_MFU:.0%} of the peak of a {_CHIP}; '
    'python -m mobilebert_jax.tpu_compile compiles a run for a slice and says '
    'more. Runs whose length is counted in epochs (?) depend on their data.'
  )
  return '\n'.join([*lines, note])


def _chip_hours(flops: float) -> float:
  return flops / (CHIPS[_CHIP].peak_flops * _MFU) / 3600


def _architecture(
  chain: Recipe,
  config: TrainConfig,
  task: Task,
  known: Mapping[str, MobileBertConfig],
) -> MobileBertConfig:
  settings = dict(config.model) | task.model_overrides()
  before = known.get(config.init.strip('{}'))
  if before is not None:
    return before.replace(**settings)
  return MobileBertConfig(**{'vocab_size': chain.vocabulary.size, **settings})


def _rows(
  name: str,
  config: TrainConfig,
  task: Task,
  architecture: MobileBertConfig,
  taught_by: MobileBertConfig | None,
) -> list[Row]:
  count = models.count_params(models.abstract_params(task.head(architecture)))
  shape = _shape(config, task)
  _, rows, length, *_ = shape

  def row(what: str, steps: int | None, flops: int, extra: int = 0) -> Row:
    return Row(
      name, what, count, steps,
      None if steps is None else steps * rows * length,
      None if steps is None else steps * flops,
      count * _STATE_BYTES + extra,
    )  # fmt: skip

  if taught_by is None:
    flops = analytic.model_flops(architecture, *shape)
    return [row(task.name, config.num_steps, flops)]
  theirs = models.count_params(models.abstract_params(task.head(taught_by)))
  return [
    row(
      f'{task.name}: {stage.what}', stage.steps,
      analytic.taught(config, taught_by, stage, architecture, *shape)[0],
      theirs * _BFLOAT16_BYTES,
    )
    for stage in taught.plan(config, architecture)
  ]  # fmt: skip


def _shape(
  config: TrainConfig, task: Task
) -> tuple[type[Any], int, int, int, int | None]:
  """What `analytic` asks: head, rows, length, examples, scored tokens.

  For batches as long as they can be.
  """
  shapes = inputs.batch(
    config, task, preparation.make_mesh(config), is_training=True
  )
  *rows, length = shapes['input_ids'].shape
  masked = shapes.get('masked_positions')
  scored = None if masked is None else math.prod(masked.shape)
  return task.head, math.prod(rows), length, math.prod(rows), scored
