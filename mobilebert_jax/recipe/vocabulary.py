"""The first part of a chain: a vocabulary, mostly learnt from the text."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator

from mobilebert_jax import files
from mobilebert_jax.convert.output import atomic_directory
from mobilebert_jax.data import documents
from mobilebert_jax.errors import InputError
from mobilebert_jax.recipe.recipe import VocabularyConfig
from mobilebert_jax.tokenizer import MobileBertTokenizerFast, train_wordpiece

_SETTINGS = 'vocabulary.json'


def learn(
  config: VocabularyConfig,
  text: pathlib.Path,
  target: pathlib.Path,
  unit: documents.Unit,
  text_column: str,
):
  """Writes `target`, a directory with a tokenizer, unless it is there.

  Args:
    config: size and the like.
    text: a text file or a directory of them (`documents.find_files`).
    target: appears only when it is complete.
    unit: what a document is in a text file.
    text_column: the name of the text in JSON Lines.

  Raises:
    InputError: no text, a wrong line, or `target` was made with other settings.
  """
  settings = {**dataclasses.asdict(config), 'text': str(text)}
  known = target / _SETTINGS
  if known.exists():
    _check(known, settings)
    return
  if config.tokenizer is not None:
    tokenizer = MobileBertTokenizerFast.from_pretrained(config.tokenizer)
  else:
    tokenizer = train_wordpiece(
      _texts(text, config.characters, unit, text_column),
      vocab_size=config.size,
      min_frequency=config.min_frequency,
      do_lower_case=config.do_lower_case,
    )
  with atomic_directory(target) as new:
    tokenizer.save_pretrained(new)
    files.write_json(new / _SETTINGS, settings)


def read(target: pathlib.Path) -> MobileBertTokenizerFast:
  """The tokenizer that `learn` has written."""
  return MobileBertTokenizerFast.from_pretrained(target)


def _check(known: pathlib.Path, settings: dict[str, object]):
  old = json.loads(known.read_text(encoding='utf-8'))
  wrong = [
    f'{name}: {old.get(name)!r} there, {settings[name]!r} here'
    for name in settings
    if old.get(name) != settings[name]
  ]
  if wrong:
    raise InputError(
      f'{known.parent} was made with other settings: {"; ".join(wrong)}; '
      'choose another --workdir, or the old values.'
    )


def _texts(
  text: pathlib.Path,
  most: int | None,
  unit: documents.Unit,
  text_column: str,
) -> Iterator[str]:
  """The text's lines, up to so many characters."""
  left = float('inf') if most is None else most
  for path in documents.find_files(text):
    for document in documents.read_documents(path, unit, text_column):
      for line in document.lines():
        if left <= 0:
          return
        left -= len(line)
        yield line
