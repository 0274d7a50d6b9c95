"""Training steps on packed, bucketed and padded batches, in turns.

  python benchmarks/packing.py [--preset=small] [--sst2=DIR --vocab=FILE]

Prints examples per second (medians over the rounds) and, in brackets, speed
relative to padded batches, for sentence classification on

- MNLI-length pairs, at most 128 tokens: premise and hypothesis are log-normal
  with medians 20 and 11 and spreads (standard deviations of the logarithm) 0.65
  and 0.4, plus three special tokens: about 39 in the mean;
- SST-2: the lengths of the official train.tsv in DIR, cut into the tokens of
  FILE, at most 64; without DIR, made up: two special tokens and a geometric
  number of others with mean 11.

The tokens themselves are random. All three kinds of batch hold the same number
of examples and are cut by the loader that training uses. They are cut before
the clock starts (training does it in threads); the time of that is printed
too. Every shape is compiled beforehand.

Presets: 'small' for two CPU cores, in about two minutes; 'full' is the
published model in bfloat16 with large batches, for an accelerator.
"""

import argparse
import dataclasses
import statistics
import time

import jax
import numpy as np
import side_by_side

import mobilebert_jax as mb
from mobilebert_jax import losses
from mobilebert_jax.config.run import OptimizerConfig
from mobilebert_jax.data.batching import loader
from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.data.readers import tables
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training import optimizer, train_step

MODES = ('padded', 'bucketed', 'packed')


@dataclasses.dataclass(frozen=True)
class Preset:
  """What to run.

  Attributes:
    config: Fields of MobileBertConfig.
    dtype: Of the computation.
    batch_size: Examples in a step.
    steps: Steps in a round.
  """

  config: dict[str, int]
  dtype: str
  batch_size: int
  steps: int


PRESETS = {
  'small': Preset(
    {
      'hidden_size': 128,
      'intra_bottleneck_size': 64,
      'embedding_size': 64,
      'intermediate_size': 128,
      'num_hidden_layers': 4,
    },
    'float32',
    batch_size=64,
    steps=3,
  ),
  'full': Preset({}, 'bfloat16', batch_size=256, steps=20),
}
BUCKETS = {128: (32, 48, 64, 96, 128), 64: (8, 16, 24, 32, 48, 64)}


def mnli_lengths(count: int) -> np.ndarray:
  """Numbers of tokens like those of MNLI's pairs."""
  rng = np.random.default_rng(0)
  premise = rng.lognormal(np.log(20), 0.65, count).round()
  hypothesis = rng.lognormal(np.log(11), 0.4, count).round()
  return np.clip(premise + hypothesis + 3, 5, 128).astype(np.int64)


def sst2_lengths(count: int, folder: str | None, vocab: str) -> np.ndarray:
  """Numbers of tokens of SST-2's sentences, in random order."""
  rng = np.random.default_rng(0)
  if folder is None:
    return np.clip(2 + rng.geometric(1 / 11, count), 3, 64)
  path = tables.find_folder(folder, 'SST-2', ('train.tsv',)) / 'train.tsv'
  texts = [row['sentence'] for _, row in tables.read_tsv(path, ('sentence',))]
  tokenizer = mb.MobileBertTokenizerFast(vocab)
  chosen = [texts[i] for i in rng.permutation(len(texts))[:count]]
  ids = tokenizer(chosen, truncation=True, max_length=64)['input_ids']
  return np.array([len(row) for row in ids])


def make_features(lengths: np.ndarray, max_length: int) -> Features:
  """Random tokens of these lengths, and labels."""
  rng = np.random.default_rng(1)
  offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
  tokens = rng.integers(1000, 30000, int(offsets[-1])).astype(np.int32)
  return Features(
    {
      'input_ids': Ragged(tokens, offsets),
      'token_type_ids': Ragged(np.zeros_like(tokens), offsets),
    },
    {'labels': rng.integers(0, 3, len(lengths)).astype(np.int32)},
    {'input_ids': 0, 'token_type_ids': 0},
    max_length=max_length,
  )


