"""Inference on the CPU beside PyTorch and onnxruntime.

  pip install -e '.[parity]' onnxscript
  python benchmarks/inference.py [--rounds=9] [--dtypes float32 bfloat16]
      [--shapes 1x128 8x128 32x128 1x384] [--peers-python=PYTHON]

The bare model at its published size, random weights, no padding. Peers are
transformers' model, eager and by torch.compile, and torch.onnx's export of it
in onnxruntime, as float32 and with its dynamic int8 (which is not counted as a
peer: it is another precision). Each library computes in a process of its own,
in turns (`lock_step`); --peers-python is an interpreter that has PyTorch, where
this one has not. Prints milliseconds, medians and (least).
"""

import argparse
import os
import pathlib
import sys
import tempfile
from typing import Any

import lock_step
import numpy as np

OURS = ('ours, as loaded', 'ours, folded')
PEERS = ('transformers eager', 'torch.compile', 'onnxruntime')
DYNAMIC = 'onnxruntime, dynamic int8'


def make(name: str, dtype: str, batch: int, length: int) -> lock_step.Call:
  """Returns the call of a contender."""
  ids = np.random.default_rng(0).integers(1000, 30000, (batch, length))
  if name in OURS:
    return _ours(ids.astype(np.int32), dtype, is_folded=name == OURS[1])
  if name.startswith('onnxruntime'):
    return _onnxruntime(ids, is_dynamic=name == DYNAMIC)
  return _torch(ids, dtype, is_compiled=name == 'torch.compile')


def _ours(ids: np.ndarray, dtype: str, is_folded: bool) -> lock_step.Call:
  import jax

  import mobilebert_jax as mb

  config = mb.MobileBertConfig.mobilebert()
  model = mb.MobileBertModel(config, mb.Compute(dtype=dtype))
  params = mb.init_params(model, jax.random.key(0))
  options = None
  if is_folded:
    params = model.fold_norms(params)
    model = model.with_folded_norms()
    options = mb.compiler_options('cpu', dtype)
  apply = jax.jit(
    lambda params, ids: model.apply({'params': params}, ids).last_hidden_state,
    compiler_options=options,
  )
  return lambda: apply(params, ids).block_until_ready()


def _torch(ids: np.ndarray, dtype: str, is_compiled: bool) -> lock_step.Call:
  import torch

  model = _transformers_model().to(getattr(torch, dtype))
  if is_compiled:
    model = torch.compile(model, dynamic=False)
  tensor = torch.from_numpy(ids)

  def call():
    with torch.inference_mode():
      model(input_ids=tensor)

  return call


def _transformers_model() -> Any:
  import torch
  import transformers

  torch.manual_seed(0)
  config = transformers.MobileBertConfig(classifier_activation=False)
  return transformers.MobileBertModel(config).eval()


def _onnxruntime(ids: np.ndarray, is_dynamic: bool) -> lock_step.Call:
  import onnxruntime
  import torch
  from onnxruntime import quantization

  with tempfile.TemporaryDirectory() as directory:
    path = pathlib.Path(directory, 'model.onnx')
    # TorchScript's export, which optimum uses, is the faster of torch's two.
    model = _with_hidden_states(_transformers_model())
    torch.onnx.export(
      model, (torch.from_numpy(ids),), str(path),
      input_names=['input_ids'], output_names=['last_hidden_state'],
      dynamo=False,
    )  # fmt: skip
    if is_dynamic:
      float_path, path = path, path.with_name('dynamic.onnx')
      quantization.quantize_dynamic(float_path, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    session = onnxruntime.InferenceSession(
      str(path), options, providers=['CPUExecutionProvider']
    )
  return lambda: session.run(None, {'input_ids': ids})


def _with_hidden_states(model: Any) -> Any:
  """Returns the model with its hidden states as its one output."""
  import torch

  class Hidden(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.model = model

    def forward(self, ids):
      return self.model(input_ids=ids).last_hidden_state

  return Hidden().eval()


def versions() -> str:
  """Says what a worker is made of."""
  import importlib.metadata
  import platform

  names = ('jax', 'torch', 'transformers', 'onnxruntime')
  parts = [f'Python {platform.python_version()}']
  for name in names:
    try:
      parts.append(f'{name} {importlib.metadata.version(name)}')
    except importlib.metadata.PackageNotFoundError:
      continue
  return ', '.join(parts)


def main():
  """Parses the arguments and prints a table for each dtype."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--rounds', type=int, default=9)
  parser.add_argument('--dtypes', nargs='+', default=['float32', 'bfloat16'])
  parser.add_argument(
    '--shapes', nargs='+', default=['1x128', '8x128', '32x128', '1x384']
  )
  parser.add_argument('--peers-python', default=sys.executable)
  parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.worker:
    lock_step.serve(make, versions)
    return
  workers = {
    'ours': lock_step.Worker(sys.executable),
    'peers': lock_step.Worker(args.peers_python),
  }
  print(f'{os.cpu_count()} cores.')
  for name, worker in workers.items():
    print(f'{name}: {worker.ask(do="versions")}')
  for dtype in args.dtypes:
    contenders = dict.fromkeys(OURS, 'ours')
    if dtype == 'float32':
      contenders |= dict.fromkeys((*PEERS, DYNAMIC), 'peers')
    else:
      contenders |= dict.fromkeys(PEERS[:2], 'peers')
    print(f'\nInference, {dtype}: ms, median (least)\n')
    print(lock_step.table_head(contenders), flush=True)
    for shape in args.shapes:
      batch, length = map(int, shape.split('x'))
      times = lock_step.measure(
        workers, contenders, rounds=args.rounds,
        dtype=dtype, batch=batch, length=length,
      )  # fmt: skip
      row = lock_step.table_row(
        f'({batch}, {length})', times, contenders,
        OURS.__contains__, PEERS.__contains__,
      )  # fmt: skip
      print(row, flush=True)
  for worker in workers.values():
    worker.close()


if __name__ == '__main__':
  main()
