"""Makes examples for pre-training out of plain text.

The data set has one file for each block of text. The same command continues
what was stopped; other settings are refused. With --shard one command runs on
each of n machines with one --output, or with copies that are put together; the
files are then the same as from one machine, as they are for any number of
--workers. --mask_probability, --whole_word and --max_predictions_per_sequence
are of --masking=static.
"""

import sys
from collections.abc import Sequence

from mobilebert_jax.config.command_line import Command, Flag
from mobilebert_jax.pretraining_data import flags
from mobilebert_jax.runtime import distributed, exit_status

COMMAND = Command(
  'python -m mobilebert_jax.pretraining_data',
  __doc__,
  (
    *flags.SHARED,
    Flag(
      'shard',
      'write the blocks i, i + n, ... alone, i from 0',
      default='0/1',
      value='I/N',
    ),
    Flag('workers', 'processes', int, 1, value='N'),
  ),
  example='--input=TEXTS --output=data --tokenizer=google/mobilebert-uncased',
  failure='the disk is full or a worker was killed',
  continues=True,
)


def main(argv: Sequence[str]):
  """Parses the command line, writes, and says what has been written."""
  given = COMMAND.parse(argv[1:])
  distributed.refuse_several(COMMAND.name)
  asked = flags.read(given)
  shard = flags.shard(given['shard'])
  from mobilebert_jax.pretraining_data.writing import write

  with flags.translate_errors():
    summary = write(
      asked.options, asked.inputs, asked.output, asked.tokenizer, shard,
      given['workers'],
    )  # fmt: skip
  print(flags.closing_line(asked.output, summary))


if __name__ == '__main__':
  sys.exit(exit_status.run(main, continues=COMMAND.continues))
