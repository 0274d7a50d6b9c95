"""Measures how far a student agrees with its teacher, layer by layer.

Prints one JSON object: for each of the student's layers the difference of its
feature maps, their means and variances from the teacher's, and the divergence
of its attention (smaller is closer); and how often both predict the same word
or class.
"""

import sys
from collections.abc import Sequence

from mobilebert_jax.config.command_line import Command, Flag
from mobilebert_jax.runtime import distributed, exit_status, files

COMMAND = Command(
  'python -m mobilebert_jax.distillation',
  __doc__,
  (
    Flag(
      'workdir',
      'a run of train.py; its best model is measured, on its validation split',
      value='RUN',
      is_required=True,
    ),
    Flag(
      'teacher',
      'another teacher, or one for a run without a teacher',
      otherwise="the run's own",
      value='DIR',
    ),
  ),
  example='--workdir=runs/distill_progressive',
)


def main(argv: Sequence[str]):
  """Parses the command line, measures and prints."""
  given = COMMAND.parse(argv[1:])
  distributed.refuse_several(COMMAND.name)
  # After the flags: this loads jax and all that the measurement needs.
  from mobilebert_jax.distillation import agreement
  from mobilebert_jax.training.workdir import Workdir

  place = Workdir(files.path(given['workdir']))
  result = agreement.of_run(place, given['teacher'])
  print(files.json_text(result, indent=2))


if __name__ == '__main__':
  sys.exit(exit_status.run(main))
