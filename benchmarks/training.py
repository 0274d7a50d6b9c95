"""A training step on the CPU beside PyTorch, eager and compiled.

  pip install -e '.[parity]'
  python benchmarks/training.py [--rounds=9] [--dtypes float32 bfloat16]
      [--peers-python=PYTHON] [--huge-pages]
      [--without NAME ...]

Sequence classification at the published size with its published dropout, batch
16, 128 tokens, AdamW with clipping: forward, backward and update. In bfloat16
the peers compute under autocast. Each library computes in a process of its own,
in turns (`lock_step`); --peers-python is an interpreter that has PyTorch, where
this one has not; --huge-pages sets glibc's tunable for all of them. Prints
milliseconds, medians and (least).
"""

import argparse
import os
import sys

import inference
import lock_step
import numpy as np

BATCH, LENGTH = 16, 128
OURS = ('ours, as the API has it', 'ours, as train.py runs')
PEERS = ('transformers eager', 'torch.compile')


def make(name: str, dtype: str) -> lock_step.Call:
  """Returns the call of a contender."""
  rng = np.random.default_rng(0)
  ids = rng.integers(1000, 30000, (BATCH, LENGTH))
  labels = rng.integers(0, 2, BATCH)
  if name in OURS:
    return _ours(ids, labels, dtype, is_run=name == OURS[1])
  return _torch(ids, labels, dtype, is_compiled=name == 'torch.compile')


def _ours(ids, labels, dtype: str, is_run: bool) -> lock_step.Call:
  import jax
  import optax

  import mobilebert_jax as mb
  from mobilebert_jax import losses

  choices, options = {}, None
  if is_run:
    choices = {
      'norms': 'fold', 'attention_dropout': 'hash', 'gradients': 'own'
    }  # fmt: skip
    options = mb.compiler_options('cpu', dtype)
  config = mb.MobileBertConfig.mobilebert()
  compute = mb.Compute(dtype=dtype, **choices)
  model = mb.MobileBertForSequenceClassification(config, compute)
  params = mb.init_params(model, jax.random.key(0))
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5))
  ids, labels = ids.astype(np.int32), labels.astype(np.int32)

  def step(params, opt_state, key):
    def loss_fn(params):
      out = model.apply(
        {'params': params}, ids, deterministic=False, rngs={'dropout': key}
      )
      return losses.total(losses.classification_loss(out.logits, labels))

    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss

  step = jax.jit(step, donate_argnums=(0, 1), compiler_options=options)
  state = [params, tx.init(params), jax.random.key(1)]

  def call():
    state[0], state[1], loss = step(*state)
    loss.block_until_ready()

  return call


def _torch(ids, labels, dtype: str, is_compiled: bool) -> lock_step.Call:
  import torch
  import transformers

  config = transformers.MobileBertConfig(classifier_activation=False)
  model = transformers.MobileBertForSequenceClassification(config).train()
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
  forward = torch.compile(model, dynamic=False) if is_compiled else model
  ids, labels = torch.from_numpy(ids), torch.from_numpy(labels)

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
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--rounds', type=int, default=9)
  parser.add_argument('--dtypes', nargs='+', default=['float32', 'bfloat16'])
  parser.add_argument('--peers-python', default=sys.executable)
  parser.add_argument(
    '--without', nargs='+', default=[], help='contenders that do not run'
  )
  parser.add_argument('--huge-pages', action='store_true')
  parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.worker:
    lock_step.serve(make, inference.versions)
    return
  environment = dict(os.environ)
  if args.huge_pages:
    environment['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
  workers = {
    'ours': lock_step.Worker(sys.executable, environment=environment),
    'peers': lock_step.Worker(args.peers_python, environment=environment),
  }
  pages = ', huge pages' if args.huge_pages else ''
  print(f'{os.cpu_count()} cores{pages}.')
  for name, worker in workers.items():
    print(f'{name}: {worker.ask(do="versions")}')
  contenders = dict.fromkeys(OURS, 'ours') | dict.fromkeys(PEERS, 'peers')
  contenders = {
    name: worker
    for name, worker in contenders.items()
    if name not in args.without
  }
  print(f'\nTraining step ({BATCH}, {LENGTH}): ms, median (least)\n')
  print(lock_step.table_head(contenders), flush=True)
  for dtype in args.dtypes:
    times = lock_step.measure(
      workers, contenders, rounds=args.rounds, dtype=dtype
    )
    row = lock_step.table_row(
      dtype, times, contenders, OURS.__contains__, PEERS.__contains__
    )
    print(row, flush=True)
  for worker in workers.values():
    worker.close()


if __name__ == '__main__':
  main()
