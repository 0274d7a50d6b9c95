"""`python -m mobilebert_jax.convert SRC DST`: any checkpoint to transformers'.

Reads what `from_pretrained` reads, and writes a directory that transformers
and this package load: config, weights and the files of the tokenizer.
"""

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence

import jax

from mobilebert_jax import models
from mobilebert_jax.config import model_json
from mobilebert_jax.convert import model_class, save
from mobilebert_jax.convert.pretrained import LoadResult, load_pretrained
from mobilebert_jax.runtime import files, hub
from mobilebert_jax.runtime.errors import InputError

_TOKENIZER_FILES = ('vocab.txt', 'tokenizer.json', 'tokenizer_config.json',
                    'special_tokens_map.json', 'added_tokens.json')  # fmt: skip


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m mobilebert_jax.convert', description=__doc__
  )
  add = parser.add_argument
  add(
    'source',
    metavar='SRC',
    help='hub name, transformers directory, .safetensors or .bin file, or '
    'TensorFlow 1 checkpoint (directory or prefix)',
  )
  add('destination', metavar='DST', help='directory to write')
  add('--format', choices=('safetensors', 'bin'), default='safetensors')
  add('--dtype', choices=save.STORED_DTYPES, help='default: as stored')
  add(
    '--architecture',
    choices=tuple(model_class.CLASSES),
    help="class to convert to; default: the source's own",
  )
  add('--config', help='config JSON to use instead of the one beside SRC')
  add('--max-shard-size', default='5GB', help='default: %(default)s')
  add('--revision', help='branch, tag or commit on the hub')
  add('--token', help='access token of the hub')
  add('--cache-dir', help='where downloads are kept')
  add('--local-files-only', action='store_true', help='do not use the network')
  add('--subfolder', default='', help='directory inside the model')
  add(
    '--force',
    action='store_true',
    help='replace files in a DST that is not empty',
  )
  return parser


def convert(args: argparse.Namespace) -> None:
  """Does what the command line says, with a line for each step.

  Raises:
    InputError: SRC is not readable, or DST must not be written.
  """
  destination = files.path(args.destination)
  if destination.is_dir() and any(destination.iterdir()) and not args.force:
    raise InputError(
      f'{destination} is not empty; pass --force to replace files in it.'
    )
  options = {
    'revision': args.revision,
    'token': args.token,
    'cache_dir': args.cache_dir,
    'local_files_only': args.local_files_only,
    'subfolder': args.subfolder,
  }
  cls = model_class.CLASSES[args.architecture] if args.architecture else None
  config = model_json.load_config(args.config) if args.config else None
  print(f'reading {args.source}', flush=True)
  loaded = load_pretrained(
    cls, args.source, config=config, param_dtype='auto', **options
  )
  _describe(loaded)
  with save.atomic_directory(destination) as partial:
    save.write_model(
      partial,
      loaded.model,
      loaded.params,
      format=args.format,
      dtype=args.dtype,
      max_shard_size=args.max_shard_size,
    )
    found = hub.resolve(args.source, _TOKENIZER_FILES, **options)
    for name, path in found.items():
      shutil.copyfile(path, partial / name)
    written = sorted(file.name for file in partial.iterdir())
  print(f'wrote {destination}: {", ".join(written)}')


def _describe(loaded: LoadResult) -> None:
  leaves = jax.tree.leaves(loaded.params)
  dtypes = ', '.join(sorted({str(leaf.dtype) for leaf in leaves}))
  count = models.count_params(loaded.params)
  print(f'{type(loaded.model).__name__}: {count:,} parameters in {dtypes}')
  report = loaded.report
  if report.fresh:
    print(f'freshly initialised: {", ".join(report.fresh)}')
  if report.unused:
    print(f'left out: {", ".join(report.unused)}')


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status: 0, or 2 for wrong input."""
  try:
    convert(_parser().parse_args(argv))
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  return 0


if __name__ == '__main__':
  # What loading would warn of is in the lines that are printed.
  logging.getLogger('mobilebert_jax.convert').setLevel(logging.ERROR)
  sys.exit(main())
