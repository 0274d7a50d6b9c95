"""What a recipe is, and how a config file and flags become one."""

import contextlib
import dataclasses
import pathlib
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_jax.config import fields, overrides
from mobilebert_jax.config.command_line import Assignment, Given
from mobilebert_jax.config.model import FrozenMap
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.pretraining_data.options import PretrainingDataOptions
from mobilebert_jax.pretraining_data.vocabulary import VocabularyOptions
from mobilebert_jax.runtime.errors import InputError, reworded

# What a run may name in braces, beside the runs before it.
TEXT, TASK_DATA, VOCABULARY, DATA = 'text', 'task_data', 'vocabulary', 'data'
_GIVEN = (TEXT, TASK_DATA, VOCABULARY, DATA)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocabularyConfig(VocabularyOptions):
  """The vocabulary, learnt from the text unless it exists already."""

  tokenizer: str | None = fields.setting(
    None,
    help='hub name, directory or vocab.txt of one that exists; nothing is '
    'learnt then, and of the rest only do_lower_case=False and strip_accents '
    'count, which overrule its files',
  )

  def __post_init__(self):
    fields.check(self, fields.name(VOCABULARY))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """Everything that decides a chain.

  Attributes:
    vocabulary: see VocabularyConfig.
    data: how the text becomes examples for pre-training.
    runs: the runs by name, in their order. Where `init`, `tokenizer`,
      `data.path` and `distillation.teacher` say '{name}', the directory of
      that name is meant: '{text}' and '{task_data}' as given on the command
      line, '{vocabulary}', '{data}', or the result of a run before.
  """

  vocabulary: VocabularyConfig
  data: PretrainingDataOptions
  runs: Mapping[str, TrainConfig]

  def __post_init__(self):
    object.__setattr__(self, 'runs', FrozenMap(self.runs))
    known = set(_GIVEN)
    if not self.runs:
      raise InputError('the recipe has no run.')
    for name, config in self.runs.items():
      if name in known or not name.isidentifier():
        raise InputError(
          f'a run cannot be called {name!r}; use a word that is not one of '
          f'{", ".join(_GIVEN)} or the name of another run.'
        )
      for place in named(config):
        if place not in known:
          raise InputError(
            f'config.{name} names {{{place}}}, but before it there are only '
            f'{", ".join(sorted(known))}.'
          )
      known.add(name)

  def needs_task_data(self) -> bool:
    """Returns whether a run reads '{task_data}'."""
    return any(TASK_DATA in named(run) for run in self.runs.values())

  def runs_on_data(self) -> dict[str, TrainConfig]:
    """Those that learn from '{data}', by name."""
    return {
      name: run
      for name, run in self.runs.items()
      if DATA in names(run.data.path or '')
    }


# The groups of settings beside the runs.
_KINDS: Mapping[str, type] = {
  VOCABULARY: VocabularyConfig,
  DATA: PretrainingDataOptions,
}


def load(file: str, assignments: Sequence[Assignment] = ()) -> Recipe:
  """The recipe of FILE[:VARIANT] with overrides.

  The file has a function `get_recipe(variant)` that returns a dictionary:
  'vocabulary' and 'data' with the fields of VocabularyConfig and
  PretrainingDataOptions, and 'runs' with what `config.config_dict` makes, by
  name.

  Args:
    file: what --config says.
    assignments: of --config.vocabulary.size=100, --config.RUN.a.b=value and the
      like.

  Raises:
    InputError: no such file, an error in it, an unknown field, a wrong value.
  """
  values: dict[str, Any] = {}
  for name, group in _groups(file, assignments).items():
    kind = _KINDS.get(name)
    if kind is None:
      with in_run(name):
        values[name] = overrides.to_train_config(group)
    else:
      with translate_errors():
        values[name] = kind(**group)
  return Recipe(
    vocabulary=values.pop(VOCABULARY), data=values.pop(DATA), runs=values
  )


def describe(given: Given) -> str:
  """What a recipe says of itself; its settings and those of its runs.

  Of a run only the settings that are not as by default: the rest is told by
  `train.py --help` with a config of that task.

  Args:
    given: a command line; without --config there is nothing to say.

  Raises:
    InputError: as `load`.
  """
  file = given['config']
  if not file:
    return ''
  texts = [overrides.heading(file)]
  for name, values in _groups(file, given.assignments['config']).items():
    kind, where = _KINDS.get(name, TrainConfig), fields.name(name)
    group = overrides.group_of(kind, where, values.get('task'))
    texts += overrides.blocks(group, values, all_settings=name in _KINDS)
  return '\n\n'.join(texts)


