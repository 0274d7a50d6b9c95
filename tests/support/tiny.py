"""A run that trains in seconds, for the tests of the loop and the commands."""

import pathlib

CONFIG = """
from mobilebert_jax import config


def get_config(variant=''):
  settings = config.choose(variant, {'': {}, 'other': {'seed': 1}})
  return config.config_dict(
    task='sst2',
    data={
      'source': 'files', 'path': %(data)r, 'max_length': 8, 'buckets': (8,)
    },
    tokenizer=%(vocab)r,
    model={
      'hidden_size': 8, 'intra_bottleneck_size': 8, 'embedding_size': 8,
      'num_hidden_layers': 1, 'num_attention_heads': 1,
      'intermediate_size': 8, 'num_feedforward_networks': 1,
      'max_position_embeddings': 8, 'hidden_dropout_prob': 0.1,
    },
    optimizer={'learning_rate': 1e-3},
    batch_size=8, eval_batch_size=8, num_steps=8, eval_every=4,
    checkpoint_every=2, log_every=3,
    **settings,
  )
"""
WORDS = ('good', 'fine', 'great', 'bad', 'dull', 'poor', 'film', 'plot', 'a')
SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')


def write_data(directory: pathlib.Path, train: int = 40) -> pathlib.Path:
  """SST-2's official files with a few sentences."""
  folder = directory / 'SST-2'
  folder.mkdir(parents=True)
  for name, count in (('train', train), ('dev', 10)):
    rows = [
      f'{WORDS[i % 6]} {WORDS[6 + i % 3]}\t{int(i % 6 < 3)}'
      for i in range(count)
    ]
    (folder / f'{name}.tsv').write_text(
      '\n'.join(['sentence\tlabel', *rows]) + '\n'
    )
  rows = [f'{i}\t{WORDS[i % 6]} film' for i in range(5)]
  (folder / 'test.tsv').write_text('\n'.join(['index\tsentence', *rows]) + '\n')
  return folder


def write_vocab(directory: pathlib.Path) -> pathlib.Path:
  """A vocabulary of those sentences."""
  path = directory / 'vocab.txt'
  path.write_text('\n'.join([*SPECIAL, *WORDS]) + '\n')
  return path


def write(directory: pathlib.Path) -> pathlib.Path:
  """Data, vocabulary and a config file; returns the config file."""
  data, vocab = write_data(directory), write_vocab(directory)
  path = directory / 'tiny.py'
  path.write_text(CONFIG % {'data': str(data), 'vocab': str(vocab)})
  return path
