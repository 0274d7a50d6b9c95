"""Evaluates a checkpoint of a training run.

Prints the scores of the evaluation splits as one JSON object; they are those
that training reported, bit for bit on the same machine. The settings are those
of the checkpoint's run, and what --config.a.b replaces; a checkpoint that is of
no run needs --config. On several hosts the same command runs on each; see
train.py.
"""

import sys
from collections.abc import Sequence

from mobilebert_jax.config import overrides
from mobilebert_jax.config.command_line import Flag, Given
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.runtime import distributed, exit_status, files

COMMAND = overrides.run_command(
  'python eval.py',
  __doc__,
  config_otherwise="the config.json of the checkpoint's run",
  flags=(
    Flag(
      'checkpoint',
      'a workdir (its last checkpoint), one of its checkpoints '
      '(WORKDIR/checkpoints/STEP), or a transformers directory such as '
      'WORKDIR/model (the best weights)',
      value='DIR',
      is_required=True,
    ),
  ),
  example='--checkpoint=runs/first',
)


def main(argv: Sequence[str]):
  """Parses the command line and evaluates."""
  given = COMMAND.parse(argv[1:])
  # After the flags: this loads jax and all that the evaluation needs.
  from mobilebert_jax.training import scoring

  def of_run(given: Given) -> TrainConfig:
    return scoring.config_of(given['checkpoint'], given.assignments['config'])

  config = overrides.agreed(given, None if given['config'] else of_run)
  scores = scoring.score(config, given['checkpoint'])
  distributed.print_on_primary(files.json_text(scores, indent=2))


if __name__ == '__main__':
  sys.exit(exit_status.run(main))
