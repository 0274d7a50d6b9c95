"""From text to a fine-tuned student, in one command.

  python -m mobilebert_jax.recipe --config=FILE[:VARIANT] --text=PATH
      --workdir=DIR [--task_data=DIR] [--workers=N]
      [--config.NAME.a.b=value ...]

  --config      a recipe, such as configs/recipe_small.py
  --text        a text file or a directory of *.txt and *.jsonl (also gzipped)
  --workdir     where everything is written: vocabulary/, data/, each run in a
                directory of its own, and the report (recipe.md, recipe.png).
                The same command continues, also after a kill, to the same bits.
  --task_data   the official files of the task that is fine-tuned on, where the
                recipe wants them
  --workers     processes that make examples of the text; by default one for
                each core
  --config.NAME.a.b  another value; NAME is vocabulary, data or a run's name:
                --config.teacher.num_steps=1000 --config.data.duplicates=2

It learns a vocabulary, writes examples for pre-training, pre-trains the
teacher, transfers its knowledge to the student and distils, and fine-tunes the
student. What it is about to do stands in a table first. To make a part again,
delete its directory and those of all parts that are made of it. Exit status: 0
when finished; 1 if a run failed; 2 if the input was wrong; 75 if SIGTERM
interrupted it: the same command continues.
"""

import os
import sys
from collections.abc import Sequence

from mobilebert_jax.config import command_line
from mobilebert_jax.runtime import cluster, distributed, files
from mobilebert_jax.runtime.errors import InputError

_FLAGS = {
  'config': 'a recipe',
  'text': 'the text',
  'workdir': 'where everything is written',
  'task_data': 'the files of the task',
  'workers': 'processes that make examples',
}


def main(argv: Sequence[str]):
  """Parses the command line and runs the chain."""
  given, rest = command_line.take_flags(
    argv, _FLAGS | cluster.FLAGS, required=('config', 'text', 'workdir')
  )
  distributed.initialize(given)
  from mobilebert_jax.experiments.recipe import chain, recipe

  loaded = distributed.agree(lambda: recipe.load(given['config'], rest))
  task_data = given.get('task_data')
  places = [given[name] for name in ('config', 'text', 'workdir')]
  distributed.check_same('command', [rest, *places, task_data])
  workers = given.get('workers', str(os.cpu_count() or 1))
  if not workers.isdecimal():
    raise InputError(f'--workers={workers}: it must be a number.')
  chain.run(
    loaded,
    chain.Given(
      files.path(given['text']),
      files.path(given['workdir']),
      None if task_data is None else files.path(task_data),
      int(workers),
    ),
  )


if __name__ == '__main__':
  sys.exit(command_line.run(main, __doc__))
