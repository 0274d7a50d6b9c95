"""Makes a fine-tuned student out of text, in one command.

It learns a vocabulary, writes examples for pre-training, pre-trains the
teacher, transfers its knowledge to the student and distils, and fine-tunes the
student. What it is about to do stands in a table first. The workdir then holds
vocabulary/, data/, each run in a directory of its own, and the report
(recipe.md, recipe.png). The same command continues, also after a kill, to the
same bits. To make a part again, delete its directory and those of all parts
that are made of it.
"""

import os
import sys
from collections.abc import Sequence

from mobilebert_jax.config import flags
from mobilebert_jax.config.command_line import Command, Flag, Given, Prefix
from mobilebert_jax.runtime import distributed, exit_status, files


def _describe(given: Given) -> str:
  from mobilebert_jax.experiments.recipe import recipe

  return recipe.describe(given)


COMMAND = Command(
  'python -m mobilebert_jax.recipe',
  __doc__,
  (
    Flag(
      'config',
      'a recipe, such as configs/recipe_small.py, and which of its variants; '
      'with --help it tells of its settings',
      value='FILE[:VARIANT]',
      is_required=True,
    ),
    Flag(
      'text',
      'a text file or a directory of *.txt and *.jsonl (also gzipped)',
      value='PATH',
      is_required=True,
    ),
    Flag(
      'workdir', 'where everything is written', value='DIR', is_required=True
    ),
    Flag(
      'task_data',
      'the official files of the task that is fine-tuned on, where the recipe '
      'wants them',
      otherwise='none',
      value='DIR',
    ),
    Flag(
      'workers',
      'processes that make examples of the text',
      int,
      otherwise='one for each core',
      value='N',
      limits={'at_least': 0},
    ),
    *flags.PROCESSES,
  ),
  example='--config=configs/recipe_small.py:pretraining --text=TEXTS '
  '--workdir=runs/recipe',
  prefixes=(
    Prefix(
      'config',
      '--config.NAME.a.b=VALUE',
      'another value; NAME is vocabulary, data or the name of a run: '
      '--config.teacher.num_steps=1000 --config.data.duplicates=2',
    ),
  ),
  more=_describe,
  failure='a run failed',
  continues=True,
)


def main(argv: Sequence[str]):
  """Parses the command line and runs the chain."""
  given = COMMAND.parse(argv[1:])
  distributed.initialize(given.only(tuple(distributed.FLAGS)))
  from mobilebert_jax.experiments.recipe import chain, recipe

  assigned = given.assignments['config']
  loaded = distributed.raise_on_all(
    lambda: recipe.load(given['config'], assigned)
  )
  task_data = given['task_data']
  paths = [given[name] for name in ('config', 'text', 'workdir')]
  distributed.check_same('command', [assigned, *paths, task_data])
  workers = given['workers']
  chain.run(
    loaded,
    chain.Given(
      files.path(given['text']),
      files.path(given['workdir']),
      None if task_data is None else files.path(task_data),
      (os.cpu_count() or 1) if workers is None else workers,
    ),
  )


if __name__ == '__main__':
  sys.exit(exit_status.run(main, continues=COMMAND.continues))
