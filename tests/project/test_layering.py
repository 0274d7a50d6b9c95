"""Data flows one way: a module imports from lower layers only.

And each third-party library that can be walled in is imported in its one
place, so that replacing it touches one file.
"""

import ast
import pathlib

import pytest

from tests.support.folders import FOLDERS

_REPO = pathlib.Path(__file__).resolve().parents[2]
_ROOT = _REPO / 'mobilebert_jax'
_ORDER = list(FOLDERS)
_WALLS = {
  'orbax': {'training.checkpoint'},
  'etils': {'runtime.object_store'},
  'fsspec': {'runtime.object_store'},
  'gcsfs': set(),
  'grain': {'data.batching.loader'},
  'array_record': {'data.records.record_files'},
  # The only package below `google` that is used is protobuf.
  'google': {'data.records.tf_example'},
  'google_crc32c': {'data.records.record_files'},
  'apache_beam': {'pretraining_data.beam'},
  'tensorflow_datasets': {'data.readers.tfds'},
  'tensorflow': {'convert.formats.tf1'},
  'torch': {'convert.formats.torch_bin'},
  'transformers': set(),
  'huggingface_hub': {'runtime.hub'},
  'safetensors': {'convert.formats.safetensors'},
  'tensorboardX': {'reporting.metrics_log'},
  'wandb': set(),
  'matplotlib': {'reporting.pictures'},
  'tqdm': {'runtime.progress'},
  'ml_collections': {'config.overrides'},
  'absl': set(),
  'argparse': {'config.command_line'},
  'seqeval': {'metrics.tagging'},
  'sklearn': {'metrics.classification'},
  'scipy': {
    'inference.operations',
    'metrics.classification',
    'metrics.probabilities',
  },
  # Loaded by runtime.requirements, in one module each.
  'onnx': set(),
  'onnxruntime': set(),
  'flatbuffers': set(),
  'litert_converter': set(),
  'ai_edge_litert': set(),
  'ai_edge_quantizer': set(),
  'mediapipe': set(),
  'pyarrow': set(),
  'datasets': set(),
}


def modules():
  """Dotted name below the package -> syntax tree."""
  for path in sorted(_ROOT.rglob('*.py')):
    name = '.'.join(path.relative_to(_ROOT).with_suffix('').parts)
    yield name.removesuffix('.__init__'), ast.parse(path.read_text())


def imports(tree):
  """Every imported module, with the names taken from it."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, 'relative import'
      for alias in node.names:
        yield f'{node.module}.{alias.name}'


MODULES = dict(modules())


def test_folders_are_the_architecture():
  """The root holds the listed folders, the commands, and nothing else."""
  entries = {path.name for path in _ROOT.iterdir()} - {'__pycache__'}
  files = {path.name for path in _ROOT.glob('*.py')}
  assert entries - files == {*FOLDERS, 'py.typed'}
  for name in files - {'__init__.py'}:
    assert "if __name__ == '__main__':" in (_ROOT / name).read_text(), name


def test_tests_mirror_the_package():
  """Tests lie in a folder named as the folder that they test."""
  others = {'golden', 'project', 'runs', 'support'}
  folders = {path.name for path in (_REPO / 'tests').iterdir() if path.is_dir()}
  assert folders - {'__pycache__'} <= {*FOLDERS, *others}


@pytest.mark.parametrize('name', [n for n in MODULES if '.' in n])
def test_imports_point_upwards_in_the_list(name):
  folder = name.split('.')[0]
  for imported in imports(MODULES[name]):
    if not imported.startswith('mobilebert_jax.'):
      continue
    target = imported.split('.')[1]
    assert target in FOLDERS, f'{name} imports {imported}'
    assert _ORDER.index(target) <= _ORDER.index(folder), (
      f'{name} imports {imported}, from below'
    )


@pytest.mark.parametrize('library', _WALLS)
def test_one_wall_per_dependency(library):
  users = {
    name
    for name, tree in MODULES.items()
    for imported in imports(tree)
    if imported.split('.')[0] == library
  }
  assert users <= _WALLS[library]


def test_importing_the_package_touches_no_device():
  import subprocess
  import sys

  code = (
    'import mobilebert_jax, sys\n'
    'from jax._src import xla_bridge\n'
    'assert not xla_bridge.backends_are_initialized()\n'
    'heavy = {"torch", "transformers", "tensorflow", "matplotlib", "grain",\n'
    '         "tensorflow_datasets", "sklearn", "orbax"} & set(sys.modules)\n'
    'assert not heavy, heavy\n'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


def test_files_stay_small():
  """One concept a file: about 500 lines at most."""
  for path in _ROOT.rglob('*.py'):
    assert len(path.read_text().splitlines()) <= 520, path
