"""Trains MobileBERT on a task.

The same command in the same workdir continues a run. With a config file, --help
lists all of its settings, with their values and what they mean.

On several hosts the same command runs on each; on Cloud TPU, GKE, SLURM and
Open MPI they find each other (docs/guides/tpu.md), elsewhere by the last three
flags.
"""

import pathlib
import sys
from collections.abc import Sequence

from mobilebert_jax.config import overrides
from mobilebert_jax.config.command_line import Flag
from mobilebert_jax.runtime import exit_status

COMMAND = overrides.run_command(
  'python train.py',
  __doc__,
  flags=(
    Flag(
      'workdir',
      'where everything is written',
      otherwise="runs/ and the config's name",
      value='DIR',
    ),
  ),
  example='--config=configs/quickstart.py --workdir=runs/first',
  failure='the run failed: it diverged, or the disk was full',
  continues=True,
)


def main(argv: Sequence[str]):
  """Parses the command line and trains."""
  given = COMMAND.parse(argv[1:])
  config = overrides.agreed(given)
  # After the flags: this loads jax and all that the run needs.
  from mobilebert_jax import launch

  name = overrides.name_of(given['config'])
  launch.train(config, given['workdir'] or pathlib.Path('runs') / name)


if __name__ == '__main__':
  sys.exit(exit_status.run(main, continues=COMMAND.continues))
