"""Small files of a trained model, made tame, wild and equalised.

  pip install -e '.[onnx,litert]'
  pip install --no-deps litert-converter
  python benchmarks/quantization.py --run=RUN [--formats onnx litert]
    [--kinds float16 dynamic int8 int8x16 int4x8] [--rows=10872]

RUN is a finished run that classifies texts, of a model with NoNorm and ReLU.
*Wild* is the same function to the bit with other values inside: every channel
of every tensor that may be rescaled is multiplied by a random power of two
(standard deviation 3 octaves), and the streams by 2^16 on top. *Offsets* are
constants in the channels of the streams, which their readers take away. What a
method loses on them and not on the run as it is, the method loses by itself.

Each file is written by the command's own `export`, calibrated on training
examples, and runs in its own runtime on the run's validation split. Prints a
Markdown table: accuracy minus that of the float model with a 95% interval
(paired bootstrap over examples), labels that agree with the float model, error
of the logits over their deviation, and bytes.
"""

import argparse
import pathlib
import shutil
import tempfile
from typing import Any

import numpy as np

from mobilebert_jax.convert.pretrained import from_pretrained, save_pretrained
from mobilebert_jax.data.batching import loader
from mobilebert_jax.export import ExportOptions, export, judge, litert, onnx
from mobilebert_jax.export import source as sources
from mobilebert_jax.inference import equalization
from mobilebert_jax.inference.graph import INPUTS
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

KINDS = ('float16', 'dynamic', 'int8', 'int8x16', 'int4x8')
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


def write_runs(run: pathlib.Path, directory: pathlib.Path) -> dict[str, str]:
  """Writes runs of the changed models; returns them by name."""
  model, params = from_pretrained(None, run / 'model')
  tokenizer = MobileBertTokenizerFast.from_pretrained(run / 'model')
  sizes = channels(model.config)
  changed = {
    'tame': params,
    'wild': wild(model.config, params, sizes, 0),
    'offsets': offset(model.config, params, sizes, 1),
  }
  result = {}
  for name, values in changed.items():
    target = directory / name
    shutil.copytree(
      run, target, ignore=shutil.ignore_patterns('checkpoints', 'model')
    )
    (target / 'checkpoints').mkdir()
    save_pretrained(target / 'model', model, values, tokenizer)
    result[name] = str(target)
  return result


def outputs(runtime: Any, data: judge.Data) -> tuple[np.ndarray, np.ndarray]:
  """Logits and labels of all examples."""
  logits, labels = [], []
  batches = loader.eval_batches(
    data.split.features,
    batch_size=8,
    batching='bucketed',
    buckets=data.config.data.buckets,
  )
  for batch, placement in batches:
    found = runtime({name: batch[name] for name in INPUTS})
    value = found.get('logits')
    if value is None:
      value = np.log(np.maximum(found['probabilities'], 1e-30))
    logits.append(value[placement.rows])
    labels.append(np.asarray(batch['labels'])[placement.rows])
  return np.concatenate(logits), np.concatenate(labels)


def compare(plain: np.ndarray, found: np.ndarray, labels: np.ndarray) -> str:
  """Cells of the table: score, agreement, error."""
  if not np.isfinite(found).all():
    return 'no numbers'
  one, other = plain.argmax(-1), found.argmax(-1)
  difference = (other == labels).astype(float) - (one == labels)
  rng = np.random.default_rng(0)
  picks = rng.integers(0, len(labels), (2000, len(labels)))
  low, high = np.percentile(difference[picks].mean(1), [2.5, 97.5]) * 100
  # Probabilities say logits up to a constant.
  centred = [x - x.mean(-1, keepdims=True) for x in (plain, found)]
  error = np.std(centred[1] - centred[0]) / np.std(centred[0])
  return (
    f'{difference.mean() * 100:+.2f} ({low:+.2f} to {high:+.2f}), '
    f'{(one == other).mean():.2%}, {error:.1%}'
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
  given = parser.parse_args()
  readers = {'onnx': onnx.Loaded, 'litert': litert.Loaded}
  with tempfile.TemporaryDirectory() as made:
    runs = write_runs(given.run, pathlib.Path(made))
    length = None
    plain = labels = data = None
    print('| | ' + ' | '.join(given.kinds) + ' |')
    print('|---' * (len(given.kinds) + 1) + '|')
    for format in given.formats:
      rows = [
        (name, equalize)
        for name in given.models
        for equalize in (False, True)
      ]  # fmt: skip
      for name, equalize in rows:
        cells = []
        for kind in given.kinds:
          output = pathlib.Path(made) / 'out'
          options = ExportOptions(
            runs[name], format, str(output), quantize=kind, score=0,
            equalize=equalize, force=True, check=8,
          )  # fmt: skip
          if data is None:
            source = sources.load(options)
            length = source.max_length
            data = judge.read(source, given.rows, length)
            assert isinstance(data, judge.Data), data
          try:
            report = export(options)
          except InputError as error:
            cells.append(f'refused: {error}')
            continue
          plain_file, file = (
            readers[format](output / part.path) for part in report.files
          )
          if plain is None:
            plain, labels = outputs(plain_file, data)
            accuracy = (plain.argmax(-1) == labels).mean()
            print(f'float: {accuracy:.4f} of {len(labels):,}')
          found, _ = outputs(file, data)
          size = report.files[1].bytes / 1e6
          cells.append(f'{compare(plain, found, labels)}; {size:.2f} MB')
        state = 'equalised' if equalize else 'as it is'
        print(f'| {format}, {name}, {state} | ' + ' | '.join(cells) + ' |')


if __name__ == '__main__':
  main()
