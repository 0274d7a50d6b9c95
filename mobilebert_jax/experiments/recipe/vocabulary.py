"""The first part of a chain: a vocabulary, mostly learnt from the text."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from mobilebert_jax.convert.save import atomic_directory
from mobilebert_jax.data.readers import documents
from mobilebert_jax.experiments.recipe import wording
from mobilebert_jax.experiments.recipe.recipe import Recipe, VocabularyConfig
from mobilebert_jax.pretraining_data import vocabulary
from mobilebert_jax.runtime import files, object_store
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

# What a directory was made of; with it, it is complete.
SETTINGS = 'vocabulary.json'
_FILES = 'files'


def learn(chain: Recipe, text: pathlib.Path, target: pathlib.Path):
  """Writes `target`, a directory with a tokenizer, unless it is there.

  Args:
    chain: size and the like; and, of its data, the name of the text.
    text: a text file or a directory of them (`documents.find_files`).
    target: appears only when it is complete.

  Raises:
    InputError: no text, a wrong line, or see `is_learnt`.
  """
  if is_learnt(chain, text, target):
    return
  config = chain.vocabulary
  if config.tokenizer is not None:
    tokenizer = existing(config)
  else:
    with wording.of_recipe():
      tokenizer = vocabulary.learn(config, [text], chain.data.text_column)
  with atomic_directory(target) as new:
    tokenizer.save_pretrained(new)
    files.write_json(new / SETTINGS, _settings(chain, text))


def is_learnt(chain: Recipe, text: pathlib.Path, target: pathlib.Path) -> bool:
  """Whether `learn` has written `target`; see there.

  Raises:
    InputError: it was made with other settings or of other text, or holds
      something else.
  """
  known = target / SETTINGS
  if known.exists():
    there = json.loads(known.read_text(encoding='utf-8'))
    _check_same(there, _settings(chain, text), target)
    return True
  # A store has no directories: what it holds may be half of an upload.
  if target.exists() and not files.is_remote(target):
    others = sorted(item.name for item in target.iterdir())
    if others:
      raise InputError(
        f'{target} holds something else ({others[0]}, but no {SETTINGS}); '
        'choose another --workdir, or name a tokenizer of yours with '
        '--config.vocabulary.tokenizer.'
      )
  return False


def existing(config: VocabularyConfig) -> MobileBertTokenizerFast:
  """The tokenizer that `config.tokenizer` names.

  Raises:
    InputError: there is none.
  """
  assert config.tokenizer is not None
  return MobileBertTokenizerFast.from_pretrained(config.tokenizer)


def read(target: pathlib.Path) -> MobileBertTokenizerFast:
  """The tokenizer that `learn` has written."""
  return MobileBertTokenizerFast.from_pretrained(target)


def _settings(chain: Recipe, text: pathlib.Path) -> dict[str, Any]:
  """All that decides the vocabulary; of the text, its files' sizes."""
  return {
    **dataclasses.asdict(chain.vocabulary),
    'text_column': chain.data.text_column,
    'text': str(files.absolute(text)),
    _FILES: {path.name: _size(path) for path in documents.find_files(text)},
  }


def _size(path: pathlib.Path) -> int:
  if not files.is_remote(path):
    return path.stat().st_size
  found = object_store.get(path)
  assert found is not None
  return found.size


def _check_same(
  there: Mapping[str, Any], here: Mapping[str, Any], target: pathlib.Path
):
  settings = {name: here[name] for name in here if name != _FILES}
  wrong = wording.differences(there, settings)
  old, new = there.get(_FILES, {}), here[_FILES]
  changed = sorted(
    name for name in {*old, *new} if old.get(name) != new.get(name)
  )
  if changed and not wrong:
    wrong = [f'the text has changed, first in {changed[0]}']
  wording.refuse_others(target, wrong)
