"""Compiles a run's steps for a TPU slice that is not at hand, and counts.

It compiles the training step and the evaluation step that train.py would run,
with the longest batches, by libtpu (pip install 'mobilebert_jax[tpu]'), and
counts what they do. It needs neither a TPU nor data nor weights; but a user's
own data decides the labels and must be there, and so must the config of a
checkpoint of one's own. If a step does not fit the chip's memory, it looks for
a setting with which it does. With --search it looks for the fastest settings.

Times are lower bounds: nothing is run. See docs/explanation/scaling.md.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from mobilebert_jax.config import overrides
from mobilebert_jax.config.command_line import Command, Flag
from mobilebert_jax.runtime import exit_status, files
from mobilebert_jax.runtime.errors import InputError, RunError

COMMAND = Command(
  'python -m mobilebert_jax.tpu_compile',
  __doc__,
  (
    overrides.config_flag(),
    Flag(
      'topology',
      'a slice, such as v5e:4x4 or v5p:2x2x1; chips: v5e, v6e, v5p, v4',
      value='CHIP:SHAPE',
      is_required=True,
    ),
    Flag(
      'search',
      'tries attention, remat (what the backward pass recomputes) and '
      'accumulation_steps (micro-batches) in all combinations, for the same '
      'batch on the same slice, and names the fastest that fits',
      bool,
      default=False,
    ),
    Flag(
      'operations',
      'how many of the costliest operations of each step to show, with what '
      'bounds them',
      int,
      default=0,
      limits={'at_least': 0},
    ),
    Flag(
      'json',
      'where to write all values as JSON',
      otherwise='nowhere',
      value='FILE',
    ),
  ),
  example='--config=configs/scaling.py:student --topology=v5e:4x4',
  prefixes=(overrides.config_prefix(),),
  more=overrides.describe,
  failure='a step does not fit',
)


def main(argv: Sequence[str]):
  """Parses the command line, compiles and reports."""
  given = COMMAND.parse(argv[1:])
  # Before anything asks for devices: a TPU here may be another program's.
  import jax

  from mobilebert_jax.tpu_compile import search, session, topology

  jax.config.update('jax_platforms', 'cpu')
  where = topology.parse(given['topology'])
  target = pathlib.Path(given['json']) if given['json'] is not None else None
  if target is not None and not target.absolute().parent.is_dir():
    raise InputError(f'--json={target}: there is no directory for it.')
  config = overrides.load(given['config'], given.assignments['config'])

  def write(text: str):
    print(text, flush=True)

  def save(result: dict[str, Any]):
    if target is not None:
      files.write_json(target, result | {'config': given['config']})

  if given['search']:
    result = search.run(config, where, write, save, given['operations'])
  else:
    result = session.run(config, where, write, given['operations'])
  save(result)
  if result['problems']:
    raise RunError(' '.join(result['problems']))


if __name__ == '__main__':
  sys.exit(exit_status.run(main))