def loss(outputs, batch):
  """Cross-entropy over the examples."""
  return (
    losses.cross_entropy(outputs.logits, batch['labels'], batch['weights']),
  )


def cut(features: Features, batching: str, preset: Preset, steps: int, mesh):
  """The first batches of a run, and the seconds each took."""
  begin = time.perf_counter()
  batches = list(
    loader.train_iterator(
      features,
      batch_size=preset.batch_size,
      num_steps=steps,
      seed=0,
      batching=batching,
      buckets=BUCKETS[features.max_length],
      row_multiple=device_mesh.batch_divisor(mesh),
    )
  )
  return batches, (time.perf_counter() - begin) / steps


def contender(batches, preset: Preset, mesh):
  """A call that trains on the next `preset.steps` batches.

  The first call trains on one batch of every shape, to compile the step.
  """
  config = mb.MobileBertConfig(num_labels=3, **preset.config)
  compute = mb.Compute(dtype=preset.dtype)
  model = mb.MobileBertForSequenceClassification(config, compute)
  tx = optimizer.make_optimizer(OptimizerConfig(), 1000)
  params = mb.init_params(model, jax.random.key(0))
  state = [train_step.create_state(model, tx, mesh, params, jax.random.key(1))]
  step = train_step.make_train_step(model, loss, tx, mesh)
  by_shape = {batch['input_ids'].shape: batch for batch in batches}
  rounds = [
    batches[start : start + preset.steps]
    for start in range(0, len(batches), preset.steps)
  ]
  upcoming = iter([list(by_shape.values()), *rounds])

  def call():
    for batch in next(upcoming):
      state[0], metrics = step(state[0], device_mesh.put_batch(batch, mesh))
    jax.block_until_ready(metrics)

  return call


def compare(title: str, features: Features, preset: Preset, rounds: int):
  """Prints one row of the table."""
  mesh = device_mesh.make_mesh()
  calls, host, shapes = {}, {}, {}
  with jax.set_mesh(mesh):
    for mode in MODES:
      steps = preset.steps * rounds
      batches, host[mode] = cut(features, mode, preset, steps, mesh)
      shapes[mode] = {batch['input_ids'].shape for batch in batches}
      calls[mode] = contender(batches, preset, mesh)
    times = side_by_side.measure(calls, rounds=rounds, budget_s=float('inf'))
  examples = preset.steps * preset.batch_size
  rates = {mode: examples / statistics.median(t) for mode, t in times.items()}
  cells = [title, f'{features.lengths().mean():.1f}']
  for mode in MODES:
    cells.append(
      f'{rates[mode]:.0f} ({rates[mode] / rates["padded"]:.2f}x), '
      f'{len(shapes[mode])} shapes, {1000 * host[mode]:.1f} ms'
    )
  print('| ' + ' | '.join(cells) + ' |', flush=True)


def main():
  """Parses the arguments and prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--preset', choices=PRESETS, default='small')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--sst2', help="directory with SST-2's official files")
  parser.add_argument('--vocab', help='vocab.txt to cut them with')
  args = parser.parse_args()
  if args.sst2 and not args.vocab:
    parser.error('--sst2 needs --vocab')
  preset = PRESETS[args.preset]
  print(side_by_side.machine())
  print(
    f'\nTraining, preset {args.preset}: {preset.batch_size} examples a step, '
    f'{preset.dtype}; examples per second (speed relative to padded), shapes '
    'compiled, host time to cut a batch; median of '
    f'{args.rounds} rounds of {preset.steps} steps\n'
  )
  head = ['lengths', 'mean', *MODES]
  print('| ' + ' | '.join(head) + ' |\n|' + '---|' * len(head))
  count = 20_000
  mnli = make_features(mnli_lengths(count), 128)
  compare('MNLI (generated)', mnli, preset, args.rounds)
  title = 'SST-2 (train.tsv)' if args.sst2 else 'SST-2 (generated)'
  sst2 = make_features(sst2_lengths(count, args.sst2, args.vocab), 64)
  compare(title, sst2, preset, args.rounds)


if __name__ == '__main__':
  main()
