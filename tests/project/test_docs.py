"""README and site: examples run, commands parse, links lead somewhere."""

import contextlib
import doctest
import functools
import importlib.util
import inspect
import io
import re
import runpy
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree

import pytest

import mobilebert_jax as mb
from mobilebert_jax import config, losses, pipelines
from mobilebert_jax.config import command_line
from mobilebert_jax.experiments.recipe import recipe
from mobilebert_jax.runtime.errors import InputError
from tests.support import doc_pages

_COMMANDS = [
  command for page in doc_pages.PAGES for command in doc_pages.commands(page)
]
# They show what the quickstart's model says.
_FIRST_RUN = ('README.md', 'docs/tutorials/quickstart.md')
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_LABELS = re.compile('entailment|neutral|contradiction')
_NUMBERS = re.compile(r'\d+\.\d+(e-?\d+)?')


class SameForm(doctest.OutputChecker):
  """Lets numbers differ, and labels too unless they must be right."""

  def __init__(self, *, same_labels: bool):
    self._same_labels = same_labels

  def check_output(self, want: str, got: str, optionflags: int) -> bool:
    want, got = (_NUMBERS.sub('#', text) for text in (want, got))
    if not self._same_labels:
      want, got = (_LABELS.sub('label', text) for text in (want, got))
    return super().check_output(want, got, optionflags)


def run_examples(page: str, checker: doctest.OutputChecker | None = None):
  """Runs a page's examples in order; fails with doctest's own report."""
  report = io.StringIO()
  runner = doctest.DocTestRunner(checker, verbose=False, optionflags=_FLAGS)
  test = doc_pages.examples(page)
  assert test.examples, f'{page} has no examples'
  runner.run(test, out=report.write)
  assert not runner.failures, report.getvalue()


MARKS = {
  # It trains: fifteen seconds of compilation.
  'docs/tutorials/python.md': pytest.mark.long,
  'docs/reference/models.md': pytest.mark.slow,
}


@pytest.mark.parametrize(
  'page',
  [
    pytest.param(page, marks=MARKS.get(page, ()))
    for page in doc_pages.PAGES
    if '```pycon' in doc_pages.read(page)
  ],
)
def test_examples(page, tmp_path, monkeypatch):
  doc_pages.write_models(doc_pages.read(page), tmp_path)
  monkeypatch.chdir(tmp_path)
  # What a trained model says, the stand-in does not.
  checker = SameForm(same_labels=False) if page in _FIRST_RUN else None
  run_examples(page, checker)


@pytest.mark.long
def test_the_first_run(tmp_path, monkeypatch, repo, capsys):
  """The quickstart itself, and what README and tutorial ask its model."""
  monkeypatch.chdir(tmp_path)
  run_command(
    doc_pages.Command(
      'README.md', 'train.py', (f'--config={repo}/configs/quickstart.py',)
    )
  )
  closing = capsys.readouterr().out.strip().split('\n')[-1]
  told = re.search(r'^entailment: .*$', doc_pages.read('README.md'), re.M)[0]
  assert _NUMBERS.sub('#', closing) == _NUMBERS.sub('#', told)
  assert float(re.search(r'to (0\.\d+)', closing)[1]) > 0.85
  for page in _FIRST_RUN:
    run_examples(page, SameForm(same_labels=True))


def run_command(command: doc_pages.Command) -> str:
  """Runs a command in this process; returns what it prints."""
  program = command.program
  if program.startswith('mobilebert_jax'):
    spec = importlib.util.find_spec(program)
    assert spec is not None, f'{command.page}: there is no {program}'
    if spec.submodule_search_locations:
      spec = importlib.util.find_spec(f'{program}.__main__')
    path = spec.origin
  else:
    path = str(doc_pages.ROOT / program)
  argv, sys.argv = sys.argv, [path, *command.arguments]
  try:
    with contextlib.suppress(SystemExit):
      runpy.run_path(path, run_name='__main__')
  finally:
    sys.argv = argv


@functools.cache
def help_of(program: str, *kind: str) -> str:
  out = io.StringIO()
  with contextlib.redirect_stdout(out):
    run_command(doc_pages.Command('', program, (*kind, '--help')))
  return out.getvalue()


def shown(command: doc_pages.Command) -> str:
  return f'{command.program} {" ".join(command.arguments)}'


@pytest.mark.parametrize('command', _COMMANDS, ids=shown)
def test_commands_use_flags_that_there_are(command):
  kind = command.arguments[:1]
  kinds = kind if command.program == 'mobilebert_jax.predict' else ()
  text = help_of(command.program, *(() if kind == ('--help',) else kinds))
  for argument in command.arguments:
    flag = re.match(r'--([\w-]+)(?=[=.]|$)', argument)
    if flag and flag[1] != 'help':
      name = flag[1].removeprefix('no').removeprefix('-')
      assert re.search(rf'--(\[no-?\])?({flag[1]}|{name})\b', text), flag[0]


