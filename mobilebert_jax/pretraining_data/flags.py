"""What the commands that prepare data have in common."""

import contextlib
import re
from typing import TYPE_CHECKING, NamedTuple

from mobilebert_jax.config.command_line import Flag, Given, flags_of
from mobilebert_jax.pretraining_data.options import PretrainingDataOptions
from mobilebert_jax.runtime.errors import InputError, reworded

if TYPE_CHECKING:
  from mobilebert_jax.tokenizer import MobileBertTokenizerFast

INPUT = Flag(
  'input',
  'text files or directories of them: *.txt, one document in each (or see '
  '--documents), and *.jsonl, one on each line; also .gz, also on gs://',
  value='PATH',
  is_required=True,
  is_many=True,
)
# The flags of a command that makes examples.
SHARED = (
  INPUT,
  Flag(
    'output', 'the directory of the data set', value='DIR', is_required=True
  ),
  Flag(
    'tokenizer',
    'a vocab.txt, a directory, or a name on the Hugging Face hub',
    value='VOCAB',
    is_required=True,
  ),
  *flags_of(PretrainingDataOptions),
)


class Asked(NamedTuple):
  """What is to be made.

  Attributes:
    inputs: text files and directories.
    output: the data set's directory.
    tokenizer: what --tokenizer names.
    options: the other flags.
  """

  inputs: tuple[str, ...]
  output: str
  tokenizer: 'MobileBertTokenizerFast'
  options: PretrainingDataOptions


def read(given: Given) -> Asked:
  """Loads the tokenizer that a command line names.

  Raises:
    InputError: there is none, or options that do not go together.
  """
  from mobilebert_jax.tokenizer import MobileBertTokenizerFast

  options = given.options(PretrainingDataOptions)
  tokenizer = MobileBertTokenizerFast.from_pretrained(given['tokenizer'])
  return Asked(given['input'], given['output'], tokenizer, options)


def shard(text: str) -> tuple[int, int]:
  """(i, n) of --shard=i/n.

  Raises:
    InputError: it is written otherwise.
  """
  result = re.fullmatch(r'(\d+)/(\d+)', text)
  if not result:
    raise InputError(f'--shard={text}: write it as 0/8, the first of eight.')
  return int(result[1]), int(result[2])


def closing_line(output: str, summary: dict | None) -> str:
  """What is in a data set, in one sentence."""
  if summary is None:
    return f'{output}: these blocks are written; those of other shards are not.'
  counts = summary['counts']
  share = counts['unknown'] / max(counts['tokens'], 1)
  unknown = f' ({share:.1%} of them [UNK])' if share else ''
  return (
    f'{output}: {counts["examples"]:,} examples in {summary["blocks"]:,} '
    f'files, of {counts["tokens"]:,} tokens{unknown} in '
    f'{summary["documents"]:,} documents.'
  )


def translate_errors() -> contextlib.AbstractContextManager[None]:
  """Names the command's flags where an InputError names a run's settings."""
  return reworded(lambda text: re.sub(r'\bconfig\.options\.(?=\w)', '--', text))
