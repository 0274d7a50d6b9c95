"""The files of a prepared data set, as they are written and read.

  settings.json                          what the records depend on; first
  examples-00003-of-00017.array_record   the records of one block of text
  examples-00003-of-00017.json           its counts; it makes the block complete
  dataset.json                           all counts and settings; last

Each file is there as a whole or not at all, so whatever stops the work, it can
go on with the blocks that are missing.
"""

import hashlib
import json
import pathlib
from typing import Any

from mobilebert_jax.errors import InputError

FORMAT = 1
SETTINGS = 'settings.json'
DATASET = 'dataset.json'
SUFFIX = '.array_record'


def records_name(number: int, blocks: int) -> str:
  """The file of a block's records."""
  return f'examples-{number:05d}-of-{blocks:05d}{SUFFIX}'


def counts_name(number: int, blocks: int) -> str:
  """The file of a block's counts."""
  return records_name(number, blocks).removesuffix(SUFFIX) + '.json'


def vocabulary_hash(tokenizer: Any) -> str:
  """Which token each id stands for, as 64 hexadecimal digits."""
  tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
  return hashlib.sha256('\n'.join(tokens).encode()).hexdigest()


def is_prepared(directory: pathlib.Path) -> bool:
  """Whether a directory holds a prepared data set, or the beginning of one."""
  return (directory / SETTINGS).exists() or (directory / DATASET).exists()


def read(directory: pathlib.Path) -> dict[str, Any]:
  """What dataset.json says.

  Raises:
    InputError: It is not there, since blocks are missing, or not readable.
  """
  if not (directory / DATASET).exists():
    blocks = read_json(directory / SETTINGS)['blocks']
    done = sum(
      (directory / counts_name(n, blocks)).exists() for n in range(blocks)
    )
    raise InputError(
      f'{directory}: the data set is not complete, {done} of {blocks} blocks '
      'are there; run python -m mobilebert_jax.pretraining_data with the same '
      'flags to its end'
    )
  found = read_json(directory / DATASET)
  if found.get('format') != FORMAT:
    raise InputError(
      f'{directory / DATASET}: the format is {found.get("format")!r}, but this '
      f'version reads {FORMAT}; prepare the data anew'
    )
  return found


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """A JSON file of a prepared data set.

  Raises:
    InputError: It cannot be read.
  """
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise InputError(
      f'{path}: cannot be read ({error}); prepare the data anew'
    ) from None
