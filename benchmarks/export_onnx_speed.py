"""Our ONNX file beside torch.onnx's export of transformers' model.

  pip install -e '.[parity]' onnxscript
  python benchmarks/export_onnx_speed.py [--rounds=30] [--budget=60]

Sequence classification at its published size, random weights, the same in both;
dynamic batch and length; all in onnxruntime with all of its optimisations.
torch writes two files: its exporter of today, and the one by TorchScript, which
optimum used. (onnxruntime.transformers' optimiser for 'bert' fuses nothing in
the former nor in ours.) Calls alternate in one process. Prints milliseconds
(medians) and, in brackets, speed relative to torch's file.
"""

import argparse
import pathlib
import tempfile
from typing import Any

import numpy as np
import onnxruntime
import side_by_side
import torch
import transformers

import mobilebert_jax as mb
from mobilebert_jax.export import onnx as export_onnx
from mobilebert_jax.inference import folding

HEAD = 'MobileBertForSequenceClassification'
INPUTS = ('input_ids', 'attention_mask', 'token_type_ids')
SHAPES = ((1, 128), (8, 128))


def make_model() -> Any:
  """Transformers' model at full size, its norms not the identity."""
  torch.manual_seed(0)
  model = transformers.MobileBertForSequenceClassification(
    transformers.MobileBertConfig(attn_implementation='eager')
  ).eval()
  with torch.no_grad():
    for name, value in model.named_parameters():
      if 'LayerNorm' in name and name.endswith('weight'):
        value.uniform_(0.8, 1.2)
      elif name.endswith('bias'):
        value.normal_(0, 0.1)
  return model


class OneOutput(torch.nn.Module):
  """Logits of three inputs in the order of `INPUTS`."""

  def __init__(self, model: Any):
    super().__init__()
    self.model = model

  def forward(self, input_ids, attention_mask, token_type_ids):
    return self.model(input_ids, attention_mask, token_type_ids).logits


def export_torch(model: Any, path: pathlib.Path, *, script: bool):
  """Writes torch's file, by TorchScript or by torch.export."""
  batch, length = torch.export.Dim('batch'), torch.export.Dim('length', max=512)
  # Three tensors: one that is given three times is taken for one input.
  ids = tuple(torch.ones(2, 16, dtype=torch.int64) for _ in INPUTS)
  axes: dict[str, Any] = {'dynamic_shapes': [{0: batch, 1: length}] * 3}
  if script:
    axes = {'dynamic_axes': {name: {0: 'b', 1: 's'} for name in INPUTS}}
  torch.onnx.export(
    OneOutput(model).eval(),
    ids,
    str(path),
    input_names=list(INPUTS),
    output_names=['logits'],
    dynamo=not script,
    external_data=False,
    **axes,
  )


def export_ours(model: Any, path: pathlib.Path):
  """Writes our file of the same weights."""
  with tempfile.TemporaryDirectory() as directory:
    model.save_pretrained(directory)
    jax_model, params = mb.from_pretrained(
      mb.MobileBertForSequenceClassification, directory
    )
  graph = folding.fold(HEAD, jax_model.config, params)
  export_onnx.save(graph, path)


def session(path: pathlib.Path, threads: int) -> onnxruntime.InferenceSession:
  """Opens a file with every optimisation."""
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = threads
  options.graph_optimization_level = (
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
  )
  return onnxruntime.InferenceSession(
    str(path), options, providers=['CPUExecutionProvider']
  )


def main():
  """Parses the arguments, writes the files and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=30)
  parser.add_argument('--budget', type=float, default=60.0)
  parser.add_argument('--directory', type=pathlib.Path, help='keeps files')
  args = parser.parse_args()
  print(side_by_side.machine(), f'onnxruntime {onnxruntime.__version__}')
  with tempfile.TemporaryDirectory() as made:
    directory = args.directory or pathlib.Path(made)
    names = {
      'torch.onnx': directory / 'torch.onnx',
      'torch.onnx, TorchScript': directory / 'script.onnx',
      'ours': directory / 'ours.onnx',
    }
    model = make_model()
    for name, path in names.items():
      if path.exists():
        continue
      if name == 'ours':
        export_ours(model, path)
      else:
        export_torch(model, path, script='TorchScript' in name)
    for number, (batch, length) in enumerate(SHAPES):
      rng = np.random.default_rng(0)
      ids = rng.integers(1000, 30000, (batch, length))
      feeds = dict(zip(INPUTS, (ids, np.ones_like(ids), np.zeros_like(ids))))
      with torch.no_grad():
        wanted = model(*map(torch.from_numpy, feeds.values())).logits.numpy()
      for threads in (1, 2):
        contenders = {}
        for name, path in names.items():
          opened = session(path, threads)
          (logits,) = opened.run(None, feeds)
          error = np.abs(logits - wanted).max() / wanted.std()
          assert error < 1e-3, (name, error)
          contenders[name] = lambda opened=opened, feeds=feeds: opened.run(
            None, feeds
          )
        if number == 0 and threads == 1:
          print(side_by_side.table_head(list(contenders)))
        times = side_by_side.measure(
          contenders, rounds=args.rounds, budget_s=args.budget
        )
        title = f'({batch}, {length}), {threads} threads'
        print(side_by_side.table_row(title, times, 'torch.onnx'), flush=True)


if __name__ == '__main__':
  main()
