"""CommonsenseQA: questions about everyday knowledge, five choices.

Command:  python train.py --config=configs/commonsenseqa.py
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased; the official files of the random split
(train_rand_split.jsonl, dev_rand_split.jsonl and
test_rand_split_no_answers.jsonl) lie in data/commonsenseqa, or
--config.data.path=DIR. TFDS does not have them. Without the test file:
--config.options.predict_test=False

Variants from scratch, for two CPU cores:
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.fine_tuning(
    small_epochs=5.0,
    task='commonsenseqa',
    data={
      'source': 'files',
      'path': 'data/commonsenseqa',
      'max_length': 64,
      'buckets': (24, 32, 48, 64),
    },
    optimizer={'learning_rate': 5e-5},
    batch_size=16,
    eval_batch_size=32,
    num_epochs=5.0,
  )
  return config.config_dict(**config.choose(variant, variants))
