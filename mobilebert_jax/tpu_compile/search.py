"""Finds the fastest settings of a run on a slice, by compiling them.

What the backward pass recomputes, what computes attention, and into how many
micro-batches a step is cut (hence how many sequences a chip has at a time),
change neither the batch nor what is learnt, but may change the step's time by a
factor of three. Which are best follows from no formula: the compiler decides
what stays on the core.

Not all combinations are compiled. Skipped, and said why, is what by formula
cannot fit or cannot be faster than the fastest one so far, what needs more
memory than one that did not fit, and more micro-batches once they made a step
slower. A combination that the compiler refuses is a row of the table.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.models.attention import choice
from mobilebert_jax.models.remat import REMAT_POLICIES
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tpu_compile import analytic, program, report, session
from mobilebert_jax.tpu_compile.program import CompilationPlan, DoesNotFitError
from mobilebert_jax.tpu_compile.topology import Slice
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training import starting

_GIB = 2**30
_ATTENTIONS = ('xla', 'fused')
# What must be gained by more micro-batches to try still more of them.
_WORSE = 1.0
# The compiler may leave out some of what a policy recomputes.
_MARGIN = 0.95


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One combination of settings.

  Attributes:
    settings: what to add to the command line; () as configured.
    config: the run with them.
    attention: what computes attention, 'xla' or 'fused'.
    sequences: rows that a chip has at a time.
    compute: seconds of a step by formula, at the chip's peak.
    memory_gib: what a chip must hold at least.
  """

  settings: tuple[str, ...]
  config: TrainConfig
  attention: str
  sequences: int
  compute: float
  memory_gib: float

  @property
  def policy(self) -> tuple[str, ...]:
    """What it has in common with others of more or fewer micro-batches."""
    return self.attention, self.config.remat

  @property
  def parts(self) -> int:
    """Micro-batches."""
    return self.config.accumulation_steps


@dataclasses.dataclass(frozen=True)
class Row:
  """What became of a candidate.

  Attributes:
    candidate: the combination.
    outcome: 'fits', 'does not fit', 'failed' or 'skipped'.
    why: what else there is to say.
    seconds: of a step, at least; the mean of a run's stages.
    memory_gib: what a chip holds, as far as the compiler tells.
    steps: the report of each compiled step, by its name.
  """

  candidate: Candidate
  outcome: str
  why: str = ''
  seconds: float | None = None
  memory_gib: float | None = None
  steps: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def main(self) -> Mapping[str, Any]:
    """The report of the step that most of the run consists of."""
    return self.steps.get('training') or next(iter(self.steps.values()), {})


def run(
  config: TrainConfig,
  where: Slice,
  write: Callable[[str], None],
  save: Callable[[dict[str, Any]], None] = lambda result: None,
  operations: int = 0,
) -> dict[str, Any]:
  """Compiles what may be fastest and fits, and names it.

  Args:
    config: the run; its own settings are tried first.
    where: the slice.
    write: called with each line of progress, and with the table.
    save: called with the result so far behind each candidate.
    operations: how many of the fastest steps' costliest operations to tell.

  Returns:
    JSON values: 'rows' in the order of the table, 'fastest' the settings to add
    to the command line (None if nothing fits), 'problems'.

  Raises:
    InputError: a wrong setting, or libtpu is missing.
  """
  devices = where.devices()
  candidates = list(find_candidates(config, where, devices))
  write(
    f'{len(candidates)} combinations for {where.name}, {where.size} chips, '
    f'batch {config.batch_size}; each that is compiled takes a minute or two.'
  )
  rows: list[Row] = []
  for row in try_all(candidates, where, devices, write):
    rows.append(row)
    save(_result(rows, where))
  result = _result(rows, where)
  write(format_table(rows, where))
  best = fastest(rows)
  if best is not None:
    assert best.seconds is not None
    settings = ' '.join(best.candidate.settings) or 'the settings as they are'
    write(f'fastest that fits: {settings}{_gain(rows, best)}')
    for name, measured in best.steps.items():
      write(report.format_step(name, measured))
      if operations:
        write(report.format_operations(measured, operations))
  return result


