"""What a step of pre-training costs on slices of TPUs, compiled for each.

  python benchmarks/scaling.py [--only=TEXT]

Runs `python -m mobilebert_jax.tpu_compile` for student and teacher
(configs/scaling.py) and each topology below, with settings that fit; keeps
what it prints in docs/explanation/scaling.txt, and writes the table of
docs/explanation/scaling.md between its marks. Needs
pip install 'mobilebert_jax[tpu]' and about half an hour on two cores, but no
TPU. --only runs those whose command contains TEXT and takes the others from
scaling.json, which is beside this script.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_DOCS = _ROOT / 'docs' / 'explanation'
_TEXT, _PAGE = _DOCS / 'scaling.txt', _DOCS / 'scaling.md'
_JSON = pathlib.Path(__file__).with_suffix('.json')
_BEGIN, _END = '<!-- table -->', '<!-- end of table -->'
_HEAD = (
  '| model | slice | chips | settings | GiB a chip | step, ms | bound by '
  '| links | MFU | tokens/s | days | chip-hours |\n|' + '---|' * 12
)


def _parts(count: int, remat: str = 'none') -> tuple[str, ...]:
  parts = f'--config.accumulation_steps={count}'
  return (parts,) if remat == 'none' else (f'--config.remat={remat}', parts)


# As few micro-batches, and as little recomputation, as fit.
RUNS = {
  'student': {
    'v5e:2x4': _parts(16),
    'v5e:16x16': (),
    'v5p:2x2x1': _parts(4),
    'v5p:2x4x4': (),
    'v6e:8x8': (),
  },
  'teacher': {
    'v5e:2x4': _parts(16, 'full'),
    'v5e:16x16': _parts(2),
    'v5p:2x2x1': _parts(16),
    'v5p:2x4x4': _parts(2),
    'v6e:8x8': _parts(4),
  },
}


def main():
  """Runs what is asked for and writes the three files."""
  only = ''.join(sys.argv[1:]).removeprefix('--only=')
  known = json.loads(_JSON.read_text()) if _JSON.exists() else {}
  for variant, slices in RUNS.items():
    for topology, settings in slices.items():
      command = ' '.join(
        [
          f'--config=configs/scaling.py:{variant}',
          f'--topology={topology}',
          *settings,
        ]
      )
      if only in command:
        known[f'{variant} {topology}'] = _run(command) | {
          'model_name': variant,
          'asked': ' '.join(s.removeprefix('--config.') for s in settings),
        }
        _JSON.write_text(json.dumps(known, indent=1, sort_keys=True) + '\n')
  order = [f'{v} {t}' for v, slices in RUNS.items() for t in slices]
  found = [known[name] for name in order if name in known]
  _TEXT.write_text('\n'.join(one['text'] for one in found))
  page = _PAGE.read_text()
  before, _, rest = page.partition(_BEGIN)
  _, _, after = rest.partition(_END)
  rows = '\n'.join(_row(one) for one in found)
  _PAGE.write_text(f'{before}{_BEGIN}\n{_HEAD}\n{rows}\n{_END}{after}')


def _run(arguments: str) -> dict:
  """One compilation; its report, with the text that it printed."""
  with tempfile.TemporaryDirectory() as directory:
    file = pathlib.Path(directory) / 'report.json'
    command = [sys.executable, '-m', 'mobilebert_jax.tpu_compile']
    done = subprocess.run(
      [*command, *arguments.split(), f'--json={file}'],
      cwd=_ROOT,
      stdout=subprocess.PIPE,
      text=True,
    )
    if done.returncode:
      raise SystemExit(f'{arguments}: status {done.returncode}\n{done.stdout}')
    title = f'$ python -m mobilebert_jax.tpu_compile {arguments}\n'
    print(title + done.stdout, flush=True)
    return json.loads(file.read_text()) | {'text': title + done.stdout}


def _row(one: dict) -> str:
  step, cost = one['steps']['training'], one['cost']
  seconds = step['seconds']
  memory = max(found['hbm_gib'] for found in one['steps'].values())
  cells = (
    one['model_name'],
    one['topology'],
    str(one['chips']),
    one['asked'] or '-',
    f'{memory:.1f} of {step["hbm_usable_gib"]}',
    _short(1e3 * step['step_seconds']),
    step['bound'],
    f'{(seconds["waiting"] + seconds["hidden"]) / step["step_seconds"]:.0%}',
    f'{step["mfu"]:.0%}',
    f'{step["tokens_per_second"]:,.0f}',
    _short(cost['days']),
    f'{cost["chip_hours"]:,.0f}',
  )
  return f'| {" | ".join(cells)} |'


def _short(number: float) -> str:
  """Two digits or more."""
  return f'{number:,.0f}' if number >= 10 else f'{number:.2g}'


if __name__ == '__main__':
  main()
