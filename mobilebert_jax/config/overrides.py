"""Config files, and overrides of what they say: --config.a.b=VALUE.

A config file is Python with a function `get_config(variant)` that returns what
`config_dict` makes: all settings of a run as plain values. The command line
replaces some of them, read by the types of their fields; then the dataclasses
(`run.TrainConfig`) validate the whole. Below this module nobody sees a flag.
"""

import ast
import dataclasses
import os
import pathlib
import runpy
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mobilebert_jax.config import command_line, fields, run, task_options
from mobilebert_jax.config.command_line import (
  Assignment,
  Command,
  Flag,
  Given,
  Prefix,
)
from mobilebert_jax.config.flags import PROCESSES
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.runtime import distributed
from mobilebert_jax.runtime.errors import InputError

if TYPE_CHECKING:
  import ml_collections

T = TypeVar('T')
# The settings as plain values, a group as a dictionary.
Values = dict[str, Any]

# Functions of config files, with a file that has one.
_EXAMPLES = {
  'get_config': 'configs/quickstart.py',
  'get_recipe': 'configs/recipe_small.py',
}


class Group(NamedTuple):
  """A group of settings, as a config file and the command line see it.

  Attributes:
    path: what messages call it.
    members: its settings and groups by name, in their order.
    text: what it is about.
  """

  path: str
  members: Mapping[str, 'fields.Setting | Group']
  text: str

  def member(self, name: str) -> 'fields.Setting | Group':
    """The setting or group of a name.

    Raises:
      InputError: there is none.
    """
    if name in self.members:
      return self.members[name]
    if self.path == fields.name('model'):
      run.model_setting(name)
    raise fields.unknown(self.path, name, self.members)

  def defaults(self) -> Values:
    """The default of every setting; None where there is none."""
    return {
      name: member.defaults()
      if isinstance(member, Group)
      else None
      if member.default is dataclasses.MISSING
      else member.default
      for name, member in self.members.items()
    }

  def fill(self, settings: Mapping[str, Any]) -> Values:
    """All settings: those given, each checked, and the defaults of the others.

    Raises:
      InputError: an unknown field or a wrong value.
    """
    values = self.defaults()
    for name, value in settings.items():
      member = self.member(name)
      where = f'{self.path}.{name}'
      if isinstance(member, Group):
        if not isinstance(value, Mapping):
          raise fields.wrong(where, value, 'a group of fields')
        values[name] = member.fill(value)
        continue
      values[name] = fields.convert(value, member.hint)
      # What is missing here may stand on the command line.
      if value is not None:
        fields.check_value(where, values[name], member)
    return values


def group_of(kind: type, path: str, task: Any = None) -> Group:
  """The settings of a dataclass.

  Args:
    kind: the dataclass; its groups are dataclasses too.
    path: what messages call it.
    task: of TrainConfig: the task, which decides the options.
  """
  members: dict[str, fields.Setting | Group] = {}
  for name, setting in fields.settings(kind).items():
    where = f'{path}.{name}'
    if dataclasses.is_dataclass(setting.hint):
      members[name] = group_of(typing.cast(type, setting.hint), where)
    elif kind is TrainConfig and name == 'model':
      members[name] = Group(where, _model_settings(), setting.help)
    elif kind is TrainConfig and name == 'options':
      options = task_options.OPTIONS.get(task, task_options.NoOptions)
      members[name] = group_of(options, where)
    else:
      members[name] = setting
  return Group(path, members, kind.__doc__ or '')


def _model_settings() -> dict[str, fields.Setting]:
  """Those of `config.model`: each may be left to the checkpoint."""
  known = {name: run.model_setting(name) for name in run.MODEL_FIELDS}
  return {
    name: setting._replace(hint=setting.hint | None, default=None)
    for name, setting in known.items()
  }


