"""SQuAD 2.0: answers to questions about paragraphs that may not answer them.

Command:  python train.py --config=configs/squad_v2.py
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased with the settings that google-research
publishes for MobileBERT; the data comes from TFDS (squad/v2.0), or from
train-v2.0.json and dev-v2.0.json (or .json.gz) with --config.data.source=files
--config.data.path=DIR. predictions/predictions.json in the workdir is what
evaluate-v2.0.py reads. How much better "no answer" must score to be given is
chosen for the best F1 on the evaluation split;
--config.options.null_score_threshold=X fixes it.

Variant from scratch, for two CPU cores (with official files):
  small  layer_norm, 2.4M parameters, windows of 128 tokens, the first 20,000
         questions
It needs a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import cli, recipes


def get_config(variant: str = ''):
  settings = {
    'task': 'squad_v2',
    'init': 'google/mobilebert-uncased',
    'data': {
      'source': 'tfds',
      'max_length': 384,
      'buckets': (128, 192, 256, 384),
    },
    'options': {
      'doc_stride': 128,
      'max_query_length': 64,
      'max_answer_length': 30,
      'n_best': 20,
    },
    'optimizer': {'learning_rate': 4e-5, 'epsilon': 1e-6},
    'batch_size': 32,
    'eval_batch_size': 64,
    'num_epochs': 5.0,
  }
  small = {
    **recipes.small(),
    'data': {
      'source': 'tfds',
      'max_length': 128,
      'buckets': (64, 96, 128),
      'train_examples': 20_000,
    },
    'options': {'doc_stride': 64, 'max_query_length': 32},
    'batch_size': 32,
    'num_epochs': 3.0,
  }
  return cli.config_dict(
    **settings | cli.choose(variant, {'': {}, 'small': small})
  )
