"""The field's words: no private identifiers, one meaning a name, one style.

The words that stand on the right are what the models of style (nanodo, gemma,
optax, flax) call the same things.
"""

import ast
import dataclasses
import pathlib
import re

import pytest

from mobilebert_jax.config import distillation, run, task_options
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.runtime import errors

_ROOT = pathlib.Path(__file__).resolve().parents[2] / 'mobilebert_jax'
# Identifier that nobody else knows -> the field's term.
PRIVATE = {
  'facts': 'run_state',
  'Facts': 'RunState',
  'stored_state': 'serialisation',
  'trouble': 'failures',
  'told': 'what it is: a label, a message, a digest, ...',
  'last_words': 'message on peer failure',
  'news': 'message',
  'may_be_best': 'is_eligible',
  'taught': 'distillation',
  'taught_step': 'distillation_step',
  'attempt': 'trial',
  'attempts': 'trials',
  'Attempt': 'Trial',
  'point': 'trial',
  'badness': 'error, or loss',
  'specimens': 'dummy examples',
  'places': 'shardings',
  'Share': 'ProcessShard',
  'agree': 'raise_on_all',
  'on_main': 'run_on_primary',
  'tell': 'print_on_primary',
  'Linear': 'Dense',
  'Table': 'Embed',
  'spelling': 'key normalisation',
  'dialect': 'format',
  'fresh': 'newly initialised',
  'found': 'result',
}
# What keeps its capital at the beginning of a message; TPU and the like do.
_PROPER = ('Apache',)
# Each of these has one definition in the package.
UNIQUE = ('Placement', 'Batch', 'Row', 'Run', 'Plan', 'Start')

TREES = {
  path.relative_to(_ROOT).as_posix(): ast.parse(path.read_text())
  for path in sorted(_ROOT.rglob('*.py'))
}


def identifiers(tree):
  """Every name that the code gives or uses, with its line.

  Attributes of other libraries' objects are not ours to name: an attribute
  counts where it is assigned or defined.
  """
  for node in ast.walk(tree):
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
      yield node.name, node.lineno
    elif isinstance(node, ast.Name):
      yield node.id, node.lineno
    elif isinstance(node, ast.arg):
      yield node.arg, node.lineno
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
      yield node.attr, node.lineno
    elif isinstance(node, ast.alias):
      yield node.asname or node.name.split('.')[-1], node.lineno


@pytest.mark.parametrize('path', TREES)
def test_no_private_words(path):
  wrong = [
    f'{path}:{line}: {name}; the term is {PRIVATE[name.strip("_")]}'
    for name, line in identifiers(TREES[path])
    if name.strip('_') in PRIVATE
  ]
  assert not wrong


def definitions(tree):
  """Names that a module defines at its top level."""
  for node in tree.body:
    if isinstance(node, ast.ClassDef):
      yield node.name
    elif isinstance(node, ast.Assign):
      yield from (t.id for t in node.targets if isinstance(t, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
      yield node.target.id


@pytest.mark.parametrize('name', UNIQUE)
def test_one_definition(name):
  places = [path for path, tree in TREES.items() if name in definitions(tree)]
  assert len(places) <= 1


def _ends(node):
  """First and last literal text of a message; '' where it is a value."""
  if isinstance(node, ast.Constant) and isinstance(node.value, str):
    return node.value, node.value
  if isinstance(node, ast.JoinedStr):
    first, last = node.values[0], node.values[-1]
    return (
      first.value if isinstance(first, ast.Constant) else '',
      last.value if isinstance(last, ast.Constant) else '',
    )
  if isinstance(node, ast.BinOp):
    return _ends(node.left)[0], _ends(node.right)[1]
  return '', ''


@pytest.mark.parametrize('path', TREES)
def test_messages_are_sentences(path):
  """An error begins as what follows 'error: ' and ends with a full stop."""
  kinds = {
    name for name, kind in vars(errors).items() if isinstance(kind, type)
  }
  wrong = []
  for node in ast.walk(TREES[path]):
    if not isinstance(node, ast.Call) or not node.args:
      continue
    called = getattr(node.func, 'id', getattr(node.func, 'attr', None))
    if called not in kinds:
      continue
    first, last = _ends(node.args[0])
    word = first.split(' ')[0]
    if word[:1].isupper() and word[1:].islower() and word not in _PROPER:
      wrong.append(f'{path}:{node.lineno}: begins with {word!r}')
    if last and not last.endswith('.'):
      wrong.append(f'{path}:{node.lineno}: ends with {last[-20:]!r}')
  assert not wrong


def _fields(*classes):
  return {field.name for kind in classes for field in dataclasses.fields(kind)}


# Names that are settings of a run, and of nothing else.
SETTINGS = {
  name
  for name in _fields(
    *(
      value
      for module in (run, distillation, task_options)
      for value in vars(module).values()
      if isinstance(value, type) and dataclasses.is_dataclass(value)
    )
  )
  - _fields(MobileBertConfig)
  if '_' in name
}
# The folders in which nothing but a run's config can be meant.
_OF_RUNS = ('data', 'distillation', 'launch', 'tasks', 'training')


@pytest.mark.parametrize(
  'path', [path for path in TREES if path.startswith(_OF_RUNS)]
)
def test_a_setting_has_one_name_in_every_message(path):
  """It is the one that the command line has: config.data.max_length."""
  wrong = []
  for node in ast.walk(TREES[path]):
    called = isinstance(node, ast.Call) and getattr(
      node.func, 'id', getattr(node.func, 'attr', None)
    )
    if called not in ('InputError', 'RunError'):
      continue
    text = ' '.join(
      part.value
      for part in ast.walk(node)
      if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )
    wrong += [
      f'{path}:{node.lineno}: {name}'
      for name in re.findall(r'(?<![\w.-])(?:options\.)?(\w+)', text)
      if name in SETTINGS
    ]
  assert not wrong
