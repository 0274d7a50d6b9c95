"""Converts any checkpoint to transformers' format.

Reads what `from_pretrained` reads, and writes a directory that transformers
and this package load: config, weights and the files of the tokenizer.
"""

import logging
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from mobilebert_jax.config import fields, model_json
from mobilebert_jax.config.command_line import Command, Flag, Given
from mobilebert_jax.config.flags import CLASSES, HUB
from mobilebert_jax.runtime import exit_status, files
from mobilebert_jax.runtime.errors import InputError

if TYPE_CHECKING:
  from mobilebert_jax.convert.pretrained import LoadResult

_TOKENIZER_FILES = ('vocab.txt', 'tokenizer.json', 'tokenizer_config.json',
                    'special_tokens_map.json', 'added_tokens.json')  # fmt: skip
DTYPES = ('float32', 'bfloat16', 'float16', 'float64')

COMMAND = Command(
  'python -m mobilebert_jax.convert',
  __doc__,
  (
    Flag(
      'source',
      'hub name, transformers directory, .safetensors or .bin file, or '
      'TensorFlow 1 checkpoint (directory or prefix)',
      value='SRC',
      is_required=True,
      is_positional=True,
    ),
    Flag(
      'destination',
      'directory to write',
      value='DST',
      is_required=True,
      is_positional=True,
    ),
    Flag(
      'format',
      'how the weights are stored',
      Literal['safetensors', 'bin'],
      'safetensors',
    ),
    Flag(
      'dtype',
      'type of the stored weights',
      fields.one_of(DTYPES),
      otherwise='as in SRC',
    ),
    Flag(
      'architecture',
      'class to convert to',
      fields.one_of(CLASSES),
      otherwise="the source's own",
    ),
    Flag(
      'config',
      'config JSON to use',
      otherwise='the one beside SRC',
      value='FILE',
    ),
    Flag('max_shard_size', 'size of the largest file of weights', str, '5GB'),
    *HUB,
    Flag('force', 'replace files in a DST that is not empty', bool, False),
  ),
  example='google/mobilebert-uncased mobilebert --dtype=bfloat16',
)


def main(argv: Sequence[str]):
  """Parses the command line and converts."""
  convert(COMMAND.parse(argv[1:]))


def convert(given: Given):
  """Does what the command line says, with a line for each step.

  Raises:
    InputError: SRC is not readable, or DST must not be written.
  """
  destination = files.path(given['destination'])
  if destination.is_dir() and any(destination.iterdir()) and not given['force']:
    raise InputError(
      f'{destination} is not empty; pass --force to replace files in it.'
    )
  # After the flags: this loads jax.
  from mobilebert_jax.convert import save
  from mobilebert_jax.convert import source as sources
  from mobilebert_jax.convert.pretrained import load_pretrained
  from mobilebert_jax.runtime import hub

  options = given.of(HUB)
  source, name = given['source'], given['architecture']
  cls = sources.MODEL_CLASSES[name] if name else None
  config = model_json.load_config(given['config']) if given['config'] else None
  print(f'reading {source}', flush=True)
  loaded = load_pretrained(
    cls, source, config=config, param_dtype='auto', **options
  )
  _describe(loaded)
  params = loaded.params
  if given['dtype'] == 'float16':
    params = _fit_into_float16(loaded)
  with save.atomic_directory(destination) as partial:
    notes = save.write_model(
      partial,
      loaded.model,
      params,
      format=given['format'],
      dtype=given['dtype'],
      max_shard_size=given['max_shard_size'],
    )
    for note in notes:
      print(note)
    result = hub.resolve(source, _TOKENIZER_FILES, **options)
    for name, path in result.items():
      shutil.copyfile(path, partial / name)
    written = sorted(file.name for file in partial.iterdir())
  print(f'wrote {destination}: {", ".join(written)}')


def _fit_into_float16(loaded: 'LoadResult') -> Any:
  """Returns the parameters, rescaled where hidden values would overflow."""
  from mobilebert_jax.inference import float16, folding

  head, config = type(loaded.model).__name__, loaded.model.config
  batches = folding.default_batches(head, config)
  fitted = float16.fit(head, config, loaded.params, batches)
  if fitted.is_changed:
    before, after = fitted.before, fitted.after
    print(
      f'hidden values up to {before.value:.3g} ({before.tensor}), and float16 '
      f'ends at {float16.LARGEST:.0f}: channels were rescaled, now up to '
      f'{after.value:.3g}; outputs and the last hidden state stay, the other '
      'hidden states have other scales'
    )
  return fitted.params


def _describe(loaded: 'LoadResult'):
  import jax

  from mobilebert_jax import models

  leaves = jax.tree.leaves(loaded.params)
  dtypes = ', '.join(sorted({str(leaf.dtype) for leaf in leaves}))
  count = models.count_params(loaded.params)
  print(f'{type(loaded.model).__name__}: {count:,} parameters in {dtypes}')
  report = loaded.report
  for note in report.notes:
    print(note)
  if report.newly_initialised:
    print(f'newly initialised: {", ".join(report.newly_initialised)}')
  if report.unused:
    print(f'left out: {", ".join(report.unused)}')


if __name__ == '__main__':
  # What loading would warn of is in the lines that are printed.
  logging.getLogger('mobilebert_jax.convert').setLevel(logging.ERROR)
  sys.exit(exit_status.run(main))
