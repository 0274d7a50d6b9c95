"""Compiles a run's steps for a TPU slice that is not at hand.

  python -m mobilebert_jax.tpu_compile --config=FILE[:VARIANT]
      --topology=CHIP:SHAPE [--json=FILE] [--config.a.b=value ...]

  --config      a config file, as for train.py
  --topology    a slice, such as v5e:4x4 or v5p:2x2x1; chips: v5e, v6e, v5p, v4
  --json        where to write all values as JSON
  --config.a.b  another value for a field of the config, as for train.py

It compiles the training step and the evaluation step that train.py would run,
with the longest batches, by libtpu (pip install 'mobilebert_jax[tpu]'), and
counts what they do. It needs neither a TPU nor data nor weights; but a user's
own data decides the labels and must be there, and so must the config of a
checkpoint of one's own. If a step does not fit the chip's memory, it looks for
a setting with which it does.

Times are lower bounds: nothing is run. See docs/explanation/scaling.md.
Exit status: 0; 1 if a step does not fit; 2 if the input was wrong.
"""

import pathlib
import sys
from collections.abc import Sequence

from mobilebert_jax.config import command_line
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError, RunError


def main(argv: Sequence[str]):
  """Parses the command line, compiles and reports."""
  own = {'config': 'a config file', 'topology': 'a slice', 'json': 'a file'}
  given, rest = command_line.take_flags(
    argv, own, required=('config', 'topology')
  )
  # Before anything asks for devices: a TPU here may be another program's.
  import jax

  from mobilebert_jax.tpu_compile import session, topology

  jax.config.update('jax_platforms', 'cpu')
  where = topology.parse(given['topology'])
  target = pathlib.Path(given['json']) if 'json' in given else None
  if target is not None and not target.absolute().parent.is_dir():
    raise InputError(f'--json={target}: there is no directory for it.')
  config = command_line.configure(given['config'], rest)
  found = session.run(config, where, tell=lambda text: print(text, flush=True))
  found['config'] = given['config']
  if target is not None:
    files.write_json(target, found)
  if found['problems']:
    raise RunError(' '.join(found['problems']))


if __name__ == '__main__':
  sys.exit(command_line.run(main, __doc__))
