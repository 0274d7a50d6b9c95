"""Config files: Python that makes a typed ConfigDict, and overrides of it.

A config file and the command line end here; everything below takes
`TrainConfig` and never sees a flag.
"""

import dataclasses
import pathlib
import runpy
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from absl import flags
from ml_collections import config_dict as mlc
from ml_collections import config_flags

from mobilebert_jax.config import fields, run
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.runtime.errors import InputError

T = TypeVar('T')

_PREFIX = 'config.'
_EXAMPLES = {
  'get_config': 'configs/quickstart.py',
  'get_recipe': 'configs/recipe_small.py',
}


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
  config = typed(run.TrainConfig, run.MODEL_FIELDS, options)
  update(config, settings, 'config')
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


def to_train_config(config: mlc.ConfigDict) -> run.TrainConfig:
  """Freezes and validates a ConfigDict."""
  values = config.to_dict()
  values['model'] = {
    name: value for name, value in values['model'].items() if value is not None
  }
  return run.from_dict(values)


def configure(file: str, argv: Sequence[str]) -> run.TrainConfig:
  """The settings of FILE[:VARIANT] with overrides.

  Args:
    file: what --config says.
    argv: the program's name and arguments like --config.a.b=value.

  Raises:
    InputError: see `load_config_file` and `override`.
  """
  path, _, variant = file.partition(':')
  return to_train_config(override(load_config_file(path, variant), argv))


def load_config_file(path: str, variant: str = '') -> mlc.ConfigDict:
  """Runs a config file's `get_config(variant)`.

  Raises:
    InputError: no such file, an error in it, or a result of another kind.
  """

  def checked(config: Any) -> mlc.ConfigDict:
    if not isinstance(config, mlc.ConfigDict):
      raise InputError(
        'get_config must return a ConfigDict, as config_dict makes, but '
        f'returns {type(config).__name__}.'
      )
    return config_dict(**config.to_dict())

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
  if not pathlib.Path(path).is_file():
    raise InputError(
      f'--config={path}: there is no such file; name a Python file with a '
      f'function {name}, such as {_EXAMPLES[name]}.'
    )
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


def _other(module: Mapping[str, Any]) -> str:
  """Which command a file of the other kind is for."""
  if 'get_recipe' in module:
    return ' It is a recipe, for python -m mobilebert_jax.recipe.'
  if 'get_config' in module:
    return ' It is a single run, for train.py.'
  return ''


def _options_of(task: Any) -> type:
  """The options of a task; of a task that does not exist: none."""
  # Here, so that --help does not wait for jax.
  from mobilebert_jax.tasks import TASKS
  from mobilebert_jax.tasks.task import NoOptions

  return TASKS[task].options if task in TASKS else NoOptions


def typed(
  kind: Any, model_fields: Sequence[str] = (), options: type | None = None
) -> mlc.ConfigDict:
  """A ConfigDict of a dataclass's defaults; unset fields keep their type.

  Args:
    kind: the dataclass; its groups are dataclasses too.
    model_fields: the names of the fields of a group `model`, all unset.
    options: the dataclass of a group `options`; None: it stays as it is.
  """
  made = mlc.ConfigDict()
  hints = fields.hints(kind)
  for field in dataclasses.fields(kind):
    hint, _ = fields.optional(hints[field.name])
    if dataclasses.is_dataclass(hint):
      made[field.name] = typed(hint)
    elif field.name == 'options' and options is not None:
      made[field.name] = typed(options)
    elif field.name == 'model':
      made[field.name] = _placeholders(model_fields)
    elif field.default in (None, dataclasses.MISSING):
      made[field.name] = mlc.placeholder(_plain(hint))
    else:
      made[field.name] = field.default
  return made.lock()


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


def update(config: mlc.ConfigDict, settings: Mapping[str, Any], path: str):
  """Sets fields of a typed ConfigDict from plain dictionaries.

  Args:
    config: changed.
    settings: the values, groups as dictionaries.
    path: what error messages call `config`.

  Raises:
    InputError: an unknown field, or a value of the wrong type.
  """
  for name, value in settings.items():
    if name not in config:
      raise _unknown(config, path, name)
    if isinstance(config[name], mlc.ConfigDict):
      if not isinstance(value, Mapping):
        raise fields.wrong(f'{path}.{name}', value, 'a group of fields')
      update(config[name], value, f'{path}.{name}')
      continue
    try:
      config[name] = value
    except TypeError:
      kind = config.get_type(name).__name__
      raise fields.wrong(f'{path}.{name}', value, f'of type {kind}') from None


def override(
  config: mlc.ConfigDict,
  argv: Sequence[str],
  kind: type = run.TrainConfig,
) -> mlc.ConfigDict:
  """Applies `--config.a.b=value`; refuses every other argument.

  Args:
    config: what `config_dict` or `typed` has made; it is changed.
    argv: the program's name and its arguments.
    kind: the dataclass that `config` stands for.

  Raises:
    InputError: an argument of another kind, an unknown field, a wrong value.
  """
  rest = [argv[0]]
  for arg in argv[1:]:
    name, _, value = arg.lstrip('-').partition('=')
    path = name.removeprefix('no')
    if not arg.startswith('-'):
      raise InputError(f'{arg!r} belongs to no flag; write --name=value.')
    if not path.startswith(_PREFIX):
      raise InputError(f'there is no flag {arg.partition("=")[0]}; see --help.')
    group, field, may_be_none = _find(config, path.split('.')[1:], kind)
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
    group, field, _ = _find(config, where.split('.')[1:], kind)
    kind = group.get_type(field).__name__
    raise fields.wrong(
      where, value.partition(': ')[0], f'of type {kind}'
    ) from None
  except (flags.Error, TypeError, ValueError) as error:
    raise InputError(sentence(error)) from None
  return values['config'].value


def _find(
  config: mlc.ConfigDict, names: Sequence[str], kind: type
) -> tuple[mlc.ConfigDict, str, bool]:
  """The group that holds a field, its name, and whether it may be None."""
  path = 'config'
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
  if path == 'config.model' and name in run.TASK_FIELDS:
    return InputError(f'{path}.{name} cannot be set: the task decides it.')
  return InputError(
    f'{path} has no field {name!r}; it has: {", ".join(config)}.'
  )


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
