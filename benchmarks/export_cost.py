"""What an export costs: seconds, peak memory and bytes of each format.

  pip install -e '.[onnx,tf,stablehlo]'
  python benchmarks/export_cost.py [--formats ONNX SavedModel]

Sequence classification at its published size, random weights. Every format is
written in a process of its own, so that the memory is its own; the parameters
are folded first, and counted in 'folding', which does nothing else. Formats
whose packages are missing are named.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import jax

import mobilebert_jax as mb
from mobilebert_jax import models
from mobilebert_jax.inference import folding, graph

HEAD = 'MobileBertForSequenceClassification'
FORMATS = (
  'folding', 'ONNX', 'ONNX dynamic', 'SavedModel', 'StableHLO', 'LiteRT',
)  # fmt: skip


def write(kind: str, folded: graph.Graph, path: pathlib.Path):
  """Writes one format; its module is imported here, so it counts."""
  if kind in ('ONNX', 'ONNX dynamic'):
    from mobilebert_jax.export import onnx

    onnx.save(folded, path, kind=None if kind == 'ONNX' else 'dynamic')
  elif kind == 'SavedModel':
    from mobilebert_jax.export import saved_model

    saved_model.save(folded, path)
  elif kind == 'StableHLO':
    from mobilebert_jax.export import stablehlo

    stablehlo.save(folded, path)
  elif kind == 'LiteRT':
    from mobilebert_jax.export import litert

    litert.save(folded, path, [128])


def measure(kind: str) -> str:
  """Returns the cells of one format."""
  config = mb.MobileBertConfig.mobilebert()
  model = models.MobileBertForSequenceClassification(config)
  params = mb.init_params(model, jax.random.key(0))
  start, cpu = time.perf_counter(), time.process_time()
  folded = folding.fold(HEAD, config, params)
  with tempfile.TemporaryDirectory() as directory:
    path = pathlib.Path(directory) / 'model'
    try:
      write(kind, folded, path)
    except (mb.InputError, ImportError) as error:
      return f'not written: {error}'
    seconds = time.perf_counter() - start
    cpu = time.process_time() - cpu
    files = [path, *path.rglob('*')]
    size = sum(file.stat().st_size for file in files if file.is_file())
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  return f'{seconds:.1f} | {cpu:.1f} | {peak:.2f} | {size:,}'


def main():
  """Parses the arguments and prints the table, or one row's cells."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--formats', nargs='+', default=FORMATS, choices=FORMATS)
  parser.add_argument('--one', choices=FORMATS, help='in this process')
  args = parser.parse_args()
  if args.one:
    print(measure(args.one))
    return
  print('| format | s | CPU s | peak GiB | bytes |\n|---|---|---|---|---|')
  for kind in args.formats:
    done = subprocess.run(
      [sys.executable, __file__, f'--one={kind}'],
      stdout=subprocess.PIPE,
      text=True,
      check=True,
    )
    print(f'| {kind} | {done.stdout.splitlines()[-1]} |', flush=True)


if __name__ == '__main__':
  main()