def config_dict(**settings: Any) -> 'ml_collections.ConfigDict':
  """All settings of a run, for a config file's `get_config`.

  Args:
    **settings: values that differ from the defaults; groups such as `data`,
      `optimizer`, `mesh`, `model` and `options` as dicts. An unset field of
      `model` means: as the checkpoint, or MobileBertConfig's default. The
      fields of `options` are those of the task.

  Raises:
    InputError: an unknown field or a wrong value.
  """
  # Here, so that --help does not wait for it.
  import ml_collections

  group = group_of(TrainConfig, fields.name(), settings.get('task'))
  # It carries the values; what they may be the dataclasses say.
  made = ml_collections.ConfigDict(group.fill(settings), type_safe=False)
  return made.lock()


def filled(config: Any) -> Values:
  """What `config_dict` has made, or some settings alone, as plain values.

  Raises:
    InputError: an unknown field or a wrong value.
  """
  return _plain(config_dict(**_plain(config)))


def choose(variant: str, variants: Mapping[str, Any]) -> Any:
  """The settings of a config file's variant (`--config=FILE:variant`).

  Raises:
    InputError: the file has no such variant.
  """
  if variant not in variants:
    names = ', '.join(name or "'' (none)" for name in variants)
    raise InputError(f'there is no variant {variant!r}; there are: {names}.')
  return variants[variant]


def to_train_config(config: Mapping[str, Any]) -> TrainConfig:
  """Freezes and validates what `config_dict` has made."""
  values = _plain(config)
  values['model'] = {
    name: value
    for name, value in values.get('model', {}).items()
    if value is not None
  }
  return run.from_dict(values)


def configure(
  file: str | os.PathLike[str], argv: Sequence[str] = ()
) -> TrainConfig:
  """The settings of FILE[:VARIANT] with overrides.

  Args:
    file: what --config says.
    argv: arguments like '--config.a.b=value'.

  Raises:
    InputError: see `load` and `override`.
  """
  return load(str(file), command_line.assignments(argv))


def load(file: str, assignments: Sequence[Assignment] = ()) -> TrainConfig:
  """The settings of FILE[:VARIANT] with what the command line assigns."""
  path, _, variant = file.partition(':')
  values = load_config_file(path, variant)
  override(values, assignments)
  return to_train_config(values)


def name_of(file: str) -> str:
  """A config file's name and variant, such as 'glue_sst2_small'."""
  path, _, variant = file.partition(':')
  return pathlib.Path(path).stem + (f'_{variant}' if variant else '')


def load_config_file(path: str, variant: str = '') -> Values:
  """Runs a config file's `get_config(variant)`.

  Raises:
    InputError: no such file, an error in it, or a result of another kind.
  """

  def checked(config: Any) -> Values:
    if not _is_group(config):
      raise InputError(
        'get_config must return the settings, as mobilebert_jax.config.'
        f'config_dict makes them, but returns {type(config).__name__}.'
      )
    return filled(config)

  return call(path, 'get_config', variant, checked)


def call(path: str, name: str, variant: str, check: Callable[[Any], T]) -> T:
  """Runs a function of a config file, such as `get_config(variant)`.

  Args:
    path: the file.
    name: the function.
    variant: its argument.
    check: takes what the function returns; may raise an InputError.

  Returns:
    What `check` returns.

  Raises:
    InputError: no such file, an error in it, or what `check` raises; the file
      is named, and the line where it is known.
  """
  _check_exists(path, name)
  try:
    module = runpy.run_path(path)
    if name not in module:
      raise InputError(f'it has no function {name}.{_other(module)}')
    return check(module[name](variant))
  except InputError as error:
    raise InputError(f'{path}: {error}') from None
  # A config file is a program: whatever it raises is its author's mistake.
  except Exception as error:
    line = _line_in(path, error)
    raise InputError(
      f'{path}{line}: {type(error).__name__}: {sentence(error)}'
    ) from None


