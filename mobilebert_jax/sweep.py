"""Searches over any fields of a config: every combination is a run.

  python -m mobilebert_jax.sweep --config=FILE[:VARIANT] --workdir=DIR
      --sweep.a.b=VALUE,VALUE... [--config.a.b=value ...]

  --config      a config file, as for train.py
  --workdir     where everything is written: each point in a directory of its
                own, and the table (sweep.md, sweep.json), its picture
                (sweep.png) and the best point's model (model/). The same
                command continues, also after a kill; with more values it runs
                only what is new.
  --sweep.a.b   the values of a field of the config, with commas between them
  --config.a.b  another value for all points, as for train.py

The search of MobileBERT's paper for a task of GLUE:

  python -m mobilebert_jax.sweep --config=configs/glue_rte.py --workdir=DIR
      --sweep.optimizer.learning_rate=1e-5,2e-5,3e-5,4e-5,5e-5,6e-5,7e-5,8e-5,9e-5,1e-4
      --sweep.batch_size=16,32,48 --sweep.num_epochs=2,3,4,5,6,7,8,9,10

A point that diverges is a row of the table. Exit status: 0; 1 if every point
diverged; 2 if the input was wrong; 75 if SIGTERM interrupted it: the same
command continues.
"""

import sys
from collections.abc import Sequence

from mobilebert_jax.config import command_line
from mobilebert_jax.experiments.sweep import grid
from mobilebert_jax.runtime import cluster


def main(argv: Sequence[str]):
  """Parses the command line and searches."""
  fields, rest = grid.take_fields(argv)
  own = {'config': 'a config file', 'workdir': 'where everything is written'}
  given, rest = command_line.take_flags(rest, own, required=tuple(own))
  points = grid.points(
    fields, lambda more: command_line.configure(given['config'], [*rest, *more])
  )
  cluster.refuse_several('python -m mobilebert_jax.sweep')
  # After the flags: this loads jax and all that the runs need.
  from mobilebert_jax.experiments.sweep import search

  summary = search.search(points, given['workdir'])
  if summary['best'] is None:
    raise FloatingPointError('every point diverged; try lower learning rates.')


if __name__ == '__main__':
  sys.exit(command_line.run(main, __doc__))
