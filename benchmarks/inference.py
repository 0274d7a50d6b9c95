"""Inference side by side with transformers, eager and compiled.

  pip install -e '.[parity]'
  python benchmarks/inference.py [--rounds=9] [--budget=60] [--dtypes=float32]

The bare model at its published size, random weights, no padding. Prints
milliseconds (medians) and, in brackets, speed relative to transformers eager.
"""

import argparse

import jax
import numpy as np
import side_by_side

import mobilebert_jax as mb

SHAPES = ((1, 128), (8, 128), (32, 128), (1, 384))


def ours(ids: np.ndarray, dtype: str, layers: str):
  """A call of this package's model."""
  config = mb.MobileBertConfig.mobilebert()
  model = mb.MobileBertModel(config, mb.Compute(dtype=dtype, layers=layers))
  params = mb.init_params(model, jax.random.key(0))
  apply = jax.jit(
    lambda params, ids: model.apply({'params': params}, ids).last_hidden_state
  )
  return lambda: apply(params, ids).block_until_ready()


def theirs(ids: np.ndarray, dtype: str, compiled: bool):
  """A call of transformers' model, with its fastest attention."""
  import torch
  import transformers

  config = transformers.MobileBertConfig(classifier_activation=False)
  model = transformers.MobileBertModel(config).eval()
  model = model.to(getattr(torch, dtype))
  if compiled:
    model = torch.compile(model, dynamic=False)
  ids = torch.from_numpy(ids)

  def call():
    with torch.inference_mode():
      model(input_ids=ids)

  return call


def main():
  """Parses the arguments and prints one table for each dtype."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=9)
  parser.add_argument('--budget', type=float, default=60.0)
  parser.add_argument('--dtypes', nargs='+', default=['float32', 'bfloat16'])
  args = parser.parse_args()
  print(side_by_side.machine())
  for dtype in args.dtypes:
    print(f'\nInference, {dtype}: ms (speed relative to transformers eager)\n')
    for number, (batch, length) in enumerate(SHAPES):
      rng = np.random.default_rng(0)
      ids = rng.integers(1000, 30000, (batch, length))
      contenders = {
        'transformers eager': theirs(ids, dtype, compiled=False),
        'torch.compile': theirs(ids, dtype, compiled=True),
        'ours (scan)': ours(ids.astype(np.int32), dtype, 'scan'),
        'ours (loop)': ours(ids.astype(np.int32), dtype, 'loop'),
      }
      if number == 0:
        print(side_by_side.table_head(list(contenders)))
      times = side_by_side.measure(
        contenders, rounds=args.rounds, budget_s=args.budget
      )
      title = f'({batch}, {length})'
      row = side_by_side.table_row(title, times, 'transformers eager')
      print(row, flush=True)


if __name__ == '__main__':
  main()
