"""Trains the same model here and in torch, step by step, on SST-2.

`test_learning_parity` compares the losses; run as a script, this draws them:

  python tests/support/learning.py --data DIR [--steps 100] [--runs NAME ...]
"""

import argparse
import pathlib
import sys

import jax
import numpy as np

import mobilebert_jax as mb
from mobilebert_jax import losses
from mobilebert_jax.config.run import OptimizerConfig
from mobilebert_jax.models import partitioning
from mobilebert_jax.training import mesh as device_mesh
from mobilebert_jax.training import train_step
from mobilebert_jax.training.optimizer import UNDECAYED, make_optimizer

# Name -> (config, dtype, learning rate); nothing has dropout.
SMALL = {
  'hidden_size': 128,
  'intra_bottleneck_size': 64,
  'embedding_size': 64,
  'num_hidden_layers': 3,
  'intermediate_size': 128,
  'num_feedforward_networks': 2,
}
RUNS = {
  'small layer_norm, float64': (
    {**SMALL, 'normalization_type': 'layer_norm'}, 'float64', 1e-3,
  ),
  'small no_norm, float64': (SMALL, 'float64', 1e-3),
  'full size no_norm, float32': (
    {'classifier_activation': False}, 'float32', 5e-5,
  ),
}  # fmt: skip


def batches(data: pathlib.Path, steps: int, batch_size: int = 16):
  """Real sentences in file order, 32 tokens each."""
  lines = (data / 'glue' / 'SST-2' / 'train.tsv').read_text().splitlines()
  rows = [line.split('\t') for line in lines[1 : 1 + steps * batch_size]]
  tokenizer = mb.MobileBertTokenizerFast(data / 'vocab' / 'vocab.txt')
  encoded = tokenizer(
    [row[0] for row in rows],
    padding='max_length',
    truncation=True,
    max_length=32,
    return_tensors='np',
  )
  labels = np.array([int(row[1]) for row in rows], np.int32)
  for step in range(steps):
    part = slice(step * batch_size, (step + 1) * batch_size)
    batch = {name: np.asarray(value)[part] for name, value in encoded.items()}
    yield {**batch, 'labels': labels[part]}


def settings(learning_rate: float) -> OptimizerConfig:
  """The numbers that both optimizers get."""
  return OptimizerConfig(
    learning_rate=learning_rate, warmup_fraction=0.1, max_grad_norm=1.0
  )


def torch_model(class_name, config, dtype):
  """A model with transformers' own initialisation."""
  import torch
  import transformers

  torch.manual_seed(0)
  config = transformers.MobileBertConfig(
    attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0, **config
  )
  config._attn_implementation = 'eager'
  model = getattr(transformers, class_name)(config)
  return model.to(getattr(torch, dtype)).train()


def train_torch(model, batches, learning_rate: float):
  """Losses of torch's AdamW with clipping and a linear schedule."""
  import torch
  import transformers

  config, steps = settings(learning_rate), len(batches)
  plain = [
    p
    for name, p in model.named_parameters()
    if name.endswith('bias') or 'LayerNorm' in name
  ]
  kept = {id(p) for p in plain}
  decayed = [p for p in model.parameters() if id(p) not in kept]
  optimizer = torch.optim.AdamW(
    [
      {'params': decayed, 'weight_decay': config.weight_decay},
      {'params': plain, 'weight_decay': 0.0},
    ],
    lr=config.learning_rate,
    betas=(config.beta1, config.beta2),
    eps=config.epsilon,
  )
  schedule = transformers.get_linear_schedule_with_warmup(
    optimizer, round(config.warmup_fraction * steps), steps
  )
  values = []
  for batch in batches:
    optimizer.zero_grad()
    tensors = {n: _tensor(v, model.dtype) for n, v in batch.items()}
    loss = model(**tensors).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    optimizer.step()
    schedule.step()
    values.append(loss.item())
  return np.array(values)


def _tensor(values, dtype):
  """Class ids and tokens as torch wants them; numbers in the model's dtype."""
  import torch

  tensor = torch.from_numpy(values)
  return tensor.to(dtype) if tensor.is_floating_point() else tensor.long()


