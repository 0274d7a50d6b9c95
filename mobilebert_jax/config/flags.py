"""Flags that several commands have in common."""

import functools
import itertools

import mobilebert_jax
from mobilebert_jax.config.command_line import Flag
from mobilebert_jax.runtime import distributed

# Of a run of many processes.
PROCESSES = tuple(
  itertools.starmap(
    functools.partial(Flag, otherwise='found by JAX'), distributed.FLAGS.items()
  )
)
# The model classes, for flags that name one; without loading them.
CLASSES = tuple(
  name
  for name in mobilebert_jax.__all__
  if name.startswith('MobileBertFor') or name == 'MobileBertModel'
)
# How texts are prepared for a tokenizer that is named.
LETTERS = (
  Flag(
    'do_lower_case',
    'lower-case texts',
    bool,
    otherwise="what the tokenizer's files say, or whether its tokens have "
    'capitals',
  ),
  Flag(
    'strip_accents',
    'take accents off',
    bool,
    otherwise='likewise, else as --do_lower_case',
  ),
)
# How what a name on the hub means is fetched, as `runtime.hub.resolve` has it.
HUB = (
  Flag(
    'revision', 'branch, tag or commit on the hub', otherwise='the main branch'
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
