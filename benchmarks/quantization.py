"""Small files of a trained model, made tame, wild and equalised.

  pip install -e '.[onnx,litert]'
  pip install --no-deps litert-converter
  python benchmarks/quantization.py --run=RUN [--formats onnx litert]
    [--kinds float16 dynamic int8 int8x16 int4x8] [--rows=20000]
    [--picture=ranges.png]

RUN is a finished run of a model with NoNorm and ReLU, on any task.
*Wild* is the same function to the bit with other values inside: every channel
of every tensor that may be rescaled is multiplied by a random power of two
(standard deviation 3 octaves), and the streams by 2^16 on top. *Offsets* are
constants in the channels of the streams, which their readers take away. What a
method loses on them and not on the run as it is, the method loses by itself.

Each file is calibrated on 200 training examples and runs in its own runtime on
the run's validation split. Prints a Markdown table: the score minus that of the
float model with a 95% interval (paired bootstrap over examples), decisions that
agree with the float model, error of the logits over their deviation, and bytes.
With `--picture` it draws the range of each channel before and after instead.
"""

import argparse
import pathlib
import tempfile
from typing import Any

import judged
import matplotlib.pyplot as plt
import numpy as np

from mobilebert_jax.export import ExportOptions, check, judge, litert, onnx
from mobilebert_jax.export import source as sources
from mobilebert_jax.export import texts as real_texts
from mobilebert_jax.inference import (
  equalization,
  folding,
  quantization,
  ranges,
)
from mobilebert_jax.inference.graph import Graph
from mobilebert_jax.runtime.errors import InputError

KINDS = ('float16', 'dynamic', 'int8', 'int8x16', 'int4x8')
CALIBRATION = 200
READERS = {'onnx': onnx.Loaded, 'litert': litert.Loaded}
STREAMS = ('embeddings', 'bottleneck', 'output')


def wild(config: Any, params: Any, sizes: dict[str, int], seed: int) -> Any:
  """The same function with hidden values of 1e7 and unlike channels."""
  rng = np.random.default_rng(seed)
  scales = {}
  for name in equalization.free(config).scales:
    spread = np.round(rng.normal(0, 3, sizes[name]))
    is_stream = name.rpartition('/')[2] in STREAMS
    scales[name] = 2.0 ** (spread - 16 * is_stream)
  return equalization.rescale(config, params, scales)


def offset(config: Any, params: Any, sizes: dict[str, int], seed: int) -> Any:
  """The same function with large constants in the channels of the streams."""
  rng = np.random.default_rng(seed)
  shifts = {
    name: rng.normal(0, 300, sizes[name])
    for name in equalization.free(config).shifts
    if name.rpartition('/')[2] in STREAMS
  }
  return equalization.rescale(config, params, shifts=shifts)


def channels(config: Any) -> dict[str, int]:
  """The number of channels of each tensor that may change."""
  narrow = config.true_hidden_size
  found = {}
  for name in equalization.free(config).shifts:
    found[name] = narrow
  for name in equalization.free(config).scales:
    is_inside = name.endswith('/activation')
    found[name] = config.intermediate_size if is_inside else narrow
  for i in range(config.num_hidden_layers - 1):
    found[f'layer_{i}/output'] = config.hidden_size
  return found | {'embeddings': config.hidden_size}


def draw(
  config: Any, head: str, params: Any, batches: Any, path: pathlib.Path
):  # fmt: skip
  """Draws the ranges of a wild model's channels, before and after."""
  figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout='constrained')
  names = ('embeddings', 'layer_1/attention/value', 'layer_1/ffn_0/activation')
  changed = wild(config, params, channels(config), 0)
  states = {
    'tame': params,
    'wild': changed,
    'wild, equalised': equalization.equalize(head, config, changed, batches),
  }
  for label, values in states.items():
    means = folding.measure_means(head, config, values, batches)
    served = folding.fold(head, config, values, means=means)
    tensors = ranges.measure(served, batches).tensors
    for axis, name in zip(axes, names, strict=True):
      largest = np.sort(tensors[name].largest)
      axis.plot(np.maximum(largest, largest.max() * 1e-9), label=label)
      axis.set(title=name, xlabel='channels, by their range', yscale='log')
  axes[0].set_ylabel('largest absolute value')
  axes[0].legend()
  figure.savefig(path, dpi=110)


def rounding_of(
  kind: str, served: Graph, measured: ranges.Ranges
) -> quantization.Quantization | None:
  """The grids of a kind that needs ranges; None for others."""
  if kind not in quantization.SCHEMES:
    return None
  return quantization.calibrate(served, kind, measured)


def write(
  format: str, kind: str, served: Graph,
  rounding: quantization.Quantization | None, path: pathlib.Path, length: int,
):  # fmt: skip
  """Writes a file; `rounding` is that of kinds which need ranges."""
  name = None if kind == 'none' else kind
  if format == 'onnx':
    onnx.save(served, path, kind=name, quantization=rounding)
  else:
    litert.save(
      served, path, (length,), quantization=name, calibration=rounding
    )


def main():
  """Parses the command line and prints the table."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--run', required=True, type=pathlib.Path)
  parser.add_argument('--formats', nargs='+', default=['onnx', 'litert'])
  parser.add_argument('--kinds', nargs='+', default=KINDS)
  parser.add_argument(
    '--models', nargs='+', default=['tame', 'wild', 'offsets']
  )
  parser.add_argument('--rows', type=int, default=20_000)
  parser.add_argument('--picture', type=pathlib.Path)
  given = parser.parse_args()
  options = ExportOptions(str(given.run), 'onnx', 'nowhere')
  source = sources.load(options)
  length, head, config = source.max_length, source.head, source.config
  data = judge.read(source, given.rows, length)
  assert isinstance(data, judge.Data), data
  texts = real_texts.for_calibration(source, None, CALIBRATION, length)
  batches = list(texts.batches(range(min(CALIBRATION, len(texts))), (length,)))
  if given.picture is not None:
    draw(config, head, source.params, batches, given.picture)
    return
  sizes = channels(config)
  changed = {
    'tame': source.params,
    'wild': wild(config, source.params, sizes, 0),
    'offsets': offset(config, source.params, sizes, 1),
  }
  model = judged.remembered(check.compiled(source))
  head_of_table = True
  for name in given.models:
    for equalize in (False, True):
      params = changed[name]
      if equalize:
        params = equalization.equalize(head, config, params, batches)
      means = folding.measure_means(head, config, params, batches)
      served = folding.fold(head, config, params, means=means)
      measured = ranges.measure(served, batches)
      for format in given.formats:
        cells = []
        for kind in ('none', *given.kinds):
          with tempfile.TemporaryDirectory() as made:
            path = pathlib.Path(made) / 'file'
            rounding = rounding_of(kind, served, measured)
            try:
              write(format, kind, served, rounding, path, length)
              run = READERS[format](path)
            except InputError as error:
              cells.append(f'refused: {error}')
              continue
            judgement = judge.judge(source, model, run, data)
            size = path.stat().st_size / 1e6
          if head_of_table:
            print(f'float: {judged.score(data, judgement.kept["model"])}\n')
            print('| | ' + ' | '.join(('float32', *given.kinds)) + ' |')
            print('|---' * (len(given.kinds) + 2) + '|')
            head_of_table = False
          cells.append(f'{judged.cell(data, judgement)}; {size:.2f} MB')
        state = 'equalised' if equalize else 'as it is'
        row = [f'{format}, {name}, {state}', *cells]
        print(f'| {" | ".join(row)} |', flush=True)


if __name__ == '__main__':
  main()
