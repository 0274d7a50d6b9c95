"""The command line: config file, flags and overrides become a TrainConfig.

The only module, with the config files, that knows absl and ml_collections.
Every mistake on the command line is an InputError, so both commands print one
sentence and exit with status 2 (absl itself would exit with 1).
"""

import dataclasses
import pathlib
import runpy
import traceback
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_dict as mlc
from ml_collections import config_flags

from mobilebert_jax import cluster, distributed, fields, run_config
from mobilebert_jax.config import MobileBertConfig
from mobilebert_jax.errors import InputError
from mobilebert_jax.exit_status import run as run

_PREFIX = 'config.'


class Command(NamedTuple):
  """A parsed command line.

  Attributes:
    config: the validated settings.
    name: the config file's name and variant, such as 'glue_sst2_small'.
    flags: the values of the command's own flags that were given.
  """

  config: run_config.TrainConfig
  name: str
  flags: dict[str, str]


def config_dict(**settings: Any) -> mlc.ConfigDict:
  """All fields of TrainConfig, typed, for a config file's `get_config`.

  Args:
    **settings: values that differ from the defaults; groups such as `data`,
      `optimizer`, `mesh`, `model` and `options` as dicts. An unset field of
      `model` means: as the checkpoint, or MobileBertConfig's default. The
      fields of `options` are those of the task.

  Raises:
    InputError: an unknown field or a value of the wrong type.
  """
  options = _options_of(settings.get('task'))
  config = _typed(run_config.TrainConfig, run_config.MODEL_FIELDS, options)
  _update(config, settings, 'config')
  return config


def choose(variant: str, variants: Mapping[str, Any]) -> Any:
  """The settings of a config file's variant (`--config=FILE:variant`).

  Raises:
    InputError: the file has no such variant.
  """
  if variant not in variants:
    names = ', '.join(name or "'' (none)" for name in variants)
    raise InputError(f'there is no variant {variant!r}; there are: {names}.')
  return variants[variant]


def to_train_config(config: mlc.ConfigDict) -> run_config.TrainConfig:
  """Freezes and validates a ConfigDict."""
  values = config.to_dict()
  values['model'] = {
    name: value for name, value in values['model'].items() if value is not None
  }
  return run_config.from_dict(values)


def parse(
  argv: Sequence[str], own: Mapping[str, str], required: Sequence[str] = ()
) -> Command:
  """Parses a command line, and joins the other processes of the run.

  Args:
    argv: the program's name and its arguments.
    own: the command's flags beside --config, with their help.
    required: the names of flags that must be given.

  Raises:
    InputError: any mistake in the flags, the config file or an override, in any
      of the processes.
  """
  known = {'config': '', **own, **cluster.FLAGS}
  given, rest = take_flags(argv, known, ('config', *required))
  distributed.initialize(given)
  command = distributed.agree(lambda: _command(given, rest))
  given.pop('process_id', None)
  settings = run_config.to_json(command.config)
  distributed.check_same('command', [settings, given])
  return command


def _command(given: dict[str, str], rest: Sequence[str]) -> Command:
  path, _, variant = given['config'].partition(':')
  name = pathlib.Path(path).stem + (f'_{variant}' if variant else '')
  others = {k: v for k, v in given.items() if k not in cluster.FLAGS}
  return Command(configure(others.pop('config'), rest), name, others)