def override(
  values: Values,
  assignments: Sequence[Assignment],
  kind: type = TrainConfig,
  path: str = fields.name(),
):
  """Applies what a command line assigns, such as --config.a.b=VALUE.

  Args:
    values: what `load_config_file` gives, or `Group.fill`; they are changed.
    assignments: names below `path` and their values. A tuple may be assigned in
      parts: --config.a=1 --config.a=2.
    kind: the dataclass that `values` stand for.
    path: what messages call it.

  Raises:
    InputError: an unknown field, or a text that is no value of its type.
  """
  seen: set[str] = set()
  for name, value in assignments:
    group = group_of(kind, path, values.get('task'))
    here, setting, where = _find(group, values, name)
    field = name.rpartition('.')[2]
    read = _read(where, value, setting)
    if name in seen and isinstance(read, tuple):
      before = here[field]
      read = (*before, *read) if isinstance(before, tuple) else read
    here[field] = read
    seen.add(name)


def _find(
  group: Group, values: Values, name: str
) -> tuple[Values, fields.Setting, str]:
  """The values of a setting's group, the setting, and its full name."""
  *groups, field = name.split('.')
  for part in groups:
    member = group.member(part)
    if not isinstance(member, Group):
      raise InputError(f'{group.path}.{part} is a value and has no fields.')
    group, values = member, values[part]
  setting = group.member(field)
  if isinstance(setting, Group):
    raise InputError(
      f'{setting.path} is a group of fields; set them one by one: '
      f'{", ".join(setting.members)}.'
    )
  return values, setting, f'{group.path}.{field}'


def _read(where: str, value: str | bool, setting: fields.Setting) -> Any:
  if isinstance(value, str):
    read = fields.parse(where, value, setting.hint)
    fields.check_value(where, read, setting)
    return read
  if fields.optional(setting.hint)[0] is bool:
    return value
  raise InputError(
    f'the flag --{"" if value else "no"}{where} needs a value: --{where}=VALUE.'
  )


def run_command(
  name: str,
  text: str | None,
  config_otherwise: str | None = None,
  **others: Any,
) -> Command:
  """A command that takes a config file, in one process or in many.

  Args:
    name: how it is started.
    text: its help, beside the flags.
    config_otherwise: where the settings are from without --config; None: it is
      required.
    **others: of `Command`; `flags` beside --config.
  """
  config = config_flag(
    is_required=config_otherwise is None, otherwise=config_otherwise
  )
  flags = (config, *others.pop('flags', ()), *PROCESSES)
  return Command(
    name, text, flags, prefixes=(config_prefix(),), more=describe, **others
  )


def config_flag(**changes: Any) -> Flag:
  """The flag --config."""
  return dataclasses.replace(
    Flag(
      'config',
      'a Python file with get_config, such as configs/quickstart.py, and which '
      'of its variants; with --help it tells of its settings',
      value='FILE[:VARIANT]',
      is_required=True,
    ),
    **changes,
  )


def config_prefix(
  help: str = 'another value for a field of the config',
) -> Prefix:
  """The flags --config.a.b."""
  known = []
  for name, setting in fields.settings(TrainConfig).items():
    known.append(name)
    if dataclasses.is_dataclass(setting.hint):
      inner = fields.settings(typing.cast(type, setting.hint))
      known += [f'{name}.{field}' for field in inner]
  text = (
    f'{help}, such as --config.batch_size=64 or '
    "--config.optimizer.learning_rate=1e-4; 'none' unsets what may be unset"
  )
  return Prefix('config', '--config.a.b=VALUE', text, tuple(known))


