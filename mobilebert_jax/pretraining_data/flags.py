"""The flags of the commands that prepare data."""

import argparse
import dataclasses
import re
import typing
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from mobilebert_jax import fields
from mobilebert_jax.errors import InputError
from mobilebert_jax.pretraining_data.options import PretrainingDataOptions
from mobilebert_jax.tokenizer import MobileBertTokenizerFast


class Given(NamedTuple):
  """A parsed command line.

  Attributes:
    inputs: text files and directories.
    output: the data set's directory.
    tokenizer: what --tokenizer names.
    options: the other flags.
    shard: (i, n).
    workers: processes.
    rest: arguments that are not ours.
  """

  inputs: list[str]
  output: str
  tokenizer: Any
  options: PretrainingDataOptions
  shard: tuple[int, int]
  workers: int
  rest: list[str]


class _Parser(argparse.ArgumentParser):
  """A parser whose errors are told as all others."""

  def error(self, message: str) -> NoReturn:
    raise InputError(f'{message}; see {self.prog} --help')


def parse(prog: str, argv: Sequence[str], has_rest: bool = False) -> Given:
  """Parses a command line and loads the tokenizer.

  Args:
    prog: what messages call the command.
    argv: the arguments.
    has_rest: whether there may be arguments for somebody else.

  Raises:
    InputError: a wrong flag, or no such tokenizer.
  """
  parser = _Parser(prog=prog, add_help=False, allow_abbrev=False)
  parser.add_argument('--input', nargs='+', required=True)
  parser.add_argument('--output', required=True)
  parser.add_argument('--tokenizer', required=True)
  if not has_rest:
    parser.add_argument('--shard', default='0/1')
    parser.add_argument('--workers', type=int, default=1)
  _add_options(parser)
  known, rest = parser.parse_known_args(argv)
  if rest and not has_rest:
    raise InputError(f'there is no flag {rest[0]}; see {prog} --help')
  values = vars(known)
  names = [field.name for field in dataclasses.fields(PretrainingDataOptions)]
  options = PretrainingDataOptions(
    **{name: values[name] for name in names if values[name] is not None}
  )
  return Given(
    inputs=known.input,
    output=known.output,
    tokenizer=MobileBertTokenizerFast.from_pretrained(known.tokenizer),
    options=options,
    shard=_shard(values.get('shard', '0/1')),
    workers=values.get('workers', 1),
    rest=rest,
  )


def _add_options(parser: argparse.ArgumentParser):
  """A flag for each field, None where it is not given."""
  for name, hint in fields.hints(PretrainingDataOptions).items():
    kind = fields.optional(hint)[0]
    if kind is bool:
      parser.add_argument(f'--{name}', action=argparse.BooleanOptionalAction)
      # As absl's flags, beside argparse's own --no-NAME.
      parser.add_argument(
        f'--no{name}', dest=name, action='store_false', default=None
      )
      continue
    is_text = typing.get_origin(kind) is typing.Literal
    parser.add_argument(f'--{name}', type=str if is_text else kind)


def _shard(text: str) -> tuple[int, int]:
  found = re.fullmatch(r'(\d+)/(\d+)', text)
  if not found:
    raise InputError(f'--shard={text}: write it as 0/8, the first of eight')
  return int(found[1]), int(found[2])