def train_ours(
  class_name, config, dtype, state, batches, learning_rate: float, loss
):
  """Losses of this project's own train step from the same weights."""
  from tests.support import ours

  model = ours.build(class_name, config, dtype=dtype)
  assert {'bias', 'scale'} <= UNDECAYED
  tx = make_optimizer(settings(learning_rate), len(batches))
  mesh = jax.sharding.Mesh(
    np.array(jax.devices()[:1]).reshape(1, 1, 1), partitioning.MESH_AXES
  )
  values = []
  with jax.set_mesh(mesh):
    step = train_step.make_train_step(model, loss, tx, mesh)
    params = ours.params_from(model, state)
    current = train_step.create_state(
      model, tx, mesh, params, jax.random.key(0)
    )
    for batch in batches:
      current, metrics = step(current, device_mesh.put_batch(batch, mesh))
      values.append(float(metrics['loss']))
  return np.array(values)


def compare(
  class_name: str, config, dtype: str, learning_rate: float, batches, loss
):
  """Trains one model here and in torch on the same batches.

  Args:
    class_name: the model class, of the same name in both.
    config: fields of the model's config; nothing has dropout.
    dtype: 'float64' or 'float32'.
    learning_rate: the peak of the schedule.
    batches: a list of batches, a step for each. The names of their columns are
      arguments of torch's model, which computes the loss; 'weights' is ours.
    loss: `Task.loss`.

  Returns:
    torch's losses, and ours.
  """
  from tests.support import torch_reference

  model = torch_model(class_name, config, dtype)
  state = {k: v.copy() for k, v in torch_reference.state(model).items()}
  shared = [
    {name: value for name, value in batch.items() if name != 'weights'}
    for batch in batches
  ]
  reference = train_torch(model, shared, learning_rate)
  with jax.enable_x64(dtype == 'float64'):
    mine = train_ours(
      class_name, config, dtype, state, batches, learning_rate, loss
    )
  return reference, mine


def check_small(class_name: str, config, batches, loss, *, normalization: str):
  """Fails unless a small model learns from the batches as torch's does.

  Float64, a step for each batch; for the arguments see `compare`.
  """
  reference, mine = compare(
    class_name,
    {**SMALL, 'normalization_type': normalization, **config},
    'float64',
    1e-3,
    batches,
    loss,
  )
  check(reference, mine, len(batches), 1e-6)


def check(reference, mine, steps: int, tolerance: float):
  """Fails unless both have a loss for each step, and the same ones."""
  assert len(mine) == steps
  error = np.abs(mine - reference) / np.abs(reference)
  assert error.max() <= tolerance, (int(error.argmax()), error.max())
  # The comparison means something: the weights moved, and the loss with them.
  assert np.ptp(mine) > 0.05


def both(name: str, data: pathlib.Path, steps: int):
  """(torch's losses, ours) of one of `RUNS`."""
  config, dtype, learning_rate = RUNS[name]

  def loss(outputs, batch):
    return losses.classification_loss(outputs.logits, batch['labels'])

  return compare(
    'MobileBertForSequenceClassification',
    config,
    dtype,
    learning_rate,
    list(batches(data, steps)),
    loss,
  )


def draw(results, path: pathlib.Path):
  """One panel of losses, one of relative differences."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  figure, (top, bottom) = plt.subplots(
    2, 1, figsize=(8, 7), sharex=True, layout='constrained'
  )
  for number, (name, (reference, mine)) in enumerate(results.items()):
    color = f'C{number}'
    top.plot(reference, color=color, linewidth=3, alpha=0.35)
    top.plot(mine, color=color, linewidth=1, label=name)
    error = np.abs(mine - reference) / np.abs(reference)
    bottom.semilogy(np.maximum(error, 1e-17), color=color, label=name)
  top.set(ylabel='training loss', title='SST-2: torch (wide), ours (thin)')
  bottom.set(xlabel='step', ylabel='relative difference')
  top.legend()
  bottom.grid(alpha=0.3)
  figure.savefig(path, dpi=120)


def main():
  """Runs everything and draws it."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--steps', type=int, default=100)
  parser.add_argument('--runs', nargs='+', choices=RUNS, default=list(RUNS))
  parser.add_argument(
    '--out',
    type=pathlib.Path,
    default=pathlib.Path('docs/images/learning_parity.png'),
  )
  args = parser.parse_args()
  jax.config.update('jax_default_matmul_precision', 'highest')
  results = {}
  for name in args.runs:
    results[name] = reference, mine = both(name, args.data, args.steps)
    worst = np.max(np.abs(mine - reference) / np.abs(reference))
    print(
      f'{name}: loss {reference[0]:.4f} -> {reference[-1]:.4f}, '
      f'largest relative difference {worst:.2e}',
      flush=True,
    )
  draw(results, args.out)


if __name__ == '__main__':
  sys.exit(main())
