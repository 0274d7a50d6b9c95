"""Downloads TFDS data sets and stores them for reading without TensorFlow.

They are stored as array_record, as config.data.source=tfds wants them.
"""

import sys
from collections.abc import Sequence

from mobilebert_jax.config.command_line import Command, Flag
from mobilebert_jax.runtime import exit_status

COMMAND = Command(
  'python -m mobilebert_jax.data.prepare',
  __doc__,
  (
    Flag(
      'names',
      'data sets, for instance glue/sst2 or glue/mnli',
      value='NAME',
      is_required=True,
      is_many=True,
      is_positional=True,
    ),
    Flag(
      'data_dir',
      'where to keep them',
      otherwise='TFDS_DATA_DIR, else ~/tensorflow_datasets',
      value='DIR',
    ),
  ),
  example='glue/sst2',
)


def main(argv: Sequence[str]):
  """Parses the command line and prepares the data sets that it names."""
  given = COMMAND.parse(argv[1:])
  from mobilebert_jax.data.readers import tfds

  for name in given['names']:
    directory = tfds.prepare(name, given['data_dir'])
    print(f'{name} is ready in {directory}')
  if given['data_dir'] is None:
    print(
      f"{tfds.default_data_dir()} is TFDS's own place, where other programs "
      'find array_record now; to keep the two apart, name a --data_dir and set '
      'config.data.path to it.'
    )


if __name__ == '__main__':
  sys.exit(exit_status.run(main))
