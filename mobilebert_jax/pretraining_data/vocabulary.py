"""Learns a WordPiece vocabulary out of plain text.

The directory that it writes is then --tokenizer of
python -m mobilebert_jax.pretraining_data, and config.tokenizer of a run.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mobilebert_jax.config import fields
from mobilebert_jax.config.command_line import Command, Flag, flags_of
from mobilebert_jax.pretraining_data import flags
from mobilebert_jax.runtime import exit_status, files
from mobilebert_jax.runtime.errors import InputError

if TYPE_CHECKING:
  from mobilebert_jax.tokenizer import MobileBertTokenizerFast


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocabularyOptions:
  """What decides a vocabulary, beside the text."""

  size: int = fields.setting(
    30_522, help='tokens wanted, special ones included', at_least=100
  )
  min_frequency: int = fields.setting(
    2, help='how often two pieces must meet to be joined', at_least=1
  )
  do_lower_case: bool = fields.setting(
    True,
    help="capitals and accents are taken off, as for MobileBERT's; for a "
    'language whose accents tell words apart, set it to False',
  )
  strip_accents: bool | None = fields.setting(
    None, help='accents are taken off; None: as do_lower_case'
  )
  alphabet: int | None = fields.setting(
    None,
    help='kinds of characters kept, the most frequent first; a word with '
    'another one is [UNK]. None: a thousand, and more as far as there is room',
    at_least=1,
  )
  characters: int | None = fields.setting(
    200_000_000,
    help='learn from so much of the text, from its beginning; None: all',
    at_least=1,
  )

  def __post_init__(self):
    fields.check(self, 'options')


COMMAND = Command(
  'python -m mobilebert_jax.pretraining_data.vocabulary',
  __doc__,
  (
    flags.INPUT,
    Flag(
      'output', 'the directory of the tokenizer', value='DIR', is_required=True
    ),
    *flags_of(VocabularyOptions),
    Flag('text_column', 'the name of the text in *.jsonl', str, 'text'),
  ),
  example='--input=TEXTS --output=vocabulary --size=8000',
)


def learn(
  options: VocabularyOptions,
  inputs: Sequence[files.Name],
  text_column: str = 'text',
) -> 'MobileBertTokenizerFast':
  """Learns a vocabulary; what is read and learnt is told on stderr.

  Args:
    options: size and the like.
    inputs: text files and directories of text files, local or on gs://.
    text_column: the name of the text in JSON Lines.

  Raises:
    InputError: no text, a wrong line, or a file that is named twice.
  """
  # Here, so that --help does not wait for them.
  from mobilebert_jax.pretraining_data import blocks
  from mobilebert_jax.tokenizer import train_wordpiece

  return train_wordpiece(
    _lines(blocks.paths(inputs), text_column, options.characters),
    vocab_size=options.size,
    min_frequency=options.min_frequency,
    do_lower_case=options.do_lower_case,
    strip_accents=options.strip_accents,
    limit_alphabet=options.alphabet,
  )


def main(argv: Sequence[str]):
  """Parses the command line, learns, and says what has been written."""
  given = COMMAND.parse(argv[1:])
  options = given.options(VocabularyOptions)
  target = files.path(given['output'])
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    raise InputError(
      f'{target} is there already; name a new directory with --output.'
    )
  with flags.translate_errors():
    tokenizer = learn(options, given['input'], given['text_column'])
  from mobilebert_jax.convert.save import atomic_directory

  with atomic_directory(target) as new:
    tokenizer.save_pretrained(new)
  print(f'{target}: a vocabulary of {len(tokenizer):,} tokens.')


def _lines(
  paths: Sequence[pathlib.Path], text_column: str, most: int | None
) -> Iterator[str]:
  """The text's lines, up to so many characters."""
  from mobilebert_jax.data.readers import documents

  left = float('inf') if most is None else most
  for path in paths:
    # What a document is makes no difference, and lines take the least memory.
    for document in documents.read_documents(path, 'line', text_column):
      for line in document.lines():
        if left <= 0:
          return
        left -= len(line)
        yield line


if __name__ == '__main__':
  sys.exit(exit_status.run(main))