def settings_of(command: doc_pages.Command) -> tuple[str, list[str]]:
  """A command's config file, and its overrides (of a sweep: the first ones)."""
  path, overrides = '', []
  for argument in command.arguments:
    name, _, value = argument.partition('=')
    if name == '--config':
      path = value
    elif name.startswith('--config.'):
      overrides.append(argument)
    elif name.startswith('--sweep.'):
      first = value.split(',')[0]
      overrides.append(f'--config.{name.removeprefix("--sweep.")}={first}')
  if command.program == 'mobilebert_jax.glue':
    path = path or 'configs/glue_sst2.py'
  return path, overrides


@pytest.mark.parametrize(
  'command', [c for c in _COMMANDS if settings_of(c)[0]], ids=shown
)
def test_commands_set_what_can_be_set(command, repo, monkeypatch):
  monkeypatch.chdir(repo)
  path, overrides = settings_of(command)
  if path == '...':
    return
  if command.program == 'mobilebert_jax.recipe':
    recipe.load(path, command_line.assignments(overrides))
    return
  told = contextlib.nullcontext()
  if command.error is not None:
    told = pytest.raises(InputError, match=f'^{re.escape(command.error)}$')
  with told:
    config.configure(path, overrides)


def test_there_are_commands():
  assert len(_COMMANDS) > 50
  assert {'train.py', 'eval.py'} < {command.program for command in _COMMANDS}


def reference() -> str:
  pages = [p for p in doc_pages.PAGES if p.startswith('docs/reference/')]
  return '\n'.join(map(doc_pages.read, pages))


def public(module) -> set[str]:
  """The names of a module that are meant for its users."""
  names = getattr(module, '__all__', None) or [
    name for name in dir(module) if not name.startswith('_')
  ]
  return {name for name in names if not inspect.ismodule(getattr(module, name))}


def test_every_public_name_is_in_the_reference():
  text = reference()
  named = re.findall(
    r'(?:class|function|exception):: mobilebert_jax\.(\w+)[\n(]', text
  )
  assert not public(mb) - set(named)
  members = re.search(
    r'automodule:: mobilebert_jax.losses\n   :members: (.*)', text
  )[1].split(', ')
  functions = {
    name
    for name, value in vars(losses).items()
    if callable(value)
    and not name.startswith('_')
    and value.__module__.startswith(losses.__name__)
  }
  # An alias, which the page names by hand.
  assert functions - {'masked_lm_loss'} == set(members)
  for name, kind in pipelines.PIPELINES.items():
    assert f'\n## {name}\n' in text
    assert f'autoclass:: {kind.__name__}\n' in text


def test_every_command_is_in_the_reference():
  package = doc_pages.ROOT / 'mobilebert_jax'
  found = {'train.py', 'eval.py'}
  for path in package.rglob('*.py'):
    if re.search(r"^if __name__ == '__main__'", path.read_text('utf-8'), re.M):
      parts = path.relative_to(doc_pages.ROOT).with_suffix('').parts
      found.add('-m ' + '.'.join(p for p in parts if p != '__main__'))
  page = doc_pages.read('docs/reference/commands.md')
  assert set(re.findall(r'\{command-help\} (.*)', page)) == found


@pytest.mark.parametrize(
  'page', [*doc_pages.PAGES, 'CONTRIBUTING.md', 'CHANGELOG.md']
)
def test_links_lead_somewhere(page, repo):
  for target in doc_pages.links(page):
    url = urllib.parse.urlsplit(target)
    if url.scheme:
      assert url.scheme == 'https' and '.' in url.netloc, target
      continue
    file = (repo / page).parent / url.path if url.path else repo / page
    # Cards name pages without their ending; the picture is made by the build.
    assert file.exists() or file.name == 'folders.svg', f'{page}: {target}'
    if url.fragment:
      name = str(file.resolve().relative_to(repo))
      assert url.fragment in doc_pages.anchors(name), f'{page}: {target}'


def test_files_name_pages_that_there_are(repo):
  """Help texts, configs, benchmarks and messages point to pages."""
  files = [
    *repo.glob('*.py'), *repo.glob('*.sh'), *repo.rglob('configs/*.py'),
    *repo.rglob('benchmarks/*.py'), *repo.rglob('mobilebert_jax/**/*.py'),
    *repo.rglob('tests/**/*.py'),
  ]  # fmt: skip
  for file in files:
    for name in re.findall(r'\bdocs/[\w/]+\.\w+', file.read_text('utf-8')):
      assert (repo / name).exists(), f'{file.relative_to(repo)}: {name}'


def extension(name):
  path = doc_pages.ROOT / 'docs' / '_extensions' / f'{name}.py'
  spec = importlib.util.spec_from_file_location(f'docs_{name}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_docstrings_become_restructured_text():
  given = ['`Term`s and `x`.', '```python', 'a = `b`', '```', 'end']
  assert extension('docstrings').convert(given) == [
    '``Term``\\ s and ``x``.', '.. code-block:: python', '',
    '  a = `b`', '', 'end',
  ]  # fmt: skip


def test_picture_of_the_folders(tmp_path):
  folders = extension('folders')
  folders.draw(tmp_path / 'folders.svg')
  picture = ElementTree.parse(tmp_path / 'folders.svg')
  texts = {element.text for element in picture.iter() if element.text}
  assert {'models/', 'models', 'tasks/'} < texts
  assert 'models' in folders.imported('tasks')
