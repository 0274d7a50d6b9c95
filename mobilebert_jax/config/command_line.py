"""One builder for the command lines of all commands.

A command is a `Command`: its flags with their types, defaults and help, an
example, and what else its grammar has. From that come --help, the errors and
the values:

  COMMAND = Command('python -m mobilebert_jax.example', __doc__, flags=(
    Flag('size', 'how many', int, default=8, limits={'at_least': 1}),
  ), example='--size=9')

  def main(argv):
    given = COMMAND.parse(argv[1:])
    print(given['size'])

  if __name__ == '__main__':
    sys.exit(exit_status.run(main))

A flag is written --name=VALUE or --name VALUE; --na-me is --na_me; a truth is
--name, --noname, --no-name or --name=false. Beside flags a command may have
positional arguments, sub-commands (`Command.commands`), families of flags that
share a prefix, such as --config.a.b=VALUE (`Prefix`), and arguments that
are passed on to another program (`Command.others`).
"""

import argparse
import dataclasses
import difflib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from mobilebert_jax.config import fields
from mobilebert_jax.runtime.errors import InputError

T = TypeVar('T')

HELP = ('-h', '--help', '-help')
_WIDTH = 80
# How much like a flag its misspelling is; flags of another program are less
# like ours than the second.
_ALIKE, _MORE_ALIKE = 0.7, 0.8


@dataclasses.dataclass(frozen=True)
class Flag:
  """A flag, or a positional argument.

  Attributes:
    name: its name without dashes, in snake_case.
    help: what it means, without a full stop.
    hint: its type, as of a field of settings.
    default: its value where it is not given.
    otherwise: what happens without it, for --help, where `default` does not
      say that.
    value: what --help calls the value, such as 'DIR'.
    limits: at_least, above, at_most, below.
    words: texts that stand for a value of their own, such as 'all'.
    is_required: whether it must be given.
    is_many: whether it takes several values at once; they come as a tuple.
    is_repeated: whether it may be given several times; likewise.
    is_positional: whether it is written without its name.
  """

  name: str
  help: str
  hint: Any = str
  default: Any = None
  otherwise: str | None = None
  value: str | None = None
  limits: Mapping[str, float] = dataclasses.field(default_factory=dict)
  words: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  is_required: bool = False
  is_many: bool = False
  is_repeated: bool = False
  is_positional: bool = False

  @property
  def title(self) -> str:
    """What messages call it: '--name', or 'NAME' of a positional one."""
    return self._value if self.is_positional else f'--{self.name}'

  @property
  def usage(self) -> str:
    """How it is written."""
    if self.is_positional:
      return f'{self.title} [{self.title} ...]' if self.is_many else self.title
    if self._is_bool:
      return f'--[no]{self.name}'
    if self.is_many:
      return f'{self.title} {self._value} [{self._value} ...]'
    return f'{self.title}={self._value}'

  @property
  def description(self) -> str:
    """Its help with its limits and its default."""
    allowed = fields.choices(self.hint, self.limits)
    text = f'{self.help} ({allowed})' if allowed else self.help
    if self.is_required:
      return f'{text}; required'
    return f'{text}; default: {self.otherwise or fields.show(self.default)}'

  def read(self, text: str) -> Any:
    """Its value from the command line's text.

    Raises:
      InputError: naming the flag, the text and what would be right.
    """
    if text in self.words:
      return self.words[text]
    value = fields.parse(self.title, text, self.hint)
    known = fields.Setting(
      self.name, self.hint, self.default, self.help, self.limits
    )
    fields.check_value(self.title, value, known)
    return value

  @property
  def _is_bool(self) -> bool:
    return fields.optional(self.hint)[0] is bool

  @property
  def _value(self) -> str:
    return self.value or self.name.upper()


class Prefix(NamedTuple):
  """A family of flags with one prefix, such as --config.a.b=VALUE.

  Attributes:
    name: the prefix without dashes and point, such as 'config'.
    usage: how such a flag is written.
    help: what it means, without a full stop.
    known: names behind the prefix, from which the nearest one is suggested
      where a flag lacks the prefix.
  """

  name: str
  usage: str
  help: str
  known: Sequence[str] = ()


