"""What a step of pre-training costs on slices of TPUs, compiled for each.

  python benchmarks/scaling.py [--only=TEXT] [--missing]

Runs `python -m mobilebert_jax.tpu_compile` for student and teacher
(configs/scaling.py), each topology and each of the settings below, which are
few, of all that `--search` tries; keeps what it prints of the fastest in
docs/explanation/scaling.txt, and writes the tables of
docs/explanation/scaling.md between their marks: the fastest settings beside
what the page said before, and all that was compiled. Needs
pip install 'mobilebert_jax[tpu]' and a minute or two of a core for each, but no
TPU. --only runs those whose command contains TEXT, --missing those
that scaling.json (beside this script) has not; the others come from there.
"""

import json
import math
import pathlib
import subprocess
import sys
import tempfile

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_DOCS = _ROOT / 'docs' / 'explanation'
_TEXT, _PAGE = _DOCS / 'scaling.txt', _DOCS / 'scaling.md'
_JSON = pathlib.Path(__file__).with_suffix('.json')
_BEGIN, _END = '<!-- table -->', '<!-- end of table -->'
_ALL, _END_ALL = '<!-- all -->', '<!-- end of all -->'
_HEAD = (
  '| model | slice | chips | settings | GiB a chip | before, ms | step, ms '
  '| one by one, ms | bound by | links | MFU | tokens/s | days '
  '| chip-hours |\n|' + '---|' * 14
)
_HEAD_ALL = (
  '| model | slice | settings | GiB | step, ms | compute | HBM | kernels '
  '| waiting |\n|' + '---|' * 9
)
_PREFIX = '--config.'


def _settings(parts: int, *remat: str) -> tuple[tuple[str, ...], ...]:
  """Both kinds of attention with each policy of what is recomputed."""
  more = (f'{_PREFIX}accumulation_steps={parts}',) if parts > 1 else ()
  return tuple(
    (f'{_PREFIX}attention={attention}', f'{_PREFIX}remat={policy}', *more)
    for policy in remat
    for attention in ('xla', 'fused')
  )


RUNS = {
  'student': {
    'v5e:2x4': _settings(16, 'full', 'narrow'),
    'v5e:16x16': _settings(1, 'full', 'narrow', 'dots'),
    'v5p:2x2x1': _settings(4, 'full', 'narrow'),
    'v5p:2x4x4': _settings(1, 'full', 'narrow', 'dots'),
    'v6e:8x8': _settings(1, 'full', 'narrow', 'dots'),
  },
  'teacher': {
    'v5e:2x4': _settings(16, 'full', 'narrow'),
    'v5e:16x16': _settings(1, 'full', 'narrow', 'dots'),
    'v5p:2x2x1': _settings(4, 'full', 'narrow'),
    'v5p:2x4x4': _settings(1, 'full', 'narrow', 'dots'),
    'v6e:8x8': _settings(2, 'full', 'narrow'),
  },
}


def main():
  """Runs what is asked for and writes the three files."""
  given = sys.argv[1:]
  is_missing = '--missing' in given
  only = ''.join(a.removeprefix('--only=') for a in given if '=' in a)
  known = json.loads(_JSON.read_text())
  results = known['results']
  for variant, slices in RUNS.items():
    for topology, candidates in slices.items():
      for settings in candidates:
        start = [f'--config=configs/scaling.py:{variant}']
        command = ' '.join([*start, f'--topology={topology}', *settings])
        if only not in command or (is_missing and command in results):
          continue
        results[command] = _run(command) | {
          'model_name': variant,
          'asked': ' '.join(s.removeprefix(_PREFIX) for s in settings),
        }
        _JSON.write_text(json.dumps(known, indent=1, sort_keys=True) + '\n')
  write(known)


def write(known: dict):
  """Writes the page's tables and the text from all results."""
  order = [(v, t) for v, slices in RUNS.items() for t in slices]
  found = []
  for variant, topology in order:
    some = [
      one
      for one in known['results'].values()
      if (one['model_name'], one['topology']) == (variant, topology)
      and one['cost'] is not None
    ]
    found.append(sorted(some, key=_seconds))
  best = [some[0] for some in found if some]
  before = known['before']
  rows = [
    _row(some[0], before) if some else _row_before(variant, topology, before)
    for (variant, topology), some in zip(order, found)
  ]
  _TEXT.write_text('\n'.join(one['text'] for one in best))
  page = _between(_PAGE.read_text(), _BEGIN, _END, [_HEAD, *rows])
  rows = [_short_row(one) for some in found for one in some]
  page = _between(page, _ALL, _END_ALL, [_HEAD_ALL, *rows])
  _PAGE.write_text(page)


