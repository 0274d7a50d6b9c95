"""The command line of the programs that take a config file.

With `config_files`, the config files and nobody else, it knows absl and
ml_collections. Every mistake on the command line is an InputError, so all
commands print one sentence and exit with status 2 (absl itself would exit
with 1).
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from absl import flags

from mobilebert_jax.config import run as run_config
from mobilebert_jax.config.overrides import choose as choose
from mobilebert_jax.config.overrides import config_dict as config_dict
from mobilebert_jax.config.overrides import configure as configure
from mobilebert_jax.config.overrides import sentence
from mobilebert_jax.config.overrides import to_train_config as to_train_config
from mobilebert_jax.runtime import cluster, distributed
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.exit_status import run as run


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
    raise InputError(sentence(error)) from None
  given = {name: values[name].value for name in known}
  for name in required:
    if not given[name]:
      raise InputError(f'the flag --{name} is missing.')
  return {k: v for k, v in given.items() if v is not None}, rest
