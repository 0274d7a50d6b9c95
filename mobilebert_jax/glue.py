"""Trains several tasks of GLUE and writes the benchmark's submission.

Each task has a directory of its own in the workdir, beside the table of scores
(glue.md, glue.json) and glue_submission.zip. The same command continues, also
after a kill; with more tasks it runs only the new ones. MNLI's model answers
the diagnostics (AX.tsv) where they are beside the data. A task that diverges
does not stop the others.
"""

import sys
from collections.abc import Sequence

from mobilebert_jax.config import overrides
from mobilebert_jax.config.command_line import Command, Flag
from mobilebert_jax.runtime import distributed, exit_status
from mobilebert_jax.runtime.errors import InputError

_CONFIG = 'configs/glue_{task}.py'
COMMAND = Command(
  'python -m mobilebert_jax.glue',
  __doc__,
  (
    Flag(
      'workdir', 'where everything is written', value='DIR', is_required=True
    ),
    Flag(
      'config',
      "the config files, {task} standing for the task's name, and which of "
      'their variants',
      default=_CONFIG,
      value='FILE[:VARIANT]',
    ),
    Flag(
      'tasks',
      'of cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte and wnli, with commas',
      otherwise='all',
      value='A,B,...',
    ),
  ),
  example='--workdir=runs/glue --config=configs/glue_{task}.py:small '
  '--config.data.source=files --config.data.path=GLUE_DIR',
  prefixes=(overrides.config_prefix('another value for every task'),),
  failure='a task diverged',
  continues=True,
)


def main(argv: Sequence[str]):
  """Parses the command line and runs the tasks."""
  given = COMMAND.parse(argv[1:])
  pattern = given['config']
  names = _names(given['tasks'])
  if '{task}' not in pattern and len(names) > 1:
    raise InputError(
      f'--config={pattern} must have {{task}} where the name of the task '
      f'belongs, as in {_CONFIG}.'
    )
  configs = {
    name: overrides.load(
      pattern.replace('{task}', name), given.assignments['config']
    )
    for name in names
  }
  distributed.refuse_several(COMMAND.name)
  # After the flags: this loads jax and all that the runs need.
  from mobilebert_jax.experiments.glue import suite

  summary = suite.run(configs, given['workdir'])
  diverged = [
    name
    for name, entry in summary['tasks'].items()
    if entry['status'] == 'diverged'
  ]
  if diverged:
    raise FloatingPointError(
      f'{", ".join(diverged)} diverged; see glue.json, and use lower learning '
      'rates in an empty directory.'
    )


def _names(text: str | None) -> list[str]:
  from mobilebert_jax.experiments.glue.benchmark import SCORES

  if text is None:
    return list(SCORES)
  names = [name.strip() for name in text.split(',')]
  for name in names:
    if name not in SCORES:
      raise InputError(
        f'--tasks: {name!r} is no task of GLUE; there are {", ".join(SCORES)}.'
      )
  if len(set(names)) < len(names):
    raise InputError(f'--tasks={text} names a task twice.')
  return names


if __name__ == '__main__':
  sys.exit(exit_status.run(main, continues=COMMAND.continues))
