"""Proves that the hosts of a slice work together.

Run it on every host at once, as train.py is run. All processes must have the
same Python, packages and source; a file that process 0 writes into --workdir
must be seen by all; and a sum over all devices of all hosts must be right. A
slice whose hosts have not found each other is several runs of one process each.
"""

import hashlib
import importlib.metadata
import pathlib
import platform
import sys
import uuid
from collections.abc import Sequence

from mobilebert_jax.config import flags
from mobilebert_jax.config.command_line import Command, Flag
from mobilebert_jax.runtime import distributed, exit_status, files
from mobilebert_jax.runtime.errors import InputError

_PACKAGES = (
  'jax', 'jaxlib', 'libtpu', 'flax', 'optax', 'orbax-checkpoint', 'grain',
  'numpy', 'tokenizers',
)  # fmt: skip
COMMAND = Command(
  'python -m mobilebert_jax.check_slice',
  __doc__,
  (
    Flag(
      'processes',
      'how many processes there must be',
      int,
      otherwise='any number',
      value='N',
      limits={'at_least': 0},
    ),
    Flag(
      'workdir',
      'where runs will be written, such as gs://BUCKET/runs',
      otherwise='nothing is written',
      value='DIR',
    ),
    *flags.PROCESSES,
  ),
  example='--processes=4 --workdir=gs://BUCKET/runs',
)


def main(argv: Sequence[str]):
  """Parses the command line and checks."""
  given = COMMAND.parse(argv[1:])
  distributed.initialize(given.only(tuple(distributed.FLAGS)))
  count = distributed.process_count()
  wanted = given['processes']
  if wanted is not None and count != wanted:
    raise InputError(
      f'this run has {count} processes, but --processes is {wanted}: start the '
      'command on every host of the slice at the same time.'
    )
  check_versions()
  if given['workdir'] is not None:
    check_shared(given['workdir'])
  distributed.print_on_primary(check_sum())


def versions() -> dict[str, str]:
  """What must be the same on all hosts: Python, packages, our source."""
  result = {'python': platform.python_version()}
  for name in _PACKAGES:
    try:
      result[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      result[name] = 'none'
  digest = hashlib.sha256()
  root = pathlib.Path(__file__).parent
  for path in sorted(root.rglob('*.py')):
    digest.update(str(path.relative_to(root)).encode())
    digest.update(path.read_bytes())
  return {**result, 'source': digest.hexdigest()[:12]}


def check_versions():
  """Compares `versions` of all processes.

  Raises:
    InputError: two differ; on every process.
  """
  first, *others = distributed.gather(versions())
  for index, other in enumerate(others, 1):
    wrong = [
      f'{name} {other[name]} instead of {first[name]}'
      for name in first
      if other[name] != first[name]
    ]
    if wrong:
      raise InputError(
        f'process {index} has {", ".join(wrong)} of process 0; install the '
        'same on every host (tpu_setup.sh does).'
      )


def check_shared(directory: str):
  """Writes a file on process 0 and looks for it on all others.

  Raises:
    InputError: it cannot be written, or not everybody sees it.
  """
  folder = files.path(directory)
  probe = folder / f'check_slice_{distributed.gather(uuid.uuid4().hex)[0]}'

  def write():
    try:
      folder.mkdir(parents=True, exist_ok=True)
      files.write_text(probe, 'seen')
    except OSError as error:
      raise InputError(f'{directory} cannot be written: {error}.') from None

  def look():
    if not probe.exists():
      raise InputError(
        f'process {distributed.process_index()} does not see what process 0 '
        f'has written to {directory}; choose a directory that all hosts share.'
      )

  distributed.run_on_primary(write)
  try:
    distributed.raise_on_all(look)
  finally:
    distributed.run_on_primary(probe.unlink)


def check_sum() -> str:
  """Adds a number of each device up on all of them.

  Returns:
    A line that says how many devices were right.

  Raises:
    InputError: the sum is wrong.
  """
  import jax
  import numpy as np

  count = jax.device_count()
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ('all',))
  spread = jax.NamedSharding(mesh, jax.P('all'))
  numbers = np.arange(1, count + 1, dtype=np.int32)
  values = jax.make_array_from_callback(
    numbers.shape, spread, numbers.__getitem__
  )
  whole = jax.NamedSharding(mesh, jax.P())
  result = int(jax.jit(lambda x: x.sum(), out_shardings=whole)(values))
  if result != count * (count + 1) // 2:
    raise InputError(
      f'the sum of 1 to {count} over {count} devices is {result} on process '
      f'{distributed.process_index()}: the slice does not work.'
    )
  return (
    f'{distributed.process_count()} processes and {count} devices '
    f'({jax.devices()[0].device_kind}) work together: the sum over all of them '
    f'is {result}, as it must be.'
  )


if __name__ == '__main__':
  sys.exit(exit_status.run(main))
