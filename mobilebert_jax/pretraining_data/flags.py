"""The flags of the commands that prepare data."""

import argparse
import dataclasses
import difflib
import re
import typing
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from mobilebert_jax.config import fields
from mobilebert_jax.pretraining_data.options import PretrainingDataOptions
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

# What a runner does by itself.
_DIVISION = ('--shard', '--workers')
# Of no runner's flags is one so much like one of ours.
_ALIKE = 0.8

Options = typing.TypeVar('Options')


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


class Parser(argparse.ArgumentParser):
  """A parser whose errors are told as all others.

  Args of the constructor:
    prog: what messages call the command.
  """

  def __init__(self, prog: str):
    super().__init__(prog=prog, add_help=False, allow_abbrev=False)

  def error(self, message: str) -> NoReturn:
    raise InputError(f'{message}; see {self.prog} --help')

  def flags(self) -> list[str]:
    """All flags, with their dashes."""
    return list(self._option_string_actions)

  def parse_all(self, argv: Sequence[str]) -> argparse.Namespace:
    """Parses arguments that must all be this parser's.

    Raises:
      InputError: a wrong flag, or one that there is not.
    """
    known, rest = self.parse_known_args(argv)
    if rest:
      hint = _hint(self.prog, rest[0], self.flags())
      raise InputError(f'there is no flag {rest[0]}; {hint}')
    return known

  def add_options(self, kind: type):
    """Adds a flag for each field of a dataclass, None where it is not given."""
    for name, hint in fields.hints(kind).items():
      base = fields.optional(hint)[0]
      if base is bool:
        self.add_argument(f'--{name}', action=argparse.BooleanOptionalAction)
        # As absl's flags, beside argparse's own --no-NAME.
        self.add_argument(
          f'--no{name}', dest=name, action='store_false', default=None
        )
        continue
      is_text = typing.get_origin(base) is typing.Literal
      self.add_argument(f'--{name}', type=str if is_text else base)


def options_of(kind: type[Options], known: argparse.Namespace) -> Options:
  """A dataclass of the flags that were given for its fields."""
  values = vars(known)
  names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
  return kind(
    **{name: values[name] for name in names if values[name] is not None}
  )


def parse(prog: str, argv: Sequence[str], has_rest: bool = False) -> Given:
  """Parses a command line and loads the tokenizer.

  Args:
    prog: what messages call the command.
    argv: the arguments.
    has_rest: whether there may be arguments for somebody else.

  Raises:
    InputError: a wrong flag, or no such tokenizer.
  """
  parser = _parser(prog, has_rest)
  rest: list[str] = []
  if has_rest:
    known, rest = parser.parse_known_args(argv)
    _check_rest(prog, rest, parser.flags())
  else:
    known = parser.parse_all(argv)
  values = vars(known)
  options = options_of(PretrainingDataOptions, known)
  return Given(
    inputs=known.input,
    output=known.output,
    tokenizer=MobileBertTokenizerFast.from_pretrained(known.tokenizer),
    options=options,
    shard=_shard(values.get('shard', '0/1')),
    workers=values.get('workers', 1),
    rest=rest,
  )


def _parser(prog: str, has_rest: bool) -> Parser:
  parser = Parser(prog)
  parser.add_argument('--input', nargs='+', required=True)
  parser.add_argument('--output', required=True)
  parser.add_argument('--tokenizer', required=True)
  if not has_rest:
    parser.add_argument('--shard', default='0/1')
    parser.add_argument('--workers', type=int, default=1)
  parser.add_options(PretrainingDataOptions)
  return parser


def _check_rest(prog: str, rest: Sequence[str], ours: Sequence[str]):
  """A runner overlooks flags that it does not know."""
  for flag in rest:
    found = _meant(flag, (*ours, *_DIVISION))
    if found in _DIVISION:
      raise InputError(
        f'there is no flag {flag} here, since the runner divides the work; use '
        'its own, such as --direct_num_workers or --max_num_workers'
      )
    if found:
      raise InputError(f'there is no flag {flag}; {_hint(prog, flag, ours)}')


def _hint(prog: str, flag: str, ours: Sequence[str]) -> str:
  found = _meant(flag, ours)
  return f'did you mean {found}?' if found else f'see {prog} --help'


def _meant(flag: str, ours: Sequence[str]) -> str | None:
  """The flag that one resembles or begins; None for a value or another."""
  name = flag.partition('=')[0]
  if not name.startswith('--') or not name.strip('-'):
    return None
  longer = [known for known in ours if known.startswith(name)]
  # Without the dashes, which all have.
  names = {known[2:]: known for known in ours}
  close = difflib.get_close_matches(name[2:], names, 1, _ALIKE)
  return next(iter([*longer, *(names[found] for found in close)]), None)


def _shard(text: str) -> tuple[int, int]:
  found = re.fullmatch(r'(\d+)/(\d+)', text)
  if not found:
    raise InputError(f'--shard={text}: write it as 0/8, the first of eight')
  return int(found[1]), int(found[2])
