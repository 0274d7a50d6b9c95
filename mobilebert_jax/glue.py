"""Trains several tasks of GLUE and writes the benchmark's submission.

  python -m mobilebert_jax.glue --workdir=DIR [--config=FILE] [--tasks=A,B,...]
      [--config.a.b=value ...]

  --workdir     where everything is written: each task in a directory of its
                own, the table of scores (glue.md, glue.json) and
                glue_submission.zip. The same command continues, also after a
                kill; with more tasks it runs only the new ones.
  --config      the config files, {task} standing for the task's name; by
                default configs/glue_{task}.py. A variant may follow:
                --config='configs/glue_{task}.py:small'
  --tasks       of cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte and wnli; by
                default all
  --config.a.b  another value for every task, as for train.py, for example
                --config.data.source=files --config.data.path=GLUE_DIR

MNLI's model answers the diagnostics (AX.tsv) where they are beside the data. A
task that diverges does not stop the others. Exit status: 0; 1 if a task
diverged; 2 if the input was wrong; 75 if SIGTERM interrupted it: the same
command continues.
"""

import sys
from collections.abc import Sequence

from mobilebert_jax.config import command_line
from mobilebert_jax.runtime import cluster
from mobilebert_jax.runtime.errors import InputError

_CONFIG = 'configs/glue_{task}.py'
_FLAGS = {
  'workdir': 'where everything is written',
  'config': 'the config files, with {task} for the name',
  'tasks': 'names of tasks, with commas',
}


def main(argv: Sequence[str]):
  """Parses the command line and runs the tasks."""
  given, rest = command_line.take_flags(argv, _FLAGS, required=('workdir',))
  pattern = given.get('config', _CONFIG)
  names = _names(given.get('tasks'))
  if '{task}' not in pattern and len(names) > 1:
    raise InputError(
      f'--config={pattern} must have {{task}} where the name of the task '
      f'belongs, as in {_CONFIG}.'
    )
  configs = {
    name: command_line.configure(pattern.replace('{task}', name), rest)
    for name in names
  }
  cluster.refuse_several('python -m mobilebert_jax.glue')
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
  from mobilebert_jax.experiments.glue.averages import SCORES

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
  sys.exit(command_line.run(main, __doc__))