def _seconds(one: dict) -> float:
  return one['steps']['training']['step_seconds']


def _between(page: str, begin: str, end: str, lines: list[str]) -> str:
  before, _, rest = page.partition(begin)
  _, _, after = rest.partition(end)
  text = '\n'.join(lines)
  return f'{before}{begin}\n{text}\n{end}{after}'


def _run(arguments: str) -> dict:
  """One compilation; its report, with the text that it printed."""
  with tempfile.TemporaryDirectory() as directory:
    file = pathlib.Path(directory) / 'report.json'
    command = [sys.executable, '-m', 'mobilebert_jax.tpu_compile']
    done = subprocess.run(
      [*command, *arguments.split(), '--operations=12', f'--json={file}'],
      cwd=_ROOT,
      stdout=subprocess.PIPE,
      text=True,
    )
    # 1: it does not fit; the report says so, and has no cost.
    if done.returncode > 1 or not file.exists():
      raise SystemExit(f'{arguments}: status {done.returncode}\n{done.stdout}')
    title = f'$ python -m mobilebert_jax.tpu_compile {arguments}\n'
    print(title + done.stdout, flush=True)
    report = json.loads(file.read_text())
    for step in report['steps'].values():
      # The costliest are in the text.
      step.pop('operations', None)
    if report['problems']:
      report['cost'] = None
    return report | {'text': title + done.stdout}


def _short_row(one: dict) -> str:
  """One line of the table of all that was compiled."""
  step = one['steps']['training']
  seconds = step['seconds']
  kernels = seconds['kernel_compute'] + seconds['kernel_memory']
  times = (
    step['step_seconds'], seconds['compute'], seconds['memory'], kernels,
    seconds['waiting'],
  )  # fmt: skip
  cells = (
    one['model_name'],
    one['topology'],
    one['asked'],
    f'{step["hbm_gib"]:.1f}',
    *(_time(1e3 * value) if value else '-' for value in times),
  )
  return f'| {" | ".join(cells)} |'


def _row(one: dict, before: dict) -> str:
  """One line of the table of the fastest settings."""
  name = f'{one["model_name"]} {one["topology"]}'
  step, cost = one['steps']['training'], one['cost']
  seconds = step['seconds']
  memory = max(found['hbm_gib'] for found in one['steps'].values())
  cells = (
    one['model_name'],
    one['topology'],
    str(one['chips']),
    one['asked'] or '-',
    f'{memory:.1f} of {step["hbm_usable_gib"]}',
    _time(before[name]['step_milliseconds']),
    _time(1e3 * step['step_seconds']),
    _time(1e3 * step['serial_seconds']),
    step['bound'],
    f'{(seconds["waiting"] + seconds["hidden"]) / step["step_seconds"]:.0%}',
    f'{step["mfu"]:.0%}',
    f'{step["tokens_per_second"]:,.0f}',
    _short(cost['days']),
    f'{cost["chip_hours"]:,.0f}',
  )
  return f'| {" | ".join(cells)} |'


def _row_before(variant: str, topology: str, before: dict) -> str:
  """The line of a slice for which nothing is compiled again yet."""
  milliseconds = _time(before[f'{variant} {topology}']['step_milliseconds'])
  chips = math.prod(map(int, topology.partition(':')[2].split('x')))
  cells = [variant, topology, str(chips), '-', '-', milliseconds]
  return f'| {" | ".join(cells)} |' + ' - |' * 8


def _time(milliseconds: float) -> str:
  """Three digits or more."""
  if milliseconds >= 100:
    return f'{milliseconds:,.0f}'
  return f'{milliseconds:.3g}'


def _short(number: float) -> str:
  """Two digits or more."""
  return f'{number:,.0f}' if number >= 10 else f'{number:.2g}'


if __name__ == '__main__':
  main()
