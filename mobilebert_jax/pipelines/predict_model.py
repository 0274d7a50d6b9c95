"""The model that a command line names, as a pipeline."""

from typing import Any, Literal

from mobilebert_jax.config.command_line import Flag, Given
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError

# The flags that say which model to use.
FLAGS = (
  Flag(
    'model',
    'a transformers directory, the workdir of a run, or a hub name',
    value='DIR_OR_NAME',
    is_required=True,
  ),
  Flag(
    'tokenizer',
    'another tokenizer',
    otherwise="the model's own",
    value='DIR_OR_NAME',
  ),
  Flag(
    'dtype',
    'type of the computation',
    Literal['float32', 'bfloat16'],
    'float32',
  ),
  Flag(
    'revision',
    'branch, tag or commit on the hub',
    otherwise='the main branch',
  ),
  Flag('token', 'access token of the hub', otherwise='that of your login'),
  Flag(
    'cache_dir',
    'where downloads are kept',
    otherwise="huggingface_hub's own",
    value='DIR',
  ),
  Flag('local_files_only', 'do not use the network', bool, False),
  Flag('subfolder', 'directory inside the model', str, '', 'none'),
)


def load(name: str, flags: Given) -> Any:
  """The pipeline `name` with the model that the flags say.

  Raises:
    InputError: there is none, or it was not trained for this.
  """
  # Here, so that --help and wrong flags do not wait for jax.
  import jax
  import jax.numpy as jnp

  from mobilebert_jax.convert.pretrained import load_pretrained
  from mobilebert_jax.pipelines import PIPELINES, pipeline

  source = best_of(flags['model'])
  options = {
    'revision': flags['revision'],
    'token': flags['token'],
    'cache_dir': flags['cache_dir'],
    'local_files_only': flags['local_files_only'],
    'subfolder': flags['subfolder'],
  }
  model_class = PIPELINES[name].model_class
  try:
    loaded = load_pretrained(
      model_class, source, dtype=flags['dtype'], **options
    )
  except InputError as error:
    if source in str(error):
      raise
    raise InputError(
      f'{source} is no model for {flags.command}: {error}'
    ) from None
  model, params, report = loaded
  if report.newly_initialised:
    raise InputError(
      f'{source} has no weights for {", ".join(report.newly_initialised)}; '
      f'{flags.command} needs a model that was fine-tuned for it.'
    )
  return pipeline(
    name,
    (model, jax.tree.map(jnp.asarray, params)),
    flags['tokenizer'] or source,
    batch_size=flags['batch_size'],
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
