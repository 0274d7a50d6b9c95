"""A training step side by side with transformers, eager and compiled.

  pip install -e '.[parity]'
  python benchmarks/training.py [--rounds=7] [--budget=120] [--dtypes=float32]

Sequence classification at the published size, batch 16, 128 tokens, AdamW with
clipping: forward, backward and update. Prints milliseconds (medians) and, in
brackets, speed relative to transformers eager.
"""

import argparse

import jax
import numpy as np
import optax
import side_by_side

import mobilebert_jax as mb
from mobilebert_jax import losses

BATCH, LENGTH = 16, 128


def batch():
  """Token ids and labels."""
  rng = np.random.default_rng(0)
  ids = rng.integers(1000, 30000, (BATCH, LENGTH))
  return ids, rng.integers(0, 2, BATCH)


def ours(dtype: str, layers: str):
  """A call of one step of this package's model."""
  config = mb.MobileBertConfig.mobilebert()
  compute = mb.Compute(dtype=dtype, layers=layers)
  model = mb.MobileBertForSequenceClassification(config, compute)
  params = mb.init_params(model, jax.random.key(0))
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5))
  ids, labels = (x.astype(np.int32) for x in batch())

  @jax.jit
  def step(params, opt_state, key):
    def loss_fn(params):
      out = model.apply(
        {'params': params}, ids, deterministic=False, rngs={'dropout': key}
      )
      return losses.total(losses.classification_loss(out.logits, labels))

    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss

  state = [params, tx.init(params), jax.random.key(1)]

  def call():
    state[0], state[1], loss = step(*state)
    loss.block_until_ready()

  return call


def theirs(dtype: str, compiled: bool):
  """A call of one step of transformers' model."""
  import torch
  import transformers

  config = transformers.MobileBertConfig(classifier_activation=False)
  model = transformers.MobileBertForSequenceClassification(config).train()
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
  forward = torch.compile(model, dynamic=False) if compiled else model
  ids, labels = (torch.from_numpy(x) for x in batch())

  def call():
    optimizer.zero_grad()
    is_mixed = dtype == 'bfloat16'
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=is_mixed):
      loss = forward(input_ids=ids, labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

  return call


def main():
  """Parses the arguments and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--budget', type=float, default=120.0)
  parser.add_argument('--dtypes', nargs='+', default=['float32', 'bfloat16'])
  args = parser.parse_args()
  print(side_by_side.machine())
  title = f'({BATCH}, {LENGTH})'
  print(f'\nTraining step {title}: ms (speed relative to eager)\n')
  for number, dtype in enumerate(args.dtypes):
    contenders = {
      'transformers eager': theirs(dtype, compiled=False),
      'torch.compile': theirs(dtype, compiled=True),
      'ours (scan)': ours(dtype, 'scan'),
      'ours (loop)': ours(dtype, 'loop'),
    }
    if number == 0:
      print(side_by_side.table_head(list(contenders)))
    times = side_by_side.measure(
      contenders, rounds=args.rounds, budget_s=args.budget
    )
    row = side_by_side.table_row(dtype, times, 'transformers eager')
    print(row, flush=True)


if __name__ == '__main__':
  main()
