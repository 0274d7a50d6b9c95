"""Makes examples for pre-training on a cluster, with Apache Beam.

Each block is one element of the pipeline, so that the files are, byte for byte,
those of python -m mobilebert_jax.pretraining_data, and blocks that are there
are left out. The flags are the same but for --shard and --workers: the runner
divides the work. The machines must see --input and --output (gs:// or a shared
disk) and have this package and its extra 'beam' installed; Dataflow takes an
image with both by --sdk_container_image. The text is read once here, to cut it
into blocks.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mobilebert_jax.config.command_line import Command
from mobilebert_jax.pretraining_data import flags
from mobilebert_jax.runtime import exit_status, files
from mobilebert_jax.runtime.errors import InputError

if TYPE_CHECKING:
  from mobilebert_jax.pretraining_data.blocks import Block
  from mobilebert_jax.pretraining_data.writing import Job

_DIVIDED = (
  'the runner divides the work; use its own, such as --direct_num_workers or '
  '--max_num_workers'
)
COMMAND = Command(
  'python -m mobilebert_jax.pretraining_data.beam',
  __doc__,
  flags.SHARED,
  example='--input=TEXTS --output=data --tokenizer=google/mobilebert-uncased '
  '--runner=DirectRunner',
  others='--runner=DirectRunner (this machine), DataflowRunner, FlinkRunner or '
  'SparkRunner, and its own flags, such as --project, --region and '
  '--temp_location',
  reserved={'--shard': _DIVIDED, '--workers': _DIVIDED},
  failure='the pipeline failed',
)


def main(argv: Sequence[str]):
  """Parses the command line, runs the pipeline, and says what is written."""
  given = COMMAND.parse(argv[1:])
  asked = flags.read(given)
  _check_beam()
  from mobilebert_jax.pretraining_data import blocks, writing
  from mobilebert_jax.pretraining_data.examples import Writer

  # A layout without room is found before the text is read.
  Writer(asked.options, asked.tokenizer)
  plan = blocks.plan(asked.inputs, asked.options)
  # Other machines have another current directory.
  directory = files.absolute(asked.output)
  settings = writing.claim(plan, asked.options, asked.tokenizer, directory)
  job = writing.Job(directory, len(plan.blocks), asked.options, asked.tokenizer)
  with writing.only_writer(directory, 'beam'):
    missing = [block for block in plan.blocks if not job.is_written(block)]
    _run(job, missing, given.others)
  summary = writing.finish(job, settings)
  print(flags.closing_line(asked.output, summary))


def _run(job: 'Job', missing: Sequence['Block'], arguments: Sequence[str]):
  import apache_beam as beam
  from apache_beam.options.pipeline_options import PipelineOptions

  with beam.Pipeline(options=PipelineOptions(list(arguments))) as pipeline:
    _ = (
      pipeline
      | 'blocks' >> beam.Create(missing)
      # Without it one worker would do all that follows.
      | 'spread' >> beam.Reshuffle()
      | 'write' >> beam.Map(job.write)
    )


def _check_beam():
  try:
    import apache_beam  # noqa: F401
  except ImportError as error:
    raise InputError(
      f'Apache Beam cannot be imported ({error}); install the extra '
      "'mobilebert_jax[beam]', in an environment of its own where versions "
      'clash, or use python -m mobilebert_jax.pretraining_data.'
    ) from None


if __name__ == '__main__':
  sys.exit(exit_status.run(main))
