"""Searches over any fields of a config: every combination is a run.

Each trial has a directory of its own in the workdir, beside the table
(sweep.md, sweep.json), its picture (sweep.png) and the best trial's model
(model/). The same command continues, also after a kill; with more values it
runs only what is new. A trial that diverges is a row of the table.

The search of MobileBERT's paper for a task of GLUE:

  python -m mobilebert_jax.sweep --config=configs/glue_rte.py --workdir=DIR
      --sweep.optimizer.learning_rate=1e-5,2e-5,3e-5,4e-5,5e-5,6e-5,7e-5,8e-5,9e-5,1e-4
      --sweep.batch_size=16,32,48 --sweep.num_epochs=2,3,4,5,6,7,8,9,10
"""

import sys
from collections.abc import Sequence

from mobilebert_jax.config import overrides
from mobilebert_jax.config.command_line import Command, Flag, Prefix
from mobilebert_jax.experiments.sweep import grid
from mobilebert_jax.runtime import distributed, exit_status

COMMAND = Command(
  'python -m mobilebert_jax.sweep',
  __doc__,
  (
    overrides.config_flag(),
    Flag(
      'workdir', 'where everything is written', value='DIR', is_required=True
    ),
  ),
  example='--config=configs/quickstart.py --workdir=runs/search '
  '--sweep.batch_size=32,64',
  prefixes=(
    Prefix(
      grid.PREFIX,
      f'--{grid.PREFIX}.a.b=VALUE,VALUE,...',
      'the values of a field of the config; at least one such field is '
      'searched, and commas inside of brackets belong to a value',
    ),
    overrides.config_prefix('another value for all trials'),
  ),
  more=overrides.describe,
  failure='every trial diverged',
  continues=True,
)


def main(argv: Sequence[str]):
  """Parses the command line and searches."""
  given = COMMAND.parse(argv[1:])
  fields = grid.fields_of(given.assignments[grid.PREFIX])
  trials = grid.trials(
    fields,
    lambda more: overrides.load(
      given['config'], [*given.assignments['config'], *more]
    ),
  )
  distributed.refuse_several(COMMAND.name)
  # After the flags: this loads jax and all that the runs need.
  from mobilebert_jax.experiments.sweep import search

  summary = search.search(trials, given['workdir'])
  if summary['best'] is None:
    raise FloatingPointError('every trial diverged; try lower learning rates.')


if __name__ == '__main__':
  sys.exit(exit_status.run(main, continues=COMMAND.continues))
