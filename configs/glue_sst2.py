"""SST-2: sentiment of sentences from film reviews (GLUE).

Command:  python train.py --config=configs/glue_sst2.py
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased; the data comes from TFDS, or from the
official files with --config.data.source=files --config.data.path=DIR.

Variants from scratch, for two CPU cores (with official files):
  small             layer_norm, 2.3M parameters in the body
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import cli

_SMALL = {
  'init': 'scratch',
  'batch_size': 64,
  'num_epochs': 3.0,
  'optimizer': {'learning_rate': 1e-3},
  'model': {
    'hidden_size': 128,
    'intra_bottleneck_size': 64,
    'embedding_size': 64,
    'num_hidden_layers': 3,
    'num_attention_heads': 4,
    'intermediate_size': 256,
    'num_feedforward_networks': 2,
    'hidden_dropout_prob': 0.1,
    'attention_probs_dropout_prob': 0.1,
    'normalization_type': 'layer_norm',
  },
}
_VARIANTS = {
  '': {},
  'small': _SMALL,
  'small_layer_norm': _SMALL,
  'small_no_norm': {
    **_SMALL,
    'model': {**_SMALL['model'], 'normalization_type': 'no_norm'},
  },
}


def get_config(variant: str = ''):
  settings = {
    'task': 'sst2',
    'init': 'google/mobilebert-uncased',
    'data': {
      'source': 'tfds',
      'max_length': 64,
      'buckets': (8, 16, 24, 32, 48, 64),
    },
    'optimizer': {'learning_rate': 3e-5},
    'batch_size': 32,
    'eval_batch_size': 64,
    'num_epochs': 5.0,
  }
  return cli.config_dict(**settings | cli.choose(variant, _VARIANTS))
