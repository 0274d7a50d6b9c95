"""Wrong input to the commands: one clear sentence, exit status 2, no traces.

Each case runs the real command in this process, on a good little run with one
thing changed. Nothing may be written: the workdir stays absent or unchanged.
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable

import pytest

from mobilebert_jax.config import configure
from mobilebert_jax.convert import __main__ as convert
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.training import loop
from tests.support import one_device, tiny


@dataclasses.dataclass(frozen=True)
class Case:
  """A mistake and what the message must say.

  Attributes:
    words: parts of the message.
    flags: further arguments; {x} stands for a path of the world.
    change: breaks something in the world's files.
    command: 'train', 'eval' or 'convert'.
  """

  words: tuple[str, ...]
  flags: tuple[str, ...] = ()
  change: Callable[[pathlib.Path], None] | None = None
  command: str = 'train'


def edit(name, old, new, count=1):
  """Replaces text in a file."""

  def change(root):
    path = root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))

  return change


def write(name, content):
  """Replaces or makes a file."""

  def change(root):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)

  return change


def remove(name):
  def change(root):
    path = root / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()

  return change


def cut(name, keep=0.5):
  """Cuts files off in the middle."""

  def change(root):
    paths = [p for p in sorted(root.glob(name)) if p.is_file()]
    assert paths
    for path in paths:
      content = path.read_bytes()
      path.write_bytes(content[: int(len(content) * keep)])

  return change


def safetensors(header):
  text = json.dumps(header).encode()
  return struct.pack('<Q', len(text)) + text


TRAIN_TSV = 'SST-2/train.tsv'
INIT = ('--config.init={model}', '--config.tokenizer=none')
EVAL = ('--checkpoint={run}',)

CASES = {
  # The command line.
  'unknown flag': Case(('no flag --speed',), ('--speed=3',)),
  'stray word': Case(("'fast' belongs to no flag",), ('fast',)),
  'unknown field': Case(("no field 'batchsize'",), ('--config.batchsize=3',)),
  'unknown field in a group': Case(
    ("config.data has no field 'dir'",), ('--config.data.dir=x',)
  ),
  'unknown model field': Case(
    ("config.model has no field 'width'",), ('--config.model.width=3',)
  ),
  'a group as a value': Case(
    ('config.data is a group of fields',), ('--config.data=3',)
  ),
  'wrong type': Case(
    ('config.batch_size', "'many'", 'a whole number'),
    ('--config.batch_size=many',),
  ),
  'a fraction for a count': Case(
    ('config.batch_size', "'1.5'"), ('--config.batch_size=1.5',)
  ),
  'flag without value': Case(
    ('needs a value', '--config.batch_size'), ('--config.batch_size',)
  ),
  'out of range': Case(
    ('config.batch_size is 0', 'at least 1'), ('--config.batch_size=0',)
  ),
  'not finite': Case(
    ('learning_rate is nan', 'finite'),
    ('--config.optimizer.learning_rate=nan',),
  ),
  'unknown dtype': Case(
    ('config.dtype', 'float32, bfloat16'), ('--config.dtype=fp8',)
  ),
  'float16': Case(('float16', '2.5e7'), ('--config.dtype=float16',)),
  'labels set by hand': Case(
    ('the task decides',), ('--config.model.num_labels=3',)
  ),
  'epochs and steps': Case(('exactly one',), ('--config.num_epochs=1',)),
  'uneven accumulation': Case(
    ('accumulation_steps is 3', 'divisor of config.batch_size'),
    ('--config.accumulation_steps=3',),
  ),
  'unknown task': Case(
    ("config.task is 'cola2'", 'sst2'), ('--config.task=cola2',)
  ),
  # The config file.
  'no such config': Case(
    ('absent.py', 'no such file'), ('--config=absent.py',)
  ),
  'unknown variant': Case(
    ("no variant 'huge'", 'other'), ('--config={config}:huge',)
  ),
  'config with a syntax error': Case(
    ('tiny.py:2', 'SyntaxError'), change=write('tiny.py', '\nx ==== 1\n')
  ),
  'config that fails': Case(
    ('tiny.py:2', 'ZeroDivisionError'),
    change=write('tiny.py', 'def get_config(variant):\n  return 1 / 0\n'),
  ),
  'config without get_config': Case(
    ('no function get_config',), change=write('tiny.py', 'x = 1\n')
  ),
  # Devices.
  'mesh of too many devices': Case(
    ('mesh', 'number of devices'), ('--config.mesh.data=3',)
  ),
  'batch that the mesh cannot divide': Case(
    ('batch_size', 'multiple of 8'), ('--config.batch_size=12',)
  ),
  # The model.
  'impossible architecture': Case(
    ('num_attention_heads is 3', 'divisor'),
    ('--config.model.num_attention_heads=3',),
  ),
  'unknown activation': Case(
    ("hidden_act is 'gelo'",), ('--config.model.hidden_act=gelo',)
  ),
  'longer than the positions': Case(
    ('max_length is 9', '8 positions'),
    ('--config.data.max_length=9',),
  ),
  'vocabulary smaller than the tokenizer': Case(
    ('vocab_size is 5', 'has 14 tokens'), ('--config.model.vocab_size=5',)
  ),
  # Data.
  'no data directory': Case(('SST-2',), change=remove('SST-2')),
  'no path': Case(('config.data.path',), ('--config.data.path=none',)),
  'no such file': Case(('dev.tsv',), change=remove('SST-2/dev.tsv')),
  'empty file': Case(('train.tsv',), change=write(TRAIN_TSV, '')),
  'header alone': Case(
    ('train',), change=write(TRAIN_TSV, 'sentence\tlabel\n')
  ),
  'missing column': Case(
    ('train.tsv', 'label'), change=edit(TRAIN_TSV, 'sentence\tlabel', 'text')
  ),
  'row with too few fields': Case(
    ('train.tsv:3',), change=edit(TRAIN_TSV, 'fine plot\t1', 'fine plot')
  ),
  'row with too many fields': Case(
    ('train.tsv:3',), change=edit(TRAIN_TSV, 'fine plot\t1', 'a\tb\t1')
  ),
  'label out of range': Case(
    ('train.tsv:4', "'2'"), change=edit(TRAIN_TSV, 'great a\t1', 'great a\t2')
  ),
  'label in words': Case(
    ('train.tsv:2', "'good'"),
    change=edit(TRAIN_TSV, 'good film\t1', 'good film\tgood'),
  ),
  'empty text': Case(
    ('train.tsv:2', 'empty'), change=edit(TRAIN_TSV, 'good film\t1', '\t1')
  ),
  'not UTF-8': Case(
    ('train.tsv', 'UTF-8'),
    change=write(TRAIN_TSV, b'sentence\tlabel\ngood\xff\t1\n'),
  ),
  'fewer examples than a batch': Case(
    ('batch_size is 64', '40'), ('--config.batch_size=64',)
  ),
  'source that the task does not have': Case(
    ('generated', 'tfds'), ('--config.data.source=generated',)
  ),
  'example longer than the buckets': Case(
    ('buckets', '4 tokens'), ('--config.data.buckets=(3,)',)
  ),
  # The tokenizer.
  'no tokenizer for scratch': Case(
    ('config.tokenizer is not set',), ('--config.tokenizer=none',)
  ),
  'no such vocabulary': Case(
    ('nothing.txt',), ('--config.tokenizer=nothing.txt',)
  ),
  'vocabulary without special tokens': Case(
    ('vocab.txt', '[UNK]'), change=write('vocab.txt', 'good\nbad\n')
  ),
  'tokenizer.json that is none': Case(
    ('tokenizer.json',),
    ('--config.tokenizer={root}/tokenizer.json',),
    write('tokenizer.json', '{"model": '),
  ),
  # Weights to start from.
  'no such checkpoint': Case(
    ('/no/such/dir',),
    ('--config.init=/no/such/dir', '--config.tokenizer={root}/vocab.txt'),
  ),
  'truncated weights': Case(
    ('model.safetensors',), INIT, cut('run/model/model.safetensors')
  ),
  'weights without header': Case(
    ('model.safetensors',), INIT, write('run/model/model.safetensors', b'1234')
  ),
  'weights that lack tensors': Case(
    ('missing', 'embeddings'),
    INIT,
    write('run/model/model.safetensors', safetensors({})),
  ),
  'weights of another shape': Case(
    ('mis-shaped', '(8,) instead of (12,)'),
    (*INIT, '--config.model.intermediate_size=12'),
  ),
  'blocks of nothing': Case(
    ("config.init_layers is 1, but must be None with config.init 'scratch'",),
    ('--config.init_layers=1',),
  ),
  'no block': Case(
    ('config.init_layers is 0', 'at least 1'), (*INIT, '--config.init_layers=0')
  ),
  'a block twice': Case(
    ('config.init_layers is (0, 0)', 'none of them twice'),
    (*INIT, '--config.init_layers=(0,0)'),
  ),
  'more blocks than there are': Case(
    ('config.init_layers is 2', 'at most 1, the number of blocks of'),
    (*INIT, '--config.init_layers=2', '--config.model.num_hidden_layers=none'),
  ),
  'a block that is not there': Case(
    ('config.init_layers is (1,)', 'from 0 to 0'),
    (*INIT, '--config.init_layers=(1,)'),
  ),
  'blocks of two numbers': Case(
    ('config.model.num_hidden_layers is 1, but must be 2, the number of',),
    (*INIT, '--config.init_layers=2'),
  ),
  'weights without config': Case(
    ('config.json',), INIT, remove('run/model/config.json')
  ),
  'config.json that is no JSON': Case(
    ('config.json',), INIT, cut('run/model/config.json')
  ),
  'config.json with a wrong value': Case(
    ('config.json', 'hidden_size'),
    INIT,
    edit('run/model/config.json', '"hidden_size": 8', '"hidden_size": -8'),
  ),
  # The workdir.
  'workdir of another config': Case(
    ('made by another config', 'config.seed: 0 there, 5 here'),
    ('--workdir={run}', '--config.seed=5'),
  ),
  'workdir that holds other things': Case(
    ('not empty', 'config.json'), ('--workdir={root}/SST-2',)
  ),
  'workdir that is a file': Case(
    ('is a file',), ('--workdir={root}/vocab.txt',)
  ),
  'workdir with a broken config': Case(
    ('config.json', 'JSON'), ('--workdir={run}',), cut('run/config.json')
  ),
  'damaged training checkpoints': Case(
    ('checkpoints/8 is damaged', 'nothing has been removed'),
    ('--workdir={run}',),
    lambda root: (
      cut('run/checkpoints/*/params/**/*', 0.3)(root),
      remove('run/results.json')(root),
    )[0],
  ),
  # Evaluation.
  'no --checkpoint': Case(('--checkpoint is missing',), command='eval'),
  'no such directory': Case(
    ('no such directory',), ('--checkpoint=nowhere',), command='eval'
  ),
  'truncated checkpoint': Case(
    ('checkpoints/8 is damaged', 'digests.json'),
    EVAL,
    cut('run/checkpoints/8/params/**/*', 0.3),
    command='eval',
  ),
  'checkpoint with missing files': Case(
    ('checkpoints/8 is damaged', 'digests.json is missing'),
    EVAL,
    remove('run/checkpoints/8/params'),
    command='eval',
  ),
  'checkpoint of another shape': Case(
    ('of another model', '(8, 2)', '(16, 2)'),
    (*EVAL, '--config.model.hidden_size=16'),
    command='eval',
  ),
  'no such step': Case(
    ('no such directory',),
    ('--checkpoint={run}/checkpoints/7',),
    command='eval',
  ),
  'a directory without a model': Case(
    ('SST-2',), ('--checkpoint={root}/SST-2',), command='eval'
  ),
  # Conversion.
  'nothing to convert': Case(
    ('/no/such/dir',), ('/no/such/dir', '{root}/out'), command='convert'
  ),
}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A good world with a finished run, to be copied for each case."""
  root = tmp_path_factory.mktemp('world')
  config = configure(tiny.write(root))
  with one_device.used():
    loop.train(config, root / 'run')
  return root


