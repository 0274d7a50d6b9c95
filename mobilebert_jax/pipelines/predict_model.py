"""The model that a command line names, as a pipeline."""

import argparse
from typing import Any

from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError


def add_flags(parser: argparse.ArgumentParser):
  """Adds the flags that say which model to use."""
  add = parser.add_argument
  add(
    '--model', required=True, metavar='DIR_OR_NAME',
    help='a transformers directory, the workdir of a run, or a hub name',
  )  # fmt: skip
  add('--tokenizer', help="default: the model's own")
  add('--dtype', choices=('float32', 'bfloat16'), default='float32',
      help='of the computation (default: %(default)s)')  # fmt: skip
  add('--revision', help='branch, tag or commit on the hub')
  add('--token', help='access token of the hub')
  add('--cache_dir', '--cache-dir', help='where downloads are kept')
  add('--local_files_only', '--local-files-only', action='store_true',
      help='do not use the network')  # fmt: skip
  add('--subfolder', default='', help='directory inside the model')


def load(name: str, flags: argparse.Namespace) -> Any:
  """The pipeline `name` with the model that the flags say.

  Raises:
    InputError: there is none, or it was not trained for this.
  """
  # Here, so that --help and wrong flags do not wait for jax.
  import jax
  import jax.numpy as jnp

  from mobilebert_jax.convert.pretrained import load_pretrained
  from mobilebert_jax.pipelines import PIPELINES, pipeline

  source = best_of(flags.model)
  options = {
    'revision': flags.revision,
    'token': flags.token,
    'cache_dir': flags.cache_dir,
    'local_files_only': flags.local_files_only,
    'subfolder': flags.subfolder,
  }
  model_class = PIPELINES[name].model_class
  try:
    loaded = load_pretrained(model_class, source, dtype=flags.dtype, **options)
  except InputError as error:
    if source in str(error):
      raise
    raise InputError(
      f'{source} is no model for {flags.task}: {error}'
    ) from None
  model, params, report = loaded
  if report.fresh:
    raise InputError(
      f'{source} has no weights for {", ".join(report.fresh)}; {flags.task} '
      'needs a model that was fine-tuned for it.'
    )
  return pipeline(
    name,
    (model, jax.tree.map(jnp.asarray, params)),
    flags.tokenizer or source,
    batch_size=flags.batch_size,
    **options,
  )


def best_of(name: str) -> str:
  """The best model of a run where `name` is its workdir; else `name`.

  Raises:
    InputError: a run that has not saved a model yet.
  """
  path = files.path(name)
  if not (path / 'model_config.json').is_file():
    return name
  best = path / 'model'
  if not best.is_dir():
    raise InputError(f'{path} is a run that has no model yet.')
  return str(best)
