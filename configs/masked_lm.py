"""Masked language modelling on your own text.

Command:  python train.py --config=configs/masked_lm.py \
            --config.data.path=TEXTS --config.options.whole_word=True
Hardware: one TPU core or GPU.
Continues from google/mobilebert-uncased. TEXTS is a file or a directory of
*.txt and *.jsonl (both may be gzipped); a twentieth of the text is held out
unless --config.options.validation_file=NAME names a file or directory in TEXTS.

The variant small is a little model from scratch, for two CPU cores; it needs a
vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import cli

_SMALL = {
  'init': 'scratch',
  'data': {'source': 'files', 'max_length': 64},
  'batch_size': 64,
  'num_epochs': 10.0,
  'optimizer': {'learning_rate': 2e-3},
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
_VARIANTS = {'': {}, 'small': _SMALL}


def get_config(variant: str = ''):
  settings = {
    'task': 'masked_lm',
    'init': 'google/mobilebert-uncased',
    'data': {'source': 'files', 'max_length': 128},
    'optimizer': {'learning_rate': 1e-4},
    'batch_size': 64,
    'eval_batch_size': 64,
    'num_epochs': 3.0,
  }
  return cli.config_dict(**settings | cli.choose(variant, _VARIANTS))
