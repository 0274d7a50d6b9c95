"""`python -m mobilebert_jax.data.prepare glue/sst2`: get a TFDS data set."""

import argparse
import sys

from mobilebert_jax.data.readers import tfds
from mobilebert_jax.runtime.errors import InputError


def main(arguments: list[str] | None = None) -> int:
  """Prepares the named data sets; returns the exit status."""
  parser = argparse.ArgumentParser(
    prog='python -m mobilebert_jax.data.prepare',
    description='Download TFDS data sets and store them as array_record, '
    'which is read without TensorFlow.',
  )
  parser.add_argument(
    'names', nargs='+', metavar='NAME', help='for instance glue/sst2, glue/mnli'
  )
  parser.add_argument(
    '--data_dir',
    help='where to keep them (default: TFDS_DATA_DIR, '
    'else ~/tensorflow_datasets)',
  )
  options = parser.parse_args(arguments)
  try:
    for name in options.names:
      directory = tfds.prepare(name, options.data_dir)
      print(f'{name} is ready in {directory}')
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main())
