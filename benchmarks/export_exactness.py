"""Errors of float32 against float64: files of export, and what is not folded.

  pip install -e '.[parity]'
  python benchmarks/export_exactness.py [--data=SST-2 --vocab=vocab.txt]
    [--texts=256] [--models tame scaled] [--no_torch]

Sequence classification at its published size with random weights: tame; with
the stream between blocks scaled to about 1e8; and with large constants in its
channels, which cancel in what reads them, as in the published checkpoint. The
truth is the model in float64 on the float32 weights. Texts are sentences of
SST-2's dev.tsv, and the means to subtract are those of sentences of train.tsv;
without `--data` both are random tokens of like lengths.

Prints a Markdown table: largest error of the logits over their standard
deviation, and largest error of the probabilities. Formats whose packages are
missing are left out, and named.
"""

import argparse
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import scipy.special
import side_by_side

import mobilebert_jax as mb
from mobilebert_jax import models
from mobilebert_jax.export import (
  folding,
  graph,
  litert,
  onnx,
  saved_model,
  stablehlo,
)
from mobilebert_jax.inference.operations import numpy_operations

HEAD = 'MobileBertForSequenceClassification'
FORMATS = ('StableHLO', 'ONNX', 'SavedModel', 'LiteRT')
Batch = Mapping[str, np.ndarray]
Run = Callable[[Batch], np.ndarray]


def make_params(model: Any) -> Any:
  """Random parameters under which hidden values stay moderate."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    name = path[-1].key
    if name == 'scale':
      return rng.uniform(0.8, 1.2, leaf.shape)
    if name == 'bias':
      return rng.normal(0, 0.1, leaf.shape)
    wide = leaf.shape[-2] if name == 'kernel' else leaf.shape[-1]
    return rng.normal(0, 0.5 * wide**-0.5, leaf.shape)

  shapes = models.abstract_params(model)
  return jax.tree_util.tree_map_with_path(draw, shapes)


def stream_parts(params: Any) -> tuple[list[Any], list[Any]]:
  """What writes the stream between blocks, and what reads it."""
  body = params['mobilebert']
  layers = body['encoder']['layers']
  output = layers['output_bottleneck']
  writers = [body['embeddings']['norm'], output['dense'], output['norm']]
  readers = [
    layers['bottleneck']['input']['dense'],
    layers['bottleneck']['attention']['dense'],
    layers['attention']['value'],
    body.get('pooler', params['classifier']),
  ]
  return writers, readers


def scale_stream(params: Any, factor: float):
  """Multiplies the stream by a power of two: the same function to the bit."""
  (embeddings, dense, norm), readers = stream_parts(params)
  for writer, names in (
    (embeddings, ('scale', 'bias')),
    (dense, ('kernel', 'bias')),
    (norm, ('bias',)),
  ):
    for name in names:
      writer[name] *= factor
  for reader in readers:
    reader['kernel'] /= factor


def offset_stream(params: Any, size: float):
  """Adds constants to the stream's channels, which its readers take away."""
  rng = np.random.default_rng(2)
  (embeddings, _, norm), readers = stream_parts(params)
  scale = norm['scale']
  constants = rng.normal(0, size, (scale.shape[0] + 1, scale.shape[1]))
  embeddings['bias'] += constants[0]
  for i, constant in enumerate(constants[:-1]):
    for reader in readers[:-1]:
      reader['bias'][i] -= constant @ reader['kernel'][i]
    norm['bias'][i] += constants[i + 1] - scale[i] * constant
  readers[-1]['bias'] -= constants[-1] @ readers[-1]['kernel']


CHANGES: Mapping[str, Callable[[Any], None]] = {
  'tame': lambda params: None,
  'scaled': lambda params: scale_stream(params, 2.0**24),
  'offsets': lambda params: offset_stream(params, 90.0),
  'large offsets': lambda params: offset_stream(params, 9e3),
}


def random_rows(count: int, seed: int) -> list[list[int]]:
  """Token ids with the lengths of SST-2's sentences, about."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(5, 50, count)
  return [[101, *rng.integers(1996, 30522, n), 102] for n in lengths]


def text_rows(data: pathlib.Path, vocab: pathlib.Path, count: int) -> Any:
  """Token ids of the first sentences."""
  lines = data.read_text(encoding='utf-8').splitlines()[1 : count + 1]
  tokenizer = mb.MobileBertTokenizerFast(str(vocab))
  return tokenizer([line.split('\t')[0] for line in lines])['input_ids']


def batched(rows: list[list[int]], size: int = 32) -> list[Batch]:
  """Batches of like lengths, padded to a multiple of 16."""
  rows = sorted(rows, key=len)
  batches = []
  for start in range(0, len(rows), size):
    part = rows[start : start + size]
    length = -(-max(map(len, part)) // 16) * 16
    ids = np.zeros((len(part), length), np.int32)
    for i, row in enumerate(part):
      ids[i, : len(row)] = row
    mask = np.int32(ids != 0)
    batches.append(dict(zip(graph.INPUTS, (ids, mask, np.zeros_like(ids)))))
  return batches


def truth(config: Any, params: Any, batches: list[Batch]) -> tuple[Any, float]:
  """Logits in float64, and the largest hidden value."""
  with jax.enable_x64(True):
    model = models.MobileBertForSequenceClassification(
      config, models.Compute(dtype='float64', param_dtype='float64')
    )
    wide = jax.tree.map(np.float64, params)

    run = jax.jit(
      lambda params, batch: model.apply(
        {'params': params}, **batch, output_hidden_states=True
      )
    )
    logits, largest = [], 0.0
    for batch in batches:
      outputs = run(wide, batch)
      logits.append(np.asarray(outputs.logits))
      largest = max(
        largest, *(float(abs(x).max()) for x in outputs.hidden_states)
      )
  return np.concatenate(logits), largest


def plain(model: Any, params: Any) -> Run:
  """The model in float32, as it is trained."""
  run = jax.jit(
    lambda params, batch: model.apply({'params': params}, **batch).logits
  )
  return lambda batch: np.asarray(run(params, batch))


def torch_run(model: Any, params: Any, directory: pathlib.Path) -> Run:
  """Transformers' model in float32."""
  import torch
  import transformers

  mb.save_pretrained(directory, model, params)
  kind = transformers.MobileBertForSequenceClassification
  reference = kind.from_pretrained(directory).eval()

  def run(batch):
    ids = {name: torch.from_numpy(x).long() for name, x in batch.items()}
    with torch.inference_mode():
      return reference(**ids).logits.numpy()

  return run


