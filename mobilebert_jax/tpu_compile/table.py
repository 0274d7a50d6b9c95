"""A report as text for people."""

from typing import Any

from mobilebert_jax.tpu_compile.topology import Slice

_WIDTH = 19


def heading(report: dict[str, Any], where: Slice) -> str:
  """What is compiled, and for what."""
  chip = where.chip
  mesh = ' x '.join(f'{name} {size}' for name, size in report['mesh'].items())
  cores = 'one core' if chip.cores == 1 else f'{chip.cores} cores as one device'
  lines = [
    f'{report["model"]}, {report["layers"]} blocks, '
    f'{report["parameters"]:,} parameters; {report["task"]} in '
    f'{report["dtype"]}, remat {report["remat"]}, '
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


def step(name: str, found: dict[str, Any]) -> str:
  """One compiled step."""
  parts = found['hbm_parts_gib']
  seconds = found['seconds']
  shape = ' x '.join(map(str, found['batch']))
  rows = [
    ('compiled in', f'{found["compile_seconds"]:.0f} s'),
    (
      'FLOPs per chip',
      f'{_si(found["flops"])} (by formula {_si(found["flops_by_formula"])})',
    ),
    *(
      (f'  {kind}', _share(flops, found['flops']))
      for kind, flops in found['products'].items()
    ),
    (
      'HBM used',
      f'{found["hbm_gib"]:.2f} of {found["hbm_usable_gib"]} GiB '
      f'(state {parts["state"]:.2f}, temporary {parts["temporary"]:.2f}, '
      f'results {parts["results"]:.2f}, program {parts["code"]:.2f})',
    ),
    ('HBM traffic', f'{_si(found["hbm_traffic_bytes"])}B'),
    *(_collective(row) for row in found['collectives']),
    (
      'at least',
      f'{_time(found["step_seconds"])}, bound by {found["bound"]} '
      f'(compute {_time(seconds["compute"])}, HBM {_time(seconds["memory"])}, '
      f'interconnect {_time(seconds["waiting"] + seconds["hidden"])})',
    ),
    (
      'at most',
      f'{found["mfu"]:.1%} MFU, {found["tokens_per_second"]:,.0f} tokens/s, '
      f'padding included',
    ),
  ]
  if found['is_stable'] is False:
    rows.append(('compiled again', 'its new state is laid out otherwise'))
  if found['uncounted']:
    rows.append(('FLOPs not known', ', '.join(found['uncounted'])))
  lines = [f'{left:{_WIDTH}} {right}' for left, right in rows]
  return '\n'.join([f'{name} step, batch {shape}', *(f'  {x}' for x in lines)])


def cost(found: dict[str, Any] | None) -> str:
  """The whole run."""
  if found is None:
    return (
      'The number of steps follows from the data (num_epochs); with '
      '--config.num_steps=N --config.num_epochs=none this says what they cost.'
    )
  return (
    f'{found["steps"]:,} steps, {found["tokens"]:.3g} tokens: at least '
    f'{_amount(found["days"])} days, {_amount(found["chip_hours"])} chip-hours.'
  )


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
  """A number with a prefix of the metric system."""
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