@pytest.fixture
def world(finished, tmp_path):
  """A copy of that world, with its paths put right."""
  root = tmp_path / 'world'
  shutil.copytree(finished, root)
  for path in (root / 'tiny.py', root / 'run' / 'config.json'):
    path.write_text(path.read_text().replace(str(finished), str(root)))
  return root


def main_of(repo, command):
  """The command's function from its arguments to its exit status."""
  if command == 'convert':
    return lambda argv: exit_status.run(convert.main, argv)
  spec = importlib.util.spec_from_file_location(command, repo / f'{command}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)

  def main(argv):
    return exit_status.run(module.main, argv)

  return main


def snapshot(root):
  return {
    path.relative_to(root): path.read_bytes() if path.is_file() else None
    for path in root.rglob('*')
    if '__pycache__' not in path.parts
  }


def arguments(case, root):
  names = {
    'root': root,
    'run': root / 'run',
    'model': root / 'run' / 'model',
    'config': root / 'tiny.py',
  }
  flags = [flag.format(**names) for flag in case.flags]
  if case.command == 'convert':
    return ['convert', *flags]
  start = [f'{case.command}.py']
  if not any(flag.startswith('--config=') for flag in flags):
    start.append(f'--config={root}/tiny.py')
  if case.command == 'train' and not any('--workdir' in f for f in flags):
    start.append(f'--workdir={root}/new')
  return start + flags


def check(repo, case, root, capsys, monkeypatch):
  if case.change:
    case.change(root)
  before = snapshot(root)
  monkeypatch.setattr(sys, 'argv', sys.argv)
  monkeypatch.chdir(root)
  capsys.readouterr()
  status = main_of(repo, case.command)(arguments(case, root))
  error = capsys.readouterr().err
  assert status == 2, error
  lines = [line for line in error.splitlines() if line.startswith('error: ')]
  assert error.strip().splitlines() == lines and len(lines) == 1, error
  for words in case.words:
    assert words in lines[0], lines[0]
  assert 'Traceback' not in error
  assert snapshot(root).keys() == before.keys()
  assert snapshot(root) == before


def test_there_are_enough_cases():
  assert len(CASES) >= 40


@pytest.mark.parametrize('name', CASES)
def test_wrong_input(name, repo, finished, request, capsys, monkeypatch):
  case = CASES[name]
  # What changes no file needs no copy: the check proves that it stays as it is.
  root = request.getfixturevalue('world') if case.change else finished
  check(repo, case, root, capsys, monkeypatch)


class _Harm:
  """Unpickling this would run a command."""

  def __reduce__(self):
    return (os.mkdir, ('harm',))


@pytest.mark.parity
def test_a_pickle_that_would_run_code_is_refused(
  repo, world, capsys, monkeypatch
):
  pytest.importorskip('torch')
  model = world / 'run' / 'model'
  (model / 'model.safetensors').unlink()
  (model / 'pytorch_model.bin').write_bytes(
    pickle.dumps({'x': _Harm()}, protocol=2)
  )
  case = Case(('pytorch_model.bin',), INIT)
  check(repo, case, world, capsys, monkeypatch)
  assert not (world / 'harm').exists()


@pytest.mark.parametrize(
  ('command', 'flags', 'words'),
  [
    ('train', ['--config=absent.py'], 'no such file'),
    ('eval', [], 'the flag --checkpoint is missing'),
  ],
)
def test_the_real_process_exits_with_2(repo, tmp_path, command, flags, words):
  done = subprocess.run(
    [sys.executable, repo / f'{command}.py', *flags],
    capture_output=True,
    text=True,
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(repo)},
  )
  assert done.returncode == 2
  assert done.stdout == ''
  assert done.stderr.startswith('error: ') and words in done.stderr
  assert done.stderr.count('\n') == 1
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('command', 'needed'),
  [('train', '--config=FILE'), ('eval', '--checkpoint=DIR')],
)
def test_help_touches_no_device(repo, tmp_path, command, needed):
  # A platform that does not exist: the first touch of a device would fail.
  done = subprocess.run(
    [sys.executable, repo / f'{command}.py', '--help'],
    capture_output=True,
    text=True,
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(repo), 'JAX_PLATFORMS': 'none_such'},
  )
  assert done.returncode == 0
  assert f'python {command}.py {needed}' in done.stdout
