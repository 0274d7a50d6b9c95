"""Compiles a run's steps for a TPU slice that is not at hand, and counts.

It compiles the training step and the evaluation step that train.py would run,
with the longest batches, by libtpu (pip install 'mobilebert_jax[tpu]'), and
counts what they do. It needs neither a TPU nor data nor weights; but a user's
own data decides the labels and must be there, and so must the config of a
checkpoint of one's own. If a step does not fit the chip's memory, it looks for
a setting with which it does.

Times are lower bounds: nothing is run. See docs/explanation/scaling.md.
"""

import pathlib
import sys
from collections.abc import Sequence

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

  from mobilebert_jax.tpu_compile import session, topology

  jax.config.update('jax_platforms', 'cpu')
  where = topology.parse(given['topology'])
  target = pathlib.Path(given['json']) if given['json'] is not None else None
  if target is not None and not target.absolute().parent.is_dir():
    raise InputError(f'--json={target}: there is no directory for it.')
  config = overrides.load(given['config'], given.assignments['config'])
  result = session.run(
    config, where, write=lambda text: print(text, flush=True)
  )
  result['config'] = given['config']
  if target is not None:
    files.write_json(target, result)
  if result['problems']:
    raise RunError(' '.join(result['problems']))


if __name__ == '__main__':
  sys.exit(exit_status.run(main))