class Assignment(NamedTuple):
  """What a flag with a prefix says.

  Attributes:
    name: what is behind the prefix, such as 'data.max_length'.
    value: the text behind the equals sign; without one, whether the flag has no
      'no' before its name.
  """

  name: str
  value: str | bool


@dataclasses.dataclass(frozen=True)
class Given:
  """A parsed command line.

  Attributes:
    values: of every flag and positional argument, by name.
    named: the names of those that were given.
    assignments: what the flags of each prefix say, in their order.
    others: the arguments that are passed on.
    command: the sub-command.
  """

  values: Mapping[str, Any]
  named: frozenset[str]
  assignments: Mapping[str, tuple[Assignment, ...]]
  others: tuple[str, ...] = ()
  command: str | None = None

  def __getitem__(self, name: str) -> Any:
    return self.values[name]

  def only(self, names: Sequence[str]) -> dict[str, Any]:
    """The values of those of some flags that were given."""
    return {name: self.values[name] for name in names if name in self.named}

  def of(self, flags: Sequence[Flag]) -> dict[str, Any]:
    """The values of some flags, by name."""
    return {flag.name: self.values[flag.name] for flag in flags}

  def options(self, kind: type[T]) -> T:
    """A dataclass of settings, made of the flags for its fields.

    Raises:
      InputError: values that do not go together.
    """
    return kind(**self.only(list(fields.settings(kind))))


