"""Directives that show what the code itself says: help texts and settings."""

import dataclasses
import importlib
import pathlib
import subprocess
import sys
import typing
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from mobilebert_jax.config import fields, task_options

_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
_LIMITS = {'at_least': '≥', 'above': '>', 'at_most': '≤', 'below': '<'}


class CommandHelp(SphinxDirective):
  """What `python ARGUMENTS --help` prints."""

  required_arguments = 1
  final_argument_whitespace = True

  def run(self) -> list[nodes.Node]:
    command = [sys.executable, *self.arguments[0].split(), '--help']
    done = subprocess.run(
      command, cwd=_REPOSITORY, capture_output=True, text=True
    )
    if done.returncode:
      raise self.error(f'{" ".join(command)} failed:\n{done.stderr}')
    # So that the page is made again when the command has changed.
    self.env.note_reread()
    return [nodes.literal_block(text=done.stdout, language='text')]


class Settings(SphinxDirective):
  """The fields of a dataclass: `{settings} module.Class [config.path.]`."""

  required_arguments = 1
  optional_arguments = 1

  def run(self) -> list[nodes.Node]:
    module, _, name = self.arguments[0].rpartition('.')
    kind = getattr(importlib.import_module(module), name)
    self.env.note_reread()
    text = '\n'.join(definitions(kind, ''.join(self.arguments[1:])))
    return self.parse_text_to_nodes(text)


class TaskOptions(SphinxDirective):
  """`config.options` of every task that has any."""

  def run(self) -> list[nodes.Node]:
    self.env.note_reread()
    by_class: dict[type, list[str]] = {}
    for name, kind in task_options.OPTIONS.items():
      by_class.setdefault(kind, []).append(f'`{name}`')
    text = ''
    for kind, names in by_class.items():
      if dataclasses.fields(kind):
        lines = definitions(kind, 'config.options.')
        text += f'**{", ".join(names)}**\n\n' + '\n'.join(lines) + '\n\n'
    return self.parse_text_to_nodes(text)


def definitions(kind: type, path: str) -> Iterator[str]:
  """The lines of a definition list in Markdown, an entry for each field."""
  for name, setting in fields.settings(kind).items():
    if dataclasses.is_dataclass(setting.hint):
      continue
    shown = [f'*{_type(setting.hint)}*']
    shown += [f'{_LIMITS[key]} {n}' for key, n in setting.limits.items()]
    if setting.default is not dataclasses.MISSING:
      shown.append(f'default `{setting.default!r}`')
    yield f'`{path}{name}`: {", ".join(shown)}'
    yield f': {setting.help}'
    yield ''


def _type(hint: Any) -> str:
  if typing.get_origin(hint) is typing.Literal:
    return ' or '.join(f"'{choice}'" for choice in typing.get_args(hint))
  if isinstance(hint, type) and not typing.get_args(hint):
    return hint.__name__
  parts = typing.get_args(hint)
  if type(None) in parts:
    return ' or '.join(
      [*(_type(part) for part in parts if part is not type(None)), 'None']
    )
  return str(hint).removeprefix('collections.abc.').replace('typing.', '')


def setup(app):
  """Registers the directives."""
  app.add_directive('command-help', CommandHelp)
  app.add_directive('settings', Settings)
  app.add_directive('task-options', TaskOptions)
  return {'parallel_read_safe': True}