def format_runs(
  folded: graph.Graph,
  directory: pathlib.Path,
  lengths: Sequence[int],
  wanted: Sequence[str],
) -> Iterator[tuple[str, Run]]:
  """What export writes, each in its runtime; a missing package is printed."""

  def in_numpy(batch):
    operations = numpy_operations(np.float32)
    return graph.apply(folded, operations, batch)['logits']

  yield 'NumPy', in_numpy
  formats: dict[str, Callable[[pathlib.Path], None]] = {
    'StableHLO': lambda path: stablehlo.save(folded, path),
    'ONNX': lambda path: onnx.save(folded, path),
    'SavedModel': lambda path: saved_model.save(folded, path),
    'LiteRT': lambda path: litert.save(folded, path, lengths),
  }
  loaders: dict[str, Any] = {
    'StableHLO': stablehlo.Loaded,
    'ONNX': onnx.Loaded,
    'SavedModel': saved_model.Loaded,
    'LiteRT': litert.Loaded,
  }
  for name, save in formats.items():
    if name not in wanted:
      continue
    path = directory / name
    try:
      save(path)
      loaded = loaders[name](path)
    except mb.InputError as error:
      print(f'no {name}: {error}')
      continue
    yield name, lambda batch, loaded=loaded: loaded(batch)['logits']


def errors(run: Run, batches: list[Batch], wanted: np.ndarray) -> str:
  """A cell: error of logits over deviation, largest error of probabilities."""
  logits = np.concatenate([np.float64(run(batch)) for batch in batches])
  off = np.abs(logits - wanted).max() / wanted.std()
  probabilities, right = (
    scipy.special.softmax(x, axis=-1) for x in (logits, wanted)
  )
  return f'{off:.1e}, {np.abs(probabilities - right).max():.1e}'


def measure(kind: str, args: Any) -> tuple[str, dict[str, str]]:
  """A column of the table: its title, and each program's errors."""
  config = mb.MobileBertConfig.mobilebert()
  model = models.MobileBertForSequenceClassification(config)
  params = make_params(model)
  CHANGES[kind](params)
  params = jax.tree.map(np.float32, params)
  if args.data:
    rows = text_rows(args.data / 'dev.tsv', args.vocab, args.texts)
    others = text_rows(args.data / 'train.tsv', args.vocab, 64)
  else:
    rows, others = random_rows(args.texts, 3), random_rows(64, 4)
  batches = batched(rows)
  wanted, largest = truth(config, params, batches)
  means = folding.measure_means(HEAD, config, params, batched(others))
  defaults = folding.measure_means(
    HEAD, config, params, folding.default_batches(HEAD, config)
  )
  lengths = sorted({batch['input_ids'].shape[1] for batch in batches})

  def fold(means):
    return folding.fold(HEAD, config, params, means=means)

  cells = {}
  with tempfile.TemporaryDirectory() as made:
    directory = pathlib.Path(made)
    if not args.no_torch:
      run = torch_run(model, params, directory / 'torch')
      cells['transformers, torch'] = errors(run, batches, wanted)
    cells['model.apply'] = errors(plain(model, params), batches, wanted)
    for name, run in format_runs(fold(means), directory, lengths, args.formats):
      cells[name] = errors(run, batches, wanted)
    for title, constants in (
      ('ONNX, means without text', defaults),
      ('ONNX, no means', None),
    ):
      path = directory / 'other.onnx'
      onnx.save(fold(constants), path)
      loaded = onnx.Loaded(path)
      cells[title] = errors(
        lambda batch, loaded=loaded: loaded(batch)['logits'],
        batches,
        wanted,
      )
  return f'{kind}: values to {largest:.2g}', cells


def main():
  """Parses the arguments and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--data', type=pathlib.Path)
  parser.add_argument('--vocab', type=pathlib.Path)
  parser.add_argument('--texts', type=int, default=256)
  parser.add_argument('--models', nargs='+', default=[*CHANGES])
  parser.add_argument('--formats', nargs='+', default=FORMATS)
  parser.add_argument('--no_torch', action='store_true')
  args = parser.parse_args()
  print(side_by_side.machine())
  columns = []
  for kind in args.models:
    columns.append(measure(kind, args))
    print(*columns[-1], flush=True)
  print('| | ' + ' | '.join(title for title, _ in columns) + ' |')
  print('|---|' + '---|' * len(columns))
  for name in columns[0][1]:
    cells = [name, *(column[name] for _, column in columns)]
    print('| ' + ' | '.join(cells) + ' |')


if __name__ == '__main__':
  main()
