r"""Writes a model for phones, browsers and servers.

The directory holds the model in one format, with tokenizer, config and a model
card beside it. Each file is run by the program that others load it with, on
real texts, before anything appears at --output: onnxruntime, LiteRT, TensorFlow
or jax.

  python -m mobilebert_jax.export --model=runs/glue_sst2 --format=onnx \
    --output=sst2_onnx --quantize=dynamic
  python -m mobilebert_jax.export --model=runs/glue_sst2 --format=litert \
    --output=sst2_phone --lengths=64,128
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mobilebert_jax.config import fields
from mobilebert_jax.config.command_line import Command, Flag, flags_of
from mobilebert_jax.config.flags import HUB
from mobilebert_jax.export.options import ExportOptions
from mobilebert_jax.runtime import exit_status

if TYPE_CHECKING:
  from mobilebert_jax.export.run import Report

_VALUES = {'model': 'RUN_OR_DIR_OR_HUB_NAME', 'output': 'DIR'}


def _flags() -> tuple[Flag, ...]:
  known = fields.settings(ExportOptions)
  required = tuple(
    Flag(
      name,
      known[name].help,
      known[name].hint,
      value=_VALUES.get(name),
      is_required=True,
    )
    for name in ('model', 'format', 'output')
  )
  others = flags_of(ExportOptions, but=[*(f.name for f in required), 'hub'])
  return required + others + HUB


COMMAND = Command('python -m mobilebert_jax.export', __doc__, _flags())


def main(argv: Sequence[str]):
  """Parses the command line and exports."""
  given = COMMAND.parse(argv[1:])
  values = {
    name: value
    for name, value in given.values.items()
    if name not in given.of(HUB)
  }
  options = ExportOptions(**values, hub=given.of(HUB))
  # After the flags: this loads jax.
  from mobilebert_jax.export.run import export

  report = export(options, lambda line: print(line, flush=True))
  _print(report)


def _print(report: 'Report'):
  for file in report.files:
    for line in file.describe():
      print(line)
  print(f'wrote {report.directory} in {report.seconds:.0f} s; load it with')
  for line in report.usage.splitlines():
    print(f'  {line}')
  if report.url is not None:
    print(f'uploaded to {report.url}')


if __name__ == '__main__':
  sys.exit(exit_status.run(main))
