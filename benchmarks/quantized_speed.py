"""Sizes and times of full-size files of 32, 8 and 4 bits, beside BERT_BASE.

  pip install -e '.[onnx,litert,parity]' onnxscript
  pip install --no-deps litert-converter
  python benchmarks/quantized_speed.py [--rounds=15] [--kinds none dynamic int8]
    [--formats onnx litert]

Sequence classification at 1 x 128, random weights, one and two threads.
BERT_BASE (12 blocks of 768 with LayerNorm and gelu) is written by the same
commands. Peers are transformers' MobileBERT in torch, as it is and with torch's
dynamic int8, and torch.onnx's export of it in onnxruntime, as it is and with
onnxruntime's dynamic int8. Calls alternate in one process. Prints a Markdown
table: bytes, and milliseconds, median (least).
"""

import argparse
import itertools
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import export_onnx_speed
import jax
import numpy as np
import onnxruntime
import onnxruntime.quantization
import quantization
import side_by_side
import torch
import transformers

import mobilebert_jax as mb
from mobilebert_jax.inference import folding, ranges
from mobilebert_jax.runtime.errors import InputError

LENGTH = 128
KINDS = ('none', 'dynamic', 'int8', 'int4x8')
BERT_BASE = {
  'hidden_size': 768, 'embedding_size': 768, 'intra_bottleneck_size': 768,
  'num_hidden_layers': 12, 'num_attention_heads': 12,
  'intermediate_size': 3072, 'num_feedforward_networks': 1,
  'trigram_input': False, 'use_bottleneck': False,
  'key_query_shared_bottleneck': False, 'normalization_type': 'layer_norm',
  'hidden_act': 'gelu', 'classifier_activation': True,
}  # fmt: skip
# What makes a contender's call for so many threads.
Maker = Callable[[int], Callable[[], Any]]


def ours(
  kinds: Iterable[str], formats: Iterable[str], place: pathlib.Path
) -> Iterator[tuple[str, int, Maker]]:
  """Writes the files; yields each one's name, bytes and what calls it."""
  batch = {name: x.astype(np.int32) for name, x in inputs().items()}
  for name, sizes in (('MobileBERT', {}), ('BERT_BASE', BERT_BASE)):
    model = mb.MobileBertForSequenceClassification(
      mb.MobileBertConfig(vocab_size=30522, **sizes)
    )
    params = jax.device_get(mb.init_params(model, jax.random.key(0)))
    served = folding.fold(export_onnx_speed.HEAD, model.config, params)
    measured = ranges.measure(served, [batch])
    for format, kind in itertools.product(formats, kinds):
      title = f'{name}, {format}, {"float32" if kind == "none" else kind}'
      path = place / title
      try:
        rounding = quantization.rounding_of(kind, served, measured)
        quantization.write(format, kind, served, rounding, path, LENGTH)
      except InputError as error:
        print(f'{title}: {error}', flush=True)
        continue

      def make(threads: int, path=path, format=format) -> Callable[[], Any]:
        loaded = quantization.READERS[format](path, threads=threads)
        return lambda: loaded(batch)

      yield title, path.stat().st_size, make


def peers(place: pathlib.Path) -> dict[str, tuple[int, Maker]]:
  """Transformers' model in torch and, from torch.onnx, in onnxruntime."""
  model = export_onnx_speed.make_model()
  tensors = {name: torch.from_numpy(x) for name, x in inputs().items()}
  quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear})
  plain, dynamic = place / 'torch.onnx', place / 'torch_dynamic.onnx'
  export_onnx_speed.export_torch(model, plain, script=False)
  onnxruntime.quantization.quantize_dynamic(plain, dynamic)

  def in_torch(module: torch.nn.Module) -> Maker:
    def make(threads: int) -> Callable[[], Any]:
      def call():
        torch.set_num_threads(threads)
        with torch.inference_mode():
          module(**tensors)

      return call

    return make

  def in_onnxruntime(path: pathlib.Path) -> Maker:
    def make(threads: int) -> Callable[[], Any]:
      session = export_onnx_speed.session(path, threads)
      return lambda: session.run(None, inputs())

    return make

  size = sum(p.numel() * p.element_size() for p in model.parameters())
  return {
    'torch, float32': (size, in_torch(model)),
    'torch, dynamic': (0, in_torch(quantized)),
    **{
      f'torch.onnx, {kind}': (path.stat().st_size, in_onnxruntime(path))
      for kind, path in (('float32', plain), ('dynamic', dynamic))
    },
  }


def inputs() -> dict[str, np.ndarray]:
  """One sequence without padding."""
  ids = np.random.default_rng(0).integers(1000, 30000, (1, LENGTH))
  arrays = (ids, np.ones_like(ids), np.zeros_like(ids))
  return dict(zip(export_onnx_speed.INPUTS, arrays))


def main():
  """Parses the arguments, writes the files and prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--rounds', type=int, default=15)
  parser.add_argument('--kinds', nargs='+', default=[*KINDS])
  parser.add_argument('--formats', nargs='+', default=[*quantization.READERS])
  args = parser.parse_args()
  print(
    side_by_side.machine(), f'onnxruntime {onnxruntime.__version__}',
    f'torch {torch.__version__}', f'transformers {transformers.__version__}',
    sep=', ', flush=True,
  )  # fmt: skip
  with tempfile.TemporaryDirectory() as made:
    place = pathlib.Path(made)
    contenders = {
      name: rest for name, *rest in ours(args.kinds, args.formats, place)
    } | peers(place)
    times = {}
    for threads in (1, 2):
      calls = {name: make(threads) for name, (_, make) in contenders.items()}
      times[threads] = side_by_side.measure(
        calls, rounds=args.rounds, budget_s=240.0
      )
    print('\n| | MB | 1 thread, ms | 2 threads, ms |\n|---|--:|--:|--:|')
    for name, (size, _) in contenders.items():
      cells = [f'{size / 1e6:.1f}' if size else '-']
      for found in times.values():
        seconds = [1e3 * second for second in found[name]]
        cells.append(f'{statistics.median(seconds):.1f} ({min(seconds):.1f})')
      print(f'| {name} | {" | ".join(cells)} |')


if __name__ == '__main__':
  main()