def in_run(name: str) -> contextlib.AbstractContextManager[None]:
  """Says of which run an InputError is, whose settings it calls config.x."""
  return reworded(lambda text: f'{name}: {text}')


def resolve(
  config: TrainConfig, paths: Mapping[str, pathlib.Path | str]
) -> TrainConfig:
  """The run with directories in place of their names in braces."""

  def put(text: Any) -> Any:
    return None if text is None else text.format_map(paths)

  return dataclasses.replace(
    config,
    init=put(config.init),
    tokenizer=put(config.tokenizer),
    data=dataclasses.replace(config.data, path=put(config.data.path)),
    distillation=dataclasses.replace(
      config.distillation, teacher=put(config.distillation.teacher)
    ),
  )


def named(config: TrainConfig) -> set[str]:
  """What a run names in braces: the parts of the chain that it is made of."""
  texts = (
    config.init, config.tokenizer, config.data.path,
    config.distillation.teacher,
  )  # fmt: skip
  return {name for text in texts if text for name in names(text)}


def names(text: str) -> set[str]:
  """The names in braces in a text.

  Raises:
    InputError: a brace without its other half.
  """
  try:
    result = string.Formatter().parse(text)
    return {name for _, name, _, _ in result if name is not None}
  except ValueError as error:
    raise InputError(f'{text!r} has unpaired braces ({error}).') from None


def _groups(
  file: str, assignments: Sequence[Assignment]
) -> dict[str, dict[str, Any]]:
  """What `_checked` makes of FILE[:VARIANT], with overrides."""
  path, _, variant = file.partition(':')
  groups = overrides.call(path, 'get_recipe', variant, _checked)
  mine = _by_group(assignments, groups)
  for name, values in groups.items():
    kind = _KINDS.get(name)
    if kind is None:
      with in_run(name):
        overrides.override(values, mine[name])
    else:
      overrides.override(values, mine[name], kind, fields.name(name))
  return groups


def _checked(made: Any) -> dict[str, dict[str, Any]]:
  """The parts of a recipe and its runs by name, each with all of its values."""
  if not isinstance(made, Mapping) or set(made) != {*_KINDS, 'runs'}:
    raise InputError(
      "get_recipe must return a dictionary with 'vocabulary', 'data' and "
      "'runs'."
    )
  parts = {
    name: overrides.group_of(kind, fields.name(name)).fill(made[name])
    for name, kind in _KINDS.items()
  }
  runs = {name: overrides.filled(run) for name, run in made['runs'].items()}
  return parts | runs


def _by_group(
  assignments: Sequence[Assignment], groups: Mapping[str, Any]
) -> dict[str, list[Assignment]]:
  """Gives every override to its group, as if the group were the config."""
  mine: dict[str, list[Assignment]] = {name: [] for name in groups}
  for full, value in assignments:
    name, _, field = full.partition('.')
    if name not in groups or not field:
      raise InputError(
        f'--config.{full}: write --config.NAME.FIELD=VALUE, where NAME is one '
        f'of {", ".join(groups)}.'
      )
    mine[name].append(Assignment(field, value))
  return mine


# A flag of `python -m mobilebert_jax.pretraining_data`, or a field of its
# options.
_SETTING = re.compile(
  r'--(?P<no>no-)?(?P<flag>\w+)|\b(?:config\.)?options\.(?P<field>\w+)'
)
_OF_DATA = {field.name for field in dataclasses.fields(PretrainingDataOptions)}


def translate_errors() -> contextlib.AbstractContextManager[None]:
  """Names the recipe's settings where an InputError names others."""
  return reworded(lambda text: _SETTING.sub(_renamed, text))


def _renamed(result: re.Match[str]) -> str:
  if result['field'] in _OF_DATA:
    return f'config.data.{result["field"]}'
  if result['flag'] in _OF_DATA:
    return f'--{"no" if result["no"] else ""}config.data.{result["flag"]}'
  return '--workdir' if result['flag'] == 'output' else result[0]


def setting_differences(
  there: Mapping[str, Any], here: Mapping[str, Any]
) -> list[str]:
  """The settings of a part on disk that are not those of the recipe."""
  return [
    f'{name}: {there.get(name)!r} there, {value!r} here'
    for name, value in here.items()
    if there.get(name) != value
  ]


def refuse_other_settings(target: pathlib.Path, wrong: Sequence[str]):
  """Refuses a part on disk that another recipe has made.

  Args:
    target: the part's directory.
    wrong: what is different.

  Raises:
    InputError: something is.
  """
  if wrong:
    raise InputError(
      f'{target} was made with other settings: {"; ".join(wrong)}; choose '
      'another --workdir, or the old values.'
    )
