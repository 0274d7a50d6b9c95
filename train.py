"""Trains MobileBERT on a task.

  python train.py --config=FILE[:VARIANT] [--workdir=DIR] [--config.a.b=value]

  --config      a Python file with get_config, such as configs/quickstart.py
  --workdir     where everything is written; runs/<config's name> by default.
                The same command in the same workdir continues a run.
  --config.a.b  another value for a field of the config, for example
                --config.batch_size=64 --config.optimizer.learning_rate=1e-4
                --config.init=DIR --config.model.hidden_dropout_prob=0.1;
                'none' unsets a field that may be unset.

On several hosts the same command runs on each; on Cloud TPU, GKE, SLURM and
Open MPI they find each other (docs/guides/tpu.md), elsewhere by three flags:
  --coordinator_address=HOST:PORT  of process 0
  --num_processes=N  --process_id=I  from 0

The fields are described in mobilebert_jax/config/run.py and config_groups.py.
Exit status: 0 when finished; 1 if the run failed (it diverged, or the disk was
full); 2 if the input was wrong; 75 if SIGTERM interrupted it (the last step is
saved) and 130 if Ctrl-C did: the same command continues.
"""

import pathlib
import sys
from collections.abc import Sequence

from mobilebert_jax.config import command_line


def main(argv: Sequence[str]):
  """Parses the command line and trains."""
  command = command_line.parse(argv, {'workdir': 'where everything is written'})
  # After the flags: this loads jax and all that the run needs.
  from mobilebert_jax.training import loop

  workdir = command.flags.get('workdir', pathlib.Path('runs') / command.name)
  loop.train(command.config, workdir)


if __name__ == '__main__':
  sys.exit(command_line.run(main, __doc__))
