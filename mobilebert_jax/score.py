r"""Scores a file of predictions, as the official scripts do.

Prints one JSON object of shares from 0 to 1 (SQuAD's scripts and conlleval
print percentages). No model and no run is needed: the file may be anyone's.

  python -m mobilebert_jax.score --task=squad_v2 --predictions=FILE.json \
    --data=dev-v2.0.json --null_odds=null_odds.json --threshold=-2.5
  python -m mobilebert_jax.score --task=conll2003 --predictions=FILE.conll
  python -m mobilebert_jax.score --task=mnli --predictions=MNLI-mm.tsv \
    --data=GLUE_DIR --split=validation_mismatched

SQuAD: an object with a text for each question. Tags: columns with the word
first and the predicted tag last; the right tags stand before it, or in --data.
GLUE: a table with the columns index and prediction, as for the benchmark.
"""

import json
import sys
from collections.abc import Sequence

from mobilebert_jax.config import fields
from mobilebert_jax.config.command_line import Command, Flag
from mobilebert_jax.runtime import exit_status

# `tasks.scored_files.TASKS`, which are not loaded for --help.
_TASKS = (
  'cola', 'sst2', 'mrpc', 'stsb', 'qqp', 'mnli', 'qnli', 'rte', 'wnli',
  'squad_v1', 'squad_v2', 'conll2003', 'wnut17', 'custom_tagging',
)  # fmt: skip
COMMAND = Command(
  'python -m mobilebert_jax.score',
  __doc__,
  (
    Flag('task', 'the task', fields.one_of(_TASKS), is_required=True),
    Flag('predictions', 'the predictions', value='FILE', is_required=True),
    Flag(
      'data',
      'the official file with the right answers, or a directory that holds it',
      otherwise='the file of predictions, for tags',
      value='PATH',
    ),
    Flag(
      'split',
      'the split of GLUE, such as validation_mismatched',
      otherwise='validation, or validation_matched',
    ),
    Flag(
      'null_odds',
      'of SQuAD 2.0: an object with a number for each question, the higher the '
      'surer that it has no answer',
      value='FILE',
      otherwise='none; empty predictions say so alone',
    ),
    Flag(
      'threshold',
      'of SQuAD 2.0: questions with higher odds have no answer',
      float,
      otherwise='none has higher ones',
      value='NUMBER',
    ),
  ),
  example=(
    '--task=squad_v1 --predictions=predictions.json --data=dev-v1.1.json'
  ),
)


def main(argv: Sequence[str]):
  """Parses the command line and scores."""
  given = COMMAND.parse(argv[1:])
  # After the flags: this loads what scoring needs.
  from mobilebert_jax.runtime import files
  from mobilebert_jax.tasks import scored_files

  data, odds = given['data'], given['null_odds']
  scores = scored_files.score(
    given['task'],
    files.path(given['predictions']),
    None if data is None else files.path(data),
    split=given['split'],
    null_odds=None if odds is None else files.path(odds),
    threshold=given['threshold'],
  )
  print(json.dumps(scores, indent=2))


if __name__ == '__main__':
  sys.exit(exit_status.run(main))
