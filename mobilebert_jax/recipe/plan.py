"""What a chain is about to do: steps, tokens, memory, computation."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from mobilebert_jax import models, preparation
from mobilebert_jax.config import MobileBertConfig
from mobilebert_jax.distillation import stages, teacher
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.errors import InputError
from mobilebert_jax.recipe.recipe import Recipe
from mobilebert_jax.run_config import TrainConfig
from mobilebert_jax.tasks import Task
from mobilebert_jax.tpu_compile import analytic, inputs
from mobilebert_jax.tpu_compile.topology import CHIPS

# Chip-hours are told for this chip at this part of its peak.
_CHIP, _MFU = 'v5p', 0.4
# Of training, beside a forward pass.
_BACKWARD = 2
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
  cost = _Cost(config, task)

  def row(what: str, steps: int | None, flops: int, extra: int = 0) -> Row:
    return Row(
      name, what, count, steps,
      None if steps is None else steps * cost.tokens,
      None if steps is None else steps * flops,
      count * _STATE_BYTES + extra,
    )  # fmt: skip

  if taught_by is None:
    return [row(task.name, config.num_steps, cost.training(architecture))]
  settings, layers = config.distillation, architecture.num_hidden_layers
  if config.num_steps is None:
    raise InputError(
      f'{name}: a recipe wants config.{name}.num_steps of a run with a teacher.'
    )
  theirs = models.count_params(models.abstract_params(task.head(taught_by)))
  pairs = teacher.layers_of(settings, layers, taught_by.num_hidden_layers)
  return [
    row(
      f'{task.name}: {stage.what}', stage.steps,
      cost.taught(architecture, taught_by, stage, pairs),
      theirs * _BFLOAT16_BYTES,
    )
    for stage in stages.plan(settings, layers, config.num_steps)
  ]  # fmt: skip


class _Cost:
  """FLOPs of one step, for batches as long as they can be."""

  def __init__(self, config: TrainConfig, task: Task):
    shapes = inputs.batch(
      config, task, preparation.make_mesh(config), is_training=True
    )
    ids = shapes['input_ids'].shape
    self._config, self._head = config, task.head
    self._rows, self._length = math.prod(ids[:-1]), ids[-1]
    self.tokens = self._rows * self._length
    masked = shapes.get('masked_positions')
    self._scored = None if masked is None else math.prod(masked.shape)

  def training(self, c: MobileBertConfig) -> int:
    """Of a step without a teacher."""
    return (1 + _BACKWARD) * self._whole(c)

  def taught(
    self,
    c: MobileBertConfig,
    teacher: MobileBertConfig,
    stage: Stage,
    pairs: Sequence[int],
  ) -> int:
    """Of a step with a teacher; `pairs` are its layers for the student's."""
    settings = self._config.distillation
    if stage.has_task:
      own = self.training(c)
      reads = stage.layers or settings.ground_truth_ratio < 1
      return own + (self._whole(teacher) if reads else 0)
    last = stage.layers[-1]
    own = self._body(c, last + 1)
    learns = own
    if stage.is_progressive and not settings.previous_layers:
      learns -= self._body(c, last)
    return own + _BACKWARD * learns + self._body(teacher, pairs[last] + 1)

  def _whole(self, c: MobileBertConfig) -> int:
    return analytic.forward(
      c, self._head, self._rows, self._length, self._rows, self._scored
    )

  def _body(self, c: MobileBertConfig, layers: int) -> int:
    """The embeddings and the first layers, without a head."""
    if not layers:
      return 0
    part = c.replace(num_hidden_layers=layers)
    return analytic.forward(part, self._head, self._rows, self._length, 0, 0)