def find_candidates(
  config: TrainConfig, where: Slice, devices: Sequence[Any]
) -> Iterator[Candidate]:
  """Yields the run as it is and then each other combination.

  Those with less to compute come first, and of one policy those with fewer
  micro-batches.

  Raises:
    InputError: a wrong setting of the run itself.
  """
  given = _candidate(config, config, where, devices)
  yield given
  divisor = device_mesh.batch_divisor(program.plan(config, devices).mesh)
  others = []
  for attention, remat in itertools.product(_ATTENTIONS, REMAT_POLICIES):
    if (attention, remat) == ('fused', 'attention'):
      # The kernel keeps neither scores nor probabilities, so that is 'none'.
      continue
    parts = 1
    while config.batch_size % (parts * divisor) == 0:
      settings: dict[str, Any] = {
        'attention': attention, 'remat': remat, 'accumulation_steps': parts,
      }  # fmt: skip
      changed = dataclasses.replace(config, **settings)
      one = _candidate(config, changed, where, devices)
      # Where a model has no kernel, 'fused' means plain operations, too.
      if one.attention == attention and _key(one) != _key(given):
        others.append(one)
      parts *= 2
  yield from sorted(others, key=lambda c: (c.compute, c.policy, c.parts))


def _key(candidate: Candidate) -> tuple[Any, ...]:
  """Returns what tells candidates apart."""
  return *candidate.policy, candidate.parts


def try_all(
  candidates: Sequence[Candidate],
  where: Slice,
  devices: Sequence[Any],
  write: Callable[[str], None],
) -> Iterator[Row]:
  """Compiles candidates in their order, but for those that cannot win.

  Args:
    candidates: from `find_candidates`.
    where: the slice.
    devices: its devices.
    write: called before and behind each compilation.
  """
  rows: list[Row] = []
  for number, candidate in enumerate(candidates, 1):
    why = reason_to_skip(candidate, rows, where)
    if why is not None:
      row = Row(candidate, 'skipped', why)
    else:
      title = f'[{number}/{len(candidates)}] {describe(candidate)}'
      write(f'{title}: compiling')
      row = _compile(candidate, where, devices)
      write(f'{title}: {_outcome(row)}')
    rows.append(row)
    yield row


def reason_to_skip(
  candidate: Candidate, rows: Sequence[Row], where: Slice
) -> str | None:
  """Returns why a candidate need not be compiled; None if it must be.

  Args:
    candidate: the one that is next.
    rows: of those before it.
    where: the slice.
  """
  usable = where.chip.usable_gib
  if not candidate.settings:
    return None
  if candidate.memory_gib > usable:
    return f'needs {candidate.memory_gib:.1f} GiB or more'
  best = fastest(rows)
  if best is not None and best.seconds is not None:
    least = _MARGIN * candidate.compute
    if least >= best.seconds:
      return f'computes for {1e3 * least:.3g} ms or more'
  fitting = []
  for row in rows:
    other = row.candidate
    if other.policy != candidate.policy:
      continue
    if row.outcome == 'does not fit':
      if other.parts > candidate.parts:
        return f'accumulation_steps={other.parts} does not fit'
      needed = _scaled(row, candidate)
      if needed is not None and needed > usable:
        return f'needs about {needed:.1f} GiB'
    elif row.seconds is not None and other.parts < candidate.parts:
      fitting.append(row)
  if len(fitting) >= 2:
    fitting.sort(key=lambda row: row.candidate.parts)
    before, last = fitting[-2:]
    assert before.seconds is not None and last.seconds is not None
    if last.seconds >= _WORSE * before.seconds:
      parts = last.candidate.parts
      return f'accumulation_steps={parts} is slower than fewer'
  return None


