"""Learns a WordPiece vocabulary out of plain text.

  python -m mobilebert_jax.pretraining_data.vocabulary --input PATH [PATH ...]
      --output=DIR [--size=30522] [flags below]

  --input       text files or directories of them, as for
                python -m mobilebert_jax.pretraining_data
  --output      the directory of the tokenizer, which is then --tokenizer of
                that command and config.tokenizer of a run
  --size        tokens wanted, special ones included (30522)
  --[no-]do_lower_case  take off capitals and accents (default), as MobileBERT's
                own vocabulary; without: where they tell words apart, as in
                German or French
  --min_frequency  how often two pieces must meet to be joined (2)
  --characters  learn from so much of the text, from its beginning (200,000,000)
  --text_column the name of the text in *.jsonl (text)

Exit status: 0; 2 if the input was wrong.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Sequence

from mobilebert_jax.config import fields
from mobilebert_jax.convert.save import atomic_directory
from mobilebert_jax.data.readers import documents
from mobilebert_jax.pretraining_data import blocks, flags
from mobilebert_jax.runtime import exit_status, files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast, train_wordpiece

_COMMAND = 'python -m mobilebert_jax.pretraining_data.vocabulary'


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocabularyOptions:
  """What decides a vocabulary, beside the text.

  Attributes:
    size: tokens wanted, special ones included.
    min_frequency: how often two pieces must meet to be joined.
    do_lower_case: capitals and accents are taken off, as for MobileBERT's; for
      a language whose accents tell words apart, set it to False.
    characters: learn from so much of the text, from its beginning; None: all.
  """

  size: int = fields.setting(30_522, at_least=100)
  min_frequency: int = fields.setting(2, at_least=1)
  do_lower_case: bool = True
  characters: int | None = fields.setting(200_000_000, at_least=1)

  def __post_init__(self):
    fields.check(self, 'options')


def learn(
  options: VocabularyOptions,
  inputs: Sequence[files.Name],
  text_column: str = 'text',
) -> MobileBertTokenizerFast:
  """Learns a vocabulary; what is read and learnt is told on stderr.

  Args:
    options: size and the like.
    inputs: text files and directories of text files, local or on gs://.
    text_column: the name of the text in JSON Lines.

  Raises:
    InputError: no text, a wrong line, or a file that is named twice.
  """
  return train_wordpiece(
    _lines(blocks.paths(inputs), text_column, options.characters),
    vocab_size=options.size,
    min_frequency=options.min_frequency,
    do_lower_case=options.do_lower_case,
  )


def main(argv: Sequence[str]):
  """Parses the command line, learns, and says what has been written."""
  parser = flags.Parser(_COMMAND)
  parser.add_argument('--input', nargs='+', required=True)
  parser.add_argument('--output', required=True)
  parser.add_argument('--text_column', default='text')
  parser.add_options(VocabularyOptions)
  given = parser.parse_all(argv[1:])
  options = flags.options_of(VocabularyOptions, given)
  target = files.path(given.output)
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    raise InputError(
      f'{target} is there already; name a new directory with --output.'
    )
  tokenizer = learn(options, given.input, given.text_column)
  with atomic_directory(target) as new:
    tokenizer.save_pretrained(new)
  print(f'{target}: a vocabulary of {len(tokenizer):,} tokens.')


def _lines(
  paths: Sequence[pathlib.Path], text_column: str, most: int | None
) -> Iterator[str]:
  """The text's lines, up to so many characters."""
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
  sys.exit(exit_status.run(main, __doc__))
