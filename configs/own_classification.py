"""Classification of your own texts, or pairs of texts.

Command:  python train.py --config=configs/own_classification.py \
            --config.data.path=DIR --config.options.text_column=review \
            --config.options.label_column=stars
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased. DIR holds train.csv (or .tsv, .jsonl,
also gzipped), perhaps validation.* and test.*; without validation.* a tenth of
the rows is held out. Pairs: --config.options.pair_column=NAME. Several labels
for a text, separated by commas: --config.options.multi_label=True.

The variant small is a little model from scratch, for two CPU cores; it needs a
vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import cli

_SMALL = {
  'init': 'scratch',
  'batch_size': 64,
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
_VARIANTS = {'': {}, 'small': _SMALL}


def get_config(variant: str = ''):
  settings = {
    'task': 'own_classification',
    'init': 'google/mobilebert-uncased',
    'data': {'source': 'files', 'max_length': 128},
    'optimizer': {'learning_rate': 3e-5},
    'batch_size': 32,
    'eval_batch_size': 64,
    'num_epochs': 3.0,
  }
  return cli.config_dict(**settings | cli.choose(variant, _VARIANTS))