def take_flags(
  argv: Sequence[str], known: Mapping[str, str], required: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
  """Takes flags with text values from a command line.

  Args:
    argv: the program's name and its arguments.
    known: the flags' names, with their help.
    required: the names of flags that must be given.

  Returns:
    The values of the flags that were given, and the other arguments.

  Raises:
    InputError: a flag without its value, or a missing one.
  """
  values = flags.FlagValues()
  for name, text in known.items():
    flags.DEFINE_string(name, None, text, flag_values=values)
  try:
    rest = values(list(argv), known_only=True)
  except flags.Error as error:
    raise InputError(_sentence(error)) from None
  given = {name: values[name].value for name in known}
  for name in required:
    if not given[name]:
      raise InputError(f'the flag --{name} is missing.')
  return {k: v for k, v in given.items() if v is not None}, rest


def configure(file: str, argv: Sequence[str]) -> run_config.TrainConfig:
  """The settings of FILE[:VARIANT] with overrides.

  Args:
    file: what --config says.
    argv: the program's name and arguments like --config.a.b=value.

  Raises:
    InputError: see `parse`.
  """
  path, _, variant = file.partition(':')
  return to_train_config(_override(load_config_file(path, variant), argv))


def load_config_file(path: str, variant: str = '') -> mlc.ConfigDict:
  """Runs a config file's `get_config(variant)`.

  Raises:
    InputError: no such file, an error in it, or a result of another kind.
  """
  if not pathlib.Path(path).is_file():
    raise InputError(
      f'--config={path}: there is no such file; name a Python file with a '
      'function get_config, such as configs/quickstart.py.'
    )
  try:
    get_config = runpy.run_path(path).get('get_config')
    if get_config is None:
      raise InputError('it has no function get_config.')
    config = get_config(variant)
    if not isinstance(config, mlc.ConfigDict):
      raise InputError(
        'get_config must return a ConfigDict, as mobilebert_jax.cli.'
        f'config_dict makes, but returns {type(config).__name__}.'
      )
    return config_dict(**config.to_dict())
  except InputError as error:
    raise InputError(f'{path}: {error}') from None
  # A config file is a program: whatever it raises is its author's mistake.
  except Exception as error:
    line = _line_in(path, error)
    raise InputError(
      f'{path}{line}: {type(error).__name__}: {_sentence(error)}'
    ) from None


def _options_of(task: Any) -> type:
  """The options of a task; of a task that does not exist: none."""
  # Here, so that --help does not wait for jax.
  from mobilebert_jax.tasks import TASKS
  from mobilebert_jax.tasks.task import NoOptions

  return TASKS[task].options if task in TASKS else NoOptions


def _typed(
  kind: Any, model_fields: Sequence[str] = (), options: type | None = None
) -> mlc.ConfigDict:
  """A ConfigDict of a dataclass's defaults; unset fields keep their type."""
  typed = mlc.ConfigDict()
  hints = fields.hints(kind)
  for field in dataclasses.fields(kind):
    hint, _ = fields.optional(hints[field.name])
    if dataclasses.is_dataclass(hint):
      typed[field.name] = _typed(hint)
    elif field.name == 'options' and options is not None:
      typed[field.name] = _typed(options)
    elif field.name == 'model':
      typed[field.name] = _placeholders(model_fields)
    elif field.default in (None, dataclasses.MISSING):
      typed[field.name] = mlc.placeholder(_plain(hint))
    else:
      typed[field.name] = field.default
  return typed.lock()


def _placeholders(names: Sequence[str]) -> mlc.ConfigDict:
  hints = fields.hints(MobileBertConfig)
  return mlc.ConfigDict(
    {
      name: mlc.placeholder(_plain(fields.optional(hints[name])[0]))
      for name in names
    }
  ).lock()


def _plain(hint: Any) -> type:
  origin = typing.get_origin(hint)
  return str if origin is typing.Literal else origin or hint


def _update(config: mlc.ConfigDict, settings: Mapping[str, Any], path: str):
  for name, value in settings.items():
    if name not in config:
      raise _unknown(config, path, name)
    if isinstance(config[name], mlc.ConfigDict):
      if not isinstance(value, Mapping):
        raise fields.wrong(f'{path}.{name}', value, 'a group of fields')
      _update(config[name], value, f'{path}.{name}')
      continue
    try:
      config[name] = value
    except TypeError:
      kind = config.get_type(name).__name__
      raise fields.wrong(f'{path}.{name}', value, f'of type {kind}') from None


def _override(config: mlc.ConfigDict, argv: Sequence[str]) -> mlc.ConfigDict:
  """Applies `--config.a.b=value`; refuses every other argument."""
  rest = [argv[0]]
  for arg in argv[1:]:
    name, _, value = arg.lstrip('-').partition('=')
    path = name.removeprefix('no')
    if not arg.startswith('-'):
      raise InputError(f'{arg!r} belongs to no flag; write --name=value.')
    if not path.startswith(_PREFIX):
      raise InputError(f'there is no flag {arg.partition("=")[0]}; see --help.')
    group, field, may_be_none = _find(config, path.split('.')[1:])
    if may_be_none and value.lower() == 'none':
      group[field] = None
    else:
      rest.append(arg)
  values = flags.FlagValues()
  config_flags.DEFINE_config_dict(
    'config', config, flag_values=values, sys_argv=rest
  )
  try:
    values(rest)
  except flags.IllegalFlagValueError as error:
    where, _, value = str(error).removeprefix('flag --').partition('=')
    group, field, _ = _find(config, where.split('.')[1:])
    kind = group.get_type(field).__name__
    raise fields.wrong(
      where, value.partition(': ')[0], f'of type {kind}'
    ) from None
  except (flags.Error, TypeError, ValueError) as error:
    raise InputError(_sentence(error)) from None
  return values['config'].value


def _find(
  config: mlc.ConfigDict, names: Sequence[str]
) -> tuple[mlc.ConfigDict, str, bool]:
  """The group that holds a field, its name, and whether it may be None."""
  path = 'config'
  kind: type = run_config.TrainConfig
  for name in names[:-1]:
    if name not in config:
      raise _unknown(config, path, name)
    if not isinstance(config[name], mlc.ConfigDict):
      raise InputError(f'{path}.{name} is a value and has no fields.')
    if name == 'options':
      kind = _options_of(config['task'])
    else:
      kind = MobileBertConfig if name == 'model' else fields.hints(kind)[name]
    config, path = config[name], f'{path}.{name}'
  name = names[-1]
  if name not in config:
    raise _unknown(config, path, name)
  if isinstance(config[name], mlc.ConfigDict):
    raise InputError(
      f'{path}.{name} is a group of fields; set them one by one: '
      f'{", ".join(config[name])}.'
    )
  optional = fields.optional(fields.hints(kind)[name])[1]
  return config, name, optional or kind is MobileBertConfig


def _unknown(config: mlc.ConfigDict, path: str, name: str) -> InputError:
  if path == 'config.model' and name in run_config.TASK_FIELDS:
    return InputError(f'{path}.{name} cannot be set: the task decides it.')
  return InputError(
    f'{path} has no field {name!r}; it has: {", ".join(config)}.'
  )


def _sentence(error: Exception) -> str:
  """An exception's message on one line."""
  return ' '.join(str(error).split())


def _line_in(path: str, error: Exception) -> str:
  """':LINE' of the file where the error arose, as far as it is known."""
  if isinstance(error, SyntaxError):
    return f':{error.lineno}'
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == path]
  return f':{lines[-1]}' if lines else ''
