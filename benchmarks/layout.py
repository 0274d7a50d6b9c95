"""How is the package laid out? Figures of its folders, files and imports.

  python benchmarks/layout.py [--root=CHECKOUT]

Reads the syntax trees of `mobilebert_jax/` below `--root` (by default the
current directory) and imports nothing of it, so that any version of the project
can be measured. Prints

- the entries at the package's root (modules, packages and other files);
- its folders, files and lines; of the files' lines the median, the 90th
  percentile and the largest;
- how many project names a module imports: each name that an `import` or `from
  ... import` takes from the project counts once, wherever in the file it
  stands; the mean over all files;
- the modules that exactly one other file of the package, or `train.py` or
  `eval.py`, imports. A package's `__init__` and modules with a command
  (`if __name__ == '__main__'`) are left out: they exist for their users;
- where the names Placement, Batch, Row, Run, Plan and Start are defined, as a
  class or as an alias, at the top of a module.
"""

import argparse
import ast
import collections
import pathlib
import statistics
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

_PACKAGE = 'mobilebert_jax'
_NAMES = ('Placement', 'Batch', 'Row', 'Run', 'Plan', 'Start')


def read(root: pathlib.Path) -> dict[str, tuple[pathlib.Path, ast.Module]]:
  """Path and syntax tree of each of the package's files by dotted name."""
  modules = {}
  for path in sorted((root / _PACKAGE).rglob('*.py')):
    parts = path.relative_to(root).with_suffix('').parts
    name = '.'.join(parts).removesuffix('.__init__')
    modules[name] = (path, ast.parse(path.read_text(encoding='utf-8')))
  return modules


def imported_names(tree: ast.AST) -> Iterator[tuple[str, str]]:
  """(module, name taken from it) of each import from the project."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        if alias.name.split('.')[0] == _PACKAGE:
          yield alias.name, ''
    elif isinstance(node, ast.ImportFrom) and node.module:
      if node.module.split('.')[0] == _PACKAGE:
        for alias in node.names:
          yield node.module, alias.name


def importers(
  trees: Mapping[str, ast.Module], known: set[str]
) -> dict[str, set[str]]:
  """Which files import each of the known modules."""
  users: dict[str, set[str]] = collections.defaultdict(set)
  for user, tree in trees.items():
    for module, name in imported_names(tree):
      target = f'{module}.{name}' if f'{module}.{name}' in known else module
      if target != user:
        users[target].add(user)
  return users


def definitions(tree: ast.Module) -> Iterator[tuple[str, int]]:
  """(name, line) of the classes and values that a module defines at its top."""
  for node in tree.body:
    if isinstance(node, ast.ClassDef):
      yield node.name, node.lineno
    elif isinstance(node, ast.Assign):
      for target in node.targets:
        if isinstance(target, ast.Name):
          yield target.id, node.lineno
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
      yield node.target.id, node.lineno


def is_command(tree: ast.Module) -> bool:
  """Whether a module does something when it is run."""
  return any(
    isinstance(node, ast.If) and "'__main__'" in ast.unparse(node.test)
    for node in tree.body
  )


def main(argv: Sequence[str] | None = None):
  """Prints the figures."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--root', type=pathlib.Path, default=pathlib.Path())
  root = parser.parse_args(argv).root
  modules = read(root)
  _print_sizes(root / _PACKAGE, [path for path, _ in modules.values()])
  trees = {name: tree for name, (_, tree) in modules.items()}
  counts = [len(set(imported_names(tree))) for tree in trees.values()]
  print(f'project names imported a module  {statistics.mean(counts):.1f}')
  scripts = {
    name: ast.parse((root / name).read_text(encoding='utf-8'))
    for name in ('train.py', 'eval.py')
  }
  users = importers(trees | scripts, set(trees))
  single = {
    name: next(iter(users[name]))
    for name, (path, tree) in modules.items()
    if len(users[name]) == 1
    and path.name != '__init__.py'
    and not is_command(tree)
  }
  print(f'modules with exactly one importer  {len(single)}')
  for name, user in single.items():
    print(f'  {name}  (by {user})')
  found: dict[str, list[str]] = {name: [] for name in _NAMES}
  for path, tree in modules.values():
    for name, line in definitions(tree):
      if name in found:
        found[name].append(f'{path.relative_to(root)}:{line}')
  for name, places in found.items():
    print(f'definitions of {name}  {len(places)}')
    for place in places:
      print(f'  {place}')


def _print_sizes(package: pathlib.Path, files: Sequence[pathlib.Path]):
  entries = [path for path in package.iterdir() if path.name != '__pycache__']
  folders = {path.parent for path in files} - {package}
  lines = sorted(
    len(path.read_text(encoding='utf-8').splitlines()) for path in files
  )
  packages = sum(path.is_dir() for path in entries)
  modules = sum(path.suffix == '.py' for path in entries)
  print(
    f'entries at the root  {len(entries)} ({modules} modules, {packages} '
    'packages)'
  )
  print(f'folders  {len(folders)}')
  print(f'files  {len(lines)}')
  print(f'lines  {sum(lines):,}')
  print(f'median file  {statistics.median(lines):.0f} lines')
  print(f'p90 file  {np.percentile(lines, 90):.0f} lines')
  print(f'largest file  {lines[-1]} lines')


if __name__ == '__main__':
  main()
