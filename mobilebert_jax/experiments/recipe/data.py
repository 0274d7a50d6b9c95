"""What the runs of a recipe learn from: a vocabulary and examples."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from mobilebert_jax import pretraining_data
from mobilebert_jax.config.task_options import PretrainingOptions
from mobilebert_jax.convert.save import atomic_directory
from mobilebert_jax.data.readers import documents
from mobilebert_jax.data.records import prepared, records
from mobilebert_jax.experiments.recipe import recipe
from mobilebert_jax.experiments.recipe.recipe import Recipe, VocabularyConfig
from mobilebert_jax.pretraining_data import blocks, vocabulary
from mobilebert_jax.pretraining_data.options import PretrainingDataOptions
from mobilebert_jax.runtime import files, object_store
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

# What a directory was made of; with it, it is complete.
VOCABULARY_SETTINGS = 'vocabulary.json'
_FILES = 'files'


def learn_vocabulary(chain: Recipe, text: pathlib.Path, target: pathlib.Path):
  """Writes `target`, a directory with a tokenizer, unless it is there.

  Args:
    chain: size and the like; and, of its data, the name of the text.
    text: a text file or a directory of them (`documents.find_files`).
    target: appears only when it is complete.

  Raises:
    InputError: no text, a wrong line, or see `is_vocabulary_learnt`.
  """
  if is_vocabulary_learnt(chain, text, target):
    return
  config = chain.vocabulary
  if config.tokenizer is not None:
    tokenizer = existing_vocabulary(config)
  else:
    with recipe.translate_errors():
      tokenizer = vocabulary.learn(config, [text], chain.data.text_column)
  with atomic_directory(target) as new:
    tokenizer.save_pretrained(new)
    files.write_json(
      new / VOCABULARY_SETTINGS, _vocabulary_settings(chain, text)
    )


def is_vocabulary_learnt(
  chain: Recipe, text: pathlib.Path, target: pathlib.Path
) -> bool:
  """Returns whether `learn_vocabulary` has written `target`; see there.

  Raises:
    InputError: it was made with other settings or of other text, or holds
      something else.
  """
  known = target / VOCABULARY_SETTINGS
  if known.exists():
    there = json.loads(known.read_text(encoding='utf-8'))
    _check_same_vocabulary(there, _vocabulary_settings(chain, text), target)
    return True
  # A store has no directories: what it holds may be half of an upload.
  if target.exists() and not files.is_remote(target):
    others = sorted(item.name for item in target.iterdir())
    if others:
      raise InputError(
        f'{target} holds something else ({others[0]}, but no '
        f'{VOCABULARY_SETTINGS}); choose another --workdir, or name a '
        'tokenizer of yours with --config.vocabulary.tokenizer.'
      )
  return False


def existing_vocabulary(config: VocabularyConfig) -> MobileBertTokenizerFast:
  """Returns the tokenizer that `config.tokenizer` names.

  Raises:
    InputError: there is none.
  """
  assert config.tokenizer is not None
  return MobileBertTokenizerFast.from_pretrained(
    config.tokenizer,
    # What is not set otherwise is what its files say.
    do_lower_case=None if config.do_lower_case else False,
    strip_accents=config.strip_accents,
  )


def read_vocabulary(target: pathlib.Path) -> MobileBertTokenizerFast:
  """Returns the tokenizer that `learn_vocabulary` has written."""
  return MobileBertTokenizerFast.from_pretrained(target)


def _vocabulary_settings(chain: Recipe, text: pathlib.Path) -> dict[str, Any]:
  """Returns all that decides the vocabulary; of the text, its files' sizes."""
  return {
    **dataclasses.asdict(chain.vocabulary),
    'text_column': chain.data.text_column,
    'text': str(files.absolute(text)),
    _FILES: {
      path.name: _file_size(path) for path in documents.find_files(text)
    },
  }


def _file_size(path: pathlib.Path) -> int:
  if not files.is_remote(path):
    return path.stat().st_size
  result = object_store.get(path)
  assert result is not None
  return result.size


def _check_same_vocabulary(
  there: Mapping[str, Any], here: Mapping[str, Any], target: pathlib.Path
):
  settings = {name: here[name] for name in here if name != _FILES}
  wrong = recipe.setting_differences(there, settings)
  old, new = there.get(_FILES, {}), here[_FILES]
  changed = sorted(
    name for name in {*old, *new} if old.get(name) != new.get(name)
  )
  if changed and not wrong:
    wrong = [f'the text has changed, first in {changed[0]}']
  recipe.refuse_other_settings(target, wrong)


# Of a text that is too short for its blocks: so many make a finer share.
_BLOCKS = 20


class TextSize(NamedTuple):
  """How much there is.

  Attributes:
    blocks: files of examples.
    documents: of the text.
    characters: of the text.
  """

  blocks: int
  documents: int
  characters: int


def describe_held_out(
  chain: Recipe, text: pathlib.Path, target: pathlib.Path
) -> str:
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
  size = _text_size(chain.data, text, target)
  held = set()
  for run in chain.runs_on_data().values():
    options = PretrainingOptions(**run.options)
    if options.validation_file is None:
      _check_blocks(chain.data, text, size)
      held.add(records.held_out(options.validation_fraction, size.blocks))
  counts = ' or '.join(f'{count:,}' for count in sorted(held)) or 'none'
  return f'held out: {counts} of {size.blocks:,} blocks of the text'


def write_examples(
  options: PretrainingDataOptions,
  text: pathlib.Path,
  target: pathlib.Path,
  tokenizer: Any,
  shard: tuple[int, int],
  workers: int,
):
  """Writes the blocks of this process, unless the data set is complete.

  Then the text is not read: its files are those that the vocabulary was learnt
  from, and `describe_held_out` has compared the options.

  Raises:
    InputError, RunError: as `pretraining_data.write_examples`.
  """
  if (target / prepared.DATASET).exists():
    return
  with recipe.translate_errors():
    pretraining_data.write(options, [text], target, tokenizer, shard, workers)


def _text_size(
  options: PretrainingDataOptions, text: pathlib.Path, target: pathlib.Path
) -> TextSize:
  if (target / prepared.SETTINGS).exists():
    there = prepared.read_settings(target)
    here = dataclasses.asdict(options)
    recipe.refuse_other_settings(
      target, recipe.setting_differences(there['options'], here)
    )
    return TextSize(*(there[name] for name in TextSize._fields))
  with recipe.translate_errors():
    plan = blocks.plan([text], options)
  return TextSize(len(plan.blocks), plan.documents, plan.characters)


def _check_blocks(
  options: PretrainingDataOptions, text: pathlib.Path, size: TextSize
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
