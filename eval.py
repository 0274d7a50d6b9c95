"""Evaluates a checkpoint of a training run.

  python eval.py --config=FILE[:VARIANT] --checkpoint=DIR [--config.a.b=value]

  --config      the config file that the run was trained with, and the same
                overrides
  --checkpoint  a workdir (its last checkpoint), one of its checkpoints
                (WORKDIR/checkpoints/STEP), or a transformers directory such as
                WORKDIR/model (the best weights)

Prints the scores of the evaluation splits as one JSON object; they are those
that training reported, bit for bit on the same machine. On several hosts the
same command runs on each; see train.py. Exit status: 0; 2 if
the input was wrong.
"""

import json
import sys
from collections.abc import Sequence

from mobilebert_jax.config import command_line
from mobilebert_jax.runtime import distributed


def main(argv: Sequence[str]):
  """Parses the command line and evaluates."""
  own = {'checkpoint': 'what to evaluate'}
  command = command_line.parse(argv, own, required=('checkpoint',))
  # After the flags: this loads jax and all that the evaluation needs.
  from mobilebert_jax.training import scoring

  checkpoint = command.flags['checkpoint']
  scores = scoring.score(command.config, checkpoint)
  distributed.tell(json.dumps(scores, indent=2))


if __name__ == '__main__':
  sys.exit(command_line.run(main, __doc__))
