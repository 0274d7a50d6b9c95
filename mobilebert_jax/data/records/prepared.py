"""The files of a prepared data set, as they are written and read.

  settings.json                          what the records depend on; first
  examples-00003-of-00017.array_record   the records of one block of text
  examples-00003-of-00017.json           its counts; it makes the block complete
  dataset.json                           all counts and settings; last

Each file is there as a whole or not at all, so whatever stops the work, it can
go on with the blocks that are missing.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizer, comparison

FORMAT = 1
SETTINGS = 'settings.json'
DATASET = 'dataset.json'
SUFFIX = '.array_record'
# What a JSON file of one must be, for messages.
CONTENT = 'part of a prepared data set: prepare the data anew'
# What tells settings.json and dataset.json from those of other programs, and
# what a reader of dataset.json needs besides.
_KEYS = {'format': int, 'blocks': int}
_ALL_KEYS = {**_KEYS, 'vocabulary': str, 'examples_per_block': list}
_RECORDS = re.compile(rf'examples-\d+-of-\d+{re.escape(SUFFIX)}')


def records_name(number: int, blocks: int) -> str:
  """Returns the name of the file of a block's records."""
  return f'examples-{number:05d}-of-{blocks:05d}{SUFFIX}'


def counts_name(number: int, blocks: int) -> str:
  """Returns the name of the file of a block's counts."""
  return records_name(number, blocks).removesuffix(SUFFIX) + '.json'


def vocabulary_hash(tokenizer: MobileBertTokenizer) -> str:
  """Hashes which token each id stands for: 64 hexadecimal digits."""
  return comparison.sha256(tokenizer.tokens())


def is_prepared(directory: pathlib.Path) -> bool:
  """Returns whether a directory holds a prepared data set, or a part.

  Other programs have files of these names as well: what they say counts, or,
  where one cannot be read, the records beside it.
  """
  paths = [directory / name for name in (SETTINGS, DATASET)]
  paths = [path for path in paths if path.exists()]
  if not paths:
    return False
  has_records = any(_RECORDS.fullmatch(p.name) for p in directory.iterdir())
  return has_records or any(map(_is_ours, paths))


def read(directory: pathlib.Path) -> dict[str, Any]:
  """Reads dataset.json.

  Raises:
    InputError: It is not there, since blocks are missing, or not readable.
  """
  path = directory / DATASET
  if not path.exists():
    blocks = read_settings(directory)['blocks']
    done = sum(
      (directory / counts_name(n, blocks)).exists() for n in range(blocks)
    )
    raise InputError(
      f'{directory}: the data set is not complete, {done} of {blocks} blocks '
      'are there; run python -m mobilebert_jax.pretraining_data with the same '
      'flags to its end.'
    )
  content = _checked(path, _ALL_KEYS)
  if content['format'] != FORMAT:
    raise InputError(
      f'{path}: the format is {content["format"]!r}, but this version reads '
      f'{FORMAT}; prepare the data anew.'
    )
  return content


def read_settings(directory: pathlib.Path) -> dict[str, Any]:
  """Reads settings.json.

  Raises:
    InputError: It cannot be read, or is of another program.
  """
  return _checked(directory / SETTINGS, _KEYS)


def _checked(path: pathlib.Path, keys: Mapping[str, type]) -> dict[str, Any]:
  content = files.read_json(path, CONTENT)
  for key, kind in keys.items():
    if not isinstance(content.get(key), kind):
      raise InputError(
        f'{path}: {key!r} is {content.get(key)!r} in it, but a prepared data '
        f'set has a value of type {kind.__name__} there; prepare the data '
        'anew, in a directory of its own.'
      )
  return content


def _is_ours(path: pathlib.Path) -> bool:
  try:
    _checked(path, _KEYS)
  except InputError:
    return False
  return True
