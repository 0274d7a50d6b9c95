"""What a compiled run amounts to: as values for JSON, and as a table."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from mobilebert_jax import models
from mobilebert_jax.distillation import transfer
from mobilebert_jax.tpu_compile import analytic, roofline
from mobilebert_jax.tpu_compile.analytic import Workload
from mobilebert_jax.tpu_compile.hlo.counts import (
  Collective,
  Counts,
  Operation,
)
from mobilebert_jax.tpu_compile.program import CompilationPlan, CompiledStep
from mobilebert_jax.tpu_compile.topology import Slice
from mobilebert_jax.training import starting

_GIB = 2**30
DAY = 86400
_HOUR = 3600
# The costliest operations that a report names, and how much of their names.
_OPERATIONS, _LABEL_PARTS = 20, 3
# Parts of a JAX operation's name that say how it runs, not what it is.
_STRUCTURE = frozenset({
  'while', 'body', 'eval_jaxpr', 'closed_call', 'checkpoint',
  'rematted_computation', 'mobilebert', 'encoder',
})  # fmt: skip


def describe(of: CompilationPlan, where: Slice) -> dict[str, Any]:
  """Returns JSON values of the run and the slice."""
  model = of.task.head(of.architecture)
  shapes = models.abstract_params(model)
  config = of.config
  return {
    'topology': where.name,
    'chips': where.size,
    'chip': {
      name: value
      for name, value in dataclasses.asdict(where.chip).items()
      if name not in ('slices', 'configuration')
    },
    'mesh': dict(of.mesh.shape),
    'task': of.task.name,
    'model': of.task.head.__name__,
    'layers': of.architecture.num_hidden_layers,
    'vocabulary': of.architecture.vocab_size,
    'parameters': sum(leaf.size for leaf in jax.tree.leaves(shapes)),
    'dtype': config.dtype,
    'attention': config.attention,
    'remat': config.remat,
    'accumulation_steps': config.accumulation_steps,
    'num_steps': config.num_steps,
  }


def measure(
  step: CompiledStep, of: CompilationPlan, where: Slice
) -> dict[str, Any]:
  """Returns JSON values of a compiled step, per chip unless named else."""
  counts, result = step.counts, roofline.estimate(step.counts, where)
  work = analytic.workload(of.architecture, of.task.head, step.batch)
  useful, expected = flops_by_formula(step.name, of, work)
  peak = where.chip.peak_flops * where.size
  return {
    'batch': list(step.batch['input_ids'].shape),
    'tokens': work.tokens,
    'compile_seconds': round(step.seconds, 1),
    'flops': counts.flops,
    'flops_by_formula': expected / where.size,
    'model_flops': useful / where.size,
    'products': {
      ' x '.join(dtypes[:2]) + f' -> {dtypes[2]}': flops
      for dtypes, flops in sorted(counts.flops_by_dtypes().items())
    },
    'hbm_gib': step.memory.total / _GIB,
    'hbm_usable_gib': where.chip.usable_gib,
    'hbm_parts_gib': {
      name: size / _GIB
      for name, size in dataclasses.asdict(step.memory).items()
    },
    'hbm_traffic_bytes': counts.bytes,
    'kernels': _kernels(counts.kernels, where),
    'collectives': _collectives(counts.collectives),
    'operations': _operations(counts, where),
    'seconds': dataclasses.asdict(result),
    'step_seconds': result.step,
    'serial_seconds': result.serial,
    'bound': result.bound,
    'tokens_per_second': work.tokens / result.step,
    'mfu': useful / (result.step * peak),
    'uncounted': list(counts.uncounted),
    'is_stable': step.is_stable,
  }


def cost(
  measured: dict[str, Any], of: CompilationPlan, chips: int
) -> dict[str, float] | None:
  """Returns what a whole run costs at least; None if its length is not known.

  Stages of a transfer between the first and the last one are taken to lie on a
  line between them: each runs one block more of both models.

  Args:
    measured: `measure` of each step of `of.steps`, by its name.
    of: the run.
    chips: of the slice.
  """
  steps = of.config.num_steps
  if steps is None:
    return None
  seconds, rest = 0.0, steps
  transfer = [s for s in of.stages if not s.has_task]
  if transfer:
    first, last = (
      measured[f'stage {s.number}']['step_seconds']
      for s in (transfer[0], transfer[-1])
    )
    # The mean of numbers on a line is that of their ends.
    rest = steps - of.config.distillation.transfer_steps
    seconds = (steps - rest) * (first + last) / 2
  if rest:
    seconds += rest * measured['training']['step_seconds']
  return {
    'steps': steps,
    'tokens': steps * measured[of.steps[0]]['tokens'],
    'days': seconds / DAY,
    'chip_hours': chips * seconds / _HOUR,
  }


def flops_by_formula(
  name: str, of: CompilationPlan, work: Workload
) -> tuple[float, float]:
  """Returns a step's FLOPs without recomputation, and with it, by formula.

  Args:
    name: one of `CompilationPlan.steps`.
    of: the run.
    work: what the step runs, on all chips.
  """
  if name == 'evaluation':
    return (analytic.forward(work),) * 2
  stage = of.stage(name)
  if stage is None:
    return analytic.model_flops(work), analytic.training(of.config, work)
  assert of.teacher is not None
  of_stage = (of.config, of.teacher, stage, work)
  useful, computed = analytic.distillation(*of_stage)
  rows = work.rows // of.config.accumulation_steps
  compute = starting.compute_of(of.config)
  with jax.set_mesh(of.mesh):
    compared = transfer.compared_attention(
      of.task.head(of.architecture, compute=compute),
      of.config.distillation,
      (rows, work.length, of.architecture.hidden_size),
    )
  if compared == 'inputs':
    computed += analytic.attention_transfer(*of_stage)
  return useful, computed


def _collectives(result: tuple[Collective, ...]) -> list[dict[str, Any]]:
  """Returns JSON values of equal collectives together, largest first."""
  groups: dict[Any, list[Collective]] = collections.defaultdict(list)
  for one in result:
    trips = tuple(n for _, n in one.loops)
    groups[(one.kind, one.dtypes, one.group, trips, one.is_async)].append(one)
  rows = [
    {
      'kind': kind,
      'dtypes': list(dtypes),
      'chips': group,
      'loops': list(trips),
      'is_async': is_async,
      'count': sum(one.times for one in some),
      'bytes': sum(one.times * one.bytes for one in some),
    }
    for (kind, dtypes, group, trips, is_async), some in groups.items()
  ]
  return sorted(rows, key=lambda row: -row['bytes'])


def _kernels(kernels: Sequence[Operation], where: Slice) -> dict[str, Any]:
  """Returns JSON values of each kind of Pallas kernel, by its name."""
  groups: dict[str, list[Operation]] = collections.defaultdict(list)
  for kernel in kernels:
    groups[_label(kernel.op_name)].append(kernel)
  return {label: _together(some, where) for label, some in groups.items()}


def _operations(counts: Counts, where: Slice) -> list[dict[str, Any]]:
  """Returns JSON values of the costliest operations of the main program.

  Operations of one JAX operation are together, those of all layers too.
  """
  groups: dict[str, list[Operation]] = collections.defaultdict(list)
  for one in counts.operations:
    if not one.is_beside:
      groups[_label(one.op_name)].append(one)
  rows = [
    {'operation': label} | _together(some, where)
    for label, some in groups.items()
  ]
  waits: dict[str, float] = collections.defaultdict(float)
  for collective in counts.collectives:
    label = f'{collective.kind} {_label(collective.op_name)}'
    waits[label] += roofline.waiting(collective, where)
  rows += [
    {'operation': label, 'seconds': seconds, 'bound': 'interconnect'}
    for label, seconds in waits.items()
  ]
  return sorted(rows, key=lambda row: -row['seconds'])[:_OPERATIONS]


def _together(some: Sequence[Operation], where: Slice) -> dict[str, Any]:
  """Returns JSON values of operations, as they run one after the other."""
  seconds: dict[str, float] = collections.defaultdict(float)
  for one in some:
    bound = roofline.operation_bound(one, where)
    seconds[bound] += one.times * roofline.operation_seconds(one, where)
  return {
    'seconds': sum(seconds.values()),
    'bound': max(seconds, key=seconds.__getitem__),
    'count': sum(one.times for one in some),
    'flops': sum(one.times * one.flops for one in some),
    'hbm_traffic_bytes': sum(one.times * one.bytes for one in some),
  }


def _label(op_name: str) -> str:
  """Returns a short name of a JAX operation, with the pass it belongs to."""
  path = [
    part
    for part in op_name.split('/')
    if part not in _STRUCTURE and '(' not in part and '._' not in part
  ]
  if not path:
    return 'copies and the like'
  if 'layers' in path:
    path = path[path.index('layers') + 1 :] or ['layers']
  kind = 'forward'
  if 'rematted_computation' in op_name:
    kind = 'recomputed'
  elif 'transpose(' in op_name:
    kind = 'backward'
  return f'{kind} {"/".join(path[-_LABEL_PARTS:])}'


_WIDTH = 19


def format_heading(report: dict[str, Any], where: Slice) -> str:
  """Returns the text of what is compiled, and for what."""
  chip = where.chip
  mesh = ' x '.join(f'{name} {size}' for name, size in report['mesh'].items())
  cores = 'one core' if chip.cores == 1 else f'{chip.cores} cores as one device'
  lines = [
    f'{report["model"]}, {report["layers"]} blocks, '
    f'{report["parameters"]:,} parameters; {report["task"]} in '
    f'{report["dtype"]}, attention {report["attention"]}, '
    f'remat {report["remat"]}, '
    f'{report["accumulation_steps"]} micro-batch(es)',
    f'{where.name}: {where.size} chips of {chip.hbm_gib} GiB '
    f'({chip.usable_gib} usable), {cores}; mesh {mesh}',
  ]
  if report['dtype'] == 'float32':
    lines.append(
      'note: by default a TPU multiplies float32 matrices in one bfloat16 pass '
      'and adds up in float32; JAX_DEFAULT_MATMUL_PRECISION=highest changes it.'
    )
  return '\n'.join(lines)


def format_step(name: str, result: dict[str, Any]) -> str:
  """Returns the text of one compiled step."""
  parts = result['hbm_parts_gib']
  seconds = result['seconds']
  shape = ' x '.join(map(str, result['batch']))
  rows = [
    ('compiled in', f'{result["compile_seconds"]:.0f} s'),
    (
      'FLOPs per chip',
      f'{_si(result["flops"])} (by formula {_si(result["flops_by_formula"])})',
    ),
    *(
      (f'  {kind}', _share(flops, result['flops']))
      for kind, flops in result['products'].items()
    ),
    (
      'HBM used',
      f'{result["hbm_gib"]:.2f} of {result["hbm_usable_gib"]} GiB '
      f'(state {parts["state"]:.2f}, temporary {parts["temporary"]:.2f}, '
      f'results {parts["results"]:.2f}, program {parts["code"]:.2f})',
    ),
    ('HBM traffic', f'{_si(result["hbm_traffic_bytes"])}B'),
    *(
      ('kernel', f'{label}: {_operation(row)}')
      for label, row in result['kernels'].items()
    ),
    *(_collective(row) for row in result['collectives']),
    (
      'at least',
      f'{_time(result["step_seconds"])}, bound by {result["bound"]} '
      f'(compute {_time(seconds["compute"])}, HBM {_time(seconds["memory"])}, '
      f'{_kernel_time(seconds)}'
      f'interconnect {_time(seconds["waiting"] + seconds["hidden"])})',
    ),
    (
      'one by one',
      f'{_time(result["serial_seconds"])}: each operation the longer of its '
      'compute and its HBM traffic',
    ),
    (
      'at most',
      f'{result["mfu"]:.1%} MFU, {result["tokens_per_second"]:,.0f} tokens/s, '
      f'padding included',
    ),
  ]
  if result['is_stable'] is False:
    rows.append(('compiled again', 'its new state is laid out otherwise'))
  if result['uncounted']:
    rows.append(('FLOPs not known', ', '.join(result['uncounted'])))
  lines = [f'{left:{_WIDTH}} {right}' for left, right in rows]
  return '\n'.join([f'{name} step, batch {shape}', *(f'  {x}' for x in lines)])


def format_operations(result: dict[str, Any], count: int) -> str:
  """Returns the text of a step's costliest operations and what bounds them.

  Args:
    result: from `measure`.
    count: how many of them.
  """
  lines = ['  the costliest operations, one after the other:']
  for row in result['operations'][:count]:
    share = row['seconds'] / result['serial_seconds']
    text = f'bound by {row["bound"]}'
    if 'count' in row:
      text = _operation(row)
    lines.append(f'    {share:5.1%}  {row["operation"]}: {text}')
  return '\n'.join(lines)


def format_cost(result: dict[str, Any] | None) -> str:
  """Returns the text of what the whole run costs."""
  if result is None:
    return (
      'The number of steps follows from the data (num_epochs); with '
      '--config.num_steps=N --config.num_epochs=none this says what they cost.'
    )
  return (
    f'{result["steps"]:,} steps, {result["tokens"]:.3g} tokens: at least '
    f'{_amount(result["days"])} days, '
    f'{_amount(result["chip_hours"])} chip-hours.'
  )


def _operation(row: dict[str, Any]) -> str:
  return (
    f'{row["count"]} times, {_time(row["seconds"])}, bound by {row["bound"]} '
    f'({_si(row["flops"])}FLOPs, {_si(row["hbm_traffic_bytes"])}B)'
  )


def _kernel_time(seconds: dict[str, float]) -> str:
  total = seconds['kernel_compute'] + seconds['kernel_memory']
  return f'kernels {_time(total)}, ' if total else ''


def _collective(row: dict[str, Any]) -> tuple[str, str]:
  loops = ' x '.join(map(str, row['loops']))
  where = f', in loops of {loops}' if loops else ''
  overlap = ', overlapped' if row['is_async'] else ''
  return (
    row['kind'],
    f'{row["count"]} of {" and ".join(row["dtypes"])}, '
    f'{_si(row["bytes"])}B in all, among {row["chips"] or "all"} chips'
    f'{where}{overlap}',
  )


def _si(number: float) -> str:
  """Returns a number with a prefix of the metric system."""
  for factor, prefix in ((1e15, 'P'), (1e12, 'T'), (1e9, 'G'), (1e6, 'M')):
    if number >= factor:
      return f'{number / factor:.2f} {prefix}'
  if number >= 1e3:
    return f'{number / 1e3:.2f} k'
  return f'{number:.0f} '


def _share(part: float, whole: float) -> str:
  return f'{part / whole:.1%}' if whole else '-'


def _time(seconds: float) -> str:
  return f'{seconds * 1e3:.3g} ms' if seconds < 1 else f'{seconds:.3g} s'


def _amount(number: float) -> str:
  return f'{number:,.0f}' if number >= 100 else f'{number:.2g}'
