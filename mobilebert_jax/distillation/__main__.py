"""How far a student agrees with its teacher, layer by layer.

  python -m mobilebert_jax.distillation --workdir=RUN [--teacher=DIR]

  --workdir  a run of train.py; its best model is measured, on its validation
             split
  --teacher  another teacher than the run's, or one for a run without a teacher

Prints one JSON object: for each of the student's layers the difference of its
feature maps, their means and variances from the teacher's, and the divergence
of its attention (smaller is closer); and how often both predict the same word
or class. Exit status: 0; 2 if the input was wrong.
"""

import json
import sys
from collections.abc import Sequence

from mobilebert_jax.config import command_line
from mobilebert_jax.runtime import cluster, files
from mobilebert_jax.runtime.errors import InputError

_FLAGS = {'workdir': 'a run', 'teacher': 'a teacher'}


def main(argv: Sequence[str]):
  """Parses the command line, measures and prints."""
  given, rest = command_line.take_flags(argv, _FLAGS, required=('workdir',))
  if rest[1:]:
    raise InputError(f'{rest[1]} is unknown; see --help.')
  cluster.refuse_several('python -m mobilebert_jax.distillation')
  # After the flags: this loads jax and all that the measurement needs.
  from mobilebert_jax.distillation import agreement
  from mobilebert_jax.training.workdir import Workdir

  place = Workdir(files.path(given['workdir']))
  found = agreement.of_run(place, given.get('teacher'))
  print(json.dumps(found, indent=2))


if __name__ == '__main__':
  sys.exit(command_line.run(main, __doc__))