def agreed(
  given: Given, read: Callable[[Given], TrainConfig] | None = None
) -> TrainConfig:
  """Joins the other processes of a run, and gives the settings they share.

  Args:
    given: the command line of a `run_command`.
    read: gives the settings of a command line; None: those of --config.

  Raises:
    InputError: a mistake in the config file or an override, in any of the
      processes; or their command lines differ.
  """
  distributed.initialize(given.only(tuple(distributed.FLAGS)))

  def of_file(given: Given) -> TrainConfig:
    return load(given['config'], given.assignments['config'])

  config = distributed.raise_on_all(lambda: (read or of_file)(given))
  shared = {k: v for k, v in given.values.items() if k != 'process_id'}
  distributed.check_same('command', [run.to_json(config), shared])
  return config


def describe(given: Given) -> str:
  """What a config file says of itself, and all settings with their values.

  Args:
    given: a command line; without --config there is nothing to say.

  Raises:
    InputError: see `load_config_file` and `override`.
  """
  if not given['config'] or '{' in given['config']:
    return ''
  path, _, variant = given['config'].partition(':')
  _check_exists(path, 'get_config')
  values = load_config_file(path, variant)
  override(values, given.assignments['config'])
  group = group_of(TrainConfig, fields.name(), values['task'])
  return '\n\n'.join([heading(given['config']), *blocks(group, values)])


def heading(file: str) -> str:
  """Returns what a config file's docstring says, and what will follow it.

  Args:
    file: FILE[:VARIANT].
  """
  path, *_ = file.partition(':')
  doc = ast.get_docstring(ast.parse(pathlib.Path(path).read_text('utf-8')))
  return (
    f'{file}: {(doc or "").strip()}\n\n'
    'Its settings, with their values and, where these are others, the defaults:'
  )


def blocks(
  group: Group, values: Values, *, all_settings: bool = True
) -> list[str]:
  """Returns a text for a group's settings, and one for each of its groups'.

  Args:
    group: the settings.
    values: their values.
    all_settings: also those whose value is the default.
  """
  entries, inner = [], []
  for name, member in group.members.items():
    if isinstance(member, Group):
      inner += blocks(member, values[name], all_settings=all_settings)
    elif all_settings or values[name] != member.default:
      shown = fields.show(values[name]) if member.is_shown else '...'
      title = f'--{group.path}.{name}={shown}'
      entries.append(command_line.entry(title, _help_of(member, values[name])))
  head = group.text.strip().partition('\n')[0]
  return (
    [f'{group.path}: {head}', '\n'.join(entries), *inner] if entries else inner
  )


def _help_of(setting: fields.Setting, value: Any) -> str:
  allowed = fields.choices(setting.hint, setting.limits)
  text = f'{setting.help} ({allowed})' if allowed else setting.help
  if value == setting.default or setting.default is dataclasses.MISSING:
    return text
  return f'{text}; default: {fields.show(setting.default)}'


def _plain(config: Any) -> Values:
  """A config as plain dictionaries."""
  return {
    name: _plain(value) if _is_group(value) else value
    for name, value in config.items()
  }


def _is_group(value: Any) -> bool:
  """Returns whether it is a dictionary, or a ConfigDict (no Mapping)."""
  from ml_collections import ConfigDict

  return isinstance(value, Mapping | ConfigDict)


def _check_exists(path: str, name: str):
  if not pathlib.Path(path).is_file():
    raise InputError(
      f'--config={path}: there is no such file; name a Python file with a '
      f'function {name}, such as {_EXAMPLES[name]}.'
    )


def _other(module: Mapping[str, Any]) -> str:
  """Which command a file of the other kind is for."""
  if 'get_recipe' in module:
    return ' It is a recipe, for python -m mobilebert_jax.recipe.'
  if 'get_config' in module:
    return ' It is a single run, for train.py.'
  return ''


def sentence(error: Exception) -> str:
  """An exception's message on one line."""
  return ' '.join(str(error).split())


def _line_in(path: str, error: Exception) -> str:
  """':LINE' of the file where the error arose, as far as it is known."""
  if isinstance(error, SyntaxError):
    return f':{error.lineno}'
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == path]
  return f':{lines[-1]}' if lines else ''
