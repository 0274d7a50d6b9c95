"""Real commands on the user's own data, with models that train in seconds."""

import importlib.util
import pathlib
import sys
from unittest import mock

from mobilebert_jax.runtime import exit_status
from tests.support import one_device
from tests.support.tiny import SPECIAL

MODEL = {
  'hidden_size': 16, 'intra_bottleneck_size': 16, 'embedding_size': 8,
  'num_hidden_layers': 1, 'num_attention_heads': 2, 'intermediate_size': 16,
  'num_feedforward_networks': 1, 'max_position_embeddings': 32,
  'normalization_type': 'layer_norm', 'hidden_dropout_prob': 0.0,
  'attention_probs_dropout_prob': 0.0, 'classifier_activation': False,
  'initializer_range': 0.2,
}  # fmt: skip


def write_vocab(directory: pathlib.Path, words) -> pathlib.Path:
  """A vocabulary of these words."""
  path = directory / 'vocab.txt'
  path.write_text('\n'.join([*SPECIAL, *dict.fromkeys(words)]) + '\n')
  return path


def flags(config: str, root: pathlib.Path, *more: str, **settings) -> list[str]:
  """Arguments for a shipped config on the data and vocabulary in `root`.

  Args:
    config: a file in configs/, with a variant.
    root: a directory with `data` (a file or a directory) and `vocab.txt`.
    *more: further arguments.
    **settings: other values of the config's own fields.
  """
  repo = pathlib.Path(__file__).resolve().parents[2]
  values = {
    'init': 'scratch', 'tokenizer': root / 'vocab.txt',
    'data.path': root / 'data', 'data.max_length': 16, 'batch_size': 8,
    'eval_batch_size': 8, 'num_epochs': 'none', 'num_steps': 8,
    'eval_every': 4, 'optimizer.learning_rate': 1e-2, **settings,
  }  # fmt: skip
  values = {f'model.{name}': value for name, value in MODEL.items()} | values
  given = [f'--config.{name}={value}' for name, value in values.items()]
  return [f'--config={repo}/configs/{config}', *given, *more]


def command(name: str, *arguments: str) -> int:
  """Runs train.py or eval.py in this process; returns its exit status."""
  repo = pathlib.Path(__file__).resolve().parents[2]
  spec = importlib.util.spec_from_file_location(name, repo / f'{name}.py')
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  with (
    mock.patch.object(sys, 'argv', [f'{name}.py', *arguments]),
    one_device.used(),
  ):
    return exit_status.run(module.main)