@dataclasses.dataclass(frozen=True)
class Command:
  """A command: what its command line may hold, and its help.

  Attributes:
    name: how it is started, such as 'python train.py'.
    text: its help, beside the flags; the first line says what it does.
    flags: its flags and positional arguments.
    example: arguments that make sense.
    prefixes: families of flags.
    others: what is passed on to another program, for --help; None: nothing.
    reserved: flags that the other program replaces -> what to say of them.
    commands: sub-commands by name; the flags are then theirs.
    more: says more in the help, knowing the flags that stand beside --help.
    failure: when the exit status is 1, as the end of a sentence.
    continues: whether a command that was stopped continues when repeated.
  """

  name: str
  text: str | None
  flags: Sequence[Flag] = ()
  example: str = ''
  prefixes: Sequence[Prefix] = ()
  others: str | None = None
  reserved: Mapping[str, str] = dataclasses.field(default_factory=dict)
  commands: Mapping[str, 'Command'] = dataclasses.field(default_factory=dict)
  more: Callable[[Given], str] | None = None
  failure: str | None = None
  continues: bool = False

  def parse(self, argv: Sequence[str]) -> Given:
    """Reads a command line; prints the help and exits if it asks for that.

    Args:
      argv: the arguments, without the program's name.

    Raises:
      InputError: an unknown flag, a wrong value, or a missing one.
      SystemExit: with status 0, behind the help.
    """
    given, _, rest = _cut(argv, '--')
    if self.commands:
      return self._parse_command(argv)
    if any(arg in HELP for arg in given):
      print(self.help(argv))
      raise SystemExit(0)
    arguments, assignments = self._sorted(given)
    values, named, others = self._values([*arguments, *rest])
    return Given(values, frozenset(named), assignments, tuple(others))

  def help(self, argv: Sequence[str] = ()) -> str:
    """What --help prints.

    Args:
      argv: the arguments beside --help.
    """
    first, _, more = (self.text or '').strip().partition('\n')
    blocks = [first, f'usage: {self._usage()}']
    entries = [(flag.usage, flag.description) for flag in self.flags]
    entries += [(prefix.usage, prefix.help) for prefix in self.prefixes]
    entries += [(name, _first(c.text)) for name, c in self.commands.items()]
    if self.others:
      entries.append(('...', self.others))
    blocks.append('\n'.join(entry(*item) for item in entries))
    if more.strip():
      blocks.append(more.strip())
    if self.example:
      blocks.append(f'Example:\n  {self.name} {self.example}')
    blocks.append(_filled(f'Exit status: {self._status()}.'))
    if self.more is not None:
      blocks.append(self.more(self._glance(argv)))
    return '\n\n'.join(filter(None, blocks))

  def _glance(self, argv: Sequence[str]) -> Given:
    """The flags beside --help, of which some may be missing."""
    flags = [dataclasses.replace(f, is_required=False) for f in self.flags]
    return dataclasses.replace(self, flags=flags).parse(
      [arg for arg in argv if arg not in HELP]
    )

  def _usage(self) -> str:
    needed = [flag.usage for flag in self.flags if flag.is_required]
    first = 'COMMAND' if self.commands else ''
    return ' '.join(filter(None, (self.name, first, *needed, '[flags]')))

  def _status(self) -> str:
    statuses = ['0 when finished']
    if self.failure:
      statuses.append(f'1 if {self.failure}')
    statuses.append('2 if the input was wrong')
    if self.continues:
      statuses.append(
        '75 if SIGTERM and 130 if Ctrl-C stopped it: the same command continues'
      )
    return '; '.join(statuses)

  def _parse_command(self, argv: Sequence[str]) -> Given:
    names = [arg for arg in argv if not arg.startswith('-')]
    if names and names[0] in self.commands:
      at = list(argv).index(names[0])
      inner = self.commands[names[0]].parse([*argv[:at], *argv[at + 1 :]])
      return dataclasses.replace(inner, command=names[0])
    if any(arg in HELP for arg in argv):
      print(self.help(argv))
      raise SystemExit(0)
    known = ', '.join(self.commands)
    if not names:
      raise InputError(f'{self.name} needs one of the commands {known}.')
    raise InputError(f'there is no command {names[0]!r}; there are {known}.')

  def _sorted(
    self, argv: Sequence[str]
  ) -> tuple[list[str], dict[str, tuple[Assignment, ...]]]:
    """Arguments with their flags in one spelling, and the prefixes' ones."""
    known = {flag.name: flag for flag in self.flags if not flag.is_positional}
    arguments: list[str] = []
    result: dict[str, list[Assignment]] = {p.name: [] for p in self.prefixes}
    for arg in argv:
      if not _is_flag(arg):
        arguments.append(arg)
        continue
      prefix, assignment = _assignment(arg, list(result))
      if assignment is not None:
        result[prefix].append(assignment)
        continue
      name, equals, value = arg.lstrip('-').partition('=')
      name = name.replace('-', '_')
      off = name.removeprefix('no').removeprefix('_')
      if name in known:
        is_bare = known[name]._is_bool and not equals
        arguments.append(f'--{name}' + ('=true' if is_bare else equals + value))
      elif off in known and known[off]._is_bool and not equals:
        arguments.append(f'--{off}=false')
      else:
        self._refuse(arg)
        arguments.append(arg)
    return arguments, {name: tuple(items) for name, items in result.items()}

  def _refuse(self, arg: str):
    """Refuses a flag that is not there, unless it may be another program's."""
    name = arg.partition('=')[0]
    meant = self._nearest(name.lstrip('-').replace('-', '_'))
    if meant is not None and meant in self.reserved:
      raise InputError(f'there is no flag {name} here: {self.reserved[meant]}.')
    if self.others is None or meant is not None:
      hint = f'see {self.name} --help.'
      if meant is not None:
        hint = f'did you mean {meant}?'
      raise InputError(f'there is no flag {name}; {hint}')

  def _nearest(self, name: str) -> str | None:
    """The flag that a name begins or resembles."""
    names = {flag.name: flag.title for flag in self.flags}
    names |= {flag.lstrip('-'): flag for flag in self.reserved}
    for prefix in self.prefixes:
      names |= {field: f'--{prefix.name}.{field}' for field in prefix.known}
      names |= {
        f'{prefix.name}.{field}': f'--{prefix.name}.{field}'
        for field in prefix.known
      }
    if name in names:
      return names[name]
    cutoff = _ALIKE if self.others is None else _MORE_ALIKE
    longer = [full for known, full in names.items() if known.startswith(name)]
    close = difflib.get_close_matches(name, names, 1, cutoff)
    return next(iter([*longer, *(names[result] for result in close)]), None)

  def _values(
    self, argv: Sequence[str]
  ) -> tuple[dict[str, Any], list[str], list[str]]:
    """The flags' values, the names of those given, and what is left."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    for flag in self.flags:
      _declare(parser, flag)
    parsed, left = parser.parse_known_args(list(argv))
    if left and self.others is None:
      raise InputError(
        f'{left[0]!r} belongs to no flag; write --name=value, or see '
        f'{self.name} --help.'
      )
    self._check_missing(parsed)
    values: dict[str, Any] = {}
    named = []
    for flag in self.flags:
      text = getattr(parsed, flag.name)
      if text is None or text == []:
        is_list = flag.is_many or flag.is_repeated
        values[flag.name] = () if is_list else flag.default
        continue
      named.append(flag.name)
      values[flag.name] = (
        tuple(map(flag.read, text))
        if isinstance(text, list)
        else flag.read(text)
      )
    return values, named, left

  def _check_missing(self, parsed: argparse.Namespace):
    missing = [
      flag
      for flag in self.flags
      if flag.is_required and not getattr(parsed, flag.name)
    ]
    if not missing:
      return
    names = ', '.join(flag.title for flag in missing)
    is_flag = not any(flag.is_positional for flag in missing)
    if len(missing) == 1:
      raise InputError(f'{"the flag " * is_flag}{names} is missing.')
    raise InputError(f'{"the flags " * is_flag}{names} are missing.')


class _Parser(argparse.ArgumentParser):
  """argparse with our errors."""

  def error(self, message: str) -> NoReturn:
    name = message.removeprefix('argument ').partition(':')[0]
    raise InputError(f'the flag {name} needs a value.')


def flags_of(kind: type, *, but: Sequence[str] = ()) -> tuple[Flag, ...]:
  """A flag for each field of a dataclass of settings."""
  return tuple(
    Flag(
      name,
      setting.help,
      setting.hint,
      default=setting.default,
      limits=setting.limits,
    )
    for name, setting in fields.settings(kind).items()
    if name not in but
  )


def assignments(
  argv: Sequence[str], prefix: str = 'config'
) -> tuple[Assignment, ...]:
  """What arguments such as --config.a.b=VALUE say.

  Raises:
    InputError: an argument of another kind.
  """
  known = Prefix(prefix, f'--{prefix}.a.b=VALUE', '')
  command = Command('this', '', prefixes=(known,))
  return command.parse(argv).assignments[prefix]


def entry(title: str, text: str) -> str:
  """An entry of a help: a title, and below it a text."""
  return f'  {title}\n' + _filled(text, indent=6)


def _declare(parser: argparse.ArgumentParser, flag: Flag):
  """Types, defaults and what is missing are told by us, not by argparse."""
  if flag.is_positional:
    parser.add_argument(flag.name, nargs='*' if flag.is_many else '?')
  elif flag.is_repeated:
    parser.add_argument(flag.title, dest=flag.name, action='append')
  else:
    nargs = '+' if flag.is_many else None
    parser.add_argument(flag.title, dest=flag.name, nargs=nargs)


def _assignment(
  arg: str, prefixes: Sequence[str]
) -> tuple[str, Assignment | None]:
  """The prefix of an argument and what it says, if it has one of them."""
  name, equals, value = arg.lstrip('-').partition('=')
  for prefix in prefixes:
    for start, is_on in ((f'{prefix}.', True), (f'no{prefix}.', False)):
      if not name.startswith(start):
        continue
      field = name.removeprefix(start)
      if equals and not is_on:
        raise InputError(
          f'--{name} takes no value; write --{prefix}.{field}={value}.'
        )
      return prefix, Assignment(field, value if equals else is_on)
  return '', None


def _is_flag(arg: str) -> bool:
  if not arg.startswith('-') or arg == '-':
    return False
  try:
    float(arg)
  except ValueError:
    return True
  return False


def _cut(argv: Sequence[str], mark: str) -> tuple[list[str], bool, list[str]]:
  """What is before a mark, and the mark with what is behind it."""
  if mark not in argv:
    return list(argv), False, []
  at = list(argv).index(mark)
  return list(argv[:at]), True, list(argv[at:])


def _first(text: str | None) -> str:
  return (text or '').strip().partition('\n')[0].rstrip('.')


def _filled(text: str, indent: int = 0) -> str:
  return textwrap.fill(
    text,
    _WIDTH,
    initial_indent=' ' * indent,
    subsequent_indent=' ' * indent,
    break_long_words=False,
    break_on_hyphens=False,
  )