def fastest(rows: Sequence[Row]) -> Row | None:
  """Returns the fastest that fits; of equal ones, the first."""
  fitting = [row for row in rows if row.outcome == 'fits']
  return min(fitting, key=lambda row: row.seconds or math.inf, default=None)


def _compile(candidate: Candidate, where: Slice, devices: Sequence[Any]) -> Row:
  try:
    plan = program.plan(candidate.config, devices)
    steps = {}
    for name in training_steps(plan):
      step = session.compile_fitting(candidate.config, name, where, devices)
      steps[name] = report.measure(step, plan, where)
  except DoesNotFitError as error:
    return Row(candidate, 'does not fit', memory_gib=error.needed_gib)
  except (InputError, jax.errors.JaxRuntimeError, ValueError) as error:
    return Row(candidate, 'failed', _first_line(error))
  return Row(
    candidate,
    'fits',
    seconds=_mean_seconds(steps, plan, where),
    memory_gib=max(step['hbm_gib'] for step in steps.values()),
    steps=steps,
  )


def training_steps(plan: CompilationPlan) -> tuple[str, ...]:
  """Returns the steps that settings of training change."""
  return tuple(name for name in plan.steps if name != 'evaluation')


def _mean_seconds(
  steps: Mapping[str, Any], plan: CompilationPlan, where: Slice
) -> float:
  """Returns the seconds of a step, in the mean of the whole run."""
  cost = report.cost(dict(steps), plan, where.size)
  if cost is None:
    return steps['training']['step_seconds']
  return report.DAY * cost['days'] / cost['steps']


def _candidate(
  config: TrainConfig,
  changed: TrainConfig,
  where: Slice,
  devices: Sequence[Any],
) -> Candidate:
  plan = program.plan(changed, devices)
  divisor = device_mesh.batch_divisor(plan.mesh)
  settings = tuple(
    f'--config.{name}={getattr(changed, name)}'
    for name in ('attention', 'remat', 'accumulation_steps')
    if getattr(changed, name) != getattr(config, name)
  )
  rows = changed.batch_size // changed.accumulation_steps // divisor
  attention = _attention(plan, rows * divisor)
  bounds = {}
  for name in training_steps(plan):
    batch = program.batch(plan, name)
    work = analytic.workload(plan.architecture, plan.task.head, batch)
    _, flops = report.flops_by_formula(name, plan, work)
    peak = where.chip.peak_flops * where.size
    bounds[name] = {'step_seconds': flops / peak, 'tokens': work.tokens}
  least = program.state_bytes(plan) + analytic.kept_bytes(
    changed, plan.architecture, rows, has_scores=attention == 'xla'
  )
  return Candidate(
    settings,
    changed,
    attention,
    rows,
    _mean_seconds(bounds, plan, where),
    least / _GIB,
  )


def _attention(plan: CompilationPlan, rows: int) -> str:
  """Returns what computes a plan's attention, 'xla' or 'fused'."""
  c = plan.architecture
  shape = (rows, plan.config.data.max_length, c.true_hidden_size)
  with jax.set_mesh(plan.mesh):
    return choice.kind(
      starting.compute_of(plan.config),
      shape,
      c.num_attention_heads,
      is_dropping=c.attention_probs_dropout_prob > 0,
    )


def _scaled(row: Row, candidate: Candidate) -> float | None:
  """Returns the GiB that a candidate needs, from one with larger parts.

  What is not the state shrinks at most as the micro-batch does.
  """
  if row.memory_gib is None:
    return None
  other = row.candidate
  fixed = min(other.memory_gib, candidate.memory_gib)
  share = candidate.sequences / other.sequences
  return fixed + (row.memory_gib - fixed) * share


def _first_line(error: Exception) -> str:
  text = ' '.join(str(error).split())
  return text[:160]


def describe(candidate: Candidate) -> str:
  """Returns a candidate's settings in short."""
  config = candidate.config
  return (
    f'attention {candidate.attention}, remat {config.remat}, '
    f'{config.accumulation_steps} micro-batch(es) of '
    f'{candidate.sequences} sequences a chip'
  )


