"""Can a config learn 64 real examples by heart? A check of task and training.

Trains on the first training examples (config.data.train_examples, 64 if it is
not set) without dropout, and evaluates on the same examples under the name of
the first evaluation split. Prints one JSON object.
"""

import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Sequence

from mobilebert_jax.config import overrides
from mobilebert_jax.config.command_line import Flag
from mobilebert_jax.runtime import exit_status

COMMAND = overrides.run_command(
  'python benchmarks/overfit.py',
  __doc__,
  flags=(
    Flag(
      'workdir',
      'where everything is written',
      otherwise="runs/ and the config's name with _overfit",
    ),
  ),
)
_COUNT = 64
_DROPOUT = ('hidden_dropout_prob', 'attention_probs_dropout_prob')


def main(argv: Sequence[str]):
  """Parses the command line, trains, and tells the score."""
  given = COMMAND.parse(argv[1:])
  config = overrides.agreed(given)
  # After the flags: this loads jax and all that the run needs.
  from mobilebert_jax import launch
  from mobilebert_jax.tasks import TASKS

  data = dataclasses.replace(
    config.data, train_examples=config.data.train_examples or _COUNT
  )
  config = dataclasses.replace(
    config,
    data=data,
    model={**config.model, **dict.fromkeys(_DROPOUT, 0.0)},
  )
  TASKS[config.task] = _on_training_data(TASKS[config.task])
  default = (
    pathlib.Path('runs') / f'{overrides.name_of(given["config"])}_overfit'
  )
  start = time.perf_counter()
  results = launch.train(config, given['workdir'] or default)
  metric = results['primary_metric']
  told = {
    'task': config.task,
    'examples': data.train_examples,
    'metric': metric,
    'score': results['best'][metric],
    'step': results['best']['step'],
    'seconds': round(time.perf_counter() - start, 1),
  }
  print(json.dumps(told))


def _on_training_data(spec):
  """The task's spec with the training examples in place of all others."""

  def make(options, data):
    task = spec.make(options, data)
    splits = dataclasses.replace(
      task.splits, evaluation=task.splits.evaluation[:1], test=()
    )

    def load(data, split):
      del split
      return task.load(data, task.splits.train)

    return dataclasses.replace(task, load=load, splits=splits)

  return dataclasses.replace(spec, make=make)


if __name__ == '__main__':
  sys.exit(exit_status.run(main))
