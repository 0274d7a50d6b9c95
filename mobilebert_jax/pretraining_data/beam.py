"""Makes examples for pre-training on a cluster, with Apache Beam.

  python -m mobilebert_jax.pretraining_data.beam --input PATH [PATH ...]
      --output=DIR --tokenizer=VOCAB [flags of mobilebert_jax.pretraining_data]
      [--runner=DirectRunner] [flags of the runner]

Each block is one element of the pipeline, so that the files are, byte for byte,
those of python -m mobilebert_jax.pretraining_data, and blocks that are there
are left out. The flags are the same but for --shard and --workers, which are
refused: the runner divides the work. --runner=DirectRunner (this machine),
DataflowRunner, FlinkRunner, SparkRunner, with their own flags, such as
--project, --region and --temp_location. The machines must see --input and
--output (gs:// or a shared disk) and have this package and its extra 'beam'
installed; Dataflow takes an image with both by --sdk_container_image. The text
is read once here, to cut it into blocks.

Exit status: 0; 1 if the pipeline failed; 2 if the input was wrong.
"""

import sys
from collections.abc import Sequence

from mobilebert_jax.pretraining_data import __main__ as command
from mobilebert_jax.pretraining_data import blocks, flags, writing
from mobilebert_jax.pretraining_data.examples import Writer
from mobilebert_jax.pretraining_data.writing import Job
from mobilebert_jax.runtime import exit_status, files
from mobilebert_jax.runtime.errors import InputError

_COMMAND = 'python -m mobilebert_jax.pretraining_data.beam'


def main(argv: Sequence[str]):
  """Parses the command line, runs the pipeline, and says what is written."""
  given = flags.parse(_COMMAND, argv[1:], has_rest=True)
  _check_beam()
  # A layout without room is found before the text is read.
  Writer(given.options, given.tokenizer)
  plan = blocks.plan(given.inputs, given.options)
  # Other machines have another current directory.
  directory = files.absolute(given.output)
  settings = writing.claim(plan, given.options, given.tokenizer, directory)
  job = Job(directory, len(plan.blocks), given.options, given.tokenizer)
  with writing.only_writer(directory, 'beam'):
    missing = [block for block in plan.blocks if not job.is_written(block)]
    _run(job, missing, given.rest)
  summary = writing.finish(job, settings)
  print(command.closing_line(given.output, summary))


def _run(job: Job, missing: Sequence[blocks.Block], arguments: Sequence[str]):
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
      'clash, or use python -m mobilebert_jax.pretraining_data'
    ) from None


if __name__ == '__main__':
  sys.exit(exit_status.run(main, __doc__))
