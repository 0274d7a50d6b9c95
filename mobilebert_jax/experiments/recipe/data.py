"""The second part of a chain: examples for pre-training, made of the text."""

import dataclasses
import pathlib
from typing import Any, NamedTuple

from mobilebert_jax import pretraining_data
from mobilebert_jax.config.task_options import PretrainingOptions
from mobilebert_jax.data.records import prepared, records
from mobilebert_jax.experiments.recipe import wording
from mobilebert_jax.experiments.recipe.recipe import Recipe
from mobilebert_jax.pretraining_data import blocks
from mobilebert_jax.pretraining_data.options import PretrainingDataOptions
from mobilebert_jax.runtime.errors import InputError

# Of a text that is too short for its blocks: so many make a finer share.
_BLOCKS = 20


class Size(NamedTuple):
  """How much there is.

  Attributes:
    blocks: files of examples.
    documents: of the text.
    characters: of the text.
  """

  blocks: int
  documents: int
  characters: int


def announced(chain: Recipe, text: pathlib.Path, target: pathlib.Path) -> str:
  """Says into how many blocks the text is cut, and how many are held out.

  Reads all of the text, unless the data set has been begun.

  Args:
    chain: the recipe.
    text: a text file or a directory of them.
    target: the data set's directory.

  Raises:
    InputError: wrong text, too few blocks to hold one out, or `target` was made
      with other options.
  """
  size = _size(chain.data, text, target)
  held = set()
  for run in chain.runs_on_data().values():
    options = PretrainingOptions(**run.options)
    if options.validation_file is None:
      _check_blocks(chain.data, text, size)
      held.add(records.held_out(options.validation_fraction, size.blocks))
  told = ' or '.join(f'{count:,}' for count in sorted(held)) or 'none'
  return f'held out: {told} of {size.blocks:,} blocks of the text'


def write(
  options: PretrainingDataOptions,
  text: pathlib.Path,
  target: pathlib.Path,
  tokenizer: Any,
  shard: tuple[int, int],
  workers: int,
):
  """Writes the blocks of this process, unless the data set is complete.

  Then the text is not read: its files are those that the vocabulary was learnt
  from, and `announced` has compared the options.

  Raises:
    InputError, RunError: as `pretraining_data.write`.
  """
  if (target / prepared.DATASET).exists():
    return
  with wording.of_recipe():
    pretraining_data.write(options, [text], target, tokenizer, shard, workers)


def _size(
  options: PretrainingDataOptions, text: pathlib.Path, target: pathlib.Path
) -> Size:
  if (target / prepared.SETTINGS).exists():
    there = prepared.read_settings(target)
    here = dataclasses.asdict(options)
    wording.refuse_others(target, wording.differences(there['options'], here))
    return Size(*(there[name] for name in Size._fields))
  with wording.of_recipe():
    plan = blocks.plan([text], options)
  return Size(len(plan.blocks), plan.documents, plan.characters)


def _check_blocks(
  options: PretrainingDataOptions, text: pathlib.Path, size: Size
):
  if size.blocks > 1:
    return
  needed = 4 if options.next_sentence else 2
  if size.documents < needed:
    raise InputError(
      f'{text}: the text has {size.documents} documents, but a part of it is '
      f'held out in whole documents, for which it needs {needed}; use '
      '--config.data.documents=paragraph (*.txt), or give more text.'
    )
  raise InputError(
    f'{text}: the text is one block of {size.characters:,} characters, but '
    'whole blocks of it are held out; use --config.data.block_size='
    f'{max(1, size.characters // _BLOCKS)} or a smaller one, or give more text.'
  )
