"""Which files does a reader pass from `train.py` to the first weight update?

  cd CHECKOUT && PYTHONPATH=. python benchmarks/update_path.py [--root=CHECKOUT]

Runs `train.py` of the checkout at `--root` (by default the current directory)
on SST-2 from scratch, with a tiny model and official files that it writes to a
temporary directory, and prints the project's files in which a function ran
between the start of `train.py` and the end of the first optimizer update, how
many lines they have, and their number.

What is counted: a profile hook (`sys.setprofile`, and `threading.setprofile`
for the threads that are started) sees every frame that is entered. A file
counts once a function, method, lambda, generator or comprehension that its text
defines has run; code of modules and bodies of classes does not count, so that a
file that is merely imported is left out. The project's files are `train.py` and
all of `mobilebert_jax/` and `configs/`. The loss and the scores before training
belong to the path, because they are computed before the first step. The update
has ended when its loss stands in `metrics.jsonl` (`log_every=1`), which takes
the result from the device. Nothing is read but public things (the command line,
the config file, the layout of the workdir), so that the same script measures
any version of the project.
"""

import argparse
import contextlib
import inspect
import json
import os
import pathlib
import runpy
import sys
import tempfile
import threading
from collections.abc import Sequence
from types import CodeType, FrameType
from typing import Any

_WORDS = ('good', 'fine', 'great', 'bad', 'dull', 'poor', 'film', 'plot', 'a')
_SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
_SETTINGS = {
  'init': 'scratch',
  'data.source': 'files',
  'data.max_length': 8,
  'data.buckets': '(8,)',
  'model.hidden_size': 8,
  'model.intra_bottleneck_size': 8,
  'model.embedding_size': 8,
  'model.num_hidden_layers': 1,
  'model.num_attention_heads': 1,
  'model.intermediate_size': 8,
  'model.num_feedforward_networks': 1,
  'model.max_position_embeddings': 8,
  'batch_size': 8,
  'eval_batch_size': 8,
  'num_epochs': 'none',
  'num_steps': 2,
  'log_every': 1,
}


class UpdatePath:
  """Collects the files whose functions run, until a loss is logged.

  Attributes:
    files: those of the project, in the order in which they were entered.
    is_done: whether the first update has ended.
  """

  def __init__(self, root: pathlib.Path, metrics: pathlib.Path):
    """Starts with no file.

    Args:
      root: the checkout.
      metrics: `metrics.jsonl` of the run.
    """
    self.files: dict[pathlib.Path, None] = {}
    self.is_done = False
    self._root = root
    self._metrics = metrics
    self._size = 0
    # Whether a code object is a function of the project.
    self._known: dict[CodeType, bool] = {}

  def __call__(self, frame: FrameType, event: str, argument: Any):
    """Is called by the interpreter for each event of a frame."""
    if self.is_done:
      # The rest of the run need not be slow.
      sys.setprofile(None)
      return
    if event not in ('call', 'return'):
      return
    code = frame.f_code
    is_counted = self._known.get(code)
    if is_counted is None:
      is_counted = self._known[code] = self._is_counted(code)
    if is_counted and event == 'return' and self._is_updated():
      self.is_done = True

  def _is_counted(self, code: CodeType) -> bool:
    # Modules and bodies of classes have no local variables of their own.
    if not code.co_flags & inspect.CO_OPTIMIZED:
      return False
    path = pathlib.Path(os.path.abspath(code.co_filename))
    if not path.is_relative_to(self._root):
      return False
    name = path.relative_to(self._root)
    if name.parts[0] not in ('train.py', 'mobilebert_jax', 'configs'):
      return False
    self.files[name] = None
    return True

  def _is_updated(self) -> bool:
    """Whether `metrics.jsonl` has the loss of a step."""
    with contextlib.suppress(OSError):
      size = os.stat(self._metrics).st_size
      if size != self._size:
        self._size = size
        lines = self._metrics.read_text(encoding='utf-8').splitlines(True)
        return any(
          'loss' in json.loads(line) for line in lines if line.endswith('\n')
        )
    return False


def write_inputs(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Writes SST-2's official files and a vocabulary; returns the settings."""
  data = folder / 'SST-2'
  data.mkdir()
  for name, count in (('train', 40), ('dev', 10)):
    rows = [
      f'{_WORDS[i % 6]} {_WORDS[6 + i % 3]}\t{int(i % 6 < 3)}'
      for i in range(count)
    ]
    _write_lines(data / f'{name}.tsv', ['sentence\tlabel', *rows])
  rows = [f'{i}\t{_WORDS[i % 6]} film' for i in range(5)]
  _write_lines(data / 'test.tsv', ['index\tsentence', *rows])
  vocabulary = folder / 'vocab.txt'
  _write_lines(vocabulary, [*_SPECIAL, *_WORDS])
  return {'data.path': data, 'tokenizer': vocabulary}


def trace(root: pathlib.Path, folder: pathlib.Path) -> list[pathlib.Path]:
  """Trains in `folder`; returns the files of the path, relative to `root`.

  Raises:
    RuntimeError: the run ended without an update.
  """
  settings = _SETTINGS | write_inputs(folder)
  workdir = folder / 'run'
  path = UpdatePath(root, workdir / 'metrics.jsonl')
  sys.argv = [
    'train.py',
    '--config=configs/glue_sst2.py',
    f'--workdir={workdir}',
    *(f'--config.{name}={value}' for name, value in settings.items()),
  ]
  threading.setprofile(path)
  sys.setprofile(path)
  try:
    runpy.run_path(str(root / 'train.py'), run_name='__main__')
  except SystemExit as end:
    if end.code:
      raise
  finally:
    sys.setprofile(None)
    threading.setprofile(None)  # type: ignore[arg-type]
  if not path.is_done:
    raise RuntimeError('the run ended, but metrics.jsonl has no loss.')
  return list(path.files)


def main(argv: Sequence[str] | None = None):
  """Prints the files, their lines and the sums."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--root', type=pathlib.Path, default=pathlib.Path())
  root = parser.parse_args(argv).root.resolve()
  os.chdir(root)
  # The installed package may be another one than that of the checkout.
  sys.path.insert(0, str(root))
  with tempfile.TemporaryDirectory() as folder:
    files = trace(root, pathlib.Path(folder))
  lines = {
    path: len((root / path).read_text(encoding='utf-8').splitlines())
    for path in files
  }
  for path in files:
    print(f'{lines[path]:6,}  {path}')
  print(f'{len(files)} files, {sum(lines.values()):,} lines')


def _write_lines(path: pathlib.Path, lines: Sequence[str]):
  path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')


if __name__ == '__main__':
  main()