def _outcome(row: Row) -> str:
  if row.seconds is None:
    text = row.outcome
    if row.memory_gib is not None:
      text += f', needs {row.memory_gib:.1f} GiB'
    return f'{text}: {row.why}' if row.why else text
  return (
    f'{_milliseconds(row.seconds)} ms, bound by {row.main["bound"]}, '
    f'{row.memory_gib:.1f} GiB'
  )


_HEAD = (
  'attention', 'remat', 'accumulation', 'sequences', 'GiB', 'step, ms',
  'compute', 'HBM', 'kernels', 'links', 'bound by', 'MFU', '',
)  # fmt: skip


def format_table(rows: Sequence[Row], where: Slice) -> str:
  """Returns the table of all candidates, the fastest first.

  'sequences' are those that a chip has at a time; times are in milliseconds,
  'links' what the program waits for; memory is of what a program may use.
  """
  order = sorted(rows, key=lambda row: (row.seconds or math.inf, row.outcome))
  cells = [_HEAD, *(_cells(row) for row in order)]
  widths = [max(map(len, column)) for column in zip(*cells)]
  lines = [
    '  '.join(cell.rjust(width) for cell, width in zip(line[:-1], widths))
    + f'  {line[-1]}'
    for line in cells
  ]
  usable = f'{where.name}: {where.chip.usable_gib} GiB usable on each chip'
  return '\n'.join([usable, *(line.rstrip() for line in lines)])


def _cells(row: Row) -> tuple[str, ...]:
  config = row.candidate.config
  measured: tuple[str, ...] = ('-',) * 7
  if row.seconds is not None:
    main, parts = row.main, row.main['seconds']
    kernels = parts['kernel_compute'] + parts['kernel_memory']
    measured = (
      _milliseconds(row.seconds),
      _milliseconds(parts['compute']),
      _milliseconds(parts['memory']),
      _milliseconds(kernels),
      _milliseconds(parts['waiting']),
      main['bound'],
      f'{main["mfu"]:.1%}',
    )
  memory = '-' if row.memory_gib is None else f'{row.memory_gib:.2f}'
  note = f'{row.outcome}: {row.why}' if row.why else row.outcome
  return (
    row.candidate.attention,
    config.remat,
    str(config.accumulation_steps),
    str(row.candidate.sequences),
    memory,
    *measured,
    note,
  )


def _gain(rows: Sequence[Row], best: Row) -> str:
  """Returns how much faster the best one is than the run as it is."""
  assert best.seconds is not None
  text = f', {_milliseconds(best.seconds)} ms'
  given = rows[0]
  if given.seconds is None or given is best:
    return text
  return (
    f'{text} ({given.seconds / best.seconds:.2f} times as fast as configured)'
  )


def _result(rows: Sequence[Row], where: Slice) -> dict[str, Any]:
  best = fastest(rows)
  problems = [] if best else [f'nothing that was tried fits {where.name}.']
  return {
    'topology': where.name,
    'chips': where.size,
    'rows': [_json(row) for row in rows],
    'fastest': None if best is None else list(best.candidate.settings),
    'problems': problems,
  }


def _json(row: Row) -> dict[str, Any]:
  config = row.candidate.config
  return {
    'settings': list(row.candidate.settings),
    'attention': row.candidate.attention,
    'remat': config.remat,
    'accumulation_steps': config.accumulation_steps,
    'sequences': row.candidate.sequences,
    'outcome': row.outcome,
    'why': row.why,
    'step_seconds': row.seconds,
    'compute_seconds_by_formula': row.candidate.compute,
    'hbm_gib': row.memory_gib,
    'hbm_gib_at_least': row.candidate.memory_gib,
    'steps': dict(row.steps),
  }


def _milliseconds(seconds: float) -> str:
  return f'{1e3 * seconds:.3g}' if seconds < 1 else f'{1e3 * seconds:.0f}'
