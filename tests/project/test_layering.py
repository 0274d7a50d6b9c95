"""Data flows one way: a module imports from lower layers only.

And each third-party library that can be walled in is imported in its one
place, so that replacing it touches one file.
"""

import ast
import pathlib

import pytest

_ROOT = pathlib.Path(__file__).resolve().parent.parent / 'mobilebert_jax'
# Lower layers first; a module imports from layers above its own in this list,
# and from its own package.
_LAYERS = (
  ('errors', 'outcome', 'facts', 'preemption'),
  ('cluster', 'last_words', 'object_store'),
  ('distributed',),
  ('exit_status', 'files'),
  ('config',),
  (
    'compilation_cache',
    'digests',
    'lock',
    'nonfinite',
    'profiling',
  ),
  ('lamb', 'sharding'),
  (
    'losses',
    'metrics',
    'tagging_metrics',
    'squad_metrics',
    'spans',
    'packing',
    'models',
    'reporting',
    'optimizer',
    'trouble',
  ),
  ('gradients', 'local_copies'),
  ('training', 'convert.hub'),
  ('tokenizer', 'convert', 'stored_state', 'checkpoint_handlers'),
  ('checkpoint',),
  ('data', 'pipelines'),
  ('tasks',),
  ('evaluate', 'prefetch', 'pretraining_data', 'workdir'),
  ('preparation', 'finish'),
  ('distillation',),
  ('assembly',),
  ('scoring', 'loop', 'predict'),
  ('attempt', 'check_slice'),
  ('distillation.__main__', 'glue', 'sweep', 'tpu_compile'),
  ('recipe',),
)
_WALLS = {
  'orbax': {'checkpoint', 'checkpoint_handlers'},
  'etils': {'object_store'},
  'fsspec': {'object_store'},
  'gcsfs': set(),
  'grain': {'data.loader'},
  'array_record': {'data.array_records'},
  # The only package below `google` that is used is protobuf.
  'google': {'data.tf_example'},
  'google_crc32c': {'data.tfrecord'},
  'apache_beam': {'pretraining_data.beam'},
  'tensorflow_datasets': {'data.tfds_source'},
  'tensorflow': {'convert.tf1'},
  'torch': {'convert.torch_bin'},
  'transformers': set(),
  'huggingface_hub': {'convert.hub'},
  'safetensors': {'convert.safetensors_files'},
  'tensorboardX': {'reporting.metrics_log'},
  'matplotlib': {'reporting.canvas'},
  'tqdm': {'reporting.progress'},
  'ml_collections': {'config.overrides'},
  'absl': set(),
  'argparse': {'config.command_line'},
  'seqeval': {'tagging_metrics'},
  'sklearn': {'metrics'},
  'scipy': {'metrics'},
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


def layer(name):
  """Index of the layer that a module of ours belongs to."""
  found = [
    (len(prefix), index)
    for index, prefixes in enumerate(_LAYERS)
    for prefix in prefixes
    if name == prefix or name.startswith(prefix + '.')
  ]
  return max(found)[1] if found else None


MODULES = dict(modules())


@pytest.mark.parametrize('name', [n for n in MODULES if n != '__init__'])
def test_imports_point_downwards(name):
  own = layer(name)
  assert own is not None, f'{name} is in no layer: add it to _LAYERS'
  package = name.split('.')[0]
  for imported in imports(MODULES[name]):
    if not imported.startswith('mobilebert_jax.'):
      continue
    target = imported.removeprefix('mobilebert_jax.')
    if target.split('.')[0] == package and layer(target) == own:
      continue
    assert layer(target) is not None, f'{name} imports {imported}'
    assert layer(target) < own, f'{name} imports {imported} from above'


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
  """One idea a file: about 500 lines at most."""
  for path in _ROOT.rglob('*.py'):
    assert len(path.read_text().splitlines()) <= 520, path
